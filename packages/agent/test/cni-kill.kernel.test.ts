/**
 * kill -9 of the CNI executable, the agent or both at random moments of ADD and DEL, and what a kubelet does then. More with
 * CNI_KILL_POINTS=200; CNI_KILL_SEED repeats the choice of moments (the machine's timing is its own). The datastore is away for four seconds, or
 * for CNI_OUTAGE_SECONDS.
 */
import { Collector } from "@calico-ts/ipam";
import { holders, worldProblems } from "@calico-ts/ipam/testing";
import type { KindMap } from "@calico-ts/model";
import { FakeClock } from "@calico-ts/runtime/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CniCall, CniNode } from "../testing/cni-node.ts";
import { eventually, Lab } from "../testing/lab.ts";

const POINTS = Number(process.env["CNI_KILL_POINTS"] ?? 30);
const SEED = Number(process.env["CNI_KILL_SEED"] ?? 1);
const OUTAGE_MS = Number(process.env["CNI_OUTAGE_SECONDS"] ?? 4) * 1000;

let lab: Lab;
let node: CniNode;
beforeEach(async () => {
  lab = new Lab();
  node = await CniNode.open(lab);
  await node.startAgent();
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >> 8) / 0x7fffff;
  };
}

/** As the kubelet: until it works. */
async function insist(call: CniCall): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const { code, output } = await node.cni(call);
    if (code === 0) return output;
    expect(JSON.parse(output)).toMatchObject({ code: expect.any(Number), msg: expect.any(String) });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${call.command} never worked\n${node.agentOutput()}`);
}

async function perform(call: CniCall, random: () => number): Promise<number | null> {
  const victim = Math.floor(random() * 3);
  const afterMs = random() * 90;
  const running = node.cni(call, victim === 1 ? undefined : afterMs);
  if (victim > 0) {
    await new Promise((resolve) => setTimeout(resolve, victim === 1 ? afterMs : afterMs / 2));
    await node.killAgent();
  }
  const { code } = await running;
  if (!node.agentRuns) await node.startAgent();
  return code;
}

const links = (): string[] =>
  lab
    .ip(node.netns, "-o link show")
    .split("\n")
    .flatMap((line) => /(cali[0-9a-f]{11})/.exec(line)?.[1] ?? []);

const addressOf = (output: string): string =>
  (JSON.parse(output) as { ips: { address: string }[] }).ips[0]?.address.replace("/32", "") ?? "";

test(`${POINTS} kills (seed ${SEED}): no duplicate, no leak, no half-made interface, no pod without policy`, {
  timeout: 120_000 + POINTS * 15_000,
}, async () => {
  const random = numbers(SEED);
  const space = lab.namespace("pod");
  const stays = lab.namespace("stays");
  await node.pod("stays");
  const kept = { containerId: "stays", pod: "stays", netns: lab.path(stays) };
  const keptAddress = addressOf(await insist({ ...kept, command: "ADD" }));
  for (let at = 0; at < POINTS; at++) {
    const pod = `p${at}`;
    await node.pod(pod);
    const sandbox = { containerId: `k${at}a`, pod, netns: lab.path(space) };
    if ((await perform({ ...sandbox, command: "ADD" }, random)) !== 0) {
      await insist({ ...sandbox, command: "DEL" });
      sandbox.containerId = `k${at}b`;
      await insist({ ...sandbox, command: "ADD" });
    }
    await insist({ ...sandbox, command: "CHECK" });
    const held = [...(await holders(node.client))].filter(([, handle]) => handle === `net.${sandbox.containerId}`);
    expect(held.map(([address]) => address)).not.toContain(keptAddress);
    if ((await perform({ ...sandbox, command: "DEL" }, random)) !== 0) await insist({ ...sandbox, command: "DEL" });
    await node.client.delete("Pod", { namespace: "default", name: pod });
    expect(links()).toHaveLength(1);
    expect(lab.ip(space, "-o link show")).not.toContain("eth0");
  }
  await insist({ ...kept, command: "CHECK" });
  // What died with a full release queue is what garbage collection is for.
  const clock = new FakeClock(Date.now());
  const collector = new Collector({ client: node.client, clock });
  for (let pass = 0; pass < 3; pass++) {
    const { failures } = await collector.pass();
    expect(failures).toEqual([]);
    await clock.advance(16 * 60_000);
  }
  expect([...(await holders(node.client))]).toEqual([[keptAddress, "net.stays"]]);
  expect(await worldProblems(node.client, { atRest: true })).toEqual([]);
});

test("fifty ADDs while the datastore is away: all of them in the end, each with its own address and its policy", {
  timeout: 180_000 + OUTAGE_MS,
}, async () => {
  const pods = Array.from({ length: 50 }, (_, at) => `q${at}`);
  await Promise.all(pods.map((pod) => node.pod(pod)));
  const spaces = pods.map((pod) => lab.namespace(pod));
  // Nothing reaches the API server, and nobody is told so.
  lab.nft(node.netns, "add table inet away");
  lab.nft(node.netns, "add chain inet away in { type filter hook input priority -300; }");
  lab.nft(node.netns, "add rule inet away in tcp dport 6443 drop");
  const adds = pods.map((pod, at) =>
    insist({ containerId: `c-${pod}`, pod, netns: lab.path(spaces[at] ?? ""), command: "ADD" }),
  );
  await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
  lab.nft(node.netns, "delete table inet away");
  const addresses = (await Promise.all(adds)).map(addressOf);
  expect(new Set(addresses).size).toBe(50);
  expect(new Set((await holders(node.client)).keys())).toEqual(new Set(addresses));
  expect(await worldProblems(node.client, { atRest: true })).toEqual([]);
  expect(links()).toHaveLength(50);
  for (const [at, pod] of pods.entries()) {
    await insist({ containerId: `c-${pod}`, pod, netns: lab.path(spaces[at] ?? ""), command: "CHECK" });
  }
});

test("a hundred pods at once: all reachable, all policed", { timeout: 180_000 }, async () => {
  const pods = Array.from({ length: 100 }, (_, at) => `h${at}`);
  await Promise.all(pods.map((pod) => node.pod(pod)));
  const closed: KindMap["KubernetesNetworkPolicy"] = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "closed", namespace: "default" },
    spec: { podSelector: { matchLabels: { app: "h99" } }, policyTypes: ["Ingress"] },
  };
  await node.client.create("KubernetesNetworkPolicy", closed);
  const spaces = pods.map((pod) => lab.namespace(pod));
  const calls = pods.map((pod, at) => ({ containerId: `c-${pod}`, pod, netns: lab.path(spaces[at] ?? "") }));
  const startedAt = performance.now();
  const addresses = (await Promise.all(calls.map((call) => insist({ ...call, command: "ADD" })))).map(addressOf);
  const tookMs = performance.now() - startedAt;
  for (const at of [1, 42, 98]) expect(lab.pings(spaces[0] ?? "", addresses[at] ?? "", { count: 5 })).toBe(true);
  expect(lab.pings(spaces[0] ?? "", addresses[99] ?? "")).toBe(false);
  expect(new Set(addresses).size).toBe(100);
  process.stderr.write(`100 pods at once: ${Math.round(tookMs)} ms\n`);
  await Promise.all(calls.map((call) => insist({ ...call, command: "DEL" })));
  await eventually("all addresses are back", async () => (await holders(node.client)).size === 0, 60_000);
  expect(links()).toEqual([]);
});
