import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { main } from "./main.ts";

// A state root of its own: no run of this machine is seen or touched.
const folder = mkdtempSync(join(tmpdir(), "ct-cli-"));
const state = join(folder, "state");
process.env["CALICO_SIM_STATE"] = state;
afterAll(() => rmSync(folder, { recursive: true }));

let out: string[] = [];
let notes: string[] = [];
beforeEach(() => {
  out = [];
  notes = [];
});
const run = (...argv: string[]): Promise<number> =>
  main(argv, { programs: [], manifests: [] }, { out: (line) => out.push(line), note: (line) => notes.push(line) });
const said = (): string => [...out, ...notes].join("\n");

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe("help", () => {
  test.each([["--help"], ["help"], ["up", "--help"], ["help", "probe"]])("%s %s", async (...argv) => {
    expect(await run(...argv.filter((word) => word !== undefined))).toBe(0);
    expect(said()).toContain("Usage: calico-sim");
  });
  test("lists every command but the daemon", async () => {
    await run("--help");
    for (const command of [
      "up",
      "down",
      "status",
      "kubeconfig",
      "exec",
      "probe",
      "matrix",
      "verify",
      "kill-each",
      "doctor",
    ])
      expect(said()).toMatch(new RegExp(`^  ${command}\\b`, "m"));
    expect(said()).not.toMatch(/^ {2}daemon/m);
  });
});

describe("bad input is exit code 2 and creates nothing", () => {
  test.each([
    [["explode"], /unknown command 'explode'/],
    [["status", "--bananas"], /unknown option '--bananas'/],
    [["up", "--nodes", "0"], /whole number from 1 to 500/],
    [["up", "--nodes", "three"], /whole number/],
    [["up", "--name", "Big Name"], /--name "Big Name"/],
    [["up", "--topology", "nope"], /--topology nope: no such file/],
    [["up", "--manifests", "/nope.yaml"], /\/nope\.yaml: no such file or folder/],
    [["up", "--kubeconfig", "/nope"], /--kubeconfig \/nope: no such file/],
    [["probe", "--from", "a/b"], /required option '--to <target>'/],
    [["probe", "--from", "a/b", "--to", "c/d", "--port", "70000"], /whole number from 1 to 65535/],
    [["probe", "--from", "a/b", "--to", "c/d", "--protocol", "sctp"], /Allowed choices are tcp, udp, icmp/],
    [["exec", "node-1"], /missing required argument 'command'/],
  ])("%j", async (argv, message) => {
    expect(await run(...argv)).toBe(2);
    expect(said()).toMatch(message);
  });

  test("problems of topology and manifests are told together", async () => {
    const topology = file(
      "topology.yaml",
      "subnets: [{name: a, cidr: 10.0.0.0/24}]\nnodes: [{count: 2}]\npools: [{name: p, cidr: 10.0.0.0/8}]\n",
    );
    const manifest = file("app.yaml", "kind: Pod\nmetadata: {name: x\n");
    expect(await run("up", "--topology", topology, "--manifests", manifest)).toBe(2);
    expect(said()).toMatch(/topology\.yaml:3:\d+: pools\[0\]\.cidr: 10\.0\.0\.0\/8 overlaps subnet a/);
    expect(said()).toMatch(/app\.yaml:\d+:\d+: /);
    expect(readdirSync(folder)).not.toContain("state");
  });
});

describe("without a run", () => {
  test("status and down are fine", async () => {
    expect(await run("status")).toBe(0);
    expect(await run("status", "--json")).toBe(0);
    expect(out).toEqual(["nothing is up", "[]"]);
  });
  test("the rest says so, exit code 1", async () => {
    for (const argv of [
      ["kubeconfig"],
      ["matrix"],
      ["exec", "node-1", "--", "true"],
      ["probe", "--from", "a/b", "--to", "c/d", "--port", "1"],
    ]) {
      expect(await run(...argv)).toBe(1);
    }
    expect(new Set(notes)).toEqual(new Set(["no run is up; start one with `up`"]));
    expect(await run("matrix", "--name", "x")).toBe(1);
    expect(said()).toContain("no run named x is up");
  });
});
