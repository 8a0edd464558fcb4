import { describe, expect, test } from "vitest";
import { namespaceName, ownsNamespace, runOfFabricNamespace } from "../names.ts";
import type { OwnedProcess } from "./processes.ts";
import type { SweepHost } from "./sweep.ts";
import { sweepRun, sweptAnything } from "./sweep.ts";

/** A host of processes and names that behaves: SIGTERM ends the polite, SIGKILL everyone, after one sleep. */
function fakeHost(init: {
  readonly processes: readonly {
    readonly pid: number;
    readonly run: string;
    readonly deaf?: boolean;
    readonly respawns?: number;
  }[];
  readonly namespaces: readonly string[];
  readonly folders: readonly string[];
}) {
  const processes = new Map(init.processes.map((process) => [process.pid, { deaf: false, respawns: 0, ...process }]));
  const doomed = new Set<number>();
  const log: string[] = [];
  const host: SweepHost & {
    readonly namespacesLeft: Set<string>;
    readonly folders: Set<string>;
    readonly log: string[];
  } = {
    runs: () => [...new Set([...host.folders, ...[...processes.values()].map(({ run }) => run)])],
    namespacesLeft: new Set(init.namespaces),
    folders: new Set(init.folders),
    log,
    processes: (): OwnedProcess[] =>
      [...processes.values()].map(({ pid, run }) => ({ pid, run, stateRoot: "/", parent: 1, startTicks: pid })),
    kill: (pid: number, signal: "SIGTERM" | "SIGKILL") => {
      log.push(`${signal} ${pid}`);
      if (signal === "SIGKILL" || processes.get(pid)?.deaf !== true) doomed.add(pid);
    },
    namespaces: () => [...host.namespacesLeft],
    deleteNamespace: (name: string) => {
      if (processes.size > 0 && [...processes.values()].some(({ run }) => name.startsWith(`cs-${run}-`)))
        throw new Error("a process still runs");
      log.push(`netns ${name}`);
      host.namespacesLeft.delete(name);
    },
    hasFolder: (run: string) => host.folders.has(run),
    removeFolder: (run: string) => {
      log.push(`folder ${run}`);
      host.folders.delete(run);
    },
    sleep: () => {
      for (const pid of doomed) {
        const process = processes.get(pid);
        processes.delete(pid);
        if (process !== undefined && process.respawns > 0) {
          processes.set(pid + 1000, { ...process, pid: pid + 1000, respawns: process.respawns - 1 });
        }
      }
      doomed.clear();
      return Promise.resolve();
    },
  };
  return host;
}

describe("sweeping a run", () => {
  test("ends processes, then namespaces, then the folder, and leaves other runs alone", async () => {
    const host = fakeHost({
      processes: [
        { pid: 10, run: "a" },
        { pid: 11, run: "a-b" },
      ],
      namespaces: [namespaceName("a", "node-1"), namespaceName("a-b", "node-1"), "docker-1"],
      folders: ["a", "a-b"],
    });
    const result = await sweepRun(host, "a");
    expect(result).toEqual({ processes: 1, namespaces: 1, folder: true });
    expect(host.log).toEqual(["SIGKILL 10", "netns cs-a-node-1", "folder a"]);
    expect([...host.namespacesLeft]).toEqual(["cs-a-b-node-1", "docker-1"]);
  });

  test("lets processes end by themselves when given time, and kills the deaf", async () => {
    const host = fakeHost({
      processes: [
        { pid: 1, run: "a" },
        { pid: 2, run: "a", deaf: true },
      ],
      namespaces: [],
      folders: [],
    });
    await sweepRun(host, "a", { graceMs: 100 });
    expect(host.log.slice(0, 2)).toEqual(["SIGTERM 1", "SIGTERM 2"]);
    expect(host.log).toContain("SIGKILL 2");
    expect(host.log).not.toContain("SIGKILL 1");
  });

  test("catches processes that others start meanwhile", async () => {
    const host = fakeHost({ processes: [{ pid: 5, run: "a", respawns: 3 }], namespaces: ["cs-a-node-1"], folders: [] });
    const result = await sweepRun(host, "a");
    expect(result.processes).toBe(4);
    expect(host.namespacesLeft.size).toBe(0);
  });

  test("twice is fine", async () => {
    const host = fakeHost({ processes: [], namespaces: ["cs-a-cp"], folders: ["a"] });
    expect(sweptAnything(await sweepRun(host, "a"))).toBe(true);
    expect(sweptAnything(await sweepRun(host, "a"))).toBe(false);
  });
});

test("a namespace tells its run", () => {
  expect(runOfFabricNamespace(namespaceName("my-run", "switch.rack-1"))).toBe("my-run");
  expect(runOfFabricNamespace(namespaceName("my-run", "node-1"))).toBeUndefined();
  expect(runOfFabricNamespace("other")).toBeUndefined();
  expect(ownsNamespace("a", "cs-a-b-node-1", [])).toBe(true);
  expect(ownsNamespace("a", "cs-a-b-node-1", ["a-b"])).toBe(false);
  expect(ownsNamespace("a-b", "cs-a-b-node-1", ["a"])).toBe(true);
});
