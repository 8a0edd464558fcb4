import { silentLogger } from "@calico-ts/runtime";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeNodeKernel } from "../../../testing/fake-node-kernel.ts";
import { type KernelRoute, ROUTE_CLASSES, RouteDriver, type RouteSpec, routeKey } from "./route-driver.ts";

const pod = (address: string, interfaceName: string): RouteSpec => ({
  destination: `${address}/32`,
  metric: 1024,
  type: "unicast",
  interfaceName,
  scope: "link",
});
const block = (destination: string, gateway: string): RouteSpec => ({
  destination,
  metric: 1024,
  type: "unicast",
  interfaceName: "eth0",
  gateway,
  onlink: true,
  scope: "global",
});

function world() {
  const kernel = new FakeNodeKernel();
  kernel.up.add("eth0").add("cali1").add("cali2");
  let now = 0;
  const wakes: number[] = [];
  const driver = new RouteDriver({
    kernel,
    ownership: { workloadPrefixes: ["cali"], removeExternal: true },
    log: silentLogger,
    now: () => now,
    wakeAfter: (ms) => wakes.push(ms),
  });
  const pass = (): void => {
    driver.withdraw();
    driver.install("workload");
    driver.install("cluster");
  };
  return { driver, kernel, pass, wakes, sleep: (ms: number) => (now += ms) };
}

describe("route driver", () => {
  test("installs, changes and removes, and touches nothing that is right", () => {
    const { driver, kernel, pass } = world();
    driver.want("local-workload", [pod("10.0.0.1", "cali1"), pod("10.0.0.2", "cali2")]);
    driver.want("no-encapsulation", [block("10.0.1.0/26", "192.168.0.2")]);
    pass();
    expect([...kernel.routes.keys()].toSorted()).toEqual([
      "10.0.0.1/32 metric 1024",
      "10.0.0.2/32 metric 1024",
      "10.0.1.0/26 metric 1024",
    ]);
    expect([...kernel.routes.values()].every((route) => route.protocol === 80)).toBe(true);
    const written = kernel.log.length;
    driver.markForResync();
    pass();
    expect(kernel.log).toHaveLength(written);

    driver.want("no-encapsulation", [block("10.0.1.0/26", "192.168.0.3")]);
    driver.want("local-workload", [pod("10.0.0.1", "cali1")]);
    pass();
    expect(kernel.log.slice(written)).toEqual(["delete 10.0.0.2/32 metric 1024", "replace 10.0.1.0/26 metric 1024"]);
  });

  test("an address that moves leaves its old interface in the withdrawing phase", () => {
    const { driver, kernel, pass } = world();
    driver.want("local-workload", [pod("10.0.0.1", "cali1")]);
    pass();
    driver.want("local-workload", [pod("10.0.0.1", "cali2")]);
    driver.withdraw();
    expect(kernel.routes.size).toBe(0);
    driver.install("workload");
    expect(kernel.routes.get("10.0.0.1/32 metric 1024")?.interfaceName).toBe("cali2");
  });

  test("waits for an interface without failing", () => {
    const { driver, kernel, pass } = world();
    driver.want("local-workload", [pod("10.0.0.3", "cali3")]);
    pass();
    expect(kernel.routes.size).toBe(0);
    expect(driver.hasAll([pod("10.0.0.3", "cali3")])).toBe(false);
    kernel.up.add("cali3");
    pass();
    expect(driver.hasAll([pod("10.0.0.3", "cali3")])).toBe(true);

    kernel.setDown("cali3");
    driver.interfaceDown("cali3");
    kernel.up.add("cali3");
    pass();
    expect(kernel.routes.size).toBe(1);
  });

  test("a stranger's route keeps its place, and ours comes when it goes", () => {
    const { driver, kernel, pass } = world();
    const foreign: KernelRoute = { ...block("10.0.1.0/26", "192.168.0.9"), protocol: 12 };
    kernel.routes.set(routeKey(foreign), foreign);
    driver.want("no-encapsulation", [block("10.0.1.0/26", "192.168.0.2")]);
    pass();
    expect(kernel.log).toEqual([]);
    expect(driver.conflicts().size).toBe(1);
    kernel.routes.clear();
    expect(driver.seen(foreign, true)).toBe(true);
    pass();
    expect(kernel.routes.get("10.0.1.0/26 metric 1024")?.protocol).toBe(80);
    expect(driver.conflicts().size).toBe(0);
  });

  test("a route that appears between reading and writing is found out at once", () => {
    const { driver, kernel, pass } = world();
    driver.want("no-encapsulation", []);
    pass();
    const foreign: KernelRoute = { ...block("10.0.1.0/26", "192.168.0.9"), protocol: 4 };
    kernel.routes.set(routeKey(foreign), foreign);
    driver.want("no-encapsulation", [block("10.0.1.0/26", "192.168.0.2")]);
    pass();
    expect(kernel.log).toEqual([]);
    expect(driver.conflicts().size).toBe(1);
  });

  test("leftovers of an earlier run: at once, but through a workload interface only after the grace period", () => {
    const { driver, kernel, pass, sleep, wakes } = world();
    const stale: KernelRoute = { ...block("10.0.7.0/26", "192.168.0.7"), protocol: 80 };
    const underway: KernelRoute = { ...pod("10.0.0.9", "cali1"), protocol: 80 };
    kernel.routes.set(routeKey(stale), stale).set(routeKey(underway), underway);
    driver.want("local-workload", []);
    pass();
    expect([...kernel.routes.keys()]).toEqual([routeKey(underway)]);
    expect(wakes).toEqual([10_000]);
    sleep(10_000);
    pass();
    expect(kernel.routes.size).toBe(0);
  });

  test("routes of an interface under construction are left alone", () => {
    const { driver, kernel, pass, sleep } = world();
    const held = driver.hold("cali1");
    kernel.routes.set("10.0.0.9/32 metric 0", { ...pod("10.0.0.9", "cali1"), metric: 0, protocol: 80 });
    pass();
    sleep(60_000);
    pass();
    expect(kernel.routes.size).toBe(1);
    held[Symbol.dispose]();
    pass();
    expect(kernel.routes.size).toBe(0);
  });

  test("notifications: our own writes are no news, others' are repaired", () => {
    const { driver, kernel, pass } = world();
    const wanted = block("10.0.1.0/26", "192.168.0.2");
    driver.want("no-encapsulation", [wanted]);
    pass();
    expect(driver.seen({ ...wanted, protocol: 80 }, false)).toBe(false);
    kernel.routes.delete(routeKey(wanted));
    expect(driver.seen({ ...wanted, protocol: 80 }, true)).toBe(true);
    pass();
    expect(kernel.routes.has(routeKey(wanted))).toBe(true);
    expect(driver.seen({ ...wanted, destination: "10.9.0.0/26", protocol: 80 }, false)).toBe(true);
  });

  test("the earlier class wins a destination two want", () => {
    const { driver, kernel, pass } = world();
    driver.want("blackhole", [{ destination: "10.0.1.0/26", metric: 1024, type: "blackhole", scope: "global" }]);
    driver.want("no-encapsulation", [block("10.0.1.0/26", "192.168.0.2")]);
    pass();
    expect(kernel.routes.get("10.0.1.0/26 metric 1024")?.type).toBe("unicast");
    driver.want("no-encapsulation", []);
    pass();
    expect(kernel.routes.get("10.0.1.0/26 metric 1024")?.type).toBe("blackhole");
  });

  test("from any kernel and any wishes, one pass leads there and strangers stay", () => {
    const destination = fc.constantFrom("10.0.0.1/32", "10.0.0.2/32", "10.0.1.0/26", "10.0.2.0/26");
    const spec = fc.record({
      destination,
      metric: fc.constantFrom(0, 1024),
      type: fc.constant("unicast" as const),
      interfaceName: fc.constantFrom("eth0", "cali1", "cali2"),
      scope: fc.constantFrom("link" as const, "global" as const),
    });
    const kernelRoute = fc
      .tuple(spec, fc.constantFrom(2, 4, 12, 80))
      .map(([route, protocol]) => ({ ...route, protocol }));
    const wishes = fc.tuple(fc.constantFrom(...ROUTE_CLASSES), fc.array(spec, { maxLength: 3 }));
    fc.assert(
      fc.property(fc.array(kernelRoute, { maxLength: 6 }), fc.array(wishes, { maxLength: 4 }), (before, wanted) => {
        const { driver, kernel, pass, sleep } = world();
        for (const route of before) kernel.routes.set(routeKey(route), route);
        const isForeign = (route: KernelRoute): boolean =>
          route.protocol !== 80 &&
          ([2, 12].includes(route.protocol) || !(route.interfaceName ?? "").startsWith("cali"));
        const foreign = [...kernel.routes].filter(([, route]) => isForeign(route));
        for (const [routeClass, routes] of wanted) driver.want(routeClass, routes);
        pass();
        sleep(20_000);
        pass();
        for (const [key, route] of foreign) expect(kernel.routes.get(key)).toEqual(route);
        const final = new Map(wanted);
        const expected = new Set([...final.values()].flat().map(routeKey));
        for (const [key] of foreign) expected.delete(key);
        const ours = [...kernel.routes].filter(([, route]) => !isForeign(route)).map(([key]) => key);
        expect(new Set(ours)).toEqual(expected);
      }),
    );
  });
});
