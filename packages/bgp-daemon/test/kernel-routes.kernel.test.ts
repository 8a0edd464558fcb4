/** The kernel side against a real routing table, with `ip` as witness and as the one who tampers. */
import type { RouteAction } from "@calico-ts/bgp";
import { type ScratchNamespace, scratchNamespace } from "@calico-ts/linux/testing";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test, vi } from "vitest";
import { KernelSide, type KernelSideOptions, type KernelTerms } from "../src/kernel/kernel-side.ts";
import { prefixId } from "../src/kernel/kernel-view.ts";
import type { ForwardingTerms } from "../src/kernel/terms.ts";

const WAIT = { timeout: 30_000, interval: 20 };
const terms = (change: Partial<ForwardingTerms> = {}): KernelTerms => ({
  notProgrammed: [],
  routeMetric: 1024,
  forwarding: {
    routeMetricV6: 1024,
    notVia: [],
    tunnels: [],
    hostRoutes: [],
    learn: { ignoredInterfaces: [], priority: { 4: 1024, 6: 1024 } },
    ...change,
  },
});

class Bench implements Disposable {
  readonly scratch: ScratchNamespace = scratchNamespace("routes");
  readonly best = new Map<string, RouteAction>();
  readonly side: KernelSide;
  portions = 0;

  /** `prepare`: what the kernel has before we come. */
  constructor(prepare: readonly string[] = [], options: Partial<KernelSideOptions> = {}) {
    this.ip("link add br0 type bridge");
    this.ip("link set br0 addrgenmode none");
    this.ip("addr add 192.0.2.200/24 dev br0");
    this.ip("-6 addr add 2001:db8::200/64 dev br0 nodad");
    this.ip("-6 addr add fe80::200/64 dev br0 nodad");
    this.ip("link set br0 up");
    for (const command of prepare) this.ip(command);
    this.side = new KernelSide(terms(), {
      kernel: this.scratch.kernel,
      log: silentLogger,
      hooks: {
        bestRoutes: () => this.best.values(),
        nextHopsChanged: () => undefined,
        learned: () => undefined,
        interfaceOf: () => "br0",
        wake: () => undefined,
      },
      ...options,
    });
    this.side.start();
  }

  [Symbol.dispose](): void {
    this.side[Symbol.dispose]();
    this.scratch[Symbol.dispose]();
  }

  ip(command: string): string {
    return this.scratch.run("ip", ...command.split(" "));
  }

  set(text: string, hops: readonly string[], localPref?: number): void {
    const attributes = localPref === undefined ? {} : { localPref };
    const action: RouteAction = {
      do: "route",
      family: text.includes(":") ? "ipv6-unicast" : "ipv4-unicast",
      prefix: parsePrefix(text),
      paths: hops.map((hop) => ({
        attributes: { ...attributes, nextHop: parseAddress(hop) },
        peer: "p",
        stale: false,
      })),
    };
    if (hops.length > 0) this.best.set(text, action);
    else this.best.delete(text);
    this.side.route(action);
  }

  configure(change: Partial<ForwardingTerms>): void {
    this.side.configure(terms(change));
  }

  async work(): Promise<void> {
    do this.portions++;
    while (await this.side.work());
  }

  /** `ip route`'s lines of protocol bird, both families, without what it adds for show; next hops of one route in one line. */
  routes(): string[] {
    return [this.ip("-o -4 route show proto bird"), this.ip("-o -6 route show proto bird")]
      .flatMap((text) => text.split("\n"))
      .map((line) =>
        line
          .replaceAll(/\\\t|pref medium|proto bird|weight 1|onlink/g, " ")
          .replaceAll(/\s+/g, " ")
          .trim(),
      )
      .filter((line) => line !== "")
      .toSorted();
  }

  async become(...expected: string[]): Promise<void> {
    await vi.waitFor(async () => {
      await this.work();
      expect(this.routes()).toEqual(expected.toSorted());
    }, WAIT);
  }
}

describe("routes in a real table", () => {
  test("through a pod come back when the kernel takes them away with the address the pod peers with", async () => {
    const pod = "route replace 10.244.1.5/32 dev pod scope link";
    using bench = new Bench(["link add pod type veth peer name eth0", "link set pod up", "link set eth0 up", pod]);
    bench.side.converged();
    bench.ip("addr add 169.254.0.179/32 dev pod scope link");
    bench.set("10.123.0.0/26", ["10.244.1.5"]);
    await bench.become("10.123.0.0/26 via 10.244.1.5 dev pod metric 1024");
    bench.ip("addr del 169.254.0.179/32 dev pod");
    expect(bench.routes()).toEqual([]);
    bench.ip(pod);
    await bench.become("10.123.0.0/26 via 10.244.1.5 dev pod metric 1024");
  });

  test("appear in both families, get more next hops and fewer, other metrics, and go", async () => {
    using bench = new Bench();
    bench.side.converged();
    bench.set("10.1.0.0/16", ["192.0.2.1"]);
    bench.set("fd00:1::/64", ["2001:db8::1"]);
    bench.set("fd00:2::/64", ["fe80::1"]);
    const others = ["fd00:1::/64 via 2001:db8::1 dev br0 metric 1024", "fd00:2::/64 via fe80::1 dev br0 metric 1024"];
    await bench.become("10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024", ...others);

    bench.set("10.1.0.0/16", ["192.0.2.1", "192.0.2.2"]);
    bench.set("fd00:1::/64", ["2001:db8::1", "2001:db8::2"]);
    await bench.become(
      "10.1.0.0/16 metric 1024 nexthop via 192.0.2.1 dev br0 nexthop via 192.0.2.2 dev br0",
      "fd00:1::/64 metric 1024 nexthop via 2001:db8::1 dev br0 nexthop via 2001:db8::2 dev br0",
      "fd00:2::/64 via fe80::1 dev br0 metric 1024",
    );

    bench.set("10.1.0.0/16", ["192.0.2.2"], 2_147_483_647 - 512);
    bench.set("fd00:1::/64", ["2001:db8::2"], 2_147_483_647 - 512);
    bench.set("fd00:2::/64", []);
    await bench.become(
      "10.1.0.0/16 via 192.0.2.2 dev br0 metric 512",
      "fd00:1::/64 via 2001:db8::2 dev br0 metric 512",
    );
    bench.set("10.1.0.0/16", []);
    bench.set("fd00:1::/64", []);
    await bench.become();
  });

  test("of a run that was killed stay until we have converged; then what nobody tells goes, and nothing of others", async () => {
    using bench = new Bench([
      "route add 10.1.0.0/16 via 192.0.2.1 proto bird metric 1024",
      "route add 10.2.0.0/16 via 192.0.2.1 proto bird metric 1024",
      "route add 10.2.0.0/16 via 192.0.2.1 proto bird metric 512",
      "-6 route add fd00:9::/64 via 2001:db8::9 proto bird metric 1024",
      "route add 10.3.0.0/16 via 192.0.2.1 proto static",
    ]);
    const before = bench.routes();
    bench.set("10.1.0.0/16", ["192.0.2.1"]);
    bench.set("10.2.0.0/16", ["192.0.2.1"]);
    await bench.work();
    expect(bench.routes()).toEqual(before);
    bench.side.converged();
    await bench.become(
      "10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024",
      "10.2.0.0/16 via 192.0.2.1 dev br0 metric 1024",
    );
    expect(bench.ip("route show 10.3.0.0/16")).toContain("via 192.0.2.1");
  });

  test("that somebody deletes come back; a place that somebody takes is theirs until they let go", async () => {
    using bench = new Bench();
    bench.set("10.1.0.0/16", ["192.0.2.1"]);
    bench.set("fd00:1::/64", ["2001:db8::1"]);
    const whole = ["10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024", "fd00:1::/64 via 2001:db8::1 dev br0 metric 1024"];
    await bench.become(...whole);
    bench.ip("route del 10.1.0.0/16");
    bench.ip("-6 route del fd00:1::/64");
    expect(bench.routes()).toEqual([]);
    await bench.become(...whole);

    bench.ip("route replace 10.1.0.0/16 via 192.0.2.9 metric 1024");
    await bench.become("fd00:1::/64 via 2001:db8::1 dev br0 metric 1024");
    bench.ip("route add 10.2.0.0/16 via 192.0.2.9 metric 1024");
    bench.set("10.2.0.0/16", ["192.0.2.1"]);
    await bench.become("fd00:1::/64 via 2001:db8::1 dev br0 metric 1024");
    expect(bench.ip("route show 10.2.0.0/16")).toContain("via 192.0.2.9");
    bench.ip("route del 10.1.0.0/16");
    bench.ip("route del 10.2.0.0/16");
    await bench.become(...whole, "10.2.0.0/16 via 192.0.2.1 dev br0 metric 1024");
  });

  test("that somebody changes under our name are put right by the next comparison", async () => {
    using bench = new Bench([], { auditMs: 100 });
    bench.set("10.1.0.0/16", ["192.0.2.1"]);
    await bench.become("10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024");
    bench.ip("route replace 10.1.0.0/16 via 192.0.2.9 metric 1024 proto bird");
    expect(bench.routes()).toEqual(["10.1.0.0/16 via 192.0.2.9 dev br0 metric 1024"]);
    await bench.become("10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024");
  });

  test("go with their link, without a word of the kernel, and come back with it; others' gateways count again", async () => {
    using bench = new Bench(["route add 198.51.100.0/24 via 192.0.2.7"]);
    bench.set("10.1.0.0/16", ["192.0.2.1"]);
    bench.set("10.2.0.0/16", ["198.51.100.1"]);
    await bench.become(
      "10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024",
      "10.2.0.0/16 via 192.0.2.7 dev br0 metric 1024",
    );
    bench.ip("link set br0 down");
    await vi.waitFor(() => expect(bench.side.distance(parseAddress("192.0.2.1"))).toBeUndefined(), WAIT);
    expect(bench.routes()).toEqual([]);
    bench.ip("link set br0 up");
    await bench.become("10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024");
    bench.ip("route add 198.51.100.0/24 via 192.0.2.8");
    await bench.become(
      "10.1.0.0/16 via 192.0.2.1 dev br0 metric 1024",
      "10.2.0.0/16 via 192.0.2.8 dev br0 metric 1024",
    );
  });

  test("through a tunnel device, around it in the own subnet, and to a peer through its gateway", async () => {
    using bench = new Bench();
    bench.side.converged();
    bench.set("10.1.0.0/26", ["203.0.113.7"]);
    bench.set("10.1.1.0/26", ["192.0.2.1"]);
    bench.set("10.2.0.0/16", ["203.0.113.1"]);
    await bench.become("10.1.1.0/26 via 192.0.2.1 dev br0 metric 1024");
    const tunnel = { prefix: parsePrefix("10.1.0.0/16"), device: "tunl0", exceptNextHops: parsePrefix("192.0.2.0/24") };
    const hostRoute = { destination: parsePrefix("203.0.113.1/32"), gateway: parseAddress("192.0.2.5") };
    bench.configure({ tunnels: [tunnel], hostRoutes: [hostRoute] });
    const direct = [
      "10.1.1.0/26 via 192.0.2.1 dev br0 metric 1024",
      "10.2.0.0/16 via 192.0.2.5 dev br0 metric 1024",
      "203.0.113.1 via 192.0.2.5 dev br0 metric 1024",
    ];
    await bench.become(...direct);
    bench.ip("link add tunl0 type bridge");
    bench.ip("link set tunl0 up");
    await bench.become(...direct, "10.1.0.0/26 via 203.0.113.7 dev tunl0 metric 1024");
    expect(bench.ip("route show 10.1.0.0/26")).toContain("onlink");
    bench.ip("link set tunl0 down");
    await bench.become(...direct);
    bench.ip("link set tunl0 up");
    await bench.become(...direct, "10.1.0.0/26 via 203.0.113.7 dev tunl0 metric 1024");
    bench.configure({});
    await bench.become("10.1.1.0/26 via 192.0.2.1 dev br0 metric 1024");
  });

  test("20 000 are written in portions with room between them", async () => {
    using bench = new Bench();
    const count = 20_000;
    for (let n = 0; n < count; n++) bench.set(`10.${n >> 8}.${n & 255}.0/24`, ["192.0.2.1"]);
    await bench.work();
    expect(bench.portions).toBeGreaterThanOrEqual(count / 2048);
    expect(bench.routes()).toHaveLength(count);
    // The flood of notifications, some of which the kernel may drop, leaves everything as it should be.
    await vi.waitFor(async () => {
      await bench.work();
      expect(bench.scratch.kernel.routes.list({ protocol: 12 })).toHaveLength(count);
    }, WAIT);
  });
});

test("pods' routes and the node's prefixes are learned as they come and go", async () => {
  using bench = new Bench();
  const learned = (text: string): object | undefined => bench.side.learnedRoute(prefixId(parsePrefix(text)))?.facts;
  expect(learned("192.0.2.0/24")).toEqual({ found: true, interface: "br0" });
  expect(learned("fe80::/64")).toBeUndefined();
  bench.ip("link add cali1 type veth peer name pod1");
  bench.ip("link set cali1 up");
  bench.ip("route add 10.244.1.5/32 dev cali1 proto 80 metric 1024");
  bench.ip("route add blackhole 10.244.1.0/26 proto 80 metric 1024");
  await vi.waitFor(() => {
    expect(learned("10.244.1.5/32")).toEqual({ found: true, interface: "cali1", yields: "always" });
  }, WAIT);
  expect(learned("10.244.1.0/26")).toBeUndefined();
  bench.ip("route add 10.244.1.5/32 dev cali1 proto 80 metric 512");
  await vi.waitFor(() => expect(learned("10.244.1.5/32")).toMatchObject({ yields: "equal" }), WAIT);
  bench.ip("link del cali1");
  bench.ip("addr add 172.16.9.1/32 dev lo");
  bench.ip("link set lo up");
  await vi.waitFor(() => {
    expect([learned("10.244.1.5/32"), learned("172.16.9.1/32")]).toEqual([undefined, { found: true, interface: "lo" }]);
  }, WAIT);
  bench.ip("addr del 172.16.9.1/32 dev lo");
  await vi.waitFor(() => expect(learned("172.16.9.1/32")).toBeUndefined(), WAIT);
});
