import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { FakeNodeKernel } from "../../../testing/fake-node-kernel.ts";
import { TunnelDriver, type TunnelSpec } from "./tunnel-driver.ts";

const vxlan: TunnelSpec = {
  name: "vxlan.calico",
  mtu: 1450,
  address: "10.0.1.0",
  mac: "66:00:00:00:00:01",
  vxlan: { vni: 4096, port: 4789, local: "192.168.0.1", underlay: "eth0" },
};
const ipip: TunnelSpec = { name: "tunl0", mtu: 1480, address: "10.0.2.0" };

function world() {
  const kernel = new FakeNodeKernel();
  return { kernel, driver: new TunnelDriver({ kernel, log: silentLogger }) };
}

describe("tunnel driver", () => {
  test("makes the device, leaves it alone while it is right, repairs what can be changed in place", () => {
    const { driver, kernel } = world();
    driver.want(vxlan.name, vxlan);
    driver.apply();
    expect(kernel.tunnels.get(vxlan.name)).toEqual({ ...vxlan, address: undefined, addresses: ["10.0.1.0"], up: true });
    kernel.log.length = 0;
    driver.markForResync();
    driver.apply();
    expect(kernel.log).toEqual([]);

    kernel.setLink(vxlan.name, { mtu: 9000, up: false });
    kernel.addTunnelAddress(vxlan.name, "10.9.9.9");
    driver.touched(vxlan.name);
    driver.apply();
    expect(kernel.tunnels.get(vxlan.name)).toMatchObject({ mtu: 1450, up: true, addresses: ["10.0.1.0"] });
  });

  test("is made anew when the underlay or the identifier changes, or learning was switched on", () => {
    const { driver, kernel } = world();
    driver.want(vxlan.name, vxlan);
    driver.apply();
    kernel.log.length = 0;
    const moved = { ...vxlan, vxlan: { vni: 4096, port: 4789, local: "192.168.0.9", underlay: "eth0" } };
    driver.want(vxlan.name, moved);
    driver.apply();
    expect(kernel.log.slice(0, 2)).toEqual(["delete vxlan.calico", "create vxlan.calico"]);
    expect(kernel.tunnels.get(vxlan.name)?.vxlan?.local).toBe("192.168.0.9");
  });

  test("a leftover device goes; tunl0 cannot, it is switched off", () => {
    const { driver, kernel } = world();
    kernel.createTunnel(vxlan);
    kernel.createTunnel(ipip);
    kernel.addTunnelAddress("tunl0", "10.0.2.0");
    kernel.setLink("tunl0", { up: true });
    kernel.createTunnel({ ...vxlan, name: "flannel.1" });
    driver.apply();
    expect([...kernel.tunnels.keys()]).toEqual(["tunl0", "flannel.1"]);
    expect(kernel.tunnels.get("tunl0")).toMatchObject({ up: false, addresses: [] });
  });

  test("what the kernel cannot make is reported by name, does not fail, and is tried again at a refresh", () => {
    const { driver, kernel } = world();
    kernel.unsupported.add("tunl0");
    driver.want("tunl0", ipip);
    driver.want(vxlan.name, vxlan);
    driver.apply();
    expect([...driver.problems()]).toEqual([["tunl0", expect.stringContaining("cannot make tunl0")]]);
    expect(kernel.tunnels.has("vxlan.calico")).toBe(true);
    kernel.unsupported.clear();
    driver.markForResync();
    driver.apply();
    expect(driver.problems().size).toBe(0);
    expect(kernel.tunnels.get("tunl0")).toMatchObject({ up: true, mtu: 1480 });
  });
});
