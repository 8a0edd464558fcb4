import type { DataplaneMessage, WorkloadEndpoint } from "@calico-ts/dataplane-api";
import { FakeKernel } from "@calico-ts/linux/testing";
import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { FakeNodeKernel } from "../../../testing/fake-node-kernel.ts";
import { BandwidthDriver } from "../bandwidth/bandwidth-driver.ts";
import { ConntrackFlusher } from "../conntrack-flusher.ts";
import { RouteDriver } from "../routes/route-driver.ts";
import { SysctlDriver } from "../sysctl/sysctl-driver.ts";
import { EndpointManager, workloadSysctls } from "./endpoints.ts";

const endpoint = (interfaceName: string, ...addresses: string[]): WorkloadEndpoint => ({
  active: true,
  interfaceName,
  addresses,
  tiers: [],
  profiles: [],
  allowedSourcePrefixes: [],
});
const idOf = (pod: string) => ({ orchestrator: "k8s", workload: `default/${pod}`, endpoint: "eth0" });
const update = (pod: string, value: WorkloadEndpoint): DataplaneMessage => ({
  kind: "workload-endpoint-update",
  id: idOf(pod),
  endpoint: value,
});
const remove = (pod: string): DataplaneMessage => ({ kind: "workload-endpoint-remove", id: idOf(pod) });

function world({ floatingIps = false } = {}) {
  const kernel = new FakeNodeKernel();
  const log = silentLogger;
  const routes = new RouteDriver({
    kernel,
    ownership: { workloadPrefixes: ["cali"], removeExternal: true },
    log,
    now: () => 0,
  });
  const sysctls = new SysctlDriver({ kernel, log });
  const conntrack = new ConntrackFlusher({ kernel, log });
  const manager = new EndpointManager({
    routes,
    sysctls,
    conntrack,
    ipv6: true,
    bandwidth: new BandwidthDriver({ kernel: new FakeKernel(), log: silentLogger }),
    allowSpoofing: false,
    floatingIps,
    log,
    metric: { 4: 1024, 6: 1024 },
  });
  const plug = (name: string): void => {
    kernel.up.add(name);
    for (const key of Object.keys(workloadSysctls(name, { strictReversePath: true, ipv6: true }))) {
      kernel.sysctls.set(key, "?");
    }
    sysctls.touched(name);
  };
  const pass = (): void => {
    manager.settle();
    routes.withdraw();
    conntrack.apply();
    sysctls.apply();
    routes.install("workload");
  };
  return { kernel, manager, pass, plug };
}

describe("endpoint manager", () => {
  test("no route leads to an interface whose routes are withheld, until they are no more", () => {
    const { kernel, manager, pass, plug } = world();
    plug("cali1");
    const first = manager.withhold("cali1");
    const second = manager.withhold("cali1");
    manager.receive(update("a", endpoint("cali1", "10.0.0.1/32")));
    pass();
    first[Symbol.dispose]();
    pass();
    expect(kernel.routes.size).toBe(0);
    second[Symbol.dispose]();
    pass();
    expect(kernel.routes.size).toBe(1);
    manager.withhold("cali1");
    pass();
    expect(kernel.routes.size).toBe(0);
  });

  test("routes and sysctls for an endpoint, whichever comes first, it or its interface", () => {
    const { kernel, manager, pass, plug } = world();
    manager.receive(update("a", endpoint("cali1", "10.0.0.1/32", "fd00::1/128")));
    pass();
    expect(kernel.routes.size).toBe(0);
    plug("cali1");
    pass();
    expect(
      [...kernel.routes.values()].map(({ destination, interfaceName, scope }) => [destination, interfaceName, scope]),
    ).toEqual([
      ["10.0.0.1/32", "cali1", "link"],
      ["fd00::1/128", "cali1", "link"],
    ]);
    expect(Object.fromEntries(kernel.sysctls)).toEqual({
      "net/ipv4/conf/cali1/route_localnet": "1",
      "net/ipv4/neigh/cali1/proxy_delay": "0",
      "net/ipv4/conf/cali1/proxy_arp": "1",
      "net/ipv4/conf/cali1/forwarding": "1",
      "net/ipv4/conf/cali1/rp_filter": "1",
      "net/ipv6/conf/cali1/accept_ra": "0",
      "net/ipv6/conf/cali1/proxy_ndp": "1",
      "net/ipv6/conf/cali1/forwarding": "1",
    });
  });

  test("an address that moves to another pod has its connections forgotten in between", () => {
    const { kernel, manager, pass, plug } = world();
    plug("cali1");
    plug("cali2");
    manager.receive(update("a", endpoint("cali1", "10.0.0.1/32")));
    pass();
    kernel.log.length = 0;
    manager.receive(remove("a"));
    manager.receive(update("b", endpoint("cali2", "10.0.0.1/32")));
    pass();
    expect(kernel.log.filter((line) => !line.startsWith("sysctl"))).toEqual([
      "delete 10.0.0.1/32 metric 1024",
      "flush 10.0.0.1",
      "add 10.0.0.1/32 metric 1024",
    ]);
  });

  test("an endpoint that changes in place flushes nothing", () => {
    const { kernel, manager, pass, plug } = world();
    plug("cali1");
    manager.receive(update("a", endpoint("cali1", "10.0.0.1/32")));
    pass();
    kernel.log.length = 0;
    manager.receive(update("a", { ...endpoint("cali1", "10.0.0.1/32"), profiles: ["kns.default"] }));
    pass();
    expect(kernel.log).toEqual([]);
  });

  test("two claims on one address: decided by id, in either order of arrival", () => {
    for (const order of [
      ["a", "b"],
      ["b", "a"],
    ]) {
      const { kernel, manager, pass, plug } = world();
      plug("cali-a");
      plug("cali-b");
      for (const pod of order) manager.receive(update(pod, endpoint(`cali-${pod}`, "10.0.0.1/32")));
      pass();
      expect(kernel.routes.get("10.0.0.1/32 metric 1024")?.interfaceName).toBe("cali-a");
      manager.receive(remove("a"));
      pass();
      expect(kernel.routes.get("10.0.0.1/32 metric 1024")?.interfaceName).toBe("cali-b");
    }
  });

  test.each([true, false])("a floating address has a route while they are enabled: %s", (floatingIps) => {
    const { kernel, manager, pass, plug } = world({ floatingIps });
    plug("cali1");
    plug("cali2");
    const floating = (internal: string) => ({ floatingAddresses: [{ external: "192.0.2.1", internal }] });
    manager.receive(update("a", { ...endpoint("cali1", "10.0.0.1/32"), ...floating("10.0.0.1") }));
    pass();
    expect(kernel.routes.has("192.0.2.1/32 metric 1024")).toBe(floatingIps);
    kernel.log.length = 0;
    // To another pod while both run: connections that were rewritten to the first one are forgotten.
    manager.receive(update("a", endpoint("cali1", "10.0.0.1/32")));
    manager.receive(update("b", { ...endpoint("cali2", "10.0.0.2/32"), ...floating("10.0.0.2") }));
    pass();
    expect(kernel.log.filter((line) => line.includes("192.0.2.1"))).toEqual(
      floatingIps ? ["delete 192.0.2.1/32 metric 1024", "flush 192.0.2.1", "add 192.0.2.1/32 metric 1024"] : [],
    );
  });

  test("an inactive endpoint has no route", () => {
    const { kernel, manager, pass, plug } = world();
    plug("cali1");
    manager.receive(update("a", { ...endpoint("cali1", "10.0.0.1/32"), active: false }));
    pass();
    expect(kernel.routes.size).toBe(0);
  });
});
