/** What address management writes: blocks, who owns them, who holds addresses, and its settings. */
import { bool, integer, list, mapOf, object, opt, set, stringMap, text, word } from "../schema/builders.ts";
import type { CalicoResource } from "../schema/declare.ts";
import { calicoKind, column } from "../schema/declare.ts";
import { Type } from "typebox";

const allocationAttribute = object({
  handle_id: opt(text({ description: "The handle that holds the address." })),
  secondary: opt(stringMap({ description: "Who owns the address: pod, namespace, node, …" })),
  alternateOwnerAttrs: opt(stringMap({ description: "A second owner, while a virtual machine moves." })),
  releasedAt: opt(text({ format: "date-time", description: "When the address was released, while it cools down." })),
});

const blockSpec = object({
  cidr: text({ format: "cidr", description: "The addresses of the block." }),
  affinity: opt(
    text({ pattern: "^(host|virtual):[a-zA-Z0-9\\.\\-_]+$", description: "The owner: host:<node> or virtual:<name>." }),
  ),
  affinityClaimTime: opt(text({ format: "date-time", description: "When the owner claimed the block." })),
  allocations: list(Type.Unsafe<number | null>({ type: "integer", nullable: true }), {
    description: "One entry per address: null when free, else an index into attributes.",
  }),
  unallocated: list(integer(), { description: "Free ordinals, the longest free first." }),
  attributes: list(allocationAttribute, { description: "What is known about allocations." }),
  sequenceNumber: opt(
    integer({
      format: "int64",
      default: 0,
      description: "Counts changes of the block, against acting on an old view.",
    }),
  ),
  sequenceNumberForAllocation: opt(
    mapOf(integer({ format: "int64" }), { description: "The sequence number at which an ordinal was allocated." }),
  ),
  deleted: opt(bool({ description: "The block is being deleted; nobody may use it." })),
  strictAffinity: bool({ description: "Deprecated; the cluster-wide setting counts." }),
});

export type IPAMBlock = CalicoResource<"IPAMBlock", typeof blockSpec>;

export const ipamBlock = calicoKind({
  kind: "IPAMBlock",
  plural: "ipamblocks",
  description: "A block of addresses and what each of them is used for. Written by address management only.",
  spec: blockSpec,
  printerColumns: [
    column("CIDR", "string", ".spec.cidr", "The addresses of the block"),
    column("Affinity", "string", ".spec.affinity", "The owner of the block"),
    column("ClaimTime", "date", ".spec.affinityClaimTime", "When the owner claimed it"),
  ],
});

const handleSpec = object({
  handleID: text({ description: "The handle's name as its owner gave it." }),
  block: mapOf(integer(), { description: "Number of addresses held, by block." }),
  deleted: opt(bool({ description: "The handle is being deleted." })),
});

export type IPAMHandle = CalicoResource<"IPAMHandle", typeof handleSpec>;

export const ipamHandle = calicoKind({
  kind: "IPAMHandle",
  plural: "ipamhandles",
  description: "Who holds addresses in which blocks. Written by address management only.",
  spec: handleSpec,
  printerColumns: [column("ID", "string", ".spec.handleID", "The handle")],
});

const affinitySpec = object({
  cidr: text({ format: "cidr", description: "The block." }),
  node: text({ description: "The owner's name." }),
  state: word(["", "confirmed", "pending", "pendingDeletion"], {
    description: "How far claiming or releasing has come.",
  }),
  type: opt(text({ description: "host or virtual." })),
  deleted: bool({ default: false, description: "The affinity is being deleted." }),
});

export type BlockAffinity = CalicoResource<"BlockAffinity", typeof affinitySpec>;

export const blockAffinity = calicoKind({
  kind: "BlockAffinity",
  plural: "blockaffinities",
  shortNames: ["affinity", "affinities"],
  description: "Which node owns a block. Written by address management only.",
  spec: affinitySpec,
  printerColumns: [
    column("CIDR", "string", ".spec.cidr", "The block"),
    column("Node", "string", ".spec.node", "The owner"),
    column("Type", "string", ".spec.type", "The kind of owner"),
  ],
});

const configurationSpec = object({
  strictAffinity: bool({
    default: false,
    description: "A node takes addresses only from blocks it owns, never from another node's.",
  }),
  autoAllocateBlocks: bool({ default: true, description: "Nodes claim new blocks when theirs are full." }),
  maxBlocksPerHost: opt(
    integer({
      format: "int32",
      minimum: 0,
      maximum: 1_000_000,
      default: 0,
      description: "Most blocks one node may own; 0 stands for 20.",
    }),
  ),
  kubeVirtVMAddressPersistence: opt(
    word(["Enabled", "Disabled"], { description: "A virtual machine keeps its address. Default: Enabled." }),
  ),
  ipCooldownSeconds: opt(
    integer({
      format: "int32",
      minimum: 0,
      maximum: 1200,
      description: "How long a released address waits before it is used again. Default: 0.",
    }),
  ),
});

export type IPAMConfiguration = CalicoResource<"IPAMConfiguration", typeof configurationSpec>;

export const ipamConfiguration = calicoKind({
  kind: "IPAMConfiguration",
  plural: "ipamconfigurations",
  shortNames: ["ipamconfig", "ipamconfigs"],
  description: "Settings of address management. There is one, named default.",
  spec: configurationSpec,
  printerColumns: [
    column("StrictAffinity", "boolean", ".spec.strictAffinity", "Whether borrowing addresses is forbidden"),
    column("MaxBlocksPerHost", "integer", ".spec.maxBlocksPerHost", "Most blocks one node may own"),
    column("AutoAllocateBlocks", "boolean", ".spec.autoAllocateBlocks", "Whether nodes claim new blocks"),
  ],
});

const reservationSpec = object({
  reservedCIDRs: opt(set(text({ format: "cidr" }), { description: "Addresses never given out automatically." })),
});

export type IPReservation = CalicoResource<"IPReservation", typeof reservationSpec>;

export const ipReservation = calicoKind({
  kind: "IPReservation",
  plural: "ipreservations",
  description: "Addresses that are in pools but not to be given out.",
  spec: reservationSpec,
});
