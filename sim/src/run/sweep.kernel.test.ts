import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listNamespaces, startProgram } from "@calico-ts/linux";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { main } from "../cli/main.ts";
import { buildFabric } from "../fabric/fabric.ts";
import { nodeNamespace } from "../fabric/layout.ts";
import { namespacePath, namespacePrefix, RUN_VARIABLE, STATE_VARIABLE } from "../names.ts";
import { topologyPath } from "../topology/shipped.ts";
import { loadTopology } from "../topology/topology-file.ts";
import { identify } from "./processes.ts";
import { claimRun, runPaths, runState } from "./run-folder.ts";
import { foreignRuns, knownRuns, linuxSweepHost } from "./sweep-host.ts";
import { sweepRun } from "./sweep.ts";

const run = `ct${process.pid}`;
const other = `${run}-b`;
const quiet = { out: () => undefined, note: () => undefined };
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ct-sweep-"));
  process.env["CALICO_SIM_STATE"] = join(root, "state");
});
afterEach(async () => {
  for (const name of [other, run]) await sweepRun(linuxSweepHost, name);
  delete process.env["CALICO_SIM_STATE"];
  rmSync(root, { recursive: true });
});
const left = (name: string) => listNamespaces().filter((namespace) => namespace.startsWith(namespacePrefix(name)));

test("what a daemon killed with -9 leaves is found by name: processes in namespaces, namespaces, folder; another run stays", async () => {
  // A process of its own plays the daemon: it claims the run, builds the fabric, and is killed.
  const script = `
    import { buildFabric } from ${JSON.stringify(new URL("../fabric/fabric.ts", import.meta.url).href)};
    import { topologyPath } from ${JSON.stringify(new URL("../topology/shipped.ts", import.meta.url).href)};
    import { loadTopology } from ${JSON.stringify(new URL("../topology/topology-file.ts", import.meta.url).href)};
    import { claimRun } from ${JSON.stringify(new URL("./run-folder.ts", import.meta.url).href)};
    claimRun(${JSON.stringify(run)}, { startedAt: "", topology: "", manifests: [] });
    buildFabric(${JSON.stringify(run)}, loadTopology(topologyPath("default")));
    console.log("up");
    setInterval(() => {}, 1000);`;
  const env = { ...process.env, [RUN_VARIABLE]: run };
  const daemon = spawn(process.execPath, ["--conditions=calico-src", "--input-type=module-typescript", "-e", script], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(daemon.stdout, "data");
  const program = startProgram("sleep", ["1000"], {
    netns: namespacePath(nodeNamespace(run, "node-2")),
    env,
    detached: true,
    stdio: "ignore",
  });
  await once(program, "spawn");
  expect(runState(run)).toBe("starting");

  claimRun(other, { startedAt: "", topology: "", manifests: [] });
  using _otherFabric = buildFabric(other, loadTopology(topologyPath("no-encapsulation")));

  daemon.kill("SIGKILL");
  await once(daemon, "exit");
  expect(runState(run)).toBe("dead");
  expect(knownRuns(linuxSweepHost)).toEqual(expect.arrayContaining([run, other]));

  const swept = await sweepRun(linuxSweepHost, run);
  expect(swept).toEqual({ processes: 1, namespaces: 5, folder: true });
  expect(program.pid !== undefined && identify(program.pid)).toBeUndefined();
  expect(left(run).filter((name) => !name.startsWith(namespacePrefix(other)))).toEqual([]);
  expect(existsSync(runPaths(run).root)).toBe(false);
  expect(left(other)).toHaveLength(5);
  expect(await sweepRun(linuxSweepHost, run)).toEqual({ processes: 0, namespaces: 0, folder: false });
});

test("a run that lives under another state folder is none of ours: not listed, not ended, its name refused", async () => {
  const env = { ...process.env, [RUN_VARIABLE]: run, [STATE_VARIABLE]: join(root, "elsewhere") };
  const stranger = spawn("sleep", ["1000"], { env, stdio: "ignore" });
  await once(stranger, "spawn");
  using _fabric = buildFabric(run, loadTopology(topologyPath("no-encapsulation")));
  try {
    await vi.waitFor(() => expect(foreignRuns().get(run)).toBe(join(root, "elsewhere")), 10_000);
    expect(knownRuns(linuxSweepHost)).not.toContain(run);
    expect(await main(["down", "--name", run], { programs: [], manifests: [] }, quiet)).toBe(2);
    expect(await main(["up", "--name", run], { programs: [], manifests: [] }, quiet)).toBe(2);
    expect(left(run)).toHaveLength(5);
    expect(stranger.exitCode ?? stranger.signalCode).toBeNull();
    expect(existsSync(runPaths(run).root)).toBe(false);
  } finally {
    stranger.kill("SIGKILL");
  }
});
