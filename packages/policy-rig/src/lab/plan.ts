/**
 * Who is where in the pool of namespaces. Local pods have a namespace and an interface of their own on the node `n1`; remote pods and
 * every other address are one namespace, `outside`, behind the node's default route. A world may leave a local pod out:
 * then its interface is one that nobody knows.
 */
import { hostInterfaceName } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";

export interface Slot {
  /** `namespace/name`. */
  readonly pod: string;
  readonly v4: string;
  readonly v6: string;
}

export const NODE = "n1";
export const OTHER_NODE = "n2";

export const LOCAL: readonly Slot[] = [
  { pod: "a/p0", v4: "10.0.0.1", v6: "fd00::1" },
  { pod: "a/p1", v4: "10.0.0.2", v6: "fd00::2" },
  { pod: "b/p2", v4: "10.0.0.3", v6: "fd00::3" },
  { pod: "b/p3", v4: "10.0.1.1", v6: "fd00::1:1" },
  { pod: "c/p4", v4: "10.0.1.2", v6: "fd00::1:2" },
];

export const REMOTE: readonly Slot[] = [
  { pod: "a/r0", v4: "10.0.2.1", v6: "fd00::2:1" },
  { pod: "b/r1", v4: "10.0.2.2", v6: "fd00::2:2" },
  { pod: "c/r2", v4: "10.0.0.9", v6: "fd00::9" },
];

export const OUTSIDE: Readonly<Record<Family, readonly string[]>> = {
  4: ["1.2.3.4", "1.2.200.7", "9.9.9.9", "10.0.0.200", "10.0.3.3", "198.51.100.77"],
  6: ["2001:db8::1", "2001:db8:1::5", "fd00::99", "fd00::3:3"],
};

export const NODE_ADDRESS: Readonly<Record<Family, string>> = { 4: "192.0.2.1", 6: "2001:db8:ffff::1" };
/** `natOutgoingAddress` of some worlds. */
export const NAT_ADDRESS = "192.0.2.77";
export const NEIGHBOUR_ADDRESS: Readonly<Record<Family, string>> = { 4: "192.0.2.2", 6: "2001:db8:ffff::2" };

/** The node's interface to everybody who is not one of its pods. */
export const UPLINK = "eth0";

export const NAMESPACES = ["a", "b", "c"] as const;

export const addressOf = (slot: Slot, family: Family): string => (family === 4 ? slot.v4 : slot.v6);

export const slotOf = (pod: string): Slot | undefined => LOCAL.find((slot) => slot.pod === pod);

export function interfaceOf(slot: Slot): string {
  const [namespace = "", name = ""] = slot.pod.split("/");
  return hostInterfaceName(namespace, name);
}
