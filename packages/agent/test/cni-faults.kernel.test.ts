/** Disks that are full or take no change, and clocks that jump, under a real agent and the real executable. */
import { execFileSync } from "node:child_process";
import { globSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Collector } from "@calico-ts/ipam";
import { holders, worldProblems } from "@calico-ts/ipam/testing";
import { FakeClock } from "@calico-ts/runtime/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type CniCall, CniNode } from "../testing/cni-node.ts";
import { eventually, Lab } from "../testing/lab.ts";

let lab: Lab;
let node: CniNode;
beforeEach(async () => {
  lab = new Lab();
  node = await CniNode.open(lab);
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

type Sandbox = Pick<CniCall, "containerId" | "pod" | "netns">;

async function newPod(pod: string): Promise<Sandbox> {
  await node.pod(pod);
  return { containerId: `c-${pod}`, pod, netns: lab.path(lab.namespace(pod)) };
}

async function ok(command: CniCall["command"], sandbox: Sandbox): Promise<string> {
  const { code, output } = await node.cni({ ...sandbox, command });
  if (code !== 0) throw new Error(`${command} of ${sandbox.pod} failed: ${output}\n${node.agentOutput()}`);
  if (command !== "ADD") return "";
  const { ips } = JSON.parse(output) as { ips: readonly { address: string }[] };
  return ips[0]?.address.replace("/32", "") ?? "";
}

const backAtRest = async (): Promise<void> => {
  await eventually("every address is back", async () => (await holders(node.client)).size === 0, 60_000);
  expect(await worldProblems(node.client, { atRest: true })).toEqual([]);
  expect(lab.ip(node.netns, "-o link show")).not.toContain("cali");
};

describe("the state folder", () => {
  let folder: string;
  const mount = (...args: readonly string[]): void => void execFileSync("mount", args);
  beforeEach(() => {
    folder = join(node.hostRoot, "var");
    mkdirSync(folder);
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder);
  });
  afterEach(async () => {
    await node.killAgent();
    execFileSync("umount", ["-l", folder]);
  });

  const fill = (): void => {
    const file = join(folder, "filling");
    expect(() => {
      writeFileSync(file, Buffer.alloc(60 * 1024));
      for (let at = 0; at < 64; at++) writeFileSync(`${file}-${at}`, Buffer.alloc(4096));
    }).toThrow("ENOSPC");
  };
  const makeSpace = (): void => {
    for (const file of globSync(join(folder, "filling*"))) rmSync(file);
  };

  test("full: pods come and go; without an agent a DEL is refused until there is space, and is then done once", {
    timeout: 240_000,
  }, async () => {
    await node.startAgent();
    fill();
    const [stays, goes] = [await newPod("stays"), await newPod("goes")];
    await ok("ADD", stays);
    await ok("ADD", goes);
    await ok("DEL", goes);
    await eventually("its address is back", async () => (await holders(node.client)).size === 1, 60_000);
    await node.killAgent();
    const { code, output } = await node.cni({ ...stays, command: "DEL" });
    expect({ code, answer: JSON.parse(output) }).toMatchObject({
      code: 1,
      answer: { code: 11, msg: expect.stringContaining("cannot be noted"), details: expect.stringContaining("ENOSPC") },
    });
    expect(readdirSync(join(folder, "run/calico/cni-deferred"))).toEqual([]);

    // An agent that starts on the full disk serves its pods, too.
    await node.startAgent();
    await ok("CHECK", stays);
    await node.killAgent();

    makeSpace();
    writeFileSync(join(folder, "run/calico/cni-deferred/.c-other-eth0.json.partial"), "{");
    await ok("DEL", stays);
    expect(readdirSync(join(folder, "run/calico/cni-deferred"))).toHaveLength(2);
    await node.startAgent();
    await backAtRest();
    expect(readdirSync(join(folder, "run/calico/cni-deferred"))).toEqual([]);
  });

  test("read-only: a running agent serves; one that starts says what it cannot do, and a DEL is refused", {
    timeout: 240_000,
  }, async () => {
    await node.startAgent();
    mount("-o", "remount,ro", folder);
    const web = await newPod("web");
    await ok("ADD", web);
    await ok("CHECK", web);
    await node.killAgent();
    const { code, output } = await node.cni({ ...web, command: "DEL" });
    expect({ code, answer: JSON.parse(output) }).toMatchObject({
      code: 1,
      answer: { code: 11, details: expect.stringContaining("EROFS") },
    });
    await expect(node.startAgent()).rejects.toThrow(/cannot replace the CNI socket .*cni\.sock: EROFS/);
    mount("-o", "remount,rw", folder);
    await node.startAgent();
    await ok("DEL", web);
    await backAtRest();
  });
});

test("the clock jumps by a month and back: pods come and go, and garbage collection takes nothing that is in use", {
  timeout: 240_000,
}, async () => {
  const [library = ""] = globSync("/usr/lib/*/faketime/libfaketime.so.1");
  expect(library, "Debian package faketime").not.toBe("");
  const clock = join(node.hostRoot, "clock");
  const setClock = (offset: string): void => writeFileSync(clock, offset);
  setClock("+0");
  await node.startAgent({
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: clock,
    FAKETIME_NO_CACHE: "1",
    DONT_FAKE_MONOTONIC: "1",
  });
  const collect = new Collector({
    client: node.client,
    clock: new FakeClock(Date.now()),
    grace: { leakMs: 0, recordMs: 0 },
  });
  const alive = new Map<string, Sandbox>();
  const add = async (pod: string): Promise<void> => {
    const sandbox = await newPod(pod);
    const address = await ok("ADD", sandbox);
    expect([...alive.keys()]).not.toContain(address);
    alive.set(address, sandbox);
  };
  await add("before");
  for (const [at, offset] of ["+30d", "-20h", "+0", "+30d"].entries()) {
    setClock(offset);
    await add(`one-${at}`);
    await add(`two-${at}`);
    const [address, goes] = [...alive].at(-2) ?? ["", await newPod("nobody")];
    await ok("DEL", goes);
    alive.delete(address);
    for (let pass = 0; pass < 3; pass++) expect((await collect.pass()).failures).toEqual([]);
    for (const sandbox of alive.values()) await ok("CHECK", sandbox);
    await eventually(
      "the released address is back",
      async () => (await holders(node.client)).size === alive.size,
      20_000,
    );
    expect(new Set((await holders(node.client)).keys())).toEqual(new Set(alive.keys()));
  }
  for (const sandbox of alive.values()) await ok("DEL", sandbox);
  await backAtRest();
});
