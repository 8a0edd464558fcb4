import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatAddress, formatPrefix } from "@calico-ts/net";
import { hasCode } from "@calico-ts/std";
import { afterAll, describe, expect, test } from "vitest";
import { topologyManifests } from "../daemon/topology-manifests.ts";
import type { SpeakerPlan } from "./plan.ts";
import { loadTopology } from "./topology-file.ts";

const folder = mkdtempSync(join(tmpdir(), "ct-bgp-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, "t.yaml");
  writeFileSync(path, text);
  return path;
}

function problems(text: string): string[] {
  try {
    loadTopology(file(text));
  } catch (error) {
    if (!hasCode(error, "BAD_INPUT")) throw error;
    return (error as Error).message.split("\n").map((line) => line.replaceAll(`${folder}/`, ""));
  }
  return [];
}

/** Two racks, a router in each, both families; r1 reflects for its rack. */
const GOOD = `subnets:
  - {name: a, cidr: "10.1.1.0/24,fd00:1::/64"}
  - {name: b, cidr: "10.1.2.0/24,fd00:2::/64"}
routers:
  - name: r1
    subnets: [a, b]
    bgp: {speaker: bird, as: 65001, clusterId: 10.0.0.1, originate: [203.0.113.0/24], neighbours: [{nodes: all(), subnet: a}, {router: r2, password: s3cret}]}
  - name: r2
    subnets: [b]
    bgp: {speaker: frr, as: 65002, neighbours: [{nodes: "disk == 'fast'"}]}
nodes:
  - {name: n1, subnet: a, as: 65001}
  - {name: n2, subnet: b, labels: {disk: fast}, clusterId: 10.0.0.9}
  - {name: n3, subnet: b}
pools: [{name: p, cidr: 10.2.0.0/16}, {name: q, cidr: "fd00:9::/112"}]
cluster: {bgp: {as: 64600, mesh: false}}
resources:
  - {apiVersion: projectcalico.org/v3, kind: BGPFilter, metadata: {name: none}, spec: {}}
`;

const sessions = (plan: SpeakerPlan | undefined): string[] =>
  (plan?.sessions ?? []).map(
    ({ name, local, remote, remoteAs, client, password }) =>
      `${formatAddress(local)} → ${name} ${formatAddress(remote)} as ${remoteAs}${client ? " client" : ""}${password === undefined ? "" : " md5"}`,
  );

describe("BGP in a topology", () => {
  test("selections become sessions, one a family, at both ends of a pair of routers", () => {
    const [r1, r2] = loadTopology(file(GOOD)).routers;
    expect(sessions(r1?.bgp)).toEqual([
      "10.1.1.1 → n1 10.1.1.11 as 65001 client",
      "fd00:1::1 → n1 fd00:1::b as 65001 client",
      "10.1.2.1 → r2 10.1.2.2 as 65002 md5",
      "fd00:2::1 → r2 fd00:2::2 as 65002 md5",
    ]);
    expect(sessions(r2?.bgp)).toEqual([
      "10.1.2.2 → r1 10.1.2.1 as 65001 md5",
      "fd00:2::2 → r1 fd00:2::1 as 65001 md5",
      "10.1.2.2 → n2 10.1.2.11 as 64600",
      "fd00:2::2 → n2 fd00:2::b as 64600",
    ]);
    expect(r1?.bgp?.originate.map(formatPrefix)).toEqual(["203.0.113.0/24"]);
    expect(r2?.bgp?.routerId).toEqual(r2?.legs[0]?.addresses[0]);
  });

  test("nodes get the matching peers, their AS and their cluster id, before what the file itself brings", () => {
    const plan = loadTopology(file(GOOD));
    expect(plan.nodes.map(({ annotations }) => annotations)).toEqual([
      { "projectcalico.org/ASNumber": "65001" },
      { "projectcalico.org/RouteReflectorClusterID": "10.0.0.9" },
      {},
    ]);
    const objects = topologyManifests(plan).map(({ kind, name, object }) => [kind, name, object["spec"]]);
    expect(objects.slice(2)).toEqual([
      ["BGPConfiguration", "default", { asNumber: 64600, nodeToNodeMeshEnabled: false }],
      peer("r1.a.ipv4", 'topology.kubernetes.io/zone == "a"', "10.1.1.1", 65001),
      peer("r1.a.ipv6", 'topology.kubernetes.io/zone == "a"', "fd00:1::1", 65001),
      peer("r2.b.ipv4", 'topology.kubernetes.io/zone == "b" && (disk == "fast")', "10.1.2.2", 65002),
      peer("r2.b.ipv6", 'topology.kubernetes.io/zone == "b" && (disk == "fast")', "fd00:2::2", 65002),
      ["BGPFilter", "none", {}],
    ]);
  });

  test("a router of one subnet is nobody's gateway", () => {
    const plan = loadTopology(file(GOOD));
    expect(plan.nodes.map(({ routes }) => routes.map(({ via }) => formatAddress(via)))).toEqual([
      ["10.1.1.1", "fd00:1::1"],
      ["10.1.2.1", "fd00:2::1"],
      ["10.1.2.1", "fd00:2::1"],
    ]);
  });

  test("what the file writes itself replaces what would be made for it", () => {
    const own = GOOD.replace("BGPFilter, metadata: {name: none}", "BGPConfiguration, metadata: {name: default}");
    const found = topologyManifests(loadTopology(file(own))).filter(({ kind }) => kind === "BGPConfiguration");
    expect(found.map(({ object }) => object["spec"])).toEqual([{}]);
  });
});

const peer = (name: string, nodeSelector: string, peerIP: string, asNumber: number) => [
  "BGPPeer",
  name,
  { nodeSelector, peerIP, asNumber },
];

describe("problems", () => {
  test.each([
    [
      "an unknown speaker",
      GOOD.replace("speaker: frr", "speaker: quagga"),
      /^t\.yaml:10:\d+: routers\[1\]\.bgp\.speaker: /,
    ],
    [
      "neither nodes nor router",
      GOOD.replace("{router: r2, password: s3cret}", "{subnet: a}"),
      /^t\.yaml:7:\d+: .*neighbours\[1\]: needs either/,
    ],
    ["an unknown router", GOOD.replace("router: r2", "router: r9"), /no other router "r9" with bgp; there are: r2$/],
    ["written at both ends", GOOD.replace('[{nodes: "disk', '[{router: r1}, {nodes: "disk'), /written at r1/],
    ["no node selected", GOOD.replace("disk == 'fast'", "disk == 'slow'"), /^t\.yaml:10:\d+: .*selects no node in b$/],
    ["no selector", GOOD.replace("disk == 'fast'", "disk =="), /neighbours\[0\]\.nodes: .* is no selector/],
    [
      "a subnet it is not in",
      GOOD.replace("disk == 'fast'\"", "disk == 'fast'\", subnet: a"),
      /router r2 is not in it; it is in: b$/,
    ],
    [
      "nodes without BGP",
      GOOD.replace("{bgp: {as: 64600, mesh: false}}", "{}")
        .replace(", as: 65001}", "}")
        .replace(", clusterId: 10.0.0.9", "")
        .replace("nodes: all(), subnet: a}, {", "")
        .replace("neighbours: [{nodes: \"disk == 'fast'\"}]", "neighbours: [{nodes: all()}]"),
      /^t\.yaml:10:\d+: .*nodes speak no BGP; add bgp: \{\} to cluster$/,
    ],
    [
      "a password for nodes",
      GOOD.replace("disk == 'fast'\"", "disk == 'fast'\", password: x"),
      /nodes take passwords from Secrets/,
    ],
    ["gobgp outside its AS", GOOD.replace("speaker: frr", "speaker: gobgp"), /gobgp programs no routes/],
    ["a connected prefix", GOOD.replace("203.0.113.0/24", "10.1.0.0/16"), /originate\[0\]: .*overlaps subnet a/],
    [
      "no cluster id",
      GOOD.replace("clusterId: 10.0.0.9", "clusterId: nine"),
      /nodes\[1\]\.clusterId: "nine" is no IPv4 address/,
    ],
    [
      "somebody else's resource",
      GOOD.replace("projectcalico.org/v3", "v1"),
      /^t\.yaml:18:\d+: resources\[0\]\.apiVersion: must be projectcalico\.org\/v3/,
    ],
  ])("%s", (_name, text, expected) => {
    const found = problems(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(expected);
  });
});
