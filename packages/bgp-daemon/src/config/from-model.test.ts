import { createHash } from "node:crypto";
import type { BGPConfiguration, BGPPeer } from "@calico-ts/model";
import { BgpSpeaker } from "@calico-ts/bgp";
import { formatAddress, formatPrefix } from "@calico-ts/net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  affinity,
  configuration,
  endpoint,
  filter,
  input,
  made,
  node,
  noMesh,
  peer,
  pool,
} from "../../test/support/resources.ts";
import { configFromModel } from "./from-model.ts";
import { type ModelInput, type ModelResult, problemText } from "./model-input.ts";

const off = { configurations: [noMesh] };
const peersOf = (change: Partial<ModelInput> = {}): string[] =>
  made(change).speaker.peers.map(({ name, remoteAs }) => `${name} ${remoteAs}`);
const problemsOf = ({ problems }: ModelResult): string[] => problems.map(problemText);
const firstOf = <T>(list: readonly T[]): T => {
  const [first] = list;
  if (first === undefined) throw new Error("nothing there");
  return first;
};
/** The terms of the only session there is. */
const only = (change: Partial<ModelInput> = {}) => {
  const config = made({ ...off, ...change });
  const terms = firstOf(config.speaker.peers);
  expect(config.speaker.peers).toHaveLength(1);
  return { config, peer: terms, reach: config.reach.get(terms.name) };
};
const to = (spec: BGPPeer["spec"]) => only({ peers: [peer("p", { peerIP: "192.0.2.1", asNumber: 65001, ...spec })] });

describe("base", () => {
  test.each<[string, Partial<ModelInput>, number]>([
    ["the node's IPv4 address", {}, 0x0a000001],
    ["CALICO_ROUTER_ID", { routerId: "192.0.2.9" }, 0xc0000209],
    ["the hash of the name", { routerId: "hash" }, hashedId("n1")],
  ])("the router id is %s", (_what, change, routerId) => {
    expect(made(change).speaker.routerId).toBe(routerId);
  });

  /** The first four bytes of the name's SHA-256, with 32 taken off a first byte above 223. */
  function hashedId(name: string): number {
    const [first = 0, second = 0, third = 0, fourth = 0] = createHash("sha256").update(name).digest();
    return (((first > 223 ? first - 32 : first) * 256 + second) * 256 + third) * 256 + fourth;
  }

  test("hashed router ids are hosts' addresses", () => {
    const idOf = (name: string): number =>
      made({ routerId: "hash", nodeName: name, nodes: [node(1, { name })] }).speaker.routerId;
    const names = Array.from({ length: 60 }, (_, at) => `worker-${at}`);
    expect(names.map(idOf)).toEqual(names.map(hashedId));
    expect(names.map(idOf).every((id) => id >>> 24 <= 223)).toBe(true);
  });

  test.each<[string, Partial<ModelInput>, string]>([
    ["it is not there", { nodes: [] }, "Node n1: it is not in the datastore. BGP waits for it."],
    [
      "it has no IPv4 address and no router id is set",
      { nodes: [node(1, { ipv4Address: undefined as never, ipv6Address: "fd00::1/64" })] },
      "Node n1: it has no IPv4 address to take as router id. Set CALICO_ROUTER_ID to an IPv4 address, or to hash.",
    ],
    [
      "the router id that is set is none",
      { routerId: "fd00::1" },
      'Node n1: CALICO_ROUTER_ID is "fd00::1", which is neither an IPv4 address nor "hash". Set CALICO_ROUTER_ID to an IPv4 address, or to hash.',
    ],
  ])("the node cannot speak: %s", (_what, change, text) => {
    const result = configFromModel(input(change));
    expect([result.config, problemsOf(result)]).toEqual([undefined, [text]]);
  });

  test("listens on every address, or on the node's; on its own port", () => {
    const nodes = [node(1, { ipv6Address: "fd00::1/64" })];
    const places = (...configurations: BGPConfiguration[]): string[] =>
      made({ nodes, configurations }).listen.map(({ address, port }) => `${formatAddress(address)} ${port}`);
    expect(places()).toEqual(["0.0.0.0 179", ":: 179"]);
    expect(places(configuration({ listenPort: 1790 }))).toEqual(["0.0.0.0 1790", ":: 1790"]);
    const pods = { localWorkloadPeeringIPV4: "192.168.0.1" };
    expect(
      places(configuration({ bindMode: "NodeIP", ...pods }), configuration({ listenPort: 178 }, "node.n1")),
    ).toEqual(["10.0.0.1 178", "192.168.0.1 178", "fd00::1 178"]);
  });

  test("the peer template: graceful restart, additional paths, many equal paths", () => {
    const { config, peer: terms } = to({});
    expect(config.speaker.maxPaths).toBeGreaterThan(1);
    expect(terms).toMatchObject({ gracefulRestart: { restartSeconds: 120 }, addPath: { receive: true, send: true } });
  });
});

describe("mesh", () => {
  test("with every other node, dialled from one side", () => {
    const { speaker, reach } = made({ nodeName: "n2" });
    expect(speaker.peers.map(({ name, passive = false }) => [name, passive])).toEqual([
      ["Mesh_10_0_0_1", false],
      ["Mesh_10_0_0_3", true],
    ]);
    expect(speaker.as).toBe(64512);
    const { sourceAddress, ttlSecurityHops } = reach.get("Mesh_10_0_0_1") ?? {};
    expect([formatAddress(sourceAddress ?? { family: 4, value: 0n }), ttlSecurityHops]).toEqual([
      "10.0.0.2",
      undefined,
    ]);
  });

  test("per family, with each node's AS and port", () => {
    const nodes = [node(1, { ipv6Address: "fd00::1/64" }), node(2, { ipv6Address: "fd00::2/64", asNumber: 65002 })];
    const configurations = [configuration({ asNumber: 65000 }), configuration({ listenPort: 1790 }, "node.n2")];
    const { speaker, reach } = made({ nodes, configurations });
    expect(speaker.peers.map(({ name, remoteAs, families }) => `${name} ${remoteAs} ${families.join()}`)).toEqual([
      "Mesh_10_0_0_2 65002 ipv4-unicast",
      "Mesh_fd00__2 65002 ipv6-unicast",
    ]);
    expect(reach.get("Mesh_fd00__2")?.port).toBe(1790);
  });

  test("not with reflectors, not on reflectors, not when it is off", () => {
    const reflector = node(2, { routeReflectorClusterId: "1.0.0.1" });
    expect(peersOf({ nodes: [node(1), reflector, node(3)] })).toEqual(["Mesh_10_0_0_3 64512"]);
    expect(peersOf({ nodeName: "n2", nodes: [node(1), reflector, node(3)] })).toEqual([]);
    expect(peersOf(off)).toEqual([]);
  });

  test("has the cluster's password and restart time", () => {
    const spec = { nodeMeshPassword: { secretKeyRef: { name: "mesh", key: "word" } }, nodeMeshMaxRestartTime: "30s" };
    const change = { configurations: [configuration(spec)], nodes: [node(1), node(2)] };
    const { config, secrets } = configFromModel(
      input({ ...change, secret: ({ name, key }) => (name === "mesh" && key === "word" ? "hush" : undefined) }),
    );
    expect(config?.speaker.peers[0]?.gracefulRestart).toEqual({ restartSeconds: 30 });
    expect(config?.reach.get("Mesh_10_0_0_2")?.password).toBe("hush");
    expect(secrets).toEqual([{ name: "mesh", key: "word" }]);
  });

  test("an explicit session takes the place of the mesh's", () => {
    expect(peersOf({ peers: [peer("p", { peerIP: "10.0.0.2", asNumber: 64512 })] })).toEqual([
      "Global_10_0_0_2 64512",
      "Mesh_10_0_0_3 64512",
    ]);
  });
});

describe("global and node peers", () => {
  test("of all nodes, of this node, by selector; a peer of all nodes comes first", () => {
    const peers = [
      peer("mine", { node: "n1", peerIP: "192.0.2.1", asNumber: 65001 }),
      peer("all", { peerIP: "192.0.2.1", asNumber: 65009 }),
      peer("rack", { nodeSelector: "rack == 'odd'", peerIP: "192.0.2.2:1790", asNumber: 65002 }),
      peer("other", { node: "n2", peerIP: "192.0.2.3", asNumber: 65003 }),
    ];
    expect(peersOf({ ...off, peers })).toEqual(["Global_192_0_2_1 65009", "Node_192_0_2_2_port_1790 65002"]);
    expect(peersOf({ ...off, peers, nodeName: "n2" })).toEqual(["Global_192_0_2_1 65009", "Node_192_0_2_3 65003"]);
  });

  test("of two resources for one session the first by name is taken, in whatever order they come", () => {
    const peers = [
      peer("b", { peerIP: "192.0.2.1", asNumber: 65002 }),
      peer("a", { peerIP: "192.0.2.1", asNumber: 65001 }),
      peer("c", { peerIP: "192.0.2.1:1790", asNumber: 65003 }),
    ];
    const expected = ["Global_192_0_2_1 65001", "Global_192_0_2_1_port_1790 65003"];
    for (const order of [peers, peers.toReversed()]) expect(peersOf({ ...off, peers: order })).toEqual(expected);
  });

  test("sessions back to nodes that chose this one, by selector or by address and AS", () => {
    const nodes = [node(1), node(2, { labels: { rr: "yes" } }), node(3)];
    const bySelector = peer("rrs", { nodeSelector: "!has(rr)", peerSelector: "has(rr)" });
    const at2 = { ...off, nodes, nodeName: "n2" };
    expect(peersOf({ ...off, nodes, peers: [bySelector] })).toEqual(["Node_10_0_0_2 64512"]);
    expect(peersOf({ ...at2, peers: [bySelector] })).toEqual(["Node_10_0_0_1 64512", "Node_10_0_0_3 64512"]);
    const byAddress = (spec: Partial<BGPPeer["spec"]>) =>
      peersOf({ ...at2, peers: [peer("p", { node: "n3", peerIP: "10.0.0.2", asNumber: 64512, ...spec })] });
    expect(byAddress({})).toEqual(["Node_10_0_0_3 64512"]);
    expect(byAddress({ peerIP: "10.0.0.2:179" })).toEqual(["Node_10_0_0_3 64512"]);
    expect(byAddress({ peerIP: "10.0.0.2:1790" })).toEqual([]);
    expect(byAddress({ asNumber: 65001 })).toEqual([]);
    expect(byAddress({ reversePeering: "Manual" })).toEqual([]);
  });

  test("a node that all nodes peer with: it does not peer with itself, and one side dials", () => {
    const peers = [peer("p", { peerIP: "10.0.0.2", asNumber: 64512 })];
    const passive = (nodeName: string) =>
      made({ ...off, peers, nodeName }).speaker.peers.map((one) => [one.name, one.passive ?? false]);
    expect(passive("n1")).toEqual([["Global_10_0_0_2", true]]);
    expect(passive("n2")).toEqual([
      ["Node_10_0_0_1", false],
      ["Node_10_0_0_3", false],
    ]);
    expect(passive("n3")).toEqual([["Global_10_0_0_2", false]]);
  });

  test.each([
    ["another AS", { peerIP: "10.0.0.2", asNumber: 65001 }],
    ["another port", { peerIP: "10.0.0.2:1790", asNumber: 64512 }],
  ])("nobody waits for a node that makes no session back: %s", (_what, spec) => {
    const peers = [peer("p", spec)];
    expect(peersOf({ ...off, peers, nodeName: "n2" })).toEqual([]);
    expect(made({ ...off, peers, nodeName: "n1" }).speaker.peers.map(({ passive = false }) => passive)).toEqual([
      false,
    ]);
  });

  test("ports: what peerIP says, else where the node listens, else 179", () => {
    const configurations = [noMesh, configuration({ listenPort: 1799 }, "node.n2")];
    const portTo = (peerIP: string) =>
      [...made({ configurations, peers: [peer("p", { peerIP, asNumber: 64512 })] }).reach.values()].map(
        ({ address, port }) => `${formatAddress(address)} ${port}`,
      );
    expect(portTo("192.0.2.1")).toEqual(["192.0.2.1 179"]);
    expect(portTo("192.0.2.1:1790")).toEqual(["192.0.2.1 1790"]);
    expect(portTo("10.0.0.2")).toEqual(["10.0.0.2 1799"]);
    expect(portTo("[2001:db8::1]:180")).toEqual(["2001:db8::1 180"]);
  });

  test("a link-local peer is reached through its interface, without the node's address", () => {
    const nodes = [node(1, { ipv6Address: "fd00::1/64" })];
    const { peer: terms, reach } = only({ nodes, peers: [peer("p", { peerIP: "fe80::2%eth0", asNumber: 65001 })] });
    expect([reach?.interface, reach?.sourceAddress, terms.nextHopSelf]).toEqual(["eth0", undefined, undefined]);
  });

  test("one link-local address on two interfaces is two peers", () => {
    const peers = ["eth0", "eth1"].map((zone) => peer(zone, { peerIP: `fe80::2%${zone}`, asNumber: 65001 }));
    const { reach } = made({ ...off, peers });
    expect([...reach].map(([name, { interface: zone }]) => [name, zone])).toEqual([
      ["Global_fe80__2_eth0", "eth0"],
      ["Global_fe80__2_eth1", "eth1"],
    ]);
    expect(() => new BgpSpeaker(made({ ...off, peers }).speaker, 0)).not.toThrow();
  });
});

describe("route reflectors", () => {
  const clustered = (n: number, id: string) => node(n, { routeReflectorClusterId: id, labels: { rr: "yes" } });
  const nodes = [node(1), clustered(2, "1.0.0.1"), clustered(3, "1.0.0.1"), clustered(4, "1.0.0.2")];
  const peers = [peer("all", { nodeSelector: "all()", peerSelector: "has(rr)" })];

  test("clients are internal peers of another cluster or none; of the own cluster they are not", () => {
    const { speaker } = made({ ...off, nodes, peers, nodeName: "n2" });
    expect(speaker.clusterId).toBe(0x01000001);
    expect(speaker.peers.map(({ name, reflectorClient = false }) => [name, reflectorClient])).toEqual([
      ["Node_10_0_0_3", false],
      ["Node_10_0_0_4", true],
      ["Node_10_0_0_1", true],
    ]);
  });

  test("an external router is no client; an internal one is", () => {
    const routers = (asNumber: number) =>
      made({ ...off, nodes, nodeName: "n2", peers: [peer("tor", { peerIP: "192.0.2.1", asNumber })] }).speaker.peers;
    expect(routers(65001)[0]?.reflectorClient).toBeUndefined();
    expect(routers(64512)[0]?.reflectorClient).toBe(true);
  });

  test("a cluster id that is none is said, and the router id is used", () => {
    const { config, problems } = configFromModel(input({ nodes: [node(1, { routeReflectorClusterId: "0.0.0.0" })] }));
    expect([config?.speaker.clusterId, problems[0]?.field]).toEqual([undefined, "spec.bgp.routeReflectorClusterID"]);
  });
});

describe("terms of a session", () => {
  test.each<[string, BGPPeer["spec"], object]>([
    ["localASNumber", { localASNumber: 65100 }, { localAs: 65100 }],
    ["numAllowedLocalASNumbers", { numAllowedLocalASNumbers: 2 }, { allowedLocalAs: 2 }],
    ["maxRestartTime", { maxRestartTime: "1m" }, { gracefulRestart: { restartSeconds: 60 } }],
    ["a restart time of more than 12 bits", { maxRestartTime: "2h" }, { gracefulRestart: { restartSeconds: 4095 } }],
    ["keepaliveTime", { keepaliveTime: "10s" }, { timers: { keepaliveSeconds: 10, holdSeconds: 90 } }],
    ["a long keepaliveTime", { keepaliveTime: "1m30s" }, { timers: { keepaliveSeconds: 90, holdSeconds: 270 } }],
    ["nextHopMode Self", { nextHopMode: "Self" }, { nextHop: "self" }],
    ["nextHopMode Keep", { nextHopMode: "Keep" }, { nextHop: "keep" }],
    ["nextHopMode Auto", { nextHopMode: "Auto" }, { nextHop: "auto" }],
    ["keepOriginalNextHop to an external peer", { keepOriginalNextHop: true }, { nextHop: "keep" }],
    ["keepOriginalNextHop to an internal peer", { keepOriginalNextHop: true, asNumber: 64512 }, { nextHop: "auto" }],
  ])("%s", (_what, spec, expected) => {
    expect(to(spec).peer).toMatchObject(expected);
  });

  test("the node's AS, the cluster's, 64512; the peer's, when none is given, the cluster's", () => {
    expect(made(off).speaker.as).toBe(64512);
    expect(made({ configurations: [configuration({ asNumber: 65000 })] }).speaker.as).toBe(65000);
    expect(made({ nodes: [node(1, { asNumber: 4_200_000_000 })] }).speaker.as).toBe(4_200_000_000);
    expect(only({ peers: [peer("p", { peerIP: "192.0.2.1" })] }).peer.remoteAs).toBe(64512);
  });

  test("localASNumber between nodes: who is named by address is told it, and expects it on the session back; peerSelector knows nodes by their own", () => {
    const nodes = [node(1), node(2, { labels: { rr: "yes" } })];
    const ends = (spec: BGPPeer["spec"]) =>
      ["n1", "n2"].map((nodeName) => {
        const peers = [peer("p", { node: "n1", localASNumber: 65100, ...spec })];
        const result = configFromModel(input({ ...off, nodes, peers, nodeName }));
        const { localAs, remoteAs } = firstOf(result.config?.speaker.peers ?? []);
        return [localAs ?? 64512, remoteAs, result.problems.map(({ field }) => field).join()];
      });
    expect(ends({ peerIP: "10.0.0.2", asNumber: 64512 })).toEqual([
      [65100, 64512, ""],
      [64512, 65100, ""],
    ]);
    expect(ends({ peerSelector: "has(rr)" })).toEqual([
      [64512, 64512, "spec.localASNumber"],
      [64512, 64512, "spec.localASNumber"],
    ]);
  });

  test.each<[string, BGPPeer["spec"], string | undefined, string | undefined]>([
    ["UseNodeIP", {}, "10.0.0.1", "10.0.0.1"],
    ["None: the kernel's choice", { sourceAddress: "None" }, undefined, undefined],
  ])("sourceAddress %s", (_what, spec, source, self) => {
    const { peer: terms, reach } = to(spec);
    const text = (address: Parameters<typeof formatAddress>[0] | undefined) => address && formatAddress(address);
    expect([text(reach?.sourceAddress), text(terms.nextHopSelf?.ipv4)]).toEqual([source, self]);
  });

  test.each<[number | undefined, number | undefined]>([
    [undefined, undefined],
    [0, undefined],
    [1, 1],
    [254, 254],
    [255, 254],
  ])("ttlSecurity %s is %s hops", (ttlSecurity, hops) => {
    expect(to(ttlSecurity === undefined ? {} : { ttlSecurity }).reach?.ttlSecurityHops).toBe(hops);
  });

  test("reachableBy is a route to the peer through the gateway", () => {
    const hostRoutes = to({ reachableBy: "10.0.0.254" }).config.forwarding?.hostRoutes ?? [];
    const texts = hostRoutes.map(
      ({ destination, gateway }) => `${formatPrefix(destination)} ${formatAddress(gateway)}`,
    );
    expect(texts).toEqual(["192.0.2.1/32 10.0.0.254"]);
  });
});

describe("passwords", () => {
  const secured = peer("p", {
    peerIP: "192.0.2.1",
    asNumber: 65001,
    password: { secretKeyRef: { name: "bgp", key: "tor" } },
  });
  const withSecret = (value: string | undefined, more: Partial<ModelInput> = {}): ModelResult =>
    configFromModel(input({ ...off, peers: [secured], secret: () => value, ...more }));
  const passwordIn = ({ config }: ModelResult) => config?.reach.get("Global_192_0_2_1")?.password;

  test("come from the Secret that is named, which is told to be watched", () => {
    const result = withSecret("hush");
    expect([passwordIn(result), result.problems, result.secrets]).toEqual(["hush", [], [{ name: "bgp", key: "tor" }]]);
  });

  test.each<[string, string | undefined]>([
    ["there is none", undefined],
    ["it is empty", ""],
    ["it is too long", "x".repeat(81)],
  ])("a session without is shut down, so that it counts as not up: %s", (_what, value) => {
    const result = withSecret(value);
    expect(result.config?.speaker.peers).toMatchObject([
      { name: "Global_192_0_2_1", shutdown: "its password cannot be had" },
    ]);
    expect(passwordIn(result)).toBeUndefined();
    expect(result.secrets).toHaveLength(1);
    expect(result.problems[0]).toMatchObject({ object: "BGPPeer p", field: "spec.password.secretKeyRef" });
    expect(result.problems[0]?.whatToDo).toContain("stay closed");
  });

  test("any text may be one", () => {
    const { config } = withSecret("not to be had");
    expect(config?.reach.get("Global_192_0_2_1")?.password).toBe("not to be had");
    expect(config?.speaker.peers[0]?.shutdown).toBeUndefined();
  });

  test("one that was read before is kept while the Secret is gone", () => {
    const result = withSecret(undefined, { previous: withSecret("hush") });
    expect([passwordIn(result), result.problems.length]).toEqual(["hush", 1]);
  });

  test("one that may be missing may be missing", () => {
    const peers = [
      {
        ...secured,
        spec: { ...secured.spec, password: { secretKeyRef: { name: "bgp", key: "tor", optional: true } } },
      },
    ];
    const result = withSecret(undefined, { peers });
    expect([result.config?.speaker.peers.length, passwordIn(result), result.problems]).toEqual([1, undefined, []]);
  });

  test("a Secret of a peer that is not ours is not asked for", () => {
    const peers = [{ ...secured, spec: { ...secured.spec, node: "n2" } }];
    expect(withSecret("hush", { peers }).secrets).toEqual([]);
  });
});

describe("pods as peers", () => {
  const peers = [
    peer("pods", { localWorkloadSelector: "app == 'router'", asNumber: 65010, localASNumber: 65011, filters: ["f"] }),
  ];
  const endpoints = [
    endpoint("router", { addresses: ["10.244.1.5/32", "fd00:1::5/128"] }),
    endpoint("web", { addresses: ["10.244.1.6/32"] }),
    endpoint("late", { labels: { app: "router" } }),
    endpoint("away", { labels: { app: "router" }, node: "n2", addresses: ["10.244.2.5/32"] }),
  ];

  test("those of this node that match, over each family; they connect to us", () => {
    const { speaker, reach } = made({ ...off, peers, endpoints, filters: [filter("f", {})] });
    expect(speaker.peers.map(({ name, passive, remoteAs, localAs }) => [name, passive, remoteAs, localAs])).toEqual([
      ["Local_Workload_10_244_1_5", true, 65010, 65011],
      ["Local_Workload_fd00_1__5", true, 65010, 65011],
    ]);
    expect(reach.get("Local_Workload_10_244_1_5")?.sourceAddress).toBeUndefined();
    expect(
      made({ ...off, peers: [peer("pods", { ...peers[0]?.spec, node: "n2", filters: [] })], endpoints }).speaker.peers,
    ).toEqual([]);
  });
});

describe("what is wrong is said, and what was right goes on", () => {
  const tor = (spec: Partial<BGPPeer["spec"]>) => peer("tor", { peerIP: "192.0.2.1", asNumber: 65001, ...spec });
  const good = filter("f", { exportV4: [{ action: "Accept", cidr: "10.0.0.0/8", matchOperator: "In" }] });
  const bad = filter("f", { exportV4: [{ action: "Accept", cidr: "fd00::/8", matchOperator: "In" }] });
  const exportsIn = ({ config }: ModelResult): string[] =>
    (config?.speaker.peers[0]?.exportFilter?.rules ?? [])
      .slice(0, 1)
      .map(({ action, because }) => `${action} ${because}`);
  const run = (change: Partial<ModelInput>): ModelResult => configFromModel(input({ ...off, ...change }));

  test("a filter that is wrong lets nothing through", () => {
    const result = run({ peers: [tor({ filters: ["f"] })], filters: [bad] });
    expect(exportsIn(result)).toEqual(["reject there is no good BGPFilter f: nothing passes"]);
    expect(result.config?.speaker.peers[0]?.importFilter?.rules[0]?.action).toBe("reject");
    expect(result.problems.map(({ object, field }) => `${object} ${field}`)).toEqual([
      "BGPFilter f spec.exportV4[0].cidr",
      "BGPPeer tor spec.filters[0]",
    ]);
    expect(result.problems[0]?.why).toContain("fd00::/8");
  });

  test.each<[string, Partial<ModelInput>]>([
    ["wrong", { filters: [bad] }],
    ["gone", { filters: [] }],
  ])("a filter that was right before and is now %s stays in force", (_what, change) => {
    const peers = [tor({ filters: ["f"] })];
    const before = run({ peers, filters: [good] });
    const once = run({ peers, ...change, previous: before });
    const twice = run({ peers, ...change, previous: once });
    for (const result of [once, twice]) {
      expect(exportsIn(result)).toEqual(["accept BGPFilter f exportV4[0]"]);
      expect(result.problems.map(({ whatToDo }) => whatToDo).join()).toContain("last good version");
    }
  });

  test("what names a filter that never was good is refused: what was goes on", () => {
    const nodes = [node(1), node(2)];
    const peers = [peer("p", { peerIP: "10.0.0.2", asNumber: 64512, filters: ["f"] })];
    const mesh = configFromModel(input({ nodes }));
    for (const filters of [[bad], []]) {
      const refused = configFromModel(input({ nodes, peers, filters, previous: mesh }));
      expect(refused.config?.speaker.peers.map(({ name }) => name)).toEqual(["Mesh_10_0_0_2"]);
      expect(refused.problems.at(-1)?.whatToDo).toMatch(/^The peer is not taken up;/);
      const taken = configFromModel(input({ nodes, peers, filters: [good], previous: refused }));
      expect([taken.config?.speaker.peers.map(({ name }) => name), taken.problems]).toEqual([["Global_10_0_0_2"], []]);
    }
    const changed = run({ peers: [tor({ asNumber: 65002, filters: ["f"] })], previous: run({ peers: [tor({})] }) });
    expect(changed.config?.speaker.peers.map(({ remoteAs }) => remoteAs)).toEqual([65001]);
    expect(changed.problems.at(-1)?.whatToDo).toMatch(/^The peer stays as it was;/);
  });

  test("a filter that nobody names any more is forgotten", () => {
    const before = run({ peers: [tor({ filters: ["f"] })], filters: [good] });
    const without = run({ peers: [tor({})], filters: [], previous: before });
    expect([without.problems, without.lastGood.has("BGPFilter f")]).toEqual([[], false]);
  });

  test("a peer: its sessions stay as they were, or are not opened", () => {
    const broken = [tor({ nodeSelector: "rack ==" })];
    const fresh = run({ peers: broken });
    expect(fresh.config?.speaker.peers).toEqual([]);
    expect(problemsOf(fresh)[0]).toMatch(
      /^BGPPeer tor, spec\.nodeSelector: .* Its sessions are not opened; mend the field\.$/,
    );
    const later = run({ peers: broken, previous: run({ peers: [tor({})] }) });
    expect(later.config?.speaker.peers.map(({ name }) => name)).toEqual(["Global_192_0_2_1"]);
  });

  test("the cluster's settings: nothing is done while they were never right", () => {
    const configurations = [configuration({ nodeMeshMaxRestartTime: "soon" })];
    const fresh = run({ configurations });
    expect([fresh.config, fresh.problems[0]?.field]).toEqual([undefined, "spec.nodeMeshMaxRestartTime"]);
    const later = run({ configurations, previous: run({ configurations: [configuration({ asNumber: 65000 })] }) });
    expect(later.config?.speaker.as).toBe(65000);
  });
});

test("the result depends on what there is, not on the order in which it came", () => {
  const whole = input({
    nodes: [1, 2, 3, 4].map((n) => node(n, { ipv6Address: `fd00::${n}/64`, labels: { rr: n === 4 ? "yes" : "no" } })),
    peers: [
      peer("a", { peerIP: "192.0.2.1", asNumber: 65001, filters: ["f", "g"] }),
      peer("b", { nodeSelector: "rr == 'no'", peerSelector: "rr == 'yes'" }),
      peer("c", { peerIP: "192.0.2.1", asNumber: 65002 }),
    ],
    filters: [filter("f", {}), filter("g", { importV4: [{ action: "Reject" }] })],
    pools: [pool("x", { cidr: "10.244.0.0/16" }), pool("y", { cidr: "10.245.0.0/16", disableBGPExport: true })],
    affinities: [affinity("10.244.1.0/26", "n1"), affinity("10.244.0.0/26", "n1")],
  });
  const expected = configFromModel(whole);
  const sorted = ({ config }: ModelResult) => ({
    ...config,
    speaker: { ...config?.speaker, peers: config?.speaker.peers.toSorted((a, b) => (a.name < b.name ? -1 : 1)) },
  });
  const shuffled = <T>(list: readonly T[]) => fc.shuffledSubarray([...list], { minLength: list.length });
  const orders = fc.record({
    nodes: shuffled(whole.nodes),
    peers: shuffled(whole.peers),
    filters: shuffled(whole.filters),
    pools: shuffled(whole.pools),
    affinities: shuffled(whole.affinities),
  });
  fc.assert(
    fc.property(orders, (order) => {
      expect(sorted(configFromModel({ ...whole, ...order }))).toEqual(sorted(expected));
    }),
    { numRuns: 50 },
  );
});
