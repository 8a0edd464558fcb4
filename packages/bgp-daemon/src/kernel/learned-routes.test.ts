import { FakeKernel } from "@calico-ts/linux/testing";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import type { RouteSpec } from "@calico-ts/netlink";
import { describe, expect, test } from "vitest";
import { KernelView, prefixId } from "./kernel-view.ts";
import { LearnedRoutes } from "./learned-routes.ts";

const TERMS = { ignoredInterfaces: ["skip*"], priority: { 4: 1024, 6: 1024 } } as const;

function world(): {
  readonly kernel: FakeKernel;
  readonly view: KernelView;
  readonly learned: LearnedRoutes;
  readonly link: (name: string) => number;
} {
  const kernel = new FakeKernel();
  const view = new KernelView(kernel);
  const link = (name: string): number => {
    const index = kernel.links.create({ kind: "bridge", name })?.index ?? 0;
    kernel.links.set(index, { up: true });
    return index;
  };
  return { kernel, view, learned: new LearnedRoutes(view), link };
}

/** What is learned of a prefix when these routes are in the kernel. */
function learnedOf(prefix: string, ...routes: (Omit<RouteSpec, "destination" | "link"> & { dev?: string })[]): unknown {
  const { kernel, learned, link, view } = world();
  const links = new Map(["cali1", "eth0", "vxlan.calico"].map((name) => [name, link(name)]));
  for (const { dev, ...route } of routes) {
    const index = dev === undefined ? undefined : links.get(dev);
    kernel.routes.add({
      destination: parsePrefix(prefix),
      onlink: true,
      ...route,
      ...(index !== undefined && { link: index }),
    });
  }
  view.reload();
  learned.configure(TERMS, view.prefixes());
  const found = learned.routes.get(prefixId(parsePrefix(prefix)));
  return found === undefined ? undefined : { metric: 2_147_483_647 - found.localPref, ...found.facts };
}

const gateway = parseAddress("192.0.2.1");
const plain = { found: true, yields: "always" };

describe("routes of others", () => {
  test.each<[string, string, Parameters<typeof learnedOf>[1], object | undefined]>([
    [
      "a pod's",
      "10.244.1.5/32",
      { dev: "cali1", protocol: 80, metric: 1024 },
      { ...plain, metric: 1024, interface: "cali1" },
    ],
    [
      "a pod's that moves here",
      "10.244.1.5/32",
      { dev: "cali1", protocol: 80, metric: 512 },
      { found: true, yields: "equal", metric: 512, interface: "cali1" },
    ],
    [
      "one of small metric that is no pod's",
      "172.16.0.0/16",
      { dev: "eth0", gateway, metric: 100 },
      { ...plain, metric: 100, interface: "eth0", gateway: true },
    ],
    [
      "one without a metric",
      "172.16.0.0/16",
      { dev: "eth0", gateway },
      { ...plain, metric: 1024, interface: "eth0", gateway: true },
    ],
    [
      "the agent's to another node",
      "10.244.2.0/26",
      { dev: "vxlan.calico", gateway, protocol: 80, metric: 1024 },
      { ...plain, metric: 1024, interface: "vxlan.calico", gateway: true },
    ],
    ["the agent's blackhole", "10.244.1.0/26", { type: "blackhole", protocol: 80 }, undefined],
    ["somebody's blackhole", "172.16.0.0/16", { type: "blackhole" }, { ...plain, metric: 1024 }],
    [
      "the default route",
      "0.0.0.0/0",
      { dev: "eth0", gateway, protocol: 16 },
      { ...plain, metric: 1024, interface: "eth0", gateway: true },
    ],
    ["the kernel's own", "172.16.0.0/16", { dev: "eth0", protocol: 2 }, undefined],
    ["a redirect", "172.16.0.1/32", { dev: "eth0", gateway, protocol: 1 }, undefined],
    ["our own", "172.16.0.0/16", { dev: "eth0", gateway, protocol: 12 }, undefined],
    ["one of another table", "172.16.0.0/16", { dev: "eth0", gateway, table: 100 }, undefined],
    ["one that throws", "172.16.0.0/16", { type: "throw" }, undefined],
    ["one of this host", "127.7.0.0/16", { dev: "eth0" }, undefined],
    [
      "a pod's in what was reserved",
      "240.1.2.3/32",
      { dev: "cali1", protocol: 80, metric: 1024 },
      { ...plain, metric: 1024, interface: "cali1" },
    ],
    ["groups", "ff00::/8", { dev: "eth0" }, undefined],
    ["one of a single IPv6 link", "fe80::/64", { dev: "eth0" }, undefined],
    [
      "an IPv6 pod's",
      "fd00::5/128",
      { dev: "cali1", protocol: 80, metric: 1024 },
      { ...plain, metric: 1024, interface: "cali1" },
    ],
  ])("%s", (_what, prefix, route, expected) => {
    expect(learnedOf(prefix, route)).toEqual(expected);
  });

  test("of several metrics the smallest", () => {
    const routes = [1024, 300, 2000].map((metric) => ({ dev: "eth0", gateway, metric }));
    expect(learnedOf("172.16.0.0/16", ...routes)).toMatchObject({ metric: 300 });
  });
});

describe("prefixes of interfaces", () => {
  test("of those that are up, without pods', kube-proxy's and ignored ones", () => {
    const { kernel, learned, link, view } = world();
    for (const [at, name] of ["eth0", "cali1", "kube-ipvs0", "skip7", "dummy0"].entries()) {
      kernel.addresses.add({
        link: link(name),
        address: parseAddress(`10.${at}.0.7`),
        prefixLength: name === "dummy0" ? 32 : 24,
      });
    }
    const down = link("down");
    kernel.addresses.add({ link: down, address: parseAddress("10.9.0.7"), prefixLength: 24 });
    kernel.links.set(down, { up: false });
    view.reload();
    learned.configure(TERMS, []);
    expect([...learned.routes.keys()]).toEqual(
      ["10.0.0.0/24", "10.4.0.7/32"].map((text) => prefixId(parsePrefix(text))),
    );
    expect([...learned.routes.values()].map(({ facts }) => facts)).toEqual([
      { found: true, interface: "eth0" },
      { found: true, interface: "dummy0" },
    ]);
    expect(learned.configure(undefined, view.prefixes())).toHaveLength(2);
    expect(learned.routes.size).toBe(0);
  });
});

test("only what changed is told", () => {
  const { kernel, learned, link, view } = world();
  const eth0 = link("eth0");
  const add = (text: string, metric: number): void =>
    kernel.routes.add({ destination: parsePrefix(text), link: eth0, gateway, onlink: true, metric });
  add("172.16.0.0/16", 10);
  view.reload();
  expect(learned.configure(TERMS, view.prefixes())).toEqual([prefixId(parsePrefix("172.16.0.0/16"))]);
  add("172.17.0.0/16", 10);
  add("172.16.0.0/16", 20);
  view.reload();
  expect(learned.update(view.takeChanges())).toEqual([prefixId(parsePrefix("172.17.0.0/16"))]);
});
