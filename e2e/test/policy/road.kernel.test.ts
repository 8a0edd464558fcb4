/**
 * When policy is not the reason: each cause is made for real, the packet is really lost, and the explanation names the cause. The same
 * packets are then watched step by step.
 */
import type { Kernel } from "@calico-ts/linux";
import { followFlow, openKernel, openRawSender, peerNamespace } from "@calico-ts/linux";
import { hostInterfaceName } from "@calico-ts/model";
import { parseAddress } from "@calico-ts/net";
import type { CompilerUpdate, ExplainedPacket, Road, RoadNode, SourcedResource } from "@calico-ts/policy-compiler";
import {
  applyChange,
  completeWorld,
  createCompiler,
  diffRulesets,
  examineRoad,
  examineRoads,
  explain,
  explainPacket,
  flowsToWatch,
  NftPolicyRenderer,
  NodePlanKernel,
  packetText,
  roadText,
  RuleNames,
} from "@calico-ts/policy-compiler";
import { namespace, pod, policy, pool, resource } from "@calico-ts/policy-compiler/testing";
import { hasCode } from "@calico-ts/std";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { readTable } from "./kernel-table.ts";
import { LAB_PODS, NODE_ADDRESS, OUTSIDE, PacketLab } from "./packet-lab.ts";

const TCP = 6;
const [P0, P1] = [hostInterfaceName("a", "p0"), hostInterfaceName("a", "p1")];
const world: CompilerUpdate[] = [
  namespace("a"),
  namespace("b"),
  ...[
    ["n1", NODE_ADDRESS],
    ["n2", OUTSIDE],
  ].map(([name = "", address = ""]) =>
    resource("Node", name, {
      metadata: { annotations: { "projectcalico.org/IPv4Address": `${address}/24` } },
      status: { addresses: [{ type: "InternalIP", address }] },
    }),
  ),
  pool("pods", { cidr: "10.0.0.0/16", natOutgoing: true }),
  resource("Tier", "default", { spec: { order: 1_000_000, defaultAction: "Deny" } }),
  ...LAB_PODS.map((spec) => pod(`${spec.namespace}/${spec.name}`, { ips: [spec.address], labels: { app: spec.name } })),
  policy("a/web", {
    selector: "app == 'p1'",
    ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [80] } }],
  }),
];

let lab: PacketLab;
beforeEach(async () => {
  lab = new PacketLab(`ct-${process.pid}-road`);
  lab.listen("p1", 80);
  await program(world);
});
afterEach(() => lab[Symbol.dispose]());

async function program(updates: readonly CompilerUpdate[]): Promise<void> {
  const renderer = new NftPolicyRenderer();
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of updates) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const observed = await readTable(lab.kernel);
  await applyChange(diffRulesets(observed, renderer.desired()), new NodePlanKernel(lab.kernel));
}

const resources = (): SourcedResource[] =>
  completeWorld(
    world.flatMap(({ kind, resource: value }) => (value === undefined ? [] : [{ kind, resource: value }])),
    { imagine: false },
  );
const ask = (to: string, from = "a/p0") => explain(resources(), { from, to, traffic: "tcp/80" });

const roadNode = (kernel: Kernel): RoadNode => ({
  kernel,
  openPod: (link) => {
    const netns = peerNamespace(kernel, link);
    if (netns === undefined) return undefined;
    const inside = openKernel({ netns });
    return { kernel: inside, done: () => inside[Symbol.dispose]() };
  },
});

/** The neighbour outside is node n2. */
async function road(to = "a/p1", from = "a/p0"): Promise<Road> {
  using out = openKernel({ netns: lab.netns("out") });
  const [path] = ask(to, from).paths;
  if (path === undefined) throw new Error("no path");
  expect(path.verdict).toBe("allowed");
  return await examineRoad(
    path,
    new Map([
      ["n1", roadNode(lab.kernel)],
      ["n2", roadNode(out)],
    ]),
  );
}
const codes = ({ findings }: Road): string[] => findings.filter(({ certain }) => certain).map(({ code }) => code);
const node1 = (...args: readonly string[]): string => lab.exec("node", "ip", ...args);
/** Without a route of its own a pod is refused at once. */
const works = async (address = "10.0.0.2", timeoutMs = 250): Promise<boolean> => {
  try {
    return await lab.connects("p0", address, 80, timeoutMs);
  } catch (error) {
    if (hasCode(error, "KERNEL")) return false;
    throw error;
  }
};

test("nothing is wrong: nothing is said, and the connection is known", async () => {
  expect(await works("10.0.0.2", 20_000)).toBe(true);
  const found = await road();
  expect(found.findings).toEqual([]);
  expect(found.connections).toMatchObject([{ node: "n1", answered: true, ports: [expect.any(Number)] }]);
  expect(roadText(found).join("\n")).toContain("stand in no way");
});

describe("no route", () => {
  test.each<[string, () => void, string]>([
    [
      "the node's route leads elsewhere",
      () => node1("route", "del", "10.0.0.2/32"),
      `the route to pod a/p1 (10.0.0.2) leads to eth0 instead of ${P1}`,
    ],
    [
      "a blackhole",
      () => node1("route", "replace", "blackhole", "10.0.0.2/32"),
      "cannot send to 10.0.0.2: the route is a `blackhole`",
    ],
    [
      "the pod has lost its default route",
      () => lab.exec("p0", "ip", "route", "del", "default"),
      "pod a/p0 cannot send to 10.0.0.2: there is no route inside the pod",
    ],
    [
      "the other pod cannot answer",
      () => lab.exec("p1", "ip", "route", "del", "default"),
      "pod a/p1 cannot send to 10.0.0.1: there is no route inside the pod",
    ],
    [
      "the pod has lost its address",
      () => lab.exec("p1", "ip", "addr", "del", "10.0.0.2/32", "dev", "eth0"),
      "pod a/p1 does not have the address 10.0.0.2 inside",
    ],
  ])("%s", async (_name, spoil, text) => {
    spoil();
    expect(await works()).toBe(false);
    const found = await road();
    expect(codes(found)).toContain("no-route");
    expect(found.findings.map((finding) => finding.text).join("\n")).toContain(text);
  });

  test("the node does not forward", async () => {
    lab.kernel.sysctl.set("net.ipv4.ip_forward", 0);
    expect(await works()).toBe(false);
    expect(codes(await road())).toContain("no-forwarding");
  });
});

describe("unknown interface", () => {
  test("the agent has not been told of the pod", async () => {
    await program(world.filter(({ key }) => key.name !== "p1"));
    expect(await works()).toBe(false);
    const found = await road();
    expect(codes(found)).toEqual(["unknown-interface"]);
    expect(found.findings[0]?.text).toContain(`does not know interface ${P1} of pod a/p1`);
  });

  test.each<[string, readonly string[], string]>([
    ["it is gone", ["link", "del", P1], `node n1 has no interface ${P1}`],
    ["it is switched off", ["link", "set", P1, "down"], `${P1} of pod a/p1 is switched off`],
  ])("%s", async (_name, spoil, text) => {
    node1(...spoil);
    expect(await works()).toBe(false);
    const found = await road();
    expect(codes(found)).toContain("unknown-interface");
    expect(found.findings.map((finding) => finding.text).join("\n")).toContain(text);
  });

  test("somebody changed the group of its link", async () => {
    node1("link", "set", P1, "group", "7");
    expect(await works()).toBe(false);
    const found = await road();
    expect(codes(found)).toEqual(["unknown-interface"]);
    expect(found.findings[0]?.text).toContain(
      `${P1} of pod a/p1 on node n1 has group 7, which the agent did not give it`,
    );
  });

  test("no agent has run here", async () => {
    await lab.kernel.nft.apply([{ do: "delete-table", table: { family: "inet", name: "calico" } }]);
    expect((await road()).findings[0]?.text).toContain("has no policy table of ours");
  });
});

describe("reverse path", () => {
  test("the way back to the pod is another interface", async () => {
    lab.kernel.sysctl.set(`net.ipv4.conf.${P0}.rp_filter`, 1);
    node1("route", "replace", "10.0.0.1/32", "dev", "eth0");
    expect(await works()).toBe(false);
    const found = await road();
    expect(codes(found)).toContain("reverse-path");
    expect(found.findings.map(({ text }) => text).join("\n")).toContain(
      `come in by ${P0} on node n1, but the way back is through eth0: the reverse-path filter (rp_filter=1) drops them`,
    );
  });

  test("the agent knows the pod by another address", async () => {
    const moved = pod("a/p0", { ips: ["10.0.0.77"], labels: { app: "p0" } });
    await program([...world, moved]);
    expect(await works()).toBe(false);
    expect(codes(await road())).toContain("reverse-path");
  });
});

describe("between nodes", () => {
  test("nothing is wrong: both are asked", async () => {
    expect(await road("b/p2", "node:n2")).toMatchObject({ nodes: ["n2", "n1"], findings: [] });
  });

  test("of several ways what is found twice is told once", async () => {
    const paths = ["a/p1", "b/p2"].flatMap((to) => ask(to).paths);
    node1("link", "set", P0, "down");
    const { nodes, findings } = await examineRoads(paths, new Map([["n1", roadNode(lab.kernel)]]));
    expect(nodes).toEqual(["n1"]);
    expect(findings.filter(({ text }) => text.includes(`${P0} of pod a/p0 is switched off`))).toHaveLength(1);
  });

  test("the sender's node has no route to the pod", async () => {
    const { findings } = await road("a/p1", "node:n2");
    expect(findings).toMatchObject([{ code: "no-route", node: "n2", certain: true }]);
    expect(findings[0]?.text).toBe("node n2 cannot send to 10.0.0.2: there is no route");
  });

  test("the receiver's node expects the sender elsewhere", async () => {
    lab.kernel.sysctl.set("net.ipv4.conf.eth0.rp_filter", 1);
    node1("route", "replace", `${OUTSIDE}/32`, "dev", P0);
    const { findings } = await road("b/p2", "node:n2");
    expect(findings).toMatchObject([{ code: "reverse-path", node: "n1" }]);
    expect(findings[0]?.text).toContain(`come in by eth0 on node n1, but the way back is through ${P0}`);
  });

  test("an outsider whom the node cannot answer", async () => {
    node1("route", "del", "default");
    const found = await road("a/p1", "198.51.100.9");
    expect(found.findings.map(({ code, text }) => [code, text])).toContainEqual([
      "no-route",
      "node n1 cannot answer 198.51.100.9: there is no route",
    ]);
  });
});

/** SYN and FIN at once, which no connection has, with a checksum of zero. */
function impossible(): Uint8Array {
  const packet = new Uint8Array(40);
  packet.set([0x45, 0, 0, 40, 0, 1, 0, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  packet.set([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x03, 4, 0, 0, 0, 0, 0], 20);
  return packet;
}

async function watched(
  send: () => void,
  stop: (packets: readonly ExplainedPacket[]) => void,
): Promise<ExplainedPacket[]> {
  const packets: ExplainedPacket[] = [];
  const names = new RuleNames(resources());
  const ended = new AbortController();
  const ready = Promise.withResolvers<void>();
  const following = followFlow(
    {
      places: [{ name: "n1", netns: lab.netns("node") }],
      patterns: flowsToWatch(ask("a/p1")),
      signal: ended.signal,
      onReady: () => ready.resolve(),
    },
    (place, packet) => void packets.push(explainPacket(place, packet, names)),
  );
  await Promise.race([ready.promise, following]);
  send();
  await vi.waitFor(() => stop(packets), { timeout: 20_000 });
  ended.abort();
  await following;
  return packets;
}

function sendImpossible(): void {
  using sender = openRawSender({ netns: lab.netns("p0"), family: 4 });
  sender.send(impossible(), parseAddress("10.0.0.2"));
}

test("an invalid connection state: counted, and named while it is watched", async () => {
  const packets = await watched(sendImpossible, (seen) => expect(seen.length).toBeGreaterThan(0));
  expect(packets[0]).toMatchObject({ outcome: "dropped", flags: "FIN,SYN", source: "10.0.0.1", destinationPort: 80 });
  expect(packets.map((packet) => packetText(packet)).join("\n")).toContain(
    "connection tracking calls the packet invalid",
  );
  const found = await road();
  expect(found.findings).toMatchObject([{ code: "invalid-state", certain: false }]);
  expect(found.findings[0]?.text).toMatch(/has dropped \d+ packet/);
});

describe("watching", () => {
  test("a connection through policies and back", async () => {
    const connected = Promise.withResolvers<boolean>();
    const packets = await watched(
      () => void works("10.0.0.2", 20_000).then(connected.resolve),
      (seen) => expect(seen.some(({ flags }) => flags === "SYN,ACK")).toBe(true),
    );
    expect(await connected.promise).toBe(true);
    const syn = packets.find(({ flags }) => flags === "SYN");
    expect(syn).toMatchObject({ outcome: "sent", input: P0, output: P1 });
    expect(syn?.steps.flatMap(({ rule }) => rule ?? [])).toMatchObject([
      { kind: "NetworkPolicy", namespace: "a", name: "web", direction: "ingress", index: 0 },
    ]);
    const answer = packets.find(({ flags }) => flags === "SYN,ACK");
    expect(answer === undefined ? "" : packetText(answer)).toContain("part of a connection that was allowed");
  });

  test("what routing stops is told from what rules drop", async () => {
    // The filter stops ARP too: the pod must know its gateway already.
    expect(await works("10.0.0.2", 20_000)).toBe(true);
    lab.kernel.sysctl.set(`net.ipv4.conf.${P0}.rp_filter`, 1);
    node1("route", "replace", "10.0.0.1/32", "dev", "eth0");
    const packets = await watched(
      () => void works(),
      (seen) => expect(seen.length).toBeGreaterThan(0),
    );
    expect(packets[0]).toMatchObject({ outcome: "lost", input: P0 });
    expect(packets.map((packet) => packetText(packet)).join("\n")).toContain("no rule stopped it");
  });

  test("a pod nobody knows", async () => {
    await program(world.filter(({ key }) => key.name !== "p1"));
    const packets = await watched(
      () => void works(),
      (seen) => expect(seen.length).toBeGreaterThan(0),
    );
    expect(packets.map((packet) => packetText(packet)).join("\n")).toContain("no pod is known on this interface");
  });
});
