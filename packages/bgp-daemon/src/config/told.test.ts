/** What peers hear: the configuration's filters at work between speakers. */
import { formatCommunity, formatLargeCommunity } from "@calico-ts/bgp";
import type { BGPFilterRule } from "@calico-ts/model";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { affinity, configuration, filter, made, node, peer, pool } from "../../test/support/resources.ts";
import { type Setting, tell } from "../../test/support/told.ts";
import { localPrefOf } from "../priority.ts";
import type { ModelInput } from "./model-input.ts";

const TOR = "Global_192_0_2_1";
const MESH = "Mesh_10_0_0_2";
/** A node in a mesh of two, with a router of another AS. */
const world = (change: Partial<ModelInput> = {}): Partial<ModelInput> => ({
  nodes: [node(1), node(2)],
  ...change,
  peers: [peer("tor", { peerIP: "192.0.2.1", asNumber: 65001 }), ...(change.peers ?? [])],
});
const heard = (change: Partial<ModelInput>, setting: Setting = {}) => {
  const told = tell(made(world(change)), setting);
  return { tor: [...told.by(TOR).keys()].toSorted(), mesh: [...told.by(MESH).keys()].toSorted(), told };
};

describe("blocks", () => {
  test("are told as a whole: what is inside them is not", () => {
    const found = { "10.244.1.5/32": { interface: "cali1" }, "10.244.1.6/32": { interface: "cali2" } };
    const { tor, mesh, told } = heard({}, { found });
    expect([tor, mesh]).toEqual([["10.244.1.0/26"], ["10.244.1.0/26"]]);
    expect(told.by(MESH).get("10.244.1.0/26")).toMatchObject({ localPref: localPrefOf(1024), asPath: [] });
    expect(told.by(TOR).get("10.244.1.0/26")?.asPath).toEqual([{ kind: "sequence", ases: [64512] }]);
  });

  test.each<[string, ReturnType<typeof affinity>]>([
    ["pending", affinity("10.244.1.0/26", "n1", { state: "pending" })],
    ["being given back", affinity("10.244.1.0/26", "n1", { state: "pendingDeletion" })],
    ["deleted", affinity("10.244.1.0/26", "n1", { deleted: true })],
    ["another node's", affinity("10.244.1.0/26", "n2")],
    ["of no node", affinity("10.244.1.0/26", "n1", { type: "virtual" })],
  ])("are not told while %s", (_what, one) => {
    expect(heard({ affinities: [one] }).tor).toEqual([]);
  });

  test("count as confirmed when nothing is said", () => {
    expect(heard({ affinities: [affinity("10.244.1.0/26", "n1", { state: "" })] }).tor).toEqual(["10.244.1.0/26"]);
  });

  test("of one address are told by the pod's route", () => {
    const affinities = [affinity("10.244.1.5/32", "n1")];
    expect(heard({ affinities }).tor).toEqual([]);
    expect(heard({ affinities }, { found: { "10.244.1.5/32": { interface: "cali1" } } }).mesh).toEqual([
      "10.244.1.5/32",
    ]);
  });
});

describe("single addresses", () => {
  test("borrowed from another node's block are told by themselves", () => {
    const { tor, mesh } = heard({}, { found: { "10.244.2.7/32": { interface: "cali1" } } });
    expect([tor, mesh]).toEqual([
      ["10.244.1.0/26", "10.244.2.7/32"],
      ["10.244.1.0/26", "10.244.2.7/32"],
    ]);
  });

  test("of elevated priority leave the block that they are in, and carry the priority to nodes", () => {
    const found = { "10.244.1.5/32": { interface: "cali1", metric: 512 }, "10.244.1.6/32": { interface: "cali2" } };
    const { tor, mesh, told } = heard({}, { found });
    expect([tor, mesh]).toEqual([
      ["10.244.1.0/26", "10.244.1.5/32"],
      ["10.244.1.0/26", "10.244.1.5/32"],
    ]);
    expect(told.by(MESH).get("10.244.1.5/32")?.localPref).toBe(localPrefOf(512));
    expect(told.by(TOR).get("10.244.1.5/32")?.localPref).toBeUndefined();
  });

  test("what is elevated depends on the normal priority", () => {
    const configurations = [configuration({ ipv4NormalRoutePriority: 512 })];
    expect(heard({ configurations }, { found: { "10.244.1.5/32": { interface: "cali1", metric: 512 } } }).tor).toEqual([
      "10.244.1.0/26",
    ]);
  });
});

describe("what stays on the node", () => {
  test("routes outside pools, and all of pools that are not to be told", () => {
    const pools = [
      pool("open", { cidr: "10.244.0.0/16" }),
      pool("hidden", { cidr: "10.245.0.0/16", disableBGPExport: true }),
    ];
    const affinities = [affinity("10.244.1.0/26", "n1"), affinity("10.245.1.0/26", "n1")];
    const found = { "172.16.0.0/16": { interface: "eth1" }, "10.245.9.9/32": { interface: "cali1" } };
    expect(heard({ pools, affinities }, { found }).tor).toEqual(["10.244.1.0/26"]);
  });

  test.each<[string, string, string[], string[]]>([
    ["a VXLAN route", "vxlan.calico", [], ["10.244.2.0/26"]],
    ["a WireGuard route", "wireguard.cali", [], ["10.244.2.0/26"]],
    ["an IPIP route of the agent", "tunl0", [], ["10.244.2.0/26"]],
    ["a route of the eBPF dataplane", "bpfin.cali", [], []],
  ])("%s is not told to nodes", (_what, name, mesh, tor) => {
    const result = heard({ affinities: [] }, { found: { "10.244.2.0/26": { interface: name, gateway: true } } });
    expect([result.mesh, result.tor]).toEqual([mesh, tor]);
  });

  test("an IPIP route is told when the daemon has those pools", () => {
    const change = {
      affinities: [],
      pools: [pool("ipip", { cidr: "10.244.0.0/16", ipipMode: "Always" })],
      configurations: [configuration({ programClusterRoutes: "Enabled" })],
    };
    expect(heard(change, { found: { "10.244.2.0/26": { interface: "tunl0", gateway: true } } }).mesh).toEqual([
      "10.244.2.0/26",
    ]);
  });

  test("the near half of a cross-subnet pool: the node that has the block tells it, not its neighbours", () => {
    const pools = [pool("vxlan", { cidr: "10.244.0.0/16", vxlanMode: "CrossSubnet" })];
    const found = { "10.244.2.0/26": { interface: "eth0", gateway: true }, "10.244.3.7/32": { interface: "cali1" } };
    expect(heard({ pools }, { found }).mesh).toEqual(["10.244.1.0/26", "10.244.3.7/32"]);
  });
});

describe("routes of peers", () => {
  const block = { "10.244.2.0/26": { asPath: [] } };

  test("of the mesh are not told to the mesh, but to external peers, with the node as next hop", () => {
    const nodes = [node(1), node(2), node(3)];
    const told = tell(made(world({ nodes })), { heard: { [MESH]: block } });
    expect([...told.by("Mesh_10_0_0_3").keys()]).toEqual(["10.244.1.0/26"]);
    expect(told.by(TOR).get("10.244.2.0/26")?.nextHop).toEqual({ family: 4, value: 0x0a000001n });
  });

  test("outside pools stay here, whoever sent them", () => {
    const told = tell(made(world({ affinities: [] })), {
      heard: { [MESH]: { "172.16.0.0/16": {} }, [TOR]: { "0.0.0.0/0": {} } },
    });
    expect([...told.by(TOR).keys(), ...told.by(MESH).keys()]).toEqual([]);
  });

  test("come before what the kernel has for the same prefix, so that a reflector goes on reflecting", () => {
    const nodes = [node(1, { routeReflectorClusterId: "1.0.0.1", labels: { rr: "yes" } }), node(2), node(3)];
    const change = {
      nodes,
      affinities: [],
      peers: [peer("rr", { nodeSelector: "!has(rr)", peerSelector: "has(rr)" })],
    };
    const found = { "10.244.2.0/26": { interface: "vxlan.calico", gateway: true } };
    const told = tell(made(world(change)), { found, heard: { Node_10_0_0_2: block } });
    expect(told.by("Node_10_0_0_3").get("10.244.2.0/26")).toMatchObject({ clusterList: [0x01000001] });
  });

  test("a reflector passes on service addresses", () => {
    const nodes = [node(1, { routeReflectorClusterId: "1.0.0.1", labels: { rr: "yes" } }), node(2), node(3)];
    const services = {
      serviceLoadBalancerIPs: [{ cidr: "198.51.100.0/24" }],
      serviceExternalIPs: [{ cidr: "203.0.113.0/24" }],
    };
    const change = {
      nodes,
      affinities: [],
      peers: [peer("rr", { nodeSelector: "!has(rr)", peerSelector: "has(rr)" })],
      configurations: [configuration(services)],
    };
    const addresses = { "198.51.100.7/32": {}, "203.0.113.7/32": {}, "192.0.2.77/32": {} };
    const told = tell(made(world(change)), { heard: { Node_10_0_0_2: addresses } });
    expect([...told.by("Node_10_0_0_3").keys()].toSorted()).toEqual([
      "198.51.100.0/24",
      "198.51.100.7/32",
      "203.0.113.0/24",
      "203.0.113.7/32",
    ]);
  });

  test("an address that another node tells with elevated priority comes before the pod's route here", () => {
    const moving = { "10.244.1.5/32": { localPref: localPrefOf(512), asPath: [] } };
    const best = (metric: number): string | undefined => {
      const found = { "10.244.1.5/32": { interface: "cali1", metric } };
      const { us } = tell(made(world()), { found, heard: { [MESH]: moving } });
      return [...us.routing.bestRoutes()].find(({ prefix }) => prefix.length === 32)?.paths[0]?.peer;
    };
    expect([best(1024), best(512), best(256)]).toEqual([MESH, MESH, undefined]);
  });
});

describe("communities", () => {
  const communitiesOf = (change: Partial<ModelInput>): (string | undefined)[] => {
    const attributes = tell(made(world(change)))
      .by(TOR)
      .get("10.244.1.0/26");
    return [
      attributes?.communities?.map(formatCommunity).join(" "),
      attributes?.largeCommunities?.map(formatLargeCommunity).join(" "),
    ];
  };
  const advertise = (...communities: string[]) => ({ prefixAdvertisements: [{ cidr: "10.244.0.0/16", communities }] });

  test("by value and by name, small and large, within a prefix", () => {
    const named = { communities: [{ name: "c", value: "64512:1" }] };
    expect(
      communitiesOf({ configurations: [configuration({ ...named, ...advertise("c", "64512:2", "1:2:3") })] }),
    ).toEqual(["64512:1 64512:2", "1:2:3"]);
    const elsewhere = { prefixAdvertisements: [{ cidr: "10.99.0.0/16", communities: ["1:1"] }] };
    expect(communitiesOf({ configurations: [configuration(elsewhere)] })).toEqual([undefined, undefined]);
  });

  test("of the node count in place of the cluster's", () => {
    const configurations = [configuration(advertise("1:1")), configuration(advertise("1:2"), "node.n1")];
    expect(communitiesOf({ configurations })[0]).toBe("1:2");
  });
});

describe("BGPFilter, outwards", () => {
  const found = {
    "10.244.1.5/32": { interface: "cali1" },
    "172.16.0.0/16": { interface: "eth1" },
    "172.16.1.0/24": { interface: "eth10" },
    "172.17.0.0/16": { interface: "dummy0", metric: 100 },
  };
  const withFilter = (...rules: BGPFilterRule[]) => {
    const change = {
      nodes: [node(1), node(2)],
      filters: [filter("f", { exportV4: rules })],
      peers: [
        peer("tor", { peerIP: "192.0.2.1", asNumber: 65001, filters: ["f"] }),
        peer("in", { peerIP: "10.0.0.2", asNumber: 64512, filters: ["f"] }),
      ],
    };
    return tell(made(change), {
      found,
      heard: { Global_10_0_0_2: { "10.244.2.0/26": { communities: [1], asPath: [] } } },
    });
  };
  const keys = (...rules: BGPFilterRule[]): string[] =>
    [
      ...withFilter(...rules)
        .by(TOR)
        .keys(),
    ].toSorted();
  const usual = ["10.244.1.0/26", "10.244.2.0/26"];

  test("without rules: the usual", () => {
    expect(keys()).toEqual(usual);
  });

  test.each<[string, BGPFilterRule, string[]]>([
    ["In", { action: "Accept", cidr: "172.16.0.0/16", matchOperator: "In" }, ["172.16.0.0/16", "172.16.1.0/24"]],
    ["Equal", { action: "Accept", cidr: "172.16.0.0/16", matchOperator: "Equal" }, ["172.16.0.0/16"]],
    [
      "In with lengths",
      { action: "Accept", cidr: "172.16.0.0/15", matchOperator: "In", prefixLength: { min: 17, max: 24 } },
      ["172.16.1.0/24"],
    ],
    [
      "lengths of pods",
      { action: "Accept", cidr: "10.244.0.0/16", matchOperator: "In", prefixLength: { min: 32 } },
      ["10.244.1.5/32"],
    ],
    ["interface", { action: "Accept", interface: "eth1" }, ["172.16.0.0/16"]],
    ["interface with *", { action: "Accept", interface: "eth*" }, ["172.16.0.0/16", "172.16.1.0/24"]],
    ["priority", { action: "Accept", priority: 100 }, ["172.17.0.0/16"]],
  ])("Accept by %s adds to the usual", (_what, rule, added) => {
    expect(keys(rule)).toEqual([...usual, ...added].toSorted());
  });

  test.each<[string, BGPFilterRule, string[]]>([
    ["NotIn", { action: "Reject", cidr: "10.244.2.0/24", matchOperator: "NotIn" }, ["10.244.2.0/26"]],
    ["NotEqual", { action: "Reject", cidr: "10.244.1.0/26", matchOperator: "NotEqual" }, ["10.244.1.0/26"]],
    ["source RemotePeers", { action: "Reject", source: "RemotePeers" }, ["10.244.1.0/26"]],
    ["communities", { action: "Reject", communities: { values: ["0:1"] } }, ["10.244.1.0/26"]],
    ["large communities, which nothing has", { action: "Reject", communities: { values: ["1:2:3"] } }, usual],
    ["peerType eBGP", { action: "Reject", peerType: "eBGP" }, []],
    ["peerType iBGP", { action: "Reject", peerType: "iBGP" }, usual],
    ["everything", { action: "Reject" }, []],
  ])("Reject by %s", (_what, rule, left) => {
    expect(keys(rule)).toEqual(left);
  });

  test("the first rule that matches decides; filters come one after the other", () => {
    expect(
      keys(
        { action: "Accept", cidr: "172.16.1.0/24", matchOperator: "Equal" },
        { action: "Reject", cidr: "172.16.0.0/12", matchOperator: "In" },
      ),
    ).toEqual([...usual, "172.16.1.0/24"]);
  });

  test("interface: of routes of peers too, by where their next hop leads", () => {
    expect(keys({ action: "Reject", interface: "eth0" })).toEqual(["10.244.1.0/26"]);
    expect(keys({ action: "Reject", interface: "eth1" })).toEqual(usual);
  });

  test("operations, in their order: communities, path, priority", () => {
    const told = withFilter({
      action: "Accept",
      cidr: "10.244.1.0/26",
      matchOperator: "Equal",
      operations: [
        { addCommunity: { value: "65000:100" } },
        { addCommunity: { value: "1:2:3" } },
        { prependASPath: { prefix: [65011, 65012] } },
        { setPriority: { value: 300 } },
      ],
    });
    expect(told.by(TOR).get("10.244.1.0/26")).toMatchObject({
      communities: [65000 * 65536 + 100],
      largeCommunities: [{ global: 1, local1: 2, local2: 3 }],
      asPath: [{ kind: "sequence", ases: [64512, 65011, 65012] }],
    });
    expect(told.by("Global_10_0_0_2").get("10.244.1.0/26")).toMatchObject({ localPref: localPrefOf(300) });
  });
});

describe("BGPFilter, inwards", () => {
  const taken = (...importV4: BGPFilterRule[]) => {
    const change = {
      filters: [filter("f", { importV4 })],
      peers: [peer("t", { peerIP: "192.0.2.9", asNumber: 65009, filters: ["f"] })],
    };
    const routes = {
      "10.1.0.0/16": {
        asPath: [{ kind: "sequence" as const, ases: [65010, 65011] }],
        communities: [65000 * 65536 + 1],
      },
      "10.2.0.0/16": {},
    };
    const { us } = tell(made(world({ ...change, affinities: [] })), { heard: { Global_192_0_2_9: routes } });
    return new Map(
      [...us.routing.bestRoutes()].map(({ prefix, paths }) => [
        Number(prefix.value >> 16n) & 0xff,
        paths[0]?.attributes,
      ]),
    );
  };

  test("everything is taken unless a filter says otherwise", () => {
    expect([...taken().keys()]).toEqual([1, 2]);
    expect([...taken({ action: "Reject", cidr: "10.1.0.0/16", matchOperator: "Equal" }).keys()]).toEqual([2]);
    expect([...taken({ action: "Reject", asPathPrefix: [65009, 65010] }).keys()]).toEqual([2]);
    expect([...taken({ action: "Reject", asPathPrefix: [65010] }).keys()]).toEqual([1, 2]);
    expect([...taken({ action: "Reject", source: "RemotePeers" }).keys()]).toEqual([]);
    expect([...taken({ action: "Reject", peerType: "eBGP" }).keys()]).toEqual([]);
    expect([...taken({ action: "Reject", peerType: "iBGP" }).keys()]).toEqual([1, 2]);
    expect([...taken({ action: "Reject", communities: { values: ["65000:1"] } }).keys()]).toEqual([2]);
    expect([...taken({ action: "Reject", interface: "eth*" }).keys()]).toEqual([]);
    expect([...taken({ action: "Reject", interface: "tunl0" }).keys()]).toEqual([1, 2]);
  });

  test("setPriority becomes LOCAL_PREF, which the kernel's metric is made of", () => {
    const rule = {
      action: "Accept" as const,
      communities: { values: ["65000:1"] },
      operations: [{ setPriority: { value: 512 } }],
    };
    expect([...taken(rule).values()].map((attributes) => attributes?.localPref)).toEqual([localPrefOf(512), undefined]);
  });
});

describe("whatever is in the kernel", () => {
  const OPEN = pool("open", { cidr: "10.244.0.0/16" });
  const HIDDEN = pool("hidden", { cidr: "10.245.0.0/16", disableBGPExport: true });
  const AGENTS = pool("agents", { cidr: "10.246.0.0/16", vxlanMode: "CrossSubnet" });
  const change = {
    pools: [OPEN, HIDDEN, AGENTS],
    affinities: ["10.244.1.0/26", "10.245.1.0/26", "10.246.1.0/26"].map((cidr) => affinity(cidr, "n1")),
  };
  const prefixes = fc
    .tuple(
      fc.constantFrom(244, 245, 246, 247),
      fc.constantFrom(1, 2),
      fc.integer({ min: 0, max: 63 }),
      fc.constantFrom(26, 32),
    )
    .map(([pool_, block, host, length]) => `10.${pool_}.${block}.${length === 26 ? 0 : host}/${length}`);
  const facts = fc.record({
    interface: fc.constantFrom("cali1", "eth0", "vxlan.calico", "tunl0", "bpfin.cali"),
    metric: fc.constantFrom(512, 1024, 2000),
    gateway: fc.boolean(),
  });

  /** The rules as sentences, one prefix at a time. */
  function isTold(
    prefix: string,
    { interface: name, metric, gateway }: { interface: string; metric: number; gateway: boolean },
    internal: boolean,
  ): boolean {
    const within = (start: string): boolean => prefix.startsWith(start);
    if (within("10.245.") || within("10.247.")) return false;
    if (name === "bpfin.cali") return false;
    if (internal && ["vxlan.calico", "tunl0"].includes(name)) return false;
    if (internal && gateway && within("10.246.")) return false;
    const inOwnBlock = within("10.244.1.") || within("10.246.1.");
    return !inOwnBlock || metric < 1024;
  }

  test("what is told follows from prefix, priority and way alone, and own blocks always are", () => {
    fc.assert(
      fc.property(fc.dictionary(prefixes, facts, { maxKeys: 12 }), (found) => {
        const told = tell(made(world(change)), { found });
        for (const [name, internal] of [
          [MESH, true],
          [TOR, false],
        ] as const) {
          const own = ["10.244.1.0/26", "10.246.1.0/26"];
          const others = Object.entries(found).filter(
            ([prefix, one]) => !own.includes(prefix) && isTold(prefix, one, internal),
          );
          expect([...told.by(name).keys()].toSorted()).toEqual(
            [...own, ...others.map(([prefix]) => prefix)].toSorted(),
          );
        }
      }),
      { numRuns: 60 },
    );
  });
});
