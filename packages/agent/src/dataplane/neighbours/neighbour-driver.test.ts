import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { FakeNodeKernel } from "../../../testing/fake-node-kernel.ts";
import { NeighbourDriver, type NeighbourSpec } from "./neighbour-driver.ts";

const DEVICE = "vxlan.calico";
const vtep = (n: number, node = `192.168.0.${n}`): NeighbourSpec[] => [
  { kind: "neighbour", interfaceName: DEVICE, address: `10.0.${n}.0`, mac: `66:00:00:00:00:0${n}` },
  { kind: "fdb", interfaceName: DEVICE, mac: `66:00:00:00:00:0${n}`, destination: node },
];

describe("neighbour driver", () => {
  test("writes what is missing, replaces what changed, removes what is ours and unwanted", () => {
    const kernel = new FakeNodeKernel();
    const driver = new NeighbourDriver({ kernel, devices: [DEVICE], log: silentLogger });
    kernel.up.add(DEVICE);
    for (const stale of vtep(7)) kernel.putNeighbour(stale);
    kernel.neighbours.set("multicast", { kind: "fdb", interfaceName: DEVICE, mac: "33:33:00:00:00:01" });
    kernel.neighbours.set("transient", {
      kind: "neighbour",
      interfaceName: DEVICE,
      address: "10.0.9.9",
      permanent: false,
    });
    driver.want(DEVICE, [...vtep(2), ...vtep(3)]);
    driver.apply();
    expect([...kernel.neighbours.keys()].toSorted()).toEqual([
      "fdb vxlan.calico 66:00:00:00:00:02",
      "fdb vxlan.calico 66:00:00:00:00:03",
      "multicast",
      "neighbour vxlan.calico 10.0.2.0",
      "neighbour vxlan.calico 10.0.3.0",
      "transient",
    ]);

    kernel.log.length = 0;
    driver.markForResync();
    driver.apply();
    expect(kernel.log).toEqual([]);

    driver.want(DEVICE, [...vtep(2, "192.168.0.22"), ...vtep(3)]);
    driver.apply();
    expect(kernel.log).toEqual(["delete fdb vxlan.calico 66:00:00:00:00:02", "put fdb vxlan.calico 66:00:00:00:00:02"]);
  });

  test("waits for the device", () => {
    const kernel = new FakeNodeKernel();
    const driver = new NeighbourDriver({ kernel, devices: [DEVICE], log: silentLogger });
    driver.want(DEVICE, vtep(2));
    driver.apply();
    expect(kernel.neighbours.size).toBe(0);
    kernel.up.add(DEVICE);
    driver.apply();
    expect(kernel.neighbours.size).toBe(2);
  });
});
