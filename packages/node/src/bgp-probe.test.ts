/** The BGP probes against a socket that answers as the daemon does, and what becomes of routes when a node has BGP no longer. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReadinessReport, StatusRequest } from "@calico-ts/bgp";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { removeBgpLeftovers } from "./bgp-leftovers.ts";
import { checkProbes, parseProbes, type Probe } from "./probes.ts";

const START = Date.now() / 1000;

let folder: string;
let server: Server | undefined;
let asked: StatusRequest[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ct-probe-"));
  mkdirSync(join(folder, "var/run/calico"), { recursive: true });
  mkdirSync(join(folder, "var/lib/calico"), { recursive: true });
  asked = [];
  server = undefined;
});
afterEach(async () => {
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  rmSync(folder, { recursive: true });
});

const place = () => ({
  healthHost: "127.0.0.1",
  healthPort: 9,
  hostRoot: folder,
  nodenameFile: "/var/lib/calico/nodename",
});
const check = (...probes: Probe[]): Promise<void> => checkProbes(probes, place());

async function answer(readiness: ReadinessReport): Promise<void> {
  server = createServer((socket) => {
    socket.on("data", (line) => {
      const request = JSON.parse(line.toString()) as StatusRequest;
      asked.push(request);
      const result = request.command === "readiness" ? readiness : {};
      socket.end(`${JSON.stringify({ ok: true, result })}\n`);
    });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(join(folder, "var/run/calico/bgp.sock"), listening.resolve);
  await listening.promise;
}

function nodenameWritten(secondsAgo: number): void {
  const path = join(folder, "var/lib/calico/nodename");
  writeFileSync(path, "n1");
  utimesSync(path, START - secondsAgo, START - secondsAgo);
}

describe("probes of BGP", () => {
  test("have upstream's names, in both spellings", () => {
    expect(parseProbes(["--bird-ready", "-felix-live", "-bird6-live"])).toEqual([
      "felix-live",
      "bird-ready",
      "bird6-live",
    ]);
    expect(() => parseProbes(["--confd-ready"])).toThrow(/unknown probe "confd-ready"; known: .*--bird-ready/);
  });

  test("pass when the daemon says so; just after calico-node's start every session counts", async () => {
    await answer({ ready: true, detail: "" });
    nodenameWritten(0);
    await check("bird-ready");
    nodenameWritten(3600);
    await check("bird6-ready", "bird-live");
    expect(asked).toEqual([
      { command: "readiness", family: 4, strict: true },
      { command: "readiness", family: 6, strict: false },
      { command: "status" },
    ]);
  });

  test("say what the daemon says, or that it does not answer", async () => {
    await expect(check("bird-live")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: expect.stringMatching(/^bird-live: the BGP daemon does not answer at .*bgp\.sock \(.*ENOENT/) as string,
    });
    await answer({
      ready: false,
      detail: "BGP not established with 192.0.2.2 (Mesh_192_0_2_2, AS 64512): Idle, refused",
    });
    await expect(check("bird-ready")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: "bird-ready: BGP not established with 192.0.2.2 (Mesh_192_0_2_2, AS 64512): Idle, refused",
    });
  });
});

describe("a node that has BGP no longer", () => {
  const run = (backend: "bird" | "vxlan"): Promise<void> => {
    const script = `require("node:fs").appendFileSync(${JSON.stringify(join(folder, "swept"))}, process.argv.at(-1))`;
    return removeBgpLeftovers(
      {
        settings: { ...place(), backend, disableAgent: true },
        bgpCommand: [process.execPath, "-e", script, "--"],
        env: process.env,
        clock: systemClock,
        log: silentLogger,
      },
      new AbortController().signal,
    );
  };

  test("has the routes of its daemon swept, once there was one", async () => {
    await run("vxlan");
    expect(existsSync(join(folder, "swept"))).toBe(false);
    writeFileSync(join(folder, "var/run/calico/bgp.routes"), "");
    await run("bird");
    expect(existsSync(join(folder, "swept"))).toBe(false);
    await run("vxlan");
    expect(readFileSync(join(folder, "swept"), "utf8")).toBe("sweep");
  });
});
