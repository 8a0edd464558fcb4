import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { createLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { workload } from "../../../testing/messages.ts";
import {
  type HeldAddress,
  type PeeringAddress,
  PeeringAddresses,
  type PeeringAddressKernel,
} from "./peering-addresses.ts";

const V4 = "169.254.0.179";
const V6 = "fd12:3456:789a::1";

class FakeKernel implements PeeringAddressKernel {
  readonly interfaces = new Set(["calia", "calib"]);
  readonly held = new Map<string, PeeringAddress>();
  readonly foreign = new Set<string>();
  readonly changes: string[] = [];

  fullLengthAddresses(prefixes: readonly string[]): readonly HeldAddress[] {
    const held = [...this.held.values()].filter((one) =>
      prefixes.some((prefix) => one.interfaceName.startsWith(prefix)),
    );
    return held.map((one) => ({ ...one, ours: !this.foreign.has(one.address) }));
  }

  addPeeringAddress(one: PeeringAddress): boolean {
    if (!this.interfaces.has(one.interfaceName)) return false;
    this.held.set(`${one.interfaceName} ${one.address}`, one);
    this.changes.push(`+${one.interfaceName} ${one.address}`);
    return true;
  }

  removePeeringAddress(one: PeeringAddress): void {
    if (!this.held.delete(`${one.interfaceName} ${one.address}`)) throw new Error("it has no such address");
    this.changes.push(`-${one.interfaceName} ${one.address}`);
  }

  taken(): string[] {
    return this.changes.splice(0);
  }
}

function world(ipv6 = true) {
  const kernel = new FakeKernel();
  const lines: string[] = [];
  const log = createLogger({ component: "t", stream: { write: (line) => lines.push(line) }, level: "Info" });
  return {
    kernel,
    lines,
    driver: new PeeringAddresses({ kernel, workloadPrefixes: ["cali"], ipv6, log, onRemoved: () => undefined }),
  };
}

const settings = (peeringAddresses: { 4?: string; 6?: string }): DataplaneMessage => ({
  kind: "bgp-settings-update",
  settings: { servicePrefixes: [], peeringAddresses },
});
const peer = (name: string): DataplaneMessage => workload(name, "10.0.0.1", { bgpPeer: "p" });
const plain = (name: string): DataplaneMessage => workload(name, "10.0.0.1");

describe("peering addresses", () => {
  test("are on the interfaces of peers and nowhere else; nothing right is touched", () => {
    const { driver, kernel } = world();
    for (const message of [settings({ 4: V4, 6: V6 }), peer("calia"), plain("calib")]) driver.receive(message);
    kernel.held.set(`calib ${V4}`, { interfaceName: "calib", family: 4, address: V4 });
    kernel.held.set("eth0 192.0.2.1", { interfaceName: "eth0", family: 4, address: "192.0.2.1" });
    driver.apply();
    expect(kernel.taken()).toEqual([`+calia ${V4}`, `+calia ${V6}`, `-calib ${V4}`]);
    driver.markForResync();
    driver.apply();
    expect(kernel.taken()).toEqual([]);

    driver.receive(settings({ 4: "169.254.0.180" }));
    driver.receive(peer("calib"));
    driver.apply();
    expect(kernel.taken()).toEqual(["+calia 169.254.0.180", "+calib 169.254.0.180", `-calia ${V4}`, `-calia ${V6}`]);
    driver.receive(plain("calia"));
    driver.receive({
      kind: "workload-endpoint-remove",
      id: { orchestrator: "k8s", workload: "default/calib", endpoint: "eth0" },
    });
    driver.apply();
    expect(kernel.taken()).toEqual(["-calia 169.254.0.180", "-calib 169.254.0.180"]);
  });

  test("come back when they are taken away, and when the interface comes late", () => {
    const { driver, kernel } = world(false);
    driver.receive(settings({ 4: V4, 6: V6 }));
    driver.receive(peer("calilate"));
    driver.apply();
    expect(kernel.taken()).toEqual([]);
    kernel.interfaces.add("calilate");
    expect([driver.touched("eth0"), driver.touched("calilate")]).toEqual([false, true]);
    driver.apply();
    expect(kernel.taken()).toEqual([`+calilate ${V4}`]);
    kernel.held.clear();
    driver.touched("calilate");
    driver.apply();
    expect(kernel.taken()).toEqual([`+calilate ${V4}`]);
    driver.receive({ kind: "bgp-settings-remove" });
    driver.apply();
    expect(kernel.taken()).toEqual([`-calilate ${V4}`]);
  });

  test("of others stay, and are not made twice", () => {
    const { driver, kernel } = world();
    kernel.foreign.add("10.0.0.1").add(V4);
    kernel.held.set("calia 10.0.0.1", { interfaceName: "calia", family: 4, address: "10.0.0.1" });
    kernel.held.set(`calia ${V4}`, { interfaceName: "calia", family: 4, address: V4 });
    driver.receive(settings({ 4: V4 }));
    driver.receive(peer("calia"));
    driver.apply();
    driver.receive({ kind: "bgp-settings-remove" });
    driver.apply();
    expect(kernel.taken()).toEqual([]);
  });

  test("that nobody has set are missed once", () => {
    const { driver, lines } = world();
    driver.receive(peer("calia"));
    driver.apply();
    driver.markForResync();
    driver.apply();
    expect(lines.filter((line) => line.includes("peering_address.missing"))).toHaveLength(1);
    expect(lines[0]).toContain("localWorkloadPeeringIPV4");
    driver.receive(settings({ 4: V4 }));
    driver.apply();
    driver.receive({ kind: "bgp-settings-remove" });
    driver.apply();
    expect(lines.filter((line) => line.includes("peering_address.missing"))).toHaveLength(2);
  });
});
