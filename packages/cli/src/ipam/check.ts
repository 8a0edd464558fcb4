/**
 * `ipam check`: holds what blocks and handles say against the pods and nodes there are. Nothing is changed; the report (`-o`) is what
 * `ipam release --from-report` works from.
 */
import {
  allocationsOf,
  blockProblems,
  DatastoreSource,
  type GcWorld,
  handleCounts,
  handleName,
  type OwnerCondition,
  podKey,
  whyNotOfMachine,
  whyNotOfPod,
} from "@calico-ts/ipam";
import { containsAddress, formatAddress, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { hasCode } from "@calico-ts/std";
import type { Session } from "./session.ts";

export interface CheckOptions {
  readonly showAllIps?: boolean;
  readonly showProblemIps?: boolean;
  readonly output?: string;
}

export interface LeakedAddress {
  readonly address: string;
  readonly handle: string;
  readonly sequenceNumber: number;
  readonly blockUid?: string | undefined;
  readonly block: string;
  readonly because: string;
  /** Of a virtual machine's address: released only while it has these owners. */
  readonly condition?: OwnerCondition | undefined;
}

interface HandleCount {
  readonly count: number;
  /** False when the holder's own node owns the block, and finds the address there. */
  readonly needsRecord: boolean;
}

export interface CheckReport {
  readonly version: 1;
  readonly clusterInformationRevision: string;
  readonly datastoreReady: boolean;
  readonly createdAt: string;
  readonly allocations: number;
  readonly leaked: readonly LeakedAddress[];
  readonly usedButNotAssigned: readonly { readonly address: string; readonly pod: string }[];
  readonly handles: readonly { readonly handle: string; readonly why: string }[];
  readonly blocks: readonly { readonly block: string; readonly why: string }[];
}

export async function check(session: Session, options: CheckOptions): Promise<void> {
  const { out } = session;
  out("Checking IPAM for inconsistencies...\n\n");
  const source = new DatastoreSource(session.client);
  const world: GcWorld = { ...(await source.snapshot()), machines: await source.machines() };
  const cluster = await clusterState(session);
  out(`Found ${world.blocks.length} IPAM blocks.\n`);
  out(`Found ${world.handles.length} handles, ${world.nodes.size} nodes and ${world.pods.size} pods.\n`);
  const report: CheckReport = {
    version: 1,
    ...cluster,
    createdAt: new Date(session.clock.now()).toISOString(),
    ...examine(world),
  };
  if (options.showAllIps === true) {
    for (const block of world.blocks) {
      for (const { address, handle } of allocationsOf(block)) out(`  ${formatAddress(address)} in use: ${handle}\n`);
    }
  }
  describe(session, report, options);
  if (options.output !== undefined) {
    session.writeFile(options.output, `${JSON.stringify(report, undefined, 2)}\n`);
    out(`Wrote the report to ${options.output}\n`);
  }
  const problems = countProblems(report);
  out(`Check complete; found ${problems} problems.\n`);
}

const countProblems = ({ leaked, usedButNotAssigned, handles, blocks }: CheckReport): number =>
  leaked.length + usedButNotAssigned.length + handles.length + blocks.length;

function describe({ out }: Session, report: CheckReport, { showAllIps, showProblemIps }: CheckOptions): void {
  const detail = showAllIps === true || showProblemIps === true;
  out(`Found ${report.allocations} IPs in use.\n`);
  out(`Found ${report.leaked.length} IPs that are allocated in IPAM but not actually in use.\n`);
  if (detail) for (const { address, handle, because } of report.leaked) out(`  ${address} (${handle}): ${because}\n`);
  out(`Found ${report.usedButNotAssigned.length} in-use IPs that are not allocated in IPAM.\n`);
  for (const { address, pod } of report.usedButNotAssigned) out(`  ${address} is used by pod ${pod}\n`);
  out(`Found ${report.handles.length} handles that count wrongly.\n`);
  if (detail) for (const { handle, why } of report.handles) out(`  ${handle}: ${why}\n`);
  if (report.blocks.length > 0) out(`Found ${report.blocks.length} inconsistent blocks.\n`);
  for (const { block, why } of report.blocks) out(`  ${block}: ${why}\n`);
}

function examine(
  world: GcWorld,
): Pick<CheckReport, "allocations" | "leaked" | "usedButNotAssigned" | "handles" | "blocks"> {
  const leaked: LeakedAddress[] = [];
  const assigned = new Set<string>();
  const actual = new Map<string, Map<string, HandleCount>>();
  const prefixes = world.blocks.flatMap(({ spec }) => tryParsePrefix(spec.cidr) ?? []);
  for (const block of world.blocks) {
    for (const [handle, held] of handleCounts(block.spec)) {
      const counts = actual.get(handleName(handle)) ?? new Map<string, HandleCount>();
      actual.set(handleName(handle), counts.set(block.spec.cidr, held));
    }
    for (const allocation of allocationsOf(block)) {
      const address = formatAddress(allocation.address);
      assigned.add(address);
      const { condition, holder, handle, sequenceNumber, blockUid } = allocation;
      let because: string | undefined;
      if (holder.kind === "tunnel" && !world.nodes.has(holder.node)) because = `node ${holder.node} does not exist`;
      if (holder.kind === "machine") because = whyNotOfMachine(allocation, world.machines, world.pods);
      if (holder.kind === "pod") {
        because = whyNotOfPod(allocation, holder.node, world.pods.get(podKey(holder.namespace, holder.name)));
        if (because !== undefined) because = `${holder.namespace}/${holder.name}: ${because}`;
      }
      if (because !== undefined)
        leaked.push({ address, handle, sequenceNumber, blockUid, block: block.spec.cidr, because, condition });
    }
  }
  const usedButNotAssigned = [...world.pods].flatMap(([pod, { addresses, finished }]) =>
    finished
      ? []
      : [...addresses]
          .filter((text) => {
            const address = tryParseAddress(text);
            return (
              address !== undefined &&
              !assigned.has(text) &&
              prefixes.some((prefix) => containsAddress(prefix, address))
            );
          })
          .map((address) => ({ address, pod })),
  );
  return {
    allocations: assigned.size,
    leaked,
    usedButNotAssigned,
    handles: handleProblems(world, actual),
    blocks: world.blocks.flatMap(({ spec }) => blockProblems(spec).map((why) => ({ block: spec.cidr, why }))),
  };
}

function handleProblems(
  world: GcWorld,
  actual: ReadonlyMap<string, ReadonlyMap<string, HandleCount>>,
): { readonly handle: string; readonly why: string }[] {
  const problems: { handle: string; why: string }[] = [];
  const records = new Map(world.handles.map(({ spec }) => [handleName(spec.handleID), spec.block]));
  for (const { spec } of world.handles) {
    const counts = actual.get(handleName(spec.handleID));
    for (const [cidr, said] of Object.entries(spec.block)) {
      const held = counts?.get(cidr)?.count ?? 0;
      if (said !== held)
        problems.push({ handle: spec.handleID, why: `counts ${said} addresses in ${cidr}, which has ${held}` });
    }
  }
  for (const [name, counts] of actual) {
    for (const [cidr, { needsRecord }] of counts) {
      if (needsRecord && records.get(name)?.[cidr] === undefined)
        problems.push({ handle: name, why: `has addresses in ${cidr}, which no record of it names` });
    }
  }
  return problems;
}

/** What tells whether a report still describes this datastore. */
export async function clusterState({ client }: Pick<Session, "client">): Promise<{
  readonly clusterInformationRevision: string;
  readonly datastoreReady: boolean;
}> {
  try {
    const { metadata, spec } = await client.get("ClusterInformation", { name: "default" });
    return {
      clusterInformationRevision: metadata.resourceVersion ?? "",
      datastoreReady: spec.datastoreReady !== false,
    };
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    return { clusterInformationRevision: "", datastoreReady: true };
  }
}
