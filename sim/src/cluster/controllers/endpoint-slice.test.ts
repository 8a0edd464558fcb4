import { describe, expect, test } from "vitest";
import { SmallWorld } from "../../../test/cluster/small-world.ts";
import type { ContainerPort, Pod, Service } from "../kube/objects.ts";
import { hasLabels } from "../kube/label-selector.ts";
import { reconcileService } from "./endpoint-slice.ts";

const service = (spec: Partial<Service["spec"]> = {}): Service => ({
  metadata: { name: "cart", namespace: "shop", uid: "s1", labels: { app: "cart" } },
  spec: { clusterIPs: ["10.96.0.7"], ipFamilies: ["IPv4"], selector: { app: "cart" }, ports: [{ port: 80 }], ...spec },
});

interface PodOptions {
  readonly ready?: boolean;
  readonly ips?: readonly string[];
  readonly ports?: readonly ContainerPort[];
  readonly deletionTimestamp?: string;
}

const pod = (
  name: string,
  { ready = true, ips = [`10.0.0.${name.length}`], ports = [], deletionTimestamp }: PodOptions = {},
): Pod => ({
  metadata: {
    name,
    namespace: "shop",
    labels: { app: "cart" },
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
  },
  spec: { nodeName: "n1", containers: [{ name: "c", ports }] },
  status: {
    phase: "Running",
    podIPs: ips.map((ip) => ({ ip })),
    conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
  },
});

function settle(world: SmallWorld): void {
  for (let round = 0; round < 20; round++) {
    const [object] = world.all("Service");
    const actions = reconcileService({
      service: object,
      pods: world.all("Pod").filter((each) => hasLabels(object.spec.selector ?? {}, each.metadata.labels)),
      slices: world.all("EndpointSlice"),
      endpoints: world.all("Endpoints")[0],
      zones: new Map([["n1", "zone-a"]]),
    });
    if (!world.perform(actions)) return;
  }
  throw new Error("does not settle");
}

const endpointsIn = (world: SmallWorld) => world.all("EndpointSlice").flatMap((slice) => slice.endpoints ?? []);

describe("EndpointSlices", () => {
  test("tell ready, serving and terminating apart", () => {
    const world = new SmallWorld();
    world.put("Service", service());
    world.put("Pod", pod("a"));
    world.put("Pod", pod("bb", { ready: false }));
    world.put("Pod", pod("ccc", { deletionTimestamp: "2026-01-01T00:00:00Z" }));
    settle(world);
    expect(endpointsIn(world).map((each) => [each.addresses[0], each.conditions])).toEqual([
      ["10.0.0.1", { ready: true, serving: true, terminating: false }],
      ["10.0.0.2", { ready: false, serving: false, terminating: false }],
      ["10.0.0.3", { ready: false, serving: true, terminating: true }],
    ]);
    expect(endpointsIn(world)[0]).toMatchObject({
      nodeName: "n1",
      zone: "zone-a",
      targetRef: { kind: "Pod", name: "a" },
    });
    const [endpoints] = world.all("Endpoints");
    expect(endpoints.subsets?.[0]).toMatchObject({
      addresses: [{ ip: "10.0.0.1" }],
      notReadyAddresses: [{ ip: "10.0.0.2" }],
      ports: [{ port: 80, protocol: "TCP" }],
    });
  });

  test("group pods whose named target port differs", () => {
    const world = new SmallWorld();
    world.put("Service", service({ ports: [{ name: "web", port: 80, targetPort: "http" }] }));
    world.put("Pod", pod("a", { ports: [{ name: "http", containerPort: 8080 }] }));
    world.put("Pod", pod("bb", { ports: [{ name: "http", containerPort: 9090 }] }));
    world.put("Pod", pod("ccc"));
    settle(world);
    const found = world
      .all("EndpointSlice")
      .map((slice) => [slice.ports?.[0]?.port, slice.endpoints?.map((each) => each.addresses[0])]);
    expect(found).toEqual(
      expect.arrayContaining([
        [8080, ["10.0.0.1"]],
        [9090, ["10.0.0.2"]],
        [undefined, ["10.0.0.3"]],
      ]),
    );
  });

  test("are made per family", () => {
    const world = new SmallWorld();
    world.put("Service", service({ ipFamilies: ["IPv4", "IPv6"], clusterIPs: ["10.96.0.7", "fd96::7"] }));
    world.put("Pod", pod("a", { ips: ["10.0.0.1", "fd00::1"] }));
    settle(world);
    const found = world.all("EndpointSlice").map((slice) => [slice.addressType, slice.endpoints?.[0]?.addresses]);
    expect(found).toEqual([
      ["IPv4", ["10.0.0.1"]],
      ["IPv6", ["fd00::1"]],
    ]);
  });

  test("hold at most a hundred, and a change touches one slice", () => {
    const world = new SmallWorld();
    world.put("Service", service());
    for (let at = 100; at < 350; at++) world.put("Pod", pod(`p${at}`, { ips: [`10.1.${at >> 8}.${at & 255}`] }));
    settle(world);
    expect(
      world
        .all("EndpointSlice")
        .map((slice) => slice.endpoints?.length)
        .toSorted((a = 0, b = 0) => b - a),
    ).toEqual([100, 100, 50]);
    const before = new Map(
      world.all("EndpointSlice").map((slice) => [slice.metadata.name, slice.metadata.resourceVersion]),
    );
    world.patch("Pod", "shop/p250", { status: { conditions: [{ type: "Ready", status: "False" }] } });
    settle(world);
    const touched = world
      .all("EndpointSlice")
      .filter((slice) => before.get(slice.metadata.name) !== slice.metadata.resourceVersion);
    expect(touched).toHaveLength(1);
  });

  test("go empty with the last pod and are left alone without a selector", () => {
    const world = new SmallWorld();
    world.put("Service", service());
    world.put("Pod", pod("a"));
    settle(world);
    world.remove("Pod", "shop/a");
    settle(world);
    expect(world.all("EndpointSlice")).toHaveLength(1);
    expect(endpointsIn(world)).toEqual([]);
    const { selector: _, ...spec } = service().spec;
    expect(
      reconcileService({
        service: { ...service(), spec },
        pods: [],
        slices: [],
        endpoints: undefined,
        zones: new Map(),
      }),
    ).toEqual([]);
  });
});
