import type { Negotiated } from "../../src/fsm/negotiate.ts";

/** A plain IPv4 session with everything else off. */
export const negotiatedIpv4 = (change: Partial<Negotiated> = {}): Negotiated => ({
  remoteAs: 65002,
  remoteIdentifier: 2,
  internal: false,
  families: ["ipv4-unicast"],
  holdSeconds: 90,
  keepaliveSeconds: 30,
  fourOctetAs: true,
  maxMessage: 4096,
  addPathReceive: new Set(),
  addPathSend: new Set(),
  routeRefresh: true,
  enhancedRefresh: true,
  extendedNextHop: new Set(),
  longLived: new Map(),
  ...change,
});
