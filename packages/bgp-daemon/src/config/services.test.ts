import { formatPrefix } from "@calico-ts/net";
import type { Service } from "@calico-ts/model";
import { describe, expect, test } from "vitest";
import { affinity, configuration, made, node, peer, service, slice } from "../../test/support/resources.ts";
import { tell } from "../../test/support/told.ts";
import type { ModelInput } from "./model-input.ts";

const RANGES = {
  serviceClusterIPs: [{ cidr: "10.96.0.0/12" }],
  serviceExternalIPs: [{ cidr: "203.0.113.0/24" }, { cidr: "192.0.2.80/32" }],
  serviceLoadBalancerIPs: [{ cidr: "198.51.100.0/24" }, { cidr: "192.0.2.90/32" }],
};
const WIDE = ["10.96.0.0/12", "203.0.113.0/24", "198.51.100.0/24"];

type Spec = NonNullable<Service["spec"]>;
const spec = (change: Partial<Spec> = {}): Spec => ({ type: "ClusterIP", clusterIP: "10.96.0.7", ...change });

const announced = (change: Partial<ModelInput>, ranges: Parameters<typeof configuration>[0] = RANGES): string[] =>
  made({ affinities: [], configurations: [configuration(ranges)], ...change }).routes.map(({ prefix }) =>
    formatPrefix(prefix),
  );
/** What one Service adds to the prefixes. */
const added = (one: Service, backends: string[] = ["n1", "n2"], change: Partial<ModelInput> = {}): string[] =>
  announced({ services: [one], slices: [slice(one.metadata.name, "IPv4", ...backends)], ...change }).filter(
    (text) => !WIDE.includes(text),
  );

describe("prefixes", () => {
  test("are told by every node; single addresses are not told by themselves", () => {
    expect(announced({})).toEqual(WIDE);
    expect(announced({}, {})).toEqual([]);
  });

  test("of cluster addresses: the environment counts in place of the resource", () => {
    expect(announced({ advertiseClusterIps: "10.97.0.0/16, fd00:10::/112" }, RANGES).slice(0, 2)).toEqual([
      "10.97.0.0/16",
      "fd00:10::/112",
    ]);
    expect(announced({ advertiseClusterIps: "" })).toEqual(WIDE);
  });

  test("a node that is no place for traffic from outside tells none, and single addresses neither", () => {
    const labels = (value: string) => ({ "node.kubernetes.io/exclude-from-external-load-balancers": value });
    const local = service("a", spec({ externalTrafficPolicy: "Local" }));
    const change = { services: [local], slices: [slice("a", "IPv4", "n1")] };
    expect(announced({ nodes: [node(1, { labels: labels("true") })], ...change })).toEqual([]);
    expect(announced({ nodes: [node(1, { labels: labels("false") })], ...change })).toEqual([...WIDE, "10.96.0.7/32"]);
  });

  test("a slice whose endpoints are null, as an API server may write it, has none", () => {
    const local = service("a", spec({ externalTrafficPolicy: "Local" }));
    const slices = [{ ...slice("a", "IPv4", "n1"), endpoints: null }, slice("a", "IPv4", "n1")];
    expect(announced({ services: [local], slices: slices.slice(0, 1) })).toEqual(WIDE);
    expect(announced({ services: [local], slices })).toEqual([...WIDE, "10.96.0.7/32"]);
  });

  test("without aggregation load-balancer prefixes are not told", () => {
    expect(announced({}, { ...RANGES, serviceLoadBalancerAggregation: "Disabled" })).toEqual(WIDE.slice(0, 2));
  });

  test("nothing of them is programmed into the kernel, on nodes that tell them or not", () => {
    const labels = { "node.kubernetes.io/exclude-from-external-load-balancers": "true" };
    for (const change of [{}, { nodes: [node(1, { labels })] }]) {
      const { notProgrammed } = made({ configurations: [configuration(RANGES)], ...change });
      expect(notProgrammed.map(formatPrefix)).toEqual([
        ...["10.96.0.0/12", "203.0.113.0/24", "192.0.2.80/32", "198.51.100.0/24", "192.0.2.90/32"],
      ]);
    }
  });

  test("reach peers inside the mesh and outside, and never through a pool that is hidden", () => {
    const peers = [peer("tor", { peerIP: "192.0.2.1", asNumber: 65001 })];
    const told = tell(
      made({
        peers,
        nodes: [node(1), node(2)],
        affinities: [affinity("10.244.1.0/26", "n1")],
        configurations: [configuration(RANGES)],
      }),
    );
    for (const name of ["Global_192_0_2_1", "Mesh_10_0_0_2"]) {
      expect([...told.by(name).keys()].toSorted()).toEqual([...WIDE, "10.244.1.0/26"].toSorted());
    }
  });
});

describe("externalTrafficPolicy Local", () => {
  const local = (change: Partial<Spec> = {}, ingress: string[] = []) =>
    service("a", spec({ type: "LoadBalancer", externalTrafficPolicy: "Local", ...change }), ingress);

  test.each<[string, string[], string[]]>([
    ["a ready backend here", ["n1"], ["10.96.0.7/32"]],
    ["a ready backend elsewhere", ["n2"], []],
    ["a backend here that is not ready", ["!n1"], []],
    ["none", [], []],
  ])("with %s", (_what, backends, expected) => {
    expect(added(local(), backends)).toEqual(expected);
  });

  test("all addresses that are within the ranges", () => {
    const one = local({ externalIPs: ["203.0.113.5", "192.0.2.80", "9.9.9.9"] }, [
      "198.51.100.9",
      "192.0.2.90",
      "8.8.8.8",
    ]);
    expect(added(one)).toEqual(["10.96.0.7/32", "203.0.113.5/32", "192.0.2.80/32", "198.51.100.9/32", "192.0.2.90/32"]);
  });

  test("cluster addresses only when some are told", () => {
    const { serviceClusterIPs: _none, ...others } = RANGES;
    const change = { services: [local({}, ["198.51.100.9"])], slices: [slice("a", "IPv4", "n1")] };
    expect(announced(change, others)).toEqual(["203.0.113.0/24", "198.51.100.0/24", "198.51.100.9/32"]);
  });

  test("each family for itself", () => {
    const one = local({ clusterIPs: ["10.96.0.7", "fd00:10::7"] });
    const v6 = { slices: [slice("a", "IPv6", "n1"), slice("a", "IPv4", "n2")] };
    expect(added(one, [], v6)).toEqual(["fd00:10::7/128"]);
  });

  test("by the node's name in Kubernetes", () => {
    expect(added(local(), ["kube-1"], { kubernetesNodeName: "kube-1" })).toEqual(["10.96.0.7/32"]);
  });
});

describe("externalTrafficPolicy Cluster", () => {
  const cluster = (change: Partial<Spec> = {}, ingress: string[] = []) =>
    service("a", spec({ type: "LoadBalancer", externalTrafficPolicy: "Cluster", ...change }), ingress);

  test.each<[string, Service, string[]]>([
    ["addresses in wide ranges: the range is enough", cluster({ externalIPs: ["203.0.113.5"] }, ["198.51.100.9"]), []],
    ["a single external address", cluster({ externalIPs: ["192.0.2.80"] }), ["192.0.2.80/32"]],
    ["a single load-balancer address", cluster({}, ["192.0.2.90"]), ["192.0.2.90/32"]],
    ["a load-balancer address of a Service of another type", cluster({ type: "NodePort" }, ["192.0.2.90"]), []],
    ["no policy", service("a", spec({ externalIPs: ["192.0.2.80"] })), []],
  ])("%s", (_what, one, expected) => {
    expect(added(one, ["n2"])).toEqual(expected);
  });

  test("without aggregation every load-balancer address with a backend anywhere", () => {
    const ranges = { ...RANGES, serviceLoadBalancerAggregation: "Disabled" as const };
    const with_ = (...backends: string[]) => {
      const change = { services: [cluster({}, ["198.51.100.9"])], slices: [slice("a", "IPv4", ...backends)] };
      return announced(change, ranges).slice(2);
    };
    expect([with_("n2"), with_("!n2"), with_()]).toEqual([["198.51.100.9/32"], [], []]);
  });
});

test.each<[string, Partial<Spec>]>([
  ["headless", { clusterIP: "None" }],
  ["without a cluster address", { clusterIP: "" }],
  ["ExternalName", { type: "ExternalName" }],
])("a Service that is %s is not told", (_what, change) => {
  expect(added(service("a", spec({ externalTrafficPolicy: "Local", ...change })), ["n1"])).toEqual([]);
});

test("an address of two Services is told once", () => {
  const both = ["a", "b"].map((name) =>
    service(name, spec({ externalTrafficPolicy: "Local", externalIPs: ["203.0.113.5"] })),
  );
  const slices = [slice("a", "IPv4", "n1"), slice("b", "IPv4", "n1")];
  expect(announced({ services: both, slices }).filter((text) => text === "203.0.113.5/32")).toHaveLength(1);
});
