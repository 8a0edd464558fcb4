import type { RouteAction } from "@calico-ts/bgp";
import { FakeKernel } from "@calico-ts/linux/testing";
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import type { Route } from "@calico-ts/netlink";
import { silentLogger } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { describe, expect, test, vi } from "vitest";
import { KernelSide, type KernelTerms } from "./kernel-side.ts";
import { prefixId, ROUTE_PROTOCOL } from "./kernel-view.ts";
import type { ForwardingTerms } from "./terms.ts";

const action = (prefix: string, hops: readonly string[], localPref?: number): RouteAction => ({
  do: "route",
  family: prefix.includes(":") ? "ipv6-unicast" : "ipv4-unicast",
  prefix: parsePrefix(prefix),
  paths: hops.map((hop) => ({
    attributes: { nextHop: parseAddress(hop), ...(localPref !== undefined && { localPref }) },
    peer: "p",
    stale: false,
  })),
});

const forwarding = (change: Partial<ForwardingTerms> = {}): ForwardingTerms => ({
  routeMetricV6: 1025,
  notVia: [],
  tunnels: [],
  hostRoutes: [],
  learn: { ignoredInterfaces: [], priority: { 4: 1024, 6: 1025 } },
  ...change,
});

class World implements Disposable {
  readonly kernel = new FakeKernel();
  readonly best = new Map<string, RouteAction>();
  readonly link: number;
  readonly side: KernelSide;
  changes = 0;
  readonly learned = new Set<string>();

  constructor(change: Partial<KernelTerms> = {}) {
    this.link = this.addLink("br0");
    this.kernel.addresses.add({ link: this.link, address: parseAddress("192.0.2.200"), prefixLength: 24 });
    this.foreign({ destination: parsePrefix("192.0.2.0/24"), link: this.link, scope: 253, protocol: 2 });
    this.foreign({ destination: parsePrefix("2001:db8::/64"), link: this.link, protocol: 2 });
    this.foreign({ destination: parsePrefix("198.51.100.0/24"), gateway: parseAddress("192.0.2.9"), link: this.link });
    this.kernel.routes.add({
      destination: parsePrefix("10.99.0.0/16"),
      gateway: parseAddress("192.0.2.1"),
      link: this.link,
      protocol: ROUTE_PROTOCOL,
      metric: 7,
    });
    this.side = new KernelSide(
      { notProgrammed: [], routeMetric: 1024, ...change },
      {
        kernel: this.kernel,
        log: silentLogger,
        hooks: {
          bestRoutes: () => this.best.values(),
          nextHopsChanged: () => this.changes++,
          learned: (id) => this.learned.add(id),
          interfaceOf: (peer) => (peer === "p" ? "br0" : undefined),
          wake: () => undefined,
        },
      },
    );
    this.side.start();
  }

  [Symbol.dispose](): void {
    this.side[Symbol.dispose]();
  }

  addLink(name: string): number {
    const index = this.kernel.links.create({ kind: "bridge", name })?.index ?? 0;
    this.kernel.links.set(index, { up: true });
    return index;
  }

  foreign(route: Partial<Route> & Pick<Route, "destination">): void {
    this.kernel.routes.add({ protocol: 4, ...route });
  }

  set(prefix: string, hops: readonly string[], localPref?: number): void {
    const one = action(prefix, hops, localPref);
    if (hops.length === 0) this.best.delete(prefix);
    else this.best.set(prefix, one);
    this.side.route(one);
  }

  async work(): Promise<void> {
    while (await this.side.work());
  }

  /** `prefix metric gateways`. */
  get ours(): string[] {
    return this.kernel.routes
      .list({ protocol: ROUTE_PROTOCOL })
      .map(({ destination, metric = 0, gateway, nextHops = [{ gateway }] }) =>
        [
          formatPrefix(destination),
          metric,
          ...nextHops.map((hop) => (hop.gateway ? formatAddress(hop.gateway) : "-")),
        ].join(" "),
      )
      .toSorted();
  }

  /** Works until the kernel has exactly these besides the route that was there. */
  async becomes(...expected: string[]): Promise<void> {
    await vi.waitFor(
      async () => {
        await this.work();
        expect(this.ours.filter((text) => !text.startsWith("10.99."))).toEqual(expected);
      },
      { timeout: 20_000 },
    );
  }
}

describe("routes into the kernel", () => {
  test("appear, get more next hops, go; an earlier run's stay until we have converged", async () => {
    using world = new World();
    world.set("10.1.0.0/16", ["192.0.2.1"]);
    await world.work();
    expect(world.ours).toEqual(["10.1.0.0/16 1024 192.0.2.1", "10.99.0.0/16 7 192.0.2.1"]);
    world.set("10.1.0.0/16", ["192.0.2.1", "192.0.2.2"]);
    world.side.converged();
    await world.work();
    expect(world.ours).toEqual(["10.1.0.0/16 1024 192.0.2.1 192.0.2.2"]);
    world.set("10.1.0.0/16", []);
    await world.work();
    expect(world.ours).toEqual([]);
  });

  test("have the metric that LOCAL_PREF says, else the normal one of their family; the old goes after the new has come", async () => {
    using world = new World({ forwarding: forwarding() });
    world.side.converged();
    world.set("10.1.0.5/32", ["192.0.2.1"], 2_147_483_647 - 512);
    world.set("10.2.0.0/16", ["192.0.2.1"]);
    world.set("fd00::/64", ["2001:db8::1"]);
    await world.work();
    expect(world.ours).toEqual([
      "10.1.0.5/32 512 192.0.2.1",
      "10.2.0.0/16 1024 192.0.2.1",
      "fd00::/64 1025 2001:db8::1",
    ]);
    const writes: string[] = [];
    const watch = world.kernel.watch(["route"], (event) => {
      if (event.kind === "route") writes.push(`${event.gone ? "-" : "+"}${event.route.metric ?? 0}`);
    });
    world.set("10.1.0.5/32", ["192.0.2.1"], 2_147_483_647 - 1024);
    await world.work();
    expect(world.ours[0]).toBe("10.1.0.5/32 1024 192.0.2.1");
    return vi
      .waitFor(() => expect(writes).toEqual(["+1024", "-512"]), { timeout: 20_000 })
      .finally(() => watch[Symbol.dispose]());
  });

  test("go through the gateway that leads to the next hop; there is none while nothing leads there", async () => {
    using world = new World();
    world.set("10.1.0.0/16", ["198.51.100.7"]);
    world.set("10.2.0.0/16", ["203.0.113.1"]);
    await world.becomes("10.1.0.0/16 1024 192.0.2.9");
    expect([world.side.distance(parseAddress("203.0.113.1")), world.changes]).toEqual([undefined, 0]);
    const through = ["203.0.113.1", "198.51.100.7", "fe80::1"].map((text) =>
      world.side.interfaceTo(parseAddress(text)),
    );
    expect(through).toEqual([undefined, "br0", undefined]);
    world.foreign({
      destination: parsePrefix("203.0.113.0/24"),
      gateway: parseAddress("192.0.2.8"),
      link: world.link,
      metric: 5,
    });
    await world.becomes("10.1.0.0/16 1024 192.0.2.9", "10.2.0.0/16 1024 192.0.2.8");
    expect([world.side.distance(parseAddress("203.0.113.1")), world.changes]).toEqual([5, 1]);
    world.kernel.routes.delete({ destination: parsePrefix("203.0.113.0/24"), metric: 5 });
    await vi.waitFor(() => expect(world.changes).toBe(2), { timeout: 20_000 });
    world.side.converged();
    await world.becomes("10.1.0.0/16 1024 192.0.2.9");
  });

  test("a blackhole on the way is no way", () => {
    using world = new World();
    world.foreign({ destination: parsePrefix("203.0.113.0/24"), type: "blackhole" });
    expect(world.side.distance(parseAddress("203.0.113.1"))).toBeUndefined();
  });

  test("changes in the kernel that no next hop depends on decide nothing again", async () => {
    using world = new World({ forwarding: forwarding() });
    world.set("10.1.0.0/16", ["192.0.2.1"]);
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
    const cali = world.addLink("cali1");
    world.foreign({ destination: parsePrefix("10.244.1.5/32"), link: cali, protocol: 80, scope: 253 });
    world.kernel.links.delete(cali);
    world.foreign({ destination: parsePrefix("203.0.113.0/24"), gateway: parseAddress("192.0.2.8"), link: world.link });
    const [pod, theirs] = ["10.244.1.5/32", "203.0.113.0/24"].map((text) => prefixId(parsePrefix(text)));
    await vi.waitFor(() => expect(world.learned.has(theirs ?? "")).toBe(true), { timeout: 20_000 });
    expect([world.learned.has(pod ?? ""), world.changes]).toEqual([false, 0]);
  });

  test("inside prefixes of others are not touched, and taken away when they become others'", async () => {
    using world = new World();
    world.side.converged();
    world.set("10.1.0.0/26", ["192.0.2.1"]);
    world.set("10.2.0.0/26", ["192.0.2.1"]);
    await world.becomes("10.1.0.0/26 1024 192.0.2.1", "10.2.0.0/26 1024 192.0.2.1");
    world.side.configure({ notProgrammed: [parsePrefix("10.1.0.0/16")], routeMetric: 1024 });
    await world.becomes("10.2.0.0/26 1024 192.0.2.1");
    world.side.configure({ notProgrammed: [], routeMetric: 1030 });
    await world.becomes("10.1.0.0/26 1030 192.0.2.1", "10.2.0.0/26 1030 192.0.2.1");
  });

  test("what was taken away comes back; what somebody else holds is left to them until they let go", async () => {
    using world = new World();
    world.set("10.1.0.0/16", ["192.0.2.1"]);
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
    world.kernel.routes.delete({ destination: parsePrefix("10.1.0.0/16"), protocol: ROUTE_PROTOCOL, metric: 1024 });
    expect(world.ours).toHaveLength(1);
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
    const theirs = {
      destination: parsePrefix("10.2.0.0/16"),
      gateway: parseAddress("192.0.2.3"),
      link: world.link,
      metric: 1024,
    };
    world.foreign(theirs);
    world.set("10.2.0.0/16", ["192.0.2.1"]);
    await world.work();
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
    expect(
      world.kernel.routes.list({ protocol: 4 }).some(({ destination }) => formatPrefix(destination) === "10.2.0.0/16"),
    ).toBe(true);
    world.kernel.routes.delete({ ...theirs, protocol: 4 });
    await world.becomes("10.1.0.0/16 1024 192.0.2.1", "10.2.0.0/16 1024 192.0.2.1");
  });

  test("come back with the link that they lead through", async () => {
    using world = new World();
    world.set("10.1.0.0/16", ["192.0.2.1"]);
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
    world.kernel.links.set(world.link, { up: false });
    await world.becomes();
    world.kernel.links.set(world.link, { up: true });
    world.foreign({ destination: parsePrefix("192.0.2.0/24"), link: world.link, scope: 253, protocol: 2 });
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
  });

  test("a kernel that cannot be written or read for a while is tried again", async () => {
    using world = new World();
    const { routes } = world.kernel;
    const sound = { list: routes.list.bind(routes), program: routes.program.bind(routes) };
    const fails = (): never => {
      throw new CalicoError("KERNEL", "no buffer space");
    };
    Object.assign(routes, { list: fails, program: fails });
    world.set("10.1.0.0/16", ["192.0.2.1"]);
    expect(await world.side.work()).toBe(false);
    Object.assign(routes, sound);
    await world.becomes("10.1.0.0/16 1024 192.0.2.1");
  });

  test("are written in portions, and all of them", async () => {
    using world = new World();
    for (let n = 0; n < 3000; n++) world.set(`10.${100 + (n >> 8)}.${n & 255}.0/24`, ["192.0.2.1"]);
    expect(await world.side.work()).toBe(true);
    expect(world.ours.length).toBeLessThan(3000);
    await world.work();
    expect(world.ours).toHaveLength(3001);
  });
});

describe("where routes lead", () => {
  const tunnels = [
    { prefix: parsePrefix("10.1.0.0/16"), device: "tunl0" },
    { prefix: parsePrefix("10.2.0.0/16"), device: "tunl0", exceptNextHops: parsePrefix("192.0.2.0/24") },
  ];

  test("through a tunnel to the next hop, when there is one, but for next hops in the own subnet", async () => {
    using world = new World({ forwarding: forwarding({ tunnels }) });
    world.set("10.1.1.0/26", ["192.0.2.1"]);
    world.set("10.2.1.0/26", ["192.0.2.1"]);
    world.set("10.2.2.0/26", ["198.51.100.7"]);
    await world.becomes("10.2.1.0/26 1024 192.0.2.1");
    const tunnel = world.addLink("tunl0");
    await world.becomes("10.1.1.0/26 1024 192.0.2.1", "10.2.1.0/26 1024 192.0.2.1", "10.2.2.0/26 1024 198.51.100.7");
    const through = world.kernel.routes.list({ link: tunnel });
    expect(through.map(({ destination, onlink }) => `${formatPrefix(destination)} ${onlink}`).toSorted()).toEqual([
      "10.1.1.0/26 true",
      "10.2.2.0/26 true",
    ]);
    world.kernel.links.delete("tunl0");
    await world.becomes("10.2.1.0/26 1024 192.0.2.1");
  });

  test("not to next hops that somebody else routes to", async () => {
    using world = new World({ forwarding: forwarding({ notVia: [parseAddress("192.0.2.1")] }) });
    world.set("10.1.0.0/16", ["192.0.2.1"]);
    world.set("10.2.0.0/16", ["192.0.2.1", "192.0.2.2"]);
    await world.work();
    expect(world.ours).toEqual(["10.2.0.0/16 1024 192.0.2.2", "10.99.0.0/16 7 192.0.2.1"]);
  });

  test("to a peer through its gateway, and to next hops that are the peer", async () => {
    const hostRoutes = [{ destination: parsePrefix("203.0.113.1/32"), gateway: parseAddress("192.0.2.5") }];
    using world = new World({ forwarding: forwarding({ hostRoutes }) });
    world.set("10.1.0.0/16", ["203.0.113.1"]);
    await world.becomes("10.1.0.0/16 1024 192.0.2.5", "203.0.113.1/32 1024 192.0.2.5");
    world.side.converged();
    world.side.configure({ notProgrammed: [], routeMetric: 1024, forwarding: forwarding() });
    await world.becomes();
  });

  test("to link-local next hops on the interface of the session", async () => {
    using world = new World();
    world.set("fd00:1::/64", ["fe80::2"]);
    await world.work();
    expect(world.side.distance(parseAddress("fe80::2"))).toBe(0);
    const [route] = world.kernel.routes.list({ protocol: ROUTE_PROTOCOL, family: 6 });
    expect([route?.gateway, route?.link]).toEqual([parseAddress("fe80::2"), world.link]);
  });

  test("over all next hops of a route that has several", async () => {
    using world = new World();
    const hops = ["192.0.2.8", "192.0.2.9"].map((text) => ({
      gateway: parseAddress(text),
      link: world.link,
      weight: 1,
    }));
    world.foreign({ destination: parsePrefix("203.0.113.0/24"), nextHops: hops });
    world.set("10.1.0.0/16", ["203.0.113.1"]);
    await world.becomes("10.1.0.0/16 1024 192.0.2.8 192.0.2.9");
  });
});
