export type { ReleaseAffinityResult } from "./affinity-claims.ts";
export {
  addressOf,
  type Attribute,
  type Attributes,
  attributeOf,
  type Block,
  type BlockCounts,
  blockProblems,
  countBlock,
  handleCounts,
  type HostReserved,
  WINDOWS_RESERVED,
  handleOf,
  isCooling,
  isEmpty,
  newBlock,
  nothingReserved,
  ordinalOf,
  ordinalsByHandle,
  sequenceOf,
} from "./allocator/block.ts";
export {
  BlockDraft,
  type Cooldown,
  type Holder,
  type ReleaseOutcome,
  type ReleaseRequest,
} from "./allocator/block-draft.ts";
export {
  INSTANCE_UID,
  MACHINE_NAME,
  MACHINE_UID,
  machineHandle,
  matchesOwner,
  MIGRATION_UID,
  type OwnerChange,
  type OwnerCondition,
  type Owners,
} from "./allocator/machine.ts";
export {
  affinityName,
  blockName,
  handleName,
  hostnameHash,
  hostOwner,
  type Owner,
  ownerText,
  parseOwner,
} from "./allocator/names.ts";
export { type IntendedUse, type Pool, poolContaining, poolOf, qualifyPools, selectsNode } from "./allocator/pool.ts";
export { Reservations } from "./allocator/reservations.ts";
export type { AddressRequest } from "./assign-address.ts";
export type { Assigned, AssignOutcome, AssignRequest, HandleRecords } from "./assign-batch.ts";
export {
  type Allocation,
  type AllocationHolder,
  allocationsOf,
  nodeOf,
  whyNotOfMachine,
  whyNotOfPod,
} from "./gc/allocation.ts";
export { Collector, type CollectorOptions, DEFAULT_GRACE, type PassReport } from "./gc/collector.ts";
export { decide, type GcAction, type GcDecision, type GcGrace, type GcMemory, type GcTime } from "./gc/decide.ts";
export { hasMachine, isAbsent, Machines } from "./gc/machines.ts";
export { DatastoreSource, type GcSource, type GcWorld, podFacts, type PodFacts, podKey } from "./gc/world.ts";
export { type EndpointRequest, HostAllocator, type HostAllocatorOptions } from "./host-allocator.ts";
export { type AddressFacts, type EnsureBlockRequest, Ipam } from "./ipam.ts";
export type { OwnedAddress, OwnerRequest } from "./owner-changes.ts";
export type { AddressRelease, ReleaseReport } from "./release.ts";
export {
  DatastoreSettings,
  defaultIpamConfig,
  type IpamConfig,
  configOf,
  type IpamSettings,
  readPools,
  type SettingsSource,
} from "./settings.ts";
export { type BlockUtilization, poolUtilization, type PoolUtilization } from "./utilization.ts";
