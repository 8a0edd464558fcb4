/**
 * One address in use, and whether what it was given to is still there. Pure.
 *
 * Never on doubt: an allocation that names nothing we know how to look up is left alone for ever.
 */
import type { IPAMBlock } from "@calico-ts/model";
import { formatAddress, type IpAddress } from "@calico-ts/net";
import {
  addressOf,
  attributeOf,
  type Attributes,
  handleOf,
  isCooling,
  sequenceOf,
  tryBlockPrefix,
  WINDOWS_RESERVED_HANDLE,
} from "../allocator/block.ts";
import { parseOwner } from "../allocator/names.ts";
import type { PodFacts } from "./world.ts";

export interface Allocation {
  readonly address: IpAddress;
  readonly block: string;
  /** Sequence numbers begin with the time: those of a block that is deleted and made again might be the same. */
  readonly blockUid: string | undefined;
  readonly handle: string;
  readonly sequenceNumber: number;
  readonly holder: AllocationHolder;
}

export type AllocationHolder =
  | { readonly kind: "pod"; readonly namespace: string; readonly name: string; readonly node: string }
  | { readonly kind: "tunnel"; readonly node: string }
  | { readonly kind: "load-balancer" }
  /** Held back on Windows nodes; no use by itself. */
  | { readonly kind: "windows-reserved" }
  | { readonly kind: "unknown"; readonly node: string | undefined };

const TUNNEL_TYPES: ReadonlySet<string> = new Set([
  "ipipTunnelAddress",
  "vxlanTunnelAddress",
  "vxlanV6TunnelAddress",
  "wireguardTunnelAddress",
  "wireguardV6TunnelAddress",
]);

/** Everything in use in a block; what cools down is in use by nobody. */
export function allocationsOf({ metadata, spec: block }: IPAMBlock): Allocation[] {
  const prefix = tryBlockPrefix(block);
  if (prefix === undefined) return [];
  const found: Allocation[] = [];
  for (const ordinal of block.allocations.keys()) {
    const attribute = attributeOf(block, ordinal);
    if (attribute === undefined || isCooling(attribute)) continue;
    const handle = handleOf(attribute) ?? "";
    found.push({
      address: addressOf(prefix, ordinal),
      block: block.cidr,
      blockUid: metadata.uid,
      handle,
      sequenceNumber: sequenceOf(block, ordinal),
      holder: holderOf(handle, attribute.secondary ?? {}, block.affinity),
    });
  }
  return found;
}

function holderOf(handle: string, attributes: Attributes, affinity: string | undefined): AllocationHolder {
  const { node, pod, namespace, type } = attributes;
  if (handle.toLowerCase() === WINDOWS_RESERVED_HANDLE) return { kind: "windows-reserved" };
  if (type === "loadBalancer" || parseOwner(affinity)?.type === "virtual") return { kind: "load-balancer" };
  if (type !== undefined && TUNNEL_TYPES.has(type) && node !== undefined) return { kind: "tunnel", node };
  if (pod !== undefined && namespace !== undefined && node !== undefined && handle !== "") {
    return { kind: "pod", namespace, name: pod, node };
  }
  return { kind: "unknown", node };
}

/** Why a pod does not have this address, or undefined when it has, or may be about to. */
export function whyNotOfPod(allocation: Allocation, node: string, pod: PodFacts | undefined): string | undefined {
  if (pod === undefined) return "its pod does not exist";
  if (pod.node !== node) return `its pod runs on ${pod.node ?? "no node"}`;
  if (pod.finished) return "its pod has ended";
  if (pod.addresses.size === 0 || pod.addresses.has(formatAddress(allocation.address))) return undefined;
  return "its pod has another address";
}

export const nodeOf = ({ holder }: Allocation): string | undefined => ("node" in holder ? holder.node : undefined);

/** The same assignment, not only the same address. */
export const allocationKey = ({ address, handle, sequenceNumber }: Allocation): string =>
  `${formatAddress(address)} ${sequenceNumber} ${handle}`;
