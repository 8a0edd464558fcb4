/** Annotations of pods whose effect only the kernel can show. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { CniNode } from "../testing/cni-node.ts";
import { Lab } from "../testing/lab.ts";

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

interface PodPlace {
  readonly space: string;
  readonly address: string;
}

async function addPod(pod: string, annotations: Readonly<Record<string, string>> = {}): Promise<PodPlace> {
  const space = lab.namespace(pod);
  await node.pod(pod, "default", annotations);
  const { code, output } = await node.cni({
    command: "ADD",
    containerId: `c-${pod}`,
    pod,
    netns: lab.path(space),
  });
  expect({ code, output }).toMatchObject({ code: 0 });
  const { ips } = JSON.parse(output) as { ips: readonly { address: string }[] };
  return { space, address: ips[0]?.address.replace("/32", "") ?? "" };
}

/** Counts packets that arrive in the pod, by source. */
function countIn({ space }: PodPlace, sources: readonly string[]): (source: string) => number {
  lab.nft(space, "add table ip seen");
  lab.nft(space, "add chain ip seen in { type filter hook prerouting priority -300; }");
  for (const source of sources) lab.nft(space, `add rule ip seen in ip saddr ${source} counter`);
  return (source) => {
    const rule = lab
      .nft(space, "list chain ip seen in")
      .split("\n")
      .find((line) => line.includes(`saddr ${source} `));
    return Number(/packets (\d+)/.exec(rule ?? "")?.[1]);
  };
}

/** One packet from each source, and then an honest one, which overtakes none of them. */
function sendFrom(from: PodPlace, to: PodPlace, sources: readonly string[]): void {
  for (const source of sources) {
    lab.ip(from.space, `address replace ${source}/32 dev lo`);
    lab.exec(from.space, "sh", "-c", `ping -n -q -c 1 -W 0.05 -I ${source} ${to.address} || true`);
  }
  expect(lab.pings(from.space, to.address, { count: 5 })).toBe(true);
}

const SOURCES = { allowed: "10.9.0.5", notAllowed: "10.10.0.5" };
const PREFIXES = { "cni.projectcalico.org/allowedSourcePrefixes": '["10.9.0.0/24"]' };

test("allowedSourcePrefixes: packets from these sources leave the pod, when workloadSourceSpoofing is Any", {
  timeout: 120_000,
}, async () => {
  const sources = Object.values(SOURCES);
  await node.startAgent({ FELIX_WORKLOADSOURCESPOOFING: "Any" });
  const router = await addPod("router", PREFIXES);
  const honest = await addPod("honest");
  const target = await addPod("target");
  const count = countIn(target, [router.address, honest.address, ...sources]);
  sendFrom(honest, target, sources);
  expect(count(SOURCES.allowed)).toBe(0);
  sendFrom(router, target, sources);
  expect(count(SOURCES.allowed)).toBe(1);
  expect(count(SOURCES.notAllowed)).toBe(0);

  // The same pods under an agent that does not allow it: the annotation alone opens nothing.
  await node.killAgent();
  await node.startAgent();
  sendFrom(router, target, sources);
  expect(count(SOURCES.allowed)).toBe(1);
  expect(count(SOURCES.notAllowed)).toBe(0);
});
