import type { BGPConfiguration, BGPFilter, BGPPeer, CalicoNode, IPPool } from "@calico-ts/model";
import { formatAddress, formatPrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { ModelInput } from "./model-input.ts";
import { problemText } from "./model-input.ts";
import { configFromModel } from "./from-model.ts";

const node = (n: number, change: Partial<CalicoNode> = {}): CalicoNode => ({
  name: `n${n}`,
  labels: { rack: n % 2 === 0 ? "even" : "odd" },
  addresses: [],
  podCidrs: [],
  ipv4Address: `10.0.0.${n}/24`,
  ...change,
});
const meta = (name: string): { apiVersion: "projectcalico.org/v3"; metadata: { name: string } } => ({
  apiVersion: "projectcalico.org/v3",
  metadata: { name },
});
const peer = (name: string, spec: BGPPeer["spec"]): BGPPeer => ({ kind: "BGPPeer", ...meta(name), spec });
const configuration = (spec: Partial<BGPConfiguration["spec"]>, name = "default"): BGPConfiguration => ({
  kind: "BGPConfiguration",
  ...meta(name),
  spec,
});
const pool = (name: string, spec: Partial<IPPool["spec"]> & { cidr: string }): IPPool => ({
  kind: "IPPool",
  ...meta(name),
  spec,
});

const input = (change: Partial<ModelInput> = {}): ModelInput => ({
  nodeName: "n1",
  nodes: [node(1), node(2), node(3)],
  configurations: [],
  peers: [],
  filters: [],
  pools: [pool("default", { cidr: "10.244.0.0/16" })],
  affinities: [
    {
      kind: "BlockAffinity",
      ...meta("b1"),
      spec: { cidr: "10.244.1.0/26", node: change.nodeName ?? "n1", state: "confirmed", type: "host", deleted: false },
    },
  ],
  endpoints: [],
  services: [],
  slices: [],
  secret: () => undefined,
  ...change,
});

function made(change: Partial<ModelInput> = {}): NonNullable<ReturnType<typeof configFromModel>["config"]> {
  const { config, problems } = configFromModel(input(change));
  expect(problems).toEqual([]);
  if (config === undefined) throw new Error("no configuration");
  return config;
}
const peersOf = (change: Partial<ModelInput> = {}): string[] =>
  made(change).speaker.peers.map(({ name, remoteAs }) => `${name} ${remoteAs}`);

describe("mesh", () => {
  test("with every other node, dialled from one side", () => {
    const { speaker, reach, listen, routes } = made({ nodeName: "n2" });
    expect(speaker.peers.map(({ name, passive }) => [name, passive])).toEqual([
      ["Mesh_10_0_0_1", false],
      ["Mesh_10_0_0_3", true],
    ]);
    expect([speaker.as, speaker.routerId]).toEqual([64512, 0x0a000002]);
    expect(formatAddress(reach.get("Mesh_10_0_0_1")?.sourceAddress ?? { family: 4, value: 0n })).toBe("10.0.0.2");
    expect(listen.map(({ address, port }) => `${formatAddress(address)} ${port}`)).toEqual(["0.0.0.0 179"]);
    expect(routes.map((route) => formatPrefix(route.prefix))).toEqual(["10.244.1.0/26"]);
  });

  test("per family, with each node's AS and port", () => {
    const nodes = [node(1, { ipv6Address: "fd00::1/64" }), node(2, { ipv6Address: "fd00::2/64", asNumber: 65002 })];
    const { speaker, reach } = made({
      nodes,
      configurations: [configuration({ asNumber: 65000 }), configuration({ listenPort: 1790 }, "node.n2")],
    });
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
    expect(peersOf({ configurations: [configuration({ nodeToNodeMeshEnabled: false })] })).toEqual([]);
  });

  test("passwords are not dropped silently: no session and a reason", () => {
    const password = { nodeMeshPassword: { secretKeyRef: { name: "s", key: "k" } } } as Partial<
      BGPConfiguration["spec"]
    >;
    const { config, problems } = configFromModel(input({ configurations: [configuration(password)] }));
    expect(config?.speaker.peers).toEqual([]);
    expect(problems.map(problemText).join()).toContain("a mesh password is not supported");
  });
});

describe("explicit peers", () => {
  const off = { configurations: [configuration({ nodeToNodeMeshEnabled: false })] };

  test("global, for this node, by selector; a global one wins", () => {
    const peers = [
      peer("mine", { node: "n1", peerIP: "192.0.2.1", asNumber: 65001 }),
      peer("all", { peerIP: "192.0.2.1", asNumber: 65009 }),
      peer("rack", { nodeSelector: "rack == 'odd'", peerIP: "192.0.2.2:1790", asNumber: 65002 }),
      peer("other", { node: "n2", peerIP: "192.0.2.3", asNumber: 65003 }),
    ];
    expect(peersOf({ ...off, peers })).toEqual(["Global_192_0_2_1 65009", "Node_192_0_2_2_port_1790 65002"]);
    expect(peersOf({ ...off, peers, nodeName: "n2" })).toEqual(["Global_192_0_2_1 65009", "Node_192_0_2_3 65003"]);
  });

  test("reflectors by peerSelector, with the session back, clients marked on the reflector", () => {
    const nodes = [node(1), node(2, { routeReflectorClusterId: "1.0.0.1", labels: { rr: "yes" } }), node(3)];
    const peers = [peer("rrs", { nodeSelector: "!has(rr)", peerSelector: "has(rr)" })];
    expect(peersOf({ ...off, nodes, peers })).toEqual(["Node_10_0_0_2 64512"]);
    const { speaker } = made({ ...off, nodes, peers, nodeName: "n2" });
    expect(speaker.clusterId).toBe(0x01000001);
    expect(speaker.peers.map(({ name, reflectorClient }) => [name, reflectorClient])).toEqual([
      ["Node_10_0_0_1", true],
      ["Node_10_0_0_3", true],
    ]);
    const manual = [peer("rrs", { nodeSelector: "!has(rr)", peerSelector: "has(rr)", reversePeering: "Manual" })];
    expect(peersOf({ ...off, nodes, peers: manual, nodeName: "n2" })).toEqual([]);
  });

  test("options", () => {
    const spec = {
      peerIP: "192.0.2.1",
      asNumber: 65001,
      localASNumber: 65100,
      nextHopMode: "Self" as const,
      numAllowedLocalASNumbers: 2,
      keepaliveTime: "1m30s",
      maxRestartTime: "30s",
      sourceAddress: "None" as const,
    };
    const { speaker, reach } = made({ ...off, peers: [peer("a", spec)] });
    expect(speaker.peers[0]).toMatchObject({
      localAs: 65100,
      nextHop: "self",
      allowedLocalAs: 2,
      timers: { keepaliveSeconds: 90 },
      gracefulRestart: { restartSeconds: 30 },
    });
    expect(reach.get("Global_192_0_2_1")?.sourceAddress).toBeUndefined();
  });

  test("what cannot be had is said", () => {
    const peers = [
      peer("secure", { peerIP: "192.0.2.1", asNumber: 1, ttlSecurity: 1 }),
      peer("odd", { peerIP: "router", asNumber: 1 }),
      peer("broken", { nodeSelector: "rack ==", peerIP: "192.0.2.2", asNumber: 1 }),
      peer("filtered", { peerIP: "192.0.2.3", asNumber: 1, filters: ["none"] }),
    ];
    const { config, problems } = configFromModel(input({ ...off, peers }));
    expect(config?.speaker.peers.map(({ name }) => name)).toEqual(["Global_192_0_2_3"]);
    expect(problems.map((one) => problemText(one).slice(0, 34))).toEqual([
      'BGPPeer odd: peerIP "router" is no',
      expect.stringContaining("BGPPeer broken: "),
      "Global_192_0_2_1: no session, beca",
      "BGPPeer filtered: there is no BGPF",
    ]);
  });
});

describe("filters", () => {
  test("BGPFilter rules first, then pools, communities and own routes", () => {
    const filter = {
      kind: "BGPFilter",
      ...meta("f"),
      spec: {
        exportV4: [{ action: "Reject", cidr: "10.9.0.0/16", matchOperator: "In", prefixLength: { max: 24 } }],
        importV4: [
          {
            action: "Accept",
            peerType: "eBGP",
            priority: 1000,
            operations: [{ setPriority: { value: 10 } }, { addCommunity: { value: "1:2:3" } }],
          },
        ],
      },
    } as BGPFilter;
    const { speaker } = made({
      filters: [filter],
      peers: [peer("a", { peerIP: "192.0.2.1", asNumber: 65001, filters: ["f"] })],
      pools: [
        pool("open", { cidr: "10.244.0.0/16" }),
        pool("hidden", { cidr: "10.245.0.0/16", disableBGPExport: true }),
      ],
      configurations: [
        configuration({
          communities: [{ name: "c", value: "64512:1" }],
          prefixAdvertisements: [{ cidr: "10.244.0.0/16", communities: ["c", "64512:2"] }],
        }),
      ],
    });
    const global = speaker.peers.find(({ name }) => name === "Global_192_0_2_1");
    expect(global?.exportFilter?.rules.map(({ action, because }) => `${action} ${because ?? "communities"}`)).toEqual([
      "reject BGPFilter f exportV4[0]",
      "reject IPPool hidden",
      "continue communities",
      "accept a route of this node",
      "accept IPPool open",
    ]);
    expect(global?.importFilter?.rules[0]).toMatchObject({
      match: { peerType: "external", localPref: 2147482647 },
      operations: [
        { do: "set-local-pref", value: 2147483637 },
        { do: "add-large-community", community: { global: 1, local1: 2, local2: 3 } },
      ],
    });
  });

  test("encapsulated pools are left to the agent", () => {
    const pools = [
      pool("plain", { cidr: "10.244.0.0/16" }),
      pool("vxlan", { cidr: "10.245.0.0/16", vxlanMode: "CrossSubnet" }),
    ];
    expect(made({ pools }).notProgrammed.map(formatPrefix)).toEqual(["10.245.0.0/16"]);
    expect(
      made({ pools, configurations: [configuration({ programClusterRoutes: "Disabled" })] }).notProgrammed,
    ).toHaveLength(2);
  });
});

test("a node without an IPv4 address and without a router id says what to do", () => {
  const { config, problems } = configFromModel(
    input({ nodes: [{ name: "n1", labels: {}, addresses: [], podCidrs: [] }] }),
  );
  expect([config, problems.map(problemText)]).toEqual([
    undefined,
    ["Node n1: it has no IPv4 address to take as router id. Set CALICO_ROUTER_ID."],
  ]);
});
