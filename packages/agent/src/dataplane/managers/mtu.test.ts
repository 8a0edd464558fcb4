import { expect, test } from "vitest";
import { resolveConfig } from "../../config/resolve.ts";
import { detectHostMtu, podMtu, tunnelMtu } from "./mtu.ts";

const none = { ipip: false, vxlan: false, vxlanV6: false };
const { config } = resolveConfig({});

test("the smallest MTU of interfaces that match counts", () => {
  const links = [
    { name: "eth0", mtu: 1500 },
    { name: "ens5", mtu: 9001 },
    { name: "eth1", mtu: 1400 },
    { name: "lo", mtu: 65_536 },
    { name: "cali123", mtu: 500 },
  ];
  expect(detectHostMtu(links, config.mtuIfacePattern)).toBe(1400);
  expect(detectHostMtu([{ name: "lo", mtu: 65_536 }], config.mtuIfacePattern)).toBeUndefined();
});

test("pods' packets leave room for every encapsulation in use", () => {
  expect(podMtu(1500, none, config)).toBe(1500);
  expect(podMtu(1500, { ...none, ipip: true }, config)).toBe(1480);
  expect(podMtu(1500, { ...none, ipip: true, vxlan: true }, config)).toBe(1450);
  expect(podMtu(1500, { ...none, vxlan: true, vxlanV6: true }, config)).toBe(1430);
  expect(podMtu(1500, { ...none, vxlan: true }, { ...config, vxlanMTU: 1410 })).toBe(1410);
  // The cluster's network is another one than the interface with the smallest MTU.
  expect(podMtu(1500, { ...none, vxlan: true }, { ...config, vxlanMTU: 8950 })).toBe(8950);
  expect(podMtu(9001, { ...none, vxlan: true }, config)).toBe(8951);
  expect(tunnelMtu(1300, "vxlan", 4)).toBe(1280);
});
