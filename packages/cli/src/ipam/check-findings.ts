/** What is wrong with allocations and handles. Pure: (records, users) → findings. */
import {
  addressOf,
  type Allocation,
  allocationsOf,
  attributeOf,
  type GcWorld,
  handleCounts,
  handleName,
  handleOf,
  isCooling,
  parseOwner,
  podKey,
  sequenceOf,
  whyNotOfMachine,
  whyNotOfPod,
} from "@calico-ts/ipam";
import type { IPAMBlock } from "@calico-ts/model";
import { formatAddress, tryParsePrefix } from "@calico-ts/net";
import type { ReportedAllocation, ReportedHandle } from "./check-report.ts";

export interface CheckedAllocation extends ReportedAllocation {
  /** For people: handle and attributes. */
  readonly attrs: string;
  /** undefined: it cools down. */
  readonly holder: Allocation | undefined;
}

/** Every address that a block does not list as free. */
export function allocationsIn(block: IPAMBlock): CheckedAllocation[] {
  const { spec } = block;
  const prefix = tryParsePrefix(spec.cidr);
  if (prefix === undefined) return [];
  const holders = new Map(allocationsOf(block).map((one) => [formatAddress(one.address), one]));
  const owner = parseOwner(spec.affinity);
  const host = owner?.type === "host" ? owner.name : "";
  return [...spec.allocations.keys()].flatMap((ordinal): CheckedAllocation[] => {
    if (spec.allocations[ordinal] === null) return [];
    const attribute = attributeOf(spec, ordinal);
    const handle = attribute === undefined ? undefined : handleOf(attribute);
    const { namespace, node = host, pod, timestamp, type } = attribute?.secondary ?? {};
    const ip = formatAddress(addressOf(prefix, ordinal));
    const holder = holders.get(ip);
    return [
      {
        ip,
        handle,
        sequenceNumber: sequenceOf(spec, ordinal),
        pod,
        namespace,
        node,
        type,
        creationTimestamp: timestamp,
        inUse: false,
        borrowed: node === host ? undefined : true,
        coolingDown: attribute !== undefined && isCooling(attribute) ? true : undefined,
        owners: [],
        blockUid: block.metadata.uid,
        condition: holder?.condition,
        attrs: attribute === undefined ? "<missing>" : attributesText(handle, attribute),
        holder,
      },
    ];
  });
}

type Attribute = NonNullable<ReturnType<typeof attributeOf>>;

function attributesText(handle: string | undefined, { alternateOwnerAttrs, secondary }: Attribute): string {
  const text = `Main:${handle ?? "<none>"} Extra:${pairs(secondary)}`;
  return alternateOwnerAttrs === undefined ? text : `${text} Alternate:${pairs(alternateOwnerAttrs)}`;
}

const pairs = (attributes: Readonly<Record<string, string>> = {}): string =>
  Object.entries(attributes)
    .map(([name, value]) => `${name}=${value}`)
    .toSorted()
    .join(",");

/** Says of each who uses it, or why nobody does. What a user claims is used, whatever the record says. */
export function examineAllocations(
  world: GcWorld,
  allocations: readonly CheckedAllocation[],
  users: ReadonlyMap<string, readonly string[]>,
): CheckedAllocation[] {
  return allocations.map((allocation) => {
    const claimed = users.get(allocation.ip) ?? [];
    const { because, owner } = judge(world, allocation);
    const owners = claimed.length > 0 || owner === undefined ? claimed : [owner];
    return owners.length > 0 ? { ...allocation, owners, inUse: true } : { ...allocation, because };
  });
}

function judge(
  world: GcWorld,
  { holder: allocation }: CheckedAllocation,
): { readonly owner?: string; readonly because?: string } {
  if (allocation === undefined) return { because: "it cools down" };
  const { holder } = allocation;
  switch (holder.kind) {
    case "pod": {
      const key = podKey(holder.namespace, holder.name);
      const why = whyNotOfPod(allocation, holder.node, world.pods.get(key));
      return why === undefined ? { owner: `Workload(${key})` } : { because: `${key}: ${why}` };
    }
    case "machine": {
      const because = whyNotOfMachine(allocation, world.machines, world.pods);
      return because === undefined ? { owner: `VirtualMachine(${holder.handle})` } : { because };
    }
    case "tunnel":
      return world.nodes.has(holder.node)
        ? { because: `node ${holder.node} does not have it as a tunnel address` }
        : { because: `node ${holder.node} does not exist` };
    case "load-balancer":
      return { because: "no service has it" };
    case "windows-reserved":
      return { owner: "Reserved for Windows" };
    case "unknown":
      return { because: "nobody who is known has it" };
  }
}

export interface HandleFindings {
  readonly good: number;
  /** Records of handles that have no address. */
  readonly leaked: readonly ReportedHandle[];
  /** Handles that nobody would find the addresses of. */
  readonly missing: readonly string[];
  readonly wrong: readonly { readonly handle: string; readonly why: string }[];
}

export function examineHandles(world: GcWorld): HandleFindings {
  const held = new Map<string, Map<string, { readonly count: number; readonly needsRecord: boolean }>>();
  for (const { spec } of world.blocks) {
    for (const [handle, counts] of handleCounts(spec)) {
      const name = handleName(handle);
      held.set(name, (held.get(name) ?? new Map()).set(spec.cidr, counts));
    }
  }
  const leaked: ReportedHandle[] = [];
  const wrong: { handle: string; why: string }[] = [];
  const records = new Map(world.handles.map((record) => [handleName(record.spec.handleID), record]));
  for (const [name, { metadata, spec }] of records) {
    const own = held.get(name);
    if (own === undefined) {
      leaked.push({ ID: spec.handleID, UID: metadata.uid ?? null, Revision: metadata.resourceVersion ?? "" });
      continue;
    }
    for (const [cidr, said] of Object.entries(spec.block)) {
      const count = own.get(cidr)?.count ?? 0;
      if (said !== count)
        wrong.push({ handle: spec.handleID, why: `counts ${said} addresses in ${cidr}, which has ${count}` });
    }
    for (const [cidr, { needsRecord }] of own) {
      if (needsRecord && spec.block[cidr] === undefined)
        wrong.push({ handle: spec.handleID, why: `has addresses in ${cidr}, which its record does not name` });
    }
  }
  const missing = [...held].flatMap(([name, own]) =>
    !records.has(name) && [...own.values()].some(({ needsRecord }) => needsRecord) ? [name] : [],
  );
  return { good: records.size - leaked.length, leaked, missing, wrong };
}
