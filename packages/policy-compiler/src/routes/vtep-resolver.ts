/** A VTEP per node and family: it needs the node's tunnel address and the address its packets are sent to. */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";
import { formatAddress } from "@calico-ts/net";
import type { NodeFacts } from "../intake/facts.ts";
import { vtepMac } from "./vtep-mac.ts";

export function vtepMessages(node: string, facts: NodeFacts | undefined): DataplaneMessage[] {
  return ([4, 6] as const).map((family) => vtepMessage(node, family, facts));
}

function vtepMessage(node: string, family: Family, facts: NodeFacts | undefined): DataplaneMessage {
  const tunnel = facts?.vxlan[family];
  const address = facts?.addresses[family]?.address;
  if (tunnel === undefined || address === undefined) return { kind: "vtep-remove", node, family };
  return {
    kind: "vtep-update",
    vtep: {
      node,
      family,
      mac: tunnel.mac ?? vtepMac(node, family),
      tunnelAddress: tunnel.tunnelAddress,
      nodeAddress: formatAddress(address),
    },
  };
}
