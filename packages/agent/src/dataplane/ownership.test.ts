import { describe, expect, test } from "vitest";
import {
  isOurFdbEntry,
  isOurNeighbour,
  isOurRoute,
  isOurTable,
  isTunnelDevice,
  isWorkloadInterface,
} from "./ownership.ts";

const strict = { workloadPrefixes: ["cali", "tap"], removeExternal: true };

describe("whose is it", () => {
  test.each([
    ["our protocol anywhere", { protocol: 80, interfaceName: "eth0" }, true],
    ["our protocol without a device (blackhole)", { protocol: 80 }, true],
    ["an operator's static route", { protocol: 4, interfaceName: "eth0" }, false],
    ["BIRD's", { protocol: 12, interfaceName: "eth0" }, false],
    ["boot protocol through a pod's interface", { protocol: 3, interfaceName: "cali0123456789a" }, true],
    ["the kernel's link-local prefix there", { protocol: 2, interfaceName: "cali0123456789a" }, false],
    ["the BGP daemon's to a pod that peers", { protocol: 12, interfaceName: "cali0123456789a" }, false],
    ["a second prefix", { protocol: 3, interfaceName: "tap12" }, true],
    ["a name that only contains the prefix", { protocol: 3, interfaceName: "xcali1" }, false],
  ])("route: %s", (_title, route, ours) => {
    expect(isOurRoute(route, strict)).toBe(ours);
  });

  test("external routes stay when the operator says so", () => {
    const lenient = { ...strict, removeExternal: false };
    expect(isOurRoute({ protocol: 3, interfaceName: "cali1" }, lenient)).toBe(false);
    expect(isOurRoute({ protocol: 80, interfaceName: "cali1" }, lenient)).toBe(true);
  });

  test("table, links, neighbours", () => {
    expect(isOurTable({ family: "inet", name: "calico" })).toBe(true);
    expect(isOurTable({ family: "ip", name: "calico" })).toBe(false);
    expect(["vxlan.calico", "vxlan-v6.calico", "tunl0", "vxlan0", "flannel.1"].map(isTunnelDevice)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(isWorkloadInterface("cali", ["cali"])).toBe(true);
    expect(isOurFdbEntry({ interfaceName: "vxlan.calico", destination: "10.0.0.1" })).toBe(true);
    // the kernel's own multicast entries on the same device have no destination
    expect(isOurFdbEntry({ interfaceName: "vxlan.calico" })).toBe(false);
    expect(isOurFdbEntry({ interfaceName: "br0", destination: "10.0.0.1" })).toBe(false);
    expect(isOurNeighbour({ interfaceName: "vxlan.calico", permanent: true })).toBe(true);
    expect(isOurNeighbour({ interfaceName: "vxlan.calico", permanent: false })).toBe(false);
    expect(isOurNeighbour({ interfaceName: "eth0", permanent: true })).toBe(false);
  });
});
