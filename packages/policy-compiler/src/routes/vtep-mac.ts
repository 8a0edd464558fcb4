import type { Family } from "@calico-ts/net";
import { sha1Hex } from "@calico-ts/std";

/**
 * The MAC of a node's VXLAN device when the node's annotations do not say: the letter `f` (0x66, which makes it a locally
 * administered unicast address) and the first five bytes of the SHA-1 of the node's name. Every node works it out for every
 * other, so it is a wire format. The IPv6 device gets its own, from the name with `-v6` after it.
 */
export function vtepMac(node: string, family: Family): string {
  const hash = sha1Hex(family === 4 ? node : `${node}-v6`);
  const bytes = ["66", ...Array.from({ length: 5 }, (_, at) => hash.slice(at * 2, at * 2 + 2))];
  return bytes.join(":");
}
