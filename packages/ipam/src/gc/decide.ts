/**
 * What garbage collection does next: (what exists, what was seen before, time) → actions. Pure. The rules are upstream's:
 *
 * - An allocation of a pod that is not there is a suspect, and a leak when it has been one for the grace period; at once when its node
 *   is gone. Tunnel addresses are good as long as their node exists, or anything else that is valid is left of it.
 * - A virtual machine's address is a suspect when the machine does not exist, and a leak after the grace period, but never before five minutes: a machine
 *   that is made anew under its name finds it again. Where nothing is known about machines it stays.
 * - A handle is released as a whole or not at all: one valid address keeps the others.
 * - An empty block is given up when it was empty and unchanged twice in a row, and is not its node's last of that family.
 * - A node that is gone loses its affinities when nothing valid is left on it. Something unknown counts as valid.
 *
 * And ours, for what a crash between two writes leaves: handles that count wrongly, affinities half released, blocks whose owner has no affinity.
 * Each must be seen unchanged (same revision) for the grace period, because that is also how an operation in progress looks.
 *
 * Grace is measured on the monotonic clock: an operator who sets the wall clock makes nothing a leak.
 */
import type { BlockAffinity, IPAMBlock, IPAMHandle } from "@calico-ts/model";
import { handleCounts, isEmpty, tryBlockPrefix } from "../allocator/block.ts";
import { BlockDraft } from "../allocator/block-draft.ts";
import { handleName, type Owner, ownerText, parseOwner } from "../allocator/names.ts";
import { type Allocation, allocationKey, allocationsOf, nodeOf, whyNotOfMachine, whyNotOfPod } from "./allocation.ts";
import { type GcWorld, podKey } from "./world.ts";

export interface GcGrace {
  /** How long a pod's address may look leaked; 0: such addresses are never released while their node exists. */
  readonly leakMs: number;
  /** How long a record may look left behind by a crash. Longer than any operation takes. */
  readonly recordMs: number;
}

export interface GcTime {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

export type GcAction =
  | {
      readonly kind: "release";
      readonly handle: string;
      readonly allocations: readonly Allocation[];
      readonly because: string;
    }
  | { readonly kind: "release-block"; readonly owner: Owner; readonly block: string }
  | { readonly kind: "release-node"; readonly node: string }
  | { readonly kind: "finish-release"; readonly owner: Owner; readonly block: string }
  | { readonly kind: "restore-affinity"; readonly owner: Owner; readonly block: string }
  | { readonly kind: "mend-handle"; readonly handle: string; readonly name: string; readonly revision: string }
  | { readonly kind: "free-cooled"; readonly block: IPAMBlock };

/** Suspicions and since when; every entry not renewed by a pass is dropped. */
export type GcMemory = ReadonlyMap<string, { readonly sinceMs: number; readonly times: number }>;

export interface GcDecision {
  readonly memory: GcMemory;
  readonly actions: readonly GcAction[];
  /** What looks leaked, and has not for long enough. */
  readonly candidates: readonly Allocation[];
}

export function decide(world: GcWorld, before: GcMemory, time: GcTime, grace: GcGrace): GcDecision {
  const suspects = new Suspects(before, time.monotonicMs);
  const allocations = world.blocks.flatMap(allocationsOf);
  const { releases, busyNodes, candidates } = releaseLeaks(world, allocations, suspects, grace);
  return {
    actions: [
      ...releases,
      ...releaseNodes(world, busyNodes),
      ...releaseEmptyBlocks(world, suspects),
      ...mendAffinities(world, suspects, grace),
      ...mendHandles(world, suspects, grace),
      ...freeCooled(world, time.wallMs),
    ],
    memory: suspects.next,
    candidates,
  };
}

class Suspects {
  readonly next = new Map<string, { readonly sinceMs: number; readonly times: number }>();
  readonly #before: GcMemory;
  readonly #nowMs: number;

  constructor(before: GcMemory, nowMs: number) {
    this.#before = before;
    this.#nowMs = nowMs;
  }

  /** Notes it; says for how long and how often it has been seen. */
  see(key: string): { readonly forMs: number; readonly times: number } {
    const known = this.#before.get(key);
    const entry = { sinceMs: known?.sinceMs ?? this.#nowMs, times: (known?.times ?? 0) + 1 };
    this.next.set(key, entry);
    return { forMs: this.#nowMs - entry.sinceMs, times: entry.times };
  }

  /** Seen before, and for this long. */
  confirmed(key: string, graceMs: number): boolean {
    const { forMs, times } = this.see(key);
    return times > 1 && forMs >= graceMs;
  }
}

function releaseLeaks(
  world: GcWorld,
  allocations: readonly Allocation[],
  suspects: Suspects,
  grace: GcGrace,
): { readonly releases: GcAction[]; readonly busyNodes: Set<string>; readonly candidates: Allocation[] } {
  const busyNodes = new Set<string>();
  const candidates: Allocation[] = [];
  const releases: GcAction[] = [];
  const releaseOf = (judge: (allocation: Allocation) => Suspicion | undefined, some: readonly Allocation[]): void => {
    const byHandle = new Map<string, { allocation: Allocation; leaked: string | undefined }[]>();
    for (const allocation of some) {
      const suspicion = judge(allocation);
      const leaked = suspicion?.certain === true ? suspicion.why : undefined;
      if (suspicion?.certain === false) candidates.push(allocation);
      byHandle.set(allocation.handle, [...(byHandle.get(allocation.handle) ?? []), { allocation, leaked }]);
    }
    for (const [handle, entries] of byHandle) {
      const [first] = entries;
      const held = entries.map(({ allocation }) => allocation);
      if (first?.leaked !== undefined && entries.every(({ leaked }) => leaked !== undefined)) {
        releases.push({ kind: "release", handle, allocations: held, because: first.leaked });
      } else for (const node of held.map(nodeOf)) if (node !== undefined) busyNodes.add(node);
    }
  };
  const isTunnel = ({ holder }: Allocation): boolean => holder.kind === "tunnel";
  releaseOf(
    (allocation) => whyLeaked(world, allocation, suspects, grace),
    allocations.filter((allocation) => !isTunnel(allocation)),
  );
  const used = new Set(busyNodes);
  releaseOf((allocation) => whyTunnelLeaked(world, allocation, used), allocations.filter(isTunnel));
  return { releases, busyNodes, candidates };
}

interface Suspicion {
  readonly why: string;
  /** By now. */
  readonly certain: boolean;
}

/** Why the allocation looks like a leak, and whether it is one; undefined when somebody has it. */
function whyLeaked(world: GcWorld, allocation: Allocation, suspects: Suspects, grace: GcGrace): Suspicion | undefined {
  const { holder } = allocation;
  if (holder.kind === "machine") return whyMachineLeaked(world, allocation, suspects, grace);
  if (holder.kind !== "pod") return undefined;
  const pod = world.pods.get(podKey(holder.namespace, holder.name));
  const why = whyNotOfPod(allocation, holder.node, pod);
  if (why === undefined) return undefined;
  if (!world.nodes.has(holder.node)) return { why: `${why}, and node ${holder.node} is gone`, certain: true };
  const { forMs } = suspects.see(`leak ${allocationKey(allocation)}`);
  return { why: `${why} for ${Math.round(forMs / 1000)} s`, certain: grace.leakMs > 0 && forMs >= grace.leakMs };
}

function whyTunnelLeaked(
  world: GcWorld,
  { holder }: Allocation,
  usedNodes: ReadonlySet<string>,
): Suspicion | undefined {
  if (holder.kind !== "tunnel" || world.nodes.has(holder.node) || usedNodes.has(holder.node)) return undefined;
  return { why: `node ${holder.node} is gone`, certain: true };
}

/** A machine may be made anew under its name: it finds its address again for so long. */
const MACHINE_GRACE_MS = 5 * 60_000;

function whyMachineLeaked(
  world: GcWorld,
  allocation: Allocation,
  suspects: Suspects,
  grace: GcGrace,
): Suspicion | undefined {
  const why = whyNotOfMachine(allocation, world.machines, world.pods);
  if (why === undefined) return undefined;
  const node = nodeOf(allocation);
  if (node !== undefined && !world.nodes.has(node)) return { why: `${why}, and node ${node} is gone`, certain: true };
  const { forMs } = suspects.see(`leak ${allocationKey(allocation)}`);
  const certain = forMs >= Math.max(MACHINE_GRACE_MS, grace.leakMs);
  return { why: `${why} for ${Math.round(forMs / 1000)} s`, certain };
}

function releaseNodes(world: GcWorld, busyNodes: ReadonlySet<string>): GcAction[] {
  const owners = new Set<string>();
  for (const { spec } of world.affinities) if ((spec.type ?? "host") === "host") owners.add(spec.node);
  for (const { spec } of world.blocks) {
    const owner = parseOwner(spec.affinity);
    if (owner?.type === "host") owners.add(owner.name);
  }
  return [...owners]
    .filter((node) => !world.nodes.has(node) && !busyNodes.has(node))
    .map((node) => ({ kind: "release-node", node }) as const);
}

function releaseEmptyBlocks(world: GcWorld, suspects: Suspects): GcAction[] {
  const actions: GcAction[] = [];
  const kept = new Map<string, number>();
  const familyOf = (block: IPAMBlock): string =>
    `${block.spec.affinity ?? ""} ${tryBlockPrefix(block.spec)?.family ?? 0}`;
  for (const block of world.blocks) kept.set(familyOf(block), (kept.get(familyOf(block)) ?? 0) + 1);
  for (const block of world.blocks) {
    const owner = parseOwner(block.spec.affinity);
    if (owner?.type !== "host" || !world.nodes.has(owner.name) || !isEmpty(block.spec)) continue;
    const { times } = suspects.see(`empty ${block.spec.cidr} ${block.metadata.resourceVersion ?? ""}`);
    const left = kept.get(familyOf(block)) ?? 0;
    if (times < 2 || left <= 1) continue;
    kept.set(familyOf(block), left - 1);
    actions.push({ kind: "release-block", owner, block: block.spec.cidr });
  }
  return actions;
}

/** Nodes that are gone are dealt with by releaseNodes; claims in progress (pending) are completed by their node. */
function mendAffinities(world: GcWorld, suspects: Suspects, grace: GcGrace): GcAction[] {
  const actions: GcAction[] = [];
  const owned = new Set<string>();
  for (const affinity of world.affinities) {
    const owner = affinityOwner(affinity);
    const block = affinity.spec.cidr;
    owned.add(`${ownerText(owner)} ${block}`);
    if (owner.type === "host" && !world.nodes.has(owner.name)) continue;
    const key = `affinity ${affinity.metadata.name} ${affinity.metadata.resourceVersion ?? ""}`;
    if (affinity.spec.state === "pendingDeletion" && suspects.confirmed(key, grace.recordMs)) {
      actions.push({ kind: "finish-release", owner, block });
    }
  }
  for (const { metadata, spec } of world.blocks) {
    const owner = parseOwner(spec.affinity);
    if (owner === undefined || owned.has(`${ownerText(owner)} ${spec.cidr}`)) continue;
    if (owner.type === "host" && !world.nodes.has(owner.name)) continue;
    const key = `ownerless ${spec.cidr} ${metadata.resourceVersion ?? ""}`;
    if (suspects.confirmed(key, grace.recordMs)) actions.push({ kind: "restore-affinity", owner, block: spec.cidr });
  }
  return actions;
}

const affinityOwner = ({ spec }: BlockAffinity): Owner => ({
  type: spec.type === "virtual" ? "virtual" : "host",
  name: spec.node,
});

function mendHandles(world: GcWorld, suspects: Suspects, grace: GcGrace): GcAction[] {
  const records = new Map<string, IPAMHandle>(
    world.handles.map((handle) => [handleName(handle.spec.handleID), handle]),
  );
  const actual = new Map<string, { readonly handle: string; readonly counts: Record<string, number> }>();
  for (const { spec } of world.blocks) {
    for (const [handle, held] of handleCounts(spec)) {
      const name = handleName(handle);
      if (!isRecorded(records.get(name), spec.cidr, held)) continue;
      const entry = actual.get(name) ?? { handle, counts: {} };
      entry.counts[spec.cidr] = held.count;
      actual.set(name, entry);
    }
  }
  const actions: GcAction[] = [];
  for (const name of new Set([...records.keys(), ...actual.keys()])) {
    const record = records.get(name);
    const { handle = record?.spec.handleID ?? name, counts = {} } = actual.get(name) ?? {};
    if (sameCounts(record?.spec.block ?? {}, counts)) continue;
    const revision = record?.metadata.resourceVersion ?? "";
    const seen = `${name} ${revision} ${JSON.stringify(counts)}`;
    if (suspects.confirmed(`handle ${seen}`, grace.recordMs))
      actions.push({ kind: "mend-handle", handle, name: record?.metadata.name ?? name, revision });
  }
  return actions;
}

/** Whether the handle's record has to speak of the block: it does already, or nobody would find the addresses without it. */
export const isRecorded = (
  record: IPAMHandle | undefined,
  cidr: string,
  { needsRecord }: { readonly needsRecord: boolean },
): boolean => needsRecord || record?.spec.block[cidr] !== undefined;

export function sameCounts(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

/** Addresses that have cooled down in blocks nobody writes to. */
function freeCooled(world: GcWorld, wallMs: number): GcAction[] {
  const cooldown = { nowMs: wallMs, seconds: world.config.cooldownSeconds };
  return world.blocks.flatMap((block) => {
    if (tryBlockPrefix(block.spec) === undefined) return [];
    const collects = new BlockDraft(block.spec).collectCooled(cooldown) > 0;
    return collects ? [{ kind: "free-cooled", block } as const] : [];
  });
}
