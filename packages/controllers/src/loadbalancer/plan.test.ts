import { type Pool, poolOf } from "@calico-ts/ipam";
import type { IPPoolSpec, Service } from "@calico-ts/model";
import { formatAddress, parseAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { type AssignMode, ingressFor, isManaged, loadBalancerHandle, plan } from "./plan.ts";

const CALICO = "projectcalico.org/";

interface ServiceSpec {
  readonly spec?: Service["spec"];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ingress?: readonly string[];
}

const service = ({ annotations = {}, ingress = [], spec = {} }: ServiceSpec = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: {
    name: "web",
    namespace: "shop",
    uid: "11111111-2222-3333-4444-555555555555",
    annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [CALICO + key, value])),
  },
  spec: { type: "LoadBalancer", ipFamilies: ["IPv4"], ...spec },
  status: { loadBalancer: { ingress: ingress.map((ip) => ({ ip })) } },
});

const pool = (name: string, cidr: string, spec: Partial<IPPoolSpec> = {}): Pool => {
  const found = poolOf({
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec: { cidr, allowedUses: ["LoadBalancer"], ...spec },
  });
  if (found === undefined) throw new Error(cidr);
  return found;
};

const POOLS = [
  pool("east", "192.0.2.0/25"),
  pool("west", "192.0.2.128/25"),
  pool("manual", "198.51.100.0/24", { assignmentMode: "Manual" }),
  pool("six", "2001:db8::/64"),
  pool("pods", "10.0.0.0/16", { allowedUses: ["Workload", "Tunnel"] }),
];
const DUAL = { ipFamilies: ["IPv4", "IPv6"], ipFamilyPolicy: "RequireDualStack" };

const planned = (given: ServiceSpec, held: readonly string[] = [], mode: AssignMode = "AllServices", pools = POOLS) => {
  const result = plan({ service: service(given), held: held.map(parseAddress), pools, mode });
  if ("refused" in result) return result.refused;
  return {
    keep: result.keep.map(formatAddress),
    release: result.release.map(formatAddress),
    exact: result.exact.map(formatAddress),
    automatic: result.automatic.map(({ family, pools: from }) => [family, ...from]),
  };
};

test("the handle is upstream's: lb- and a hash of name, namespace and uid that is fit for a record's name", () => {
  const handle = loadBalancerHandle(service());
  expect(handle).toMatch(/^lb-[A-Za-z0-9]{38,43}$/);
  const other = service();
  expect(loadBalancerHandle({ ...other, metadata: { ...other.metadata, uid: "2" } })).not.toBe(handle);
  expect(
    loadBalancerHandle({ ...other, metadata: { ...other.metadata, uid: (other.metadata.uid ?? "").toUpperCase() } }),
  ).toBe(handle);
});

describe("which services are ours", () => {
  test.each<[string, ServiceSpec, boolean, boolean]>([
    ["another type", { spec: { type: "ClusterIP" } }, false, false],
    ["no class, nothing asked for", {}, true, false],
    ["our class", { spec: { loadBalancerClass: "calico" } }, true, true],
    ["a foreign class", { spec: { loadBalancerClass: "metal" } }, false, false],
    ["a foreign class that asks", { spec: { loadBalancerClass: "metal", loadBalancerIP: "192.0.2.1" } }, false, false],
    ["addresses in an annotation", { annotations: { loadBalancerIPs: '["192.0.2.1"]' } }, true, true],
    ["IPv4 pools", { annotations: { ipv4pools: '["east"]' } }, true, true],
    ["IPv6 pools", { annotations: { ipv6pools: '["six"]' } }, true, true],
    ["an empty annotation", { annotations: { ipv4pools: "" } }, true, false],
    ["spec.loadBalancerIP", { spec: { loadBalancerIP: "192.0.2.1" } }, true, true],
  ])("%s", (...[, given, all, requested]) => {
    expect([isManaged(service(given), "AllServices"), isManaged(service(given), "RequestedServicesOnly")]).toEqual([
      all,
      requested,
    ]);
  });
});

describe("what a service should have", () => {
  const nothing = { keep: [], release: [], exact: [], automatic: [] };
  test.each<[string, ServiceSpec, readonly string[], object | string]>([
    ["one address of its family", {}, [], { ...nothing, automatic: [[4]] }],
    ["one of each family", { spec: DUAL }, [], { ...nothing, automatic: [[4], [6]] }],
    [
      "the family of its cluster address",
      { spec: { ipFamilies: [], clusterIP: "fd00::1" } },
      [],
      { ...nothing, automatic: [[6]] },
    ],
    ["what it holds", {}, ["192.0.2.9"], { ...nothing, keep: ["192.0.2.9"] }],
    [
      "only the family that is missing",
      { spec: DUAL },
      ["192.0.2.9"],
      { ...nothing, keep: ["192.0.2.9"], automatic: [[6]] },
    ],
    [
      "not a second one of a family",
      {},
      ["192.0.2.9", "192.0.2.10"],
      { ...nothing, keep: ["192.0.2.9"], release: ["192.0.2.10"] },
    ],
    [
      "no family it has given up",
      {},
      ["192.0.2.9", "2001:db8::1"],
      { ...nothing, keep: ["192.0.2.9"], release: ["2001:db8::1"] },
    ],
    ["of pools by name", { annotations: { ipv4pools: '["west"]' } }, [], { ...nothing, automatic: [[4, "west"]] }],
    [
      "of pools by CIDR, of both families",
      { spec: DUAL, annotations: { ipv4pools: '["192.0.2.128/25"]', ipv6pools: '["six"]' } },
      [],
      {
        ...nothing,
        automatic: [
          [4, "west"],
          [6, "six"],
        ],
      },
    ],
    [
      "another, when the pools it asks for change",
      { annotations: { ipv4pools: '["west"]' } },
      ["192.0.2.9"],
      { ...nothing, release: ["192.0.2.9"], automatic: [[4, "west"]] },
    ],
    [
      "of a manual pool when it asks",
      { annotations: { ipv4pools: '["manual"]' } },
      ["198.51.100.7"],
      { ...nothing, keep: ["198.51.100.7"] },
    ],
    [
      "nothing of a manual pool when it asks no more",
      {},
      ["198.51.100.7"],
      { ...nothing, release: ["198.51.100.7"], automatic: [[4]] },
    ],
    [
      "exactly what it names",
      { annotations: { loadBalancerIPs: '["192.0.2.5"]' } },
      [],
      { ...nothing, exact: ["192.0.2.5"] },
    ],
    [
      "another, when it names another",
      { annotations: { loadBalancerIPs: '["192.0.2.5"]' } },
      ["192.0.2.9"],
      { ...nothing, release: ["192.0.2.9"], exact: ["192.0.2.5"] },
    ],
    [
      "one of each that it names",
      { spec: DUAL, annotations: { loadBalancerIPs: '["192.0.2.5", "2001:db8::5"]' } },
      ["192.0.2.5"],
      { ...nothing, keep: ["192.0.2.5"], exact: ["2001:db8::5"] },
    ],
    [
      "spec.loadBalancerIP where no annotation names one",
      { spec: { loadBalancerIP: "192.0.2.6" } },
      [],
      { ...nothing, exact: ["192.0.2.6"] },
    ],
    [
      "the annotation before spec.loadBalancerIP",
      { spec: { loadBalancerIP: "192.0.2.6" }, annotations: { loadBalancerIPs: '["192.0.2.5"]' } },
      [],
      { ...nothing, exact: ["192.0.2.5"] },
    ],
    [
      "nothing of a pool that is for others now",
      {},
      ["10.0.0.1"],
      { ...nothing, release: ["10.0.0.1"], automatic: [[4]] },
    ],
    [
      "nothing, when its class is foreign now",
      { spec: { loadBalancerClass: "metal" } },
      ["192.0.2.9"],
      { ...nothing, release: ["192.0.2.9"] },
    ],
    [
      "nothing, when it is no load balancer any more",
      { spec: { type: "ClusterIP" } },
      ["192.0.2.9"],
      { ...nothing, release: ["192.0.2.9"] },
    ],
    [
      "what it has, when it asks in a way nobody understands",
      { annotations: { ipv4pools: "east" } },
      ["192.0.2.9"],
      "the annotation projectcalico.org/ipv4pools must be a JSON list of texts, not east",
    ],
    [
      "what it has, for a pool nobody knows",
      { annotations: { ipv4pools: '["north"]' } },
      ["192.0.2.9"],
      'the annotation projectcalico.org/ipv4pools names "north", which is no pool for load balancers',
    ],
    [
      "what it has, for a pool of pods",
      { annotations: { ipv4pools: '["pods"]' } },
      ["192.0.2.9"],
      'the annotation projectcalico.org/ipv4pools names "pods", which is no pool for load balancers',
    ],
    [
      "what it has, for a pool of the other family",
      { annotations: { ipv4pools: '["six"]' } },
      [],
      "the annotation projectcalico.org/ipv4pools names six, an IPv6 pool",
    ],
    [
      "what it has, for two addresses of a family",
      { annotations: { loadBalancerIPs: '["192.0.2.5","192.0.2.6"]' } },
      [],
      "the annotation projectcalico.org/loadBalancerIPs names more than one IPv4 address; a service has one of each family",
    ],
    [
      "what it has, for what is no address",
      { spec: { loadBalancerIP: "east" } },
      [],
      'spec.loadBalancerIP: "east" is not an address',
    ],
  ])("%s", (...[, given, held, expected]) => {
    expect(planned(given, held)).toEqual(expected);
  });

  test("where only services that ask are served, one that asks no more loses what it has", () => {
    expect(planned({}, ["192.0.2.9"], "RequestedServicesOnly")).toEqual({ ...nothing, release: ["192.0.2.9"] });
  });
});

describe("the status", () => {
  test.each<[string, readonly string[], readonly string[], readonly string[], readonly string[] | undefined]>([
    ["says what is held", [], ["192.0.2.9"], [], ["192.0.2.9"]],
    ["says so already", ["192.0.2.9"], ["192.0.2.9"], [], undefined],
    ["says something else", ["203.0.113.1"], ["192.0.2.9"], [], ["192.0.2.9"]],
    ["keeps what others gave while we give nothing", ["203.0.113.1"], [], [], undefined],
    ["loses what was released, and only that", ["203.0.113.1", "10.0.0.1"], [], ["10.0.0.1"], ["203.0.113.1"]],
    ["loses what an earlier controller released and did not take out", ["192.0.2.9"], [], [], []],
  ])("%s", (...[, ingress, held, released, expected]) => {
    const facts = { held: held.map(parseAddress), released: released.map(parseAddress), pools: POOLS };
    expect(ingressFor(service({ ingress }), facts)?.map(({ ip }) => ip)).toEqual(expected);
  });
});
