/**
 * The order in which a pass changes the kernel. Order is a safety property here, so it is a list with reasons; the
 * apply loop runs it top to bottom. A phase whose `needs` failed in this pass, or still waits for its next attempt, is left
 * out; what it had to do stays dirty in its driver.
 */
export type PhaseName =
  | "settle"
  | "links"
  | "rules"
  | "withdraw-routes"
  | "conntrack"
  | "sysctls"
  | "bandwidth"
  | "peering-addresses"
  | "workload-routes"
  | "neighbours"
  | "cluster-routes"
  | "mtu-file";

export interface PhaseOrder {
  readonly name: PhaseName;
  readonly because: string;
  readonly needs: readonly PhaseName[];
}

export const APPLY_PHASES: readonly PhaseOrder[] = [
  { name: "settle", because: "messages become wishes of the drivers; nothing below sees half a batch", needs: [] },
  { name: "links", because: "rules, neighbours and routes name the tunnel devices", needs: [] },
  {
    name: "rules",
    because: "an endpoint stays closed until its chains exist, and then its link gets the group that leads to them",
    needs: [],
  },
  {
    name: "peering-addresses",
    because: "with an interface's last IPv4 address the kernel removes its routes, which the phases below put back",
    needs: [],
  },
  {
    name: "withdraw-routes",
    because: "an address that moves must leave its old interface before its connections are forgotten",
    needs: [],
  },
  {
    name: "conntrack",
    because: "connections of an address's last owner must not be 'established' for its next one",
    needs: ["withdraw-routes"],
  },
  {
    name: "sysctls",
    because: "forwarding, and proxy ARP for the pod's first packet, come before its route",
    needs: [],
  },
  { name: "bandwidth", because: "a pod's limits hold from its first packet", needs: [] },
  {
    name: "workload-routes",
    because: "from here packets reach the pod: its policy, and clean connections, come first",
    needs: ["rules", "conntrack"],
  },
  { name: "neighbours", because: "a route through a VTEP needs its MAC and its node's address", needs: ["links"] },
  {
    name: "cluster-routes",
    because: "last: they lead to the devices and neighbours above; a broken tunnel must not hold up local pods",
    needs: ["links", "neighbours"],
  },
  { name: "mtu-file", because: "only tells the CNI plugin what was found", needs: [] },
];
