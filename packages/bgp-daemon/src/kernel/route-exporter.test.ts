import type { RouteAction } from "@calico-ts/bgp";
import { FakeKernel } from "@calico-ts/linux/testing";
import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { ROUTE_PROTOCOL, RouteExporter } from "./route-exporter.ts";

const action = (prefix: string, ...hops: string[]): RouteAction => ({
  do: "route",
  family: "ipv4-unicast",
  prefix: parsePrefix(prefix),
  paths: hops.map((hop) => ({ attributes: { nextHop: parseAddress(hop) }, peer: "p", stale: false })),
});

function world(): { kernel: FakeKernel; exporter: RouteExporter; ours: () => string[] } {
  const kernel = new FakeKernel();
  const link = kernel.links.create({ kind: "bridge", name: "br0" })?.index ?? 0;
  kernel.links.set(link, { up: true });
  kernel.routes.add({ destination: parsePrefix("192.0.2.0/24"), link, scope: 253, protocol: 2 });
  kernel.routes.add({
    destination: parsePrefix("198.51.100.0/24"),
    gateway: parseAddress("192.0.2.9"),
    link,
    protocol: 4,
  });
  kernel.routes.add({
    destination: parsePrefix("10.99.0.0/16"),
    gateway: parseAddress("192.0.2.1"),
    link,
    protocol: ROUTE_PROTOCOL,
    metric: 7,
  });
  const exporter = new RouteExporter({ kernel, log: silentLogger, metric: 1024 });
  const ours = (): string[] =>
    kernel.routes
      .list({ protocol: ROUTE_PROTOCOL })
      .map((route) => `${formatPrefix(route.destination)} ${route.metric ?? 0} ${route.nextHops?.length ?? 1}`)
      .toSorted();
  return { kernel, exporter, ours };
}

describe("routes into the kernel", () => {
  test("appear, get more next hops, go; an earlier run's stay until we have converged", () => {
    const { exporter, ours } = world();
    exporter.set(action("10.1.0.0/16", "192.0.2.1"));
    exporter.apply();
    expect(ours()).toEqual(["10.1.0.0/16 1024 1", "10.99.0.0/16 7 1"]);
    exporter.set(action("10.1.0.0/16", "192.0.2.1", "192.0.2.2"));
    exporter.converged();
    exporter.apply();
    expect(ours()).toEqual(["10.1.0.0/16 1024 2"]);
    exporter.set(action("10.1.0.0/16"));
    exporter.apply();
    expect(ours()).toEqual([]);
  });

  test("go through the gateway that leads to the next hop; without one there is no route", () => {
    const { kernel, exporter } = world();
    exporter.set(action("10.1.0.0/16", "198.51.100.7"));
    exporter.set(action("10.2.0.0/16", "203.0.113.1"));
    exporter.converged();
    exporter.apply();
    const found = kernel.routes.list({ protocol: ROUTE_PROTOCOL });
    expect(found.map((route) => [formatPrefix(route.destination), route.gateway])).toEqual([
      ["10.1.0.0/16", parseAddress("192.0.2.9")],
    ]);
  });

  test("inside prefixes of others are not touched, and taken away when they become others'", () => {
    const { exporter, ours } = world();
    const routes = [action("10.1.0.0/26", "192.0.2.1"), action("10.2.0.0/26", "192.0.2.1")];
    exporter.converged();
    exporter.setAll(routes, []);
    exporter.apply();
    expect(ours()).toHaveLength(2);
    exporter.setAll(routes, [parsePrefix("10.1.0.0/16")]);
    exporter.apply();
    expect(ours()).toEqual(["10.2.0.0/26 1024 1"]);
  });
});
