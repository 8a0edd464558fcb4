import { describe, expect, test } from "vitest";
import { HostInterfaces } from "./host-interfaces.ts";

type Interfaces = ReadonlyMap<string, readonly string[]>;

function world(exclude: readonly string[] = ["kube-ipvs0"]) {
  const kernel = new Map<string, readonly string[]>([
    ["lo", ["127.0.0.1"]],
    ["eth0", ["192.0.2.2", "192.0.2.1"]],
    ["cali123", ["fe80::1"]],
    ["kube-ipvs0", ["10.96.0.1"]],
  ]);
  const told: Interfaces[] = [];
  let reads = 0;
  const manager = new HostInterfaces({
    read: () => {
      reads++;
      return kernel;
    },
    tell: (interfaces) => told.push(interfaces),
    workloadPrefixes: ["cali"],
    exclude,
  });
  return { kernel, manager, reads: () => reads, told };
}

describe("host interfaces", () => {
  test("pods' and excluded interfaces are left out", () => {
    const { manager, told } = world(["kube-ipvs0", "/^lo$/"]);
    manager.settle();
    expect(told).toEqual([new Map([["eth0", ["192.0.2.1", "192.0.2.2"]]])]);
  });

  test("many notifications are one reading, and what did not change is not told", () => {
    const { kernel, manager, reads, told } = world();
    manager.settle();
    manager.touched();
    manager.touched();
    kernel.set("cali456", []);
    kernel.set("eth0", ["192.0.2.1", "192.0.2.2"]);
    manager.settle();
    manager.settle();
    expect([reads(), told.length]).toEqual([2, 1]);
    kernel.delete("eth0");
    manager.touched();
    manager.settle();
    expect(told[1]).toEqual(new Map([["lo", ["127.0.0.1"]]]));
  });

  test("a kernel that cannot be read is asked again", () => {
    let fail = true;
    const told: Interfaces[] = [];
    const manager = new HostInterfaces({
      read: () => {
        if (fail) throw new Error("no buffer space");
        return new Map([["eth0", []]]);
      },
      tell: (interfaces) => told.push(interfaces),
      workloadPrefixes: ["cali"],
      exclude: [],
    });
    expect(() => manager.settle()).toThrow("no buffer space");
    fail = false;
    manager.settle();
    expect(told).toEqual([new Map([["eth0", []]])]);
  });
});
