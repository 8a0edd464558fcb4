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
import { MACHINE_NAME, machineNetworks, type OwnerCondition, type Owners, ownersOf } from "../allocator/machine.ts";
import { parseOwner } from "../allocator/names.ts";
import type { Machines } from "./machines.ts";
import { type PodFacts, podKey } from "./world.ts";

export interface Allocation {
  readonly address: IpAddress;
  readonly block: string;
  /** Sequence numbers begin with the time: those of a block that is deleted and made again might be the same. */
  readonly blockUid: string | undefined;
  readonly handle: string;
  readonly sequenceNumber: number;
  readonly holder: AllocationHolder;
  /** A machine's: the owners it was seen with. Another one comes without a new sequence number. */
  readonly condition?: OwnerCondition;
}

export type AllocationHolder =
  | { readonly kind: "pod"; readonly namespace: string; readonly name: string; readonly node: string }
  /** A virtual machine's: its owners come and go. */
  | { readonly kind: "machine"; readonly handle: string; readonly owners: readonly PodOwner[] }
  | { readonly kind: "tunnel"; readonly node: string }
  | { readonly kind: "load-balancer" }
  /** Held back on Windows nodes; no use by itself. */
  | { readonly kind: "windows-reserved" }
  | { readonly kind: "unknown"; readonly node: string | undefined };

/** A pod that owns a machine's address, or will when a migration is over. */
export interface PodOwner {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Its virtual machine. */
  readonly machine: string | undefined;
}

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
    const owners = ownersOf(attribute);
    const machine = machineHolder(handle, owners);
    found.push({
      address: addressOf(prefix, ordinal),
      block: block.cidr,
      blockUid: metadata.uid,
      handle,
      sequenceNumber: sequenceOf(block, ordinal),
      holder: machine ?? holderOf(handle, attribute.secondary ?? {}, block.affinity),
      ...(machine && { condition: { active: owners.active ?? null, alternate: owners.alternate ?? null } }),
    });
  }
  return found;
}

/** By what its owners say; by the handle while it has none. */
function machineHolder(handle: string, { active, alternate }: Owners): AllocationHolder | undefined {
  const owners = [active, alternate].filter((owner) => owner !== undefined);
  const named = owners.some((owner) => owner[MACHINE_NAME] !== undefined);
  if (!named && (owners.length > 0 || machineNetworks(handle).length === 0)) return undefined;
  return {
    kind: "machine",
    handle,
    owners: owners.flatMap(({ namespace, node, pod, [MACHINE_NAME]: machine }) =>
      namespace === undefined || node === undefined || pod === undefined
        ? []
        : [{ namespace, name: pod, node, machine }],
    ),
  };
}

function holderOf(handle: string, attributes: Attributes, affinity: string | undefined): AllocationHolder {
  const { node, pod, namespace, type } = attributes;
  if (handle.toLowerCase() === WINDOWS_RESERVED_HANDLE) return { kind: "windows-reserved" };
  if (type?.toLowerCase() === "loadbalancer" || parseOwner(affinity)?.type === "virtual")
    return { kind: "load-balancer" };
  if (type !== undefined && TUNNEL_TYPES.has(type) && node !== undefined) return { kind: "tunnel", node };
  if (pod !== undefined && namespace !== undefined && node !== undefined && handle !== "") {
    return { kind: "pod", namespace, name: pod, node };
  }
  return { kind: "unknown", node };
}

/**
 * Why no virtual machine has this address, or undefined when one has it, or nobody knows. A pod of the machine that still runs keeps it too. An instance that
 * belongs to a machine that is gone does not: it is about to go.
 */
export function whyNotOfMachine(
  { holder }: Allocation,
  machines: Machines | undefined,
  pods: ReadonlyMap<string, PodFacts>,
): string | undefined {
  if (holder.kind !== "machine" || machines === undefined) return undefined;
  if (machines.handles(machineNetworks(holder.handle)).has(holder.handle)) return undefined;
  const runs = holder.owners.some(({ machine, name, namespace, node }) => {
    if (machine !== undefined && machines.has(namespace, machine)) return true;
    const pod = pods.get(podKey(namespace, name));
    return pod !== undefined && pod.node === node && !pod.finished;
  });
  return runs ? undefined : "its virtual machine does not exist";
}

/** Why a pod does not have this address, or undefined when it has, or may be about to. */
export function whyNotOfPod(allocation: Allocation, node: string, pod: PodFacts | undefined): string | undefined {
  if (pod === undefined) return "its pod does not exist";
  if (pod.node !== node) return `its pod runs on ${pod.node ?? "no node"}`;
  if (pod.finished) return "its pod has ended";
  if (pod.addresses.size === 0 || pod.addresses.has(formatAddress(allocation.address))) return undefined;
  return "its pod has another address";
}

/** Where it is in use; of a machine's, where the active owner is. */
export const nodeOf = ({ holder }: Allocation): string | undefined =>
  holder.kind === "machine" ? holder.owners[0]?.node : "node" in holder ? holder.node : undefined;

/** The same assignment, not only the same address. */
export const allocationKey = ({ address, handle, sequenceNumber }: Allocation): string =>
  `${formatAddress(address)} ${sequenceNumber} ${handle}`;
