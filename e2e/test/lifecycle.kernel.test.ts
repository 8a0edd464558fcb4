import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually, Run, sim, traces } from "./simulator.ts";

// Starting, stopping, being killed, and being told nonsense: whatever happens, nothing is left and the message says what to do.

const NAME = `t-life-${process.pid}`;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lifecycle-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  await sim("down", "--name", NAME);
  expect(traces(NAME)).toEqual([]);
});

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe("bad input", () => {
  test.each([
    ["a malformed topology", "nodes: [", /topology\.yaml:\d+/],
    ["an unknown field", "nodes: { count: 2 }\nbananas: 3\n", /topology\.yaml:2.*bananas/],
  ])("%s is refused with file and line, and nothing is created", async (_what, text, message) => {
    const result = await sim("up", "--name", NAME, "--topology", file("topology.yaml", text));
    expect(result.code).toBe(2);
    expect(result.stdout + result.stderr).toMatch(message);
    expect(traces(NAME)).toEqual([]);
  });

  test("a malformed manifest is refused with file and line, and nothing is created", async () => {
    const result = await sim("up", "--name", NAME, "--manifests", file("app.yaml", "kind: Pod\nmetadata: {name: x\n"));
    expect(result.code).toBe(2);
    expect(result.stdout + result.stderr).toMatch(/app\.yaml:\d+/);
    expect(traces(NAME)).toEqual([]);
  });

  test("a file that is not there is named", async () => {
    const result = await sim("up", "--name", NAME, "--manifests", join(folder, "nowhere.yaml"));
    expect(result.code).toBe(2);
    expect(result.stdout + result.stderr).toContain("nowhere.yaml");
  });

  test("an unknown command and an unknown flag are exit code 2", async () => {
    expect((await sim("explode")).code).toBe(2);
    expect((await sim("status", "--bananas")).code).toBe(2);
  });
});

test("down of something that is not up is fine, twice", async () => {
  expect((await sim("down", "--name", NAME)).code).toBe(0);
  expect((await sim("down", "--name", NAME)).code).toBe(0);
});

test("kill -9 of the simulator leaves nothing that down does not find", { timeout: 180_000 }, async () => {
  await using run = await Run.up(NAME, "--nodes", "1");
  const daemon = traces(NAME).find((trace) => /process \d+ .*daemon/.test(trace));
  expect(daemon).toBeDefined();
  process.kill(Number(daemon?.split(" ")[1]), "SIGKILL");
  const status = await eventually(
    "status",
    () => run.sim("status"),
    (answer) => !/\bup\b/.test(answer.stdout.split("\n")[0] ?? ""),
  );
  expect(status.code).not.toBe(255);
  expect((await sim("down", "--name", NAME)).code).toBe(0);
  expect(traces(NAME)).toEqual([]);
});

test("Ctrl-C while it comes up leaves nothing behind", { timeout: 180_000 }, async () => {
  const program = join(import.meta.dirname, "../dist/bin/calico-sim.mjs");
  for (const afterMs of [50, 300, 700, 1200]) {
    const child = spawn(process.execPath, [program, "up", "--name", NAME, "--nodes", "2"], { stdio: "ignore" });
    const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    child.kill("SIGINT");
    // A quick machine may be done before the key is pressed: then the run is up, and is taken down as usual.
    if ((await closed) === 0) await sim("down", "--name", NAME);
    await eventually(
      "traces",
      async () => traces(NAME),
      (left) => left.length === 0,
    );
  }
});

test("everything about a run is in its state folder", { timeout: 180_000 }, async () => {
  const before = readdirSync("/etc").concat(readdirSync("/opt"), readdirSync("/var/lib")).toSorted();
  await using run = await Run.up(NAME, "--nodes", "1");
  expect(readFileSync(run.kubeconfig, "utf8")).toContain("certificate-authority");
  const after = readdirSync("/etc").concat(readdirSync("/opt"), readdirSync("/var/lib")).toSorted();
  expect(after.filter((name) => name !== "calico-sim")).toEqual(before.filter((name) => name !== "calico-sim"));
});
