/**
 * `ipam check`: holds what blocks and handles say against the pods, nodes and services there are. Nothing is changed; the report (`-o`) is what
 * `ipam release --from-report` works from. Headings, order and counted lines are upstream's.
 */
import { blockProblems, DatastoreSource, type GcWorld, type Pool, readPools } from "@calico-ts/ipam";
import { type Node, nodeNetwork, type Service } from "@calico-ts/model";
import { containsAddress, formatAddress, formatPrefix, tryParseAddress } from "@calico-ts/net";
import { allocationsIn, type CheckedAllocation, examineAllocations, examineHandles } from "./check-findings.ts";
import { type CheckReport, clusterState, REPORT_VERSION } from "./check-report.ts";
import type { Session } from "./session.ts";

export interface CheckOptions {
  readonly showAllIps?: boolean;
  readonly showProblemIps?: boolean;
  readonly output?: string;
}

interface Facts {
  readonly world: GcWorld;
  readonly pools: readonly Pool[];
  readonly nodes: readonly Node[];
  readonly services: readonly Service[];
}

const MOST_NODES = 20;

export async function check(session: Session, options: CheckOptions): Promise<void> {
  const { out } = session;
  const all = options.showAllIps === true;
  const detail = all || options.showProblemIps === true;
  out("Checking IPAM for inconsistencies...\n\n");
  const cluster = await clusterState(session);
  const facts = await readFacts(session);
  const users = new Map<string, string[]>();
  const allocations = describeBlocks(session, facts, all);
  describePools(session, facts);
  describeUsers(session, { facts, users, all });
  describeNodes(session, allocations);

  out("Scanning for IPs that are allocated but not actually in use...\n");
  const checked = examineAllocations(facts.world, allocations, users);
  const leaked = checked.filter(({ coolingDown, inUse }) => !inUse && coolingDown !== true);
  if (detail) for (const { attrs, because, ip } of leaked) out(`  ${ip} leaked; attrs ${attrs}; ${because ?? ""}\n`);
  out(`Found ${leaked.length} IPs that are allocated in IPAM but not actually in use.\n`);
  const strangers = describeStrangers(session, { facts, users, allocations, detail });
  const handles = examineHandles(facts.world);
  out("Scanning for IPAM handles with no matching IPs...\n");
  if (all) for (const { ID } of handles.leaked) out(`  ${ID} doesn't have any active IPs.\n`);
  out(`Found ${handles.leaked.length} handles with no matching IPs (and ${handles.good} handles with matches).\n`);
  out("Scanning for IPs with missing handle...\n");
  if (detail) for (const handle of handles.missing) out(`  ${handle} is in use in a block but doesn't exist.\n`);
  out(`Found ${handles.missing.length} handles mentioned in blocks with no matching handle resource.\n`);
  if (detail) for (const { handle, why } of handles.wrong) out(`  ${handle}: ${why}\n`);
  if (handles.wrong.length > 0) out(`Found ${handles.wrong.length} handles that count wrongly.\n`);
  const invalid = describeInvalid(session, facts);
  const problems =
    leaked.length + strangers + handles.leaked.length + handles.missing.length + handles.wrong.length + invalid;
  out(`Check complete; found ${problems} problems.\n`);
  if (options.output !== undefined) writeReport(session, options.output, { cluster, checked, leaked: handles.leaked });
}

function writeReport(
  { out, writeFile }: Session,
  path: string,
  facts: {
    readonly cluster: Awaited<ReturnType<typeof clusterState>>;
    readonly checked: readonly CheckedAllocation[];
    readonly leaked: CheckReport["leakedHandles"];
  },
): void {
  const { checked, cluster, leaked } = facts;
  const allocations = Object.fromEntries(checked.map(({ attrs: _text, holder: _facts, ...one }) => [one.ip, [one]]));
  const report: CheckReport = {
    version: REPORT_VERSION,
    ...cluster,
    allocations,
    ...(leaked && { leakedHandles: leaked }),
  };
  writeFile(path, `${JSON.stringify(report, undefined, 2)}\n`);
  out(`Wrote the report to ${path}\n`);
}

async function readFacts({ client }: Session): Promise<Facts> {
  const source = new DatastoreSource(client);
  const world: GcWorld = { ...(await source.snapshot()), machines: await source.machines() };
  const [pools, nodes, services] = await Promise.all([readPools(client), client.list("Node"), client.list("Service")]);
  return { world, pools: pools.filter(({ enabled }) => enabled), nodes: nodes.items, services: services.items };
}

function describeBlocks({ out }: Session, { world }: Facts, all: boolean): CheckedAllocation[] {
  out(`Loading all IPAM blocks...\nFound ${world.blocks.length} IPAM blocks.\n`);
  const found: CheckedAllocation[] = [];
  for (const block of world.blocks) {
    out(` IPAM block ${block.spec.cidr} affinity=${block.spec.affinity ?? "<none>"}:\n`);
    const own = allocationsIn(block);
    if (all) for (const { attrs, ip } of own) out(`  ${ip} allocated; attrs ${attrs}\n`);
    found.push(...own);
  }
  out(`IPAM blocks record ${found.length} allocations.\n\n`);
  return found;
}

function describePools({ out }: Session, { pools }: Facts): void {
  out("Loading all IPAM pools...\n");
  for (const { prefix } of pools) out(`  ${formatPrefix(prefix)}\n`);
  out(`Found ${pools.length} active IP pools.\n\n`);
}

interface Work {
  readonly facts: Facts;
  /** Who uses each address, by their own account. */
  readonly users: Map<string, string[]>;
  readonly all: boolean;
}

/** Nodes, services and pods, each with the addresses they say they have. */
function describeUsers({ out }: Session, { all, facts, users }: Work): void {
  const note = (text: string | undefined, user: string): number => {
    const address = tryParseAddress(text ?? "");
    if (address === undefined) return 0;
    const ip = formatAddress(address);
    if (all) out(`  ${ip} belongs to ${user}\n`);
    users.set(ip, [...(users.get(ip) ?? []), user]);
    return 1;
  };
  const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
  out("Loading all nodes.\n");
  const tunnels = facts.nodes.flatMap((node) =>
    tunnelAddresses(node).map((text) => note(text, `Node(${node.metadata.name})`)),
  );
  out(`Found ${sum(tunnels)} node tunnel IPs.\n\n`);
  out("Loading all service load balancer IPs.\n");
  const balanced = facts.services.filter(({ spec }) => spec?.type === "LoadBalancer");
  for (const { metadata, status } of balanced) {
    for (const { ip } of status?.loadBalancer?.ingress ?? [])
      note(ip, `Service(${metadata.namespace ?? ""}/${metadata.name})`);
  }
  out(`Found ${balanced.length} service load balancer(s).\n\n`);
  out("Loading all workload endpoints.\n");
  const workloads = [...facts.world.pods].flatMap(([pod, { addresses, finished, hostNetwork }]) =>
    finished || hostNetwork ? [] : [...addresses].map((text) => note(text, `Workload(${pod})`)),
  );
  out(`Found ${sum(workloads)} workload IPs.\nWorkloads and nodes are using ${users.size} IPs.\n\n`);
}

function tunnelAddresses({ metadata }: Node): (string | undefined)[] {
  const network = nodeNetwork(metadata.annotations ?? {});
  return [
    network.ipv4IpipTunnelAddress,
    network.ipv4VxlanTunnelAddress,
    network.ipv6VxlanTunnelAddress,
    network.ipv4WireguardAddress,
    network.ipv6WireguardAddress,
  ];
}

function describeNodes({ out }: Session, allocations: readonly CheckedAllocation[]): void {
  out(`Loading all handles\nLooking for top (up to ${MOST_NODES}) nodes by allocations...\n`);
  const counts = new Map<string, number>();
  for (const { node = "" } of allocations) counts.set(node, (counts.get(node) ?? 0) + 1);
  const sorted = [...counts].toSorted(([, a], [, b]) => b - a);
  for (const [node, count] of sorted.slice(0, MOST_NODES)) out(`  ${node} has ${count} allocations\n`);
  const [most] = sorted;
  const median = sorted[Math.floor(sorted.length / 2)];
  if (most !== undefined && median !== undefined)
    out(`Node with most allocations has ${most[1]}; median is ${median[1]}\n`);
  out("\n");
}

/** Addresses that somebody uses and nobody assigned. How many. */
function describeStrangers(
  { out }: Session,
  {
    allocations,
    detail,
    facts,
    users,
  }: Omit<Work, "all"> & { readonly allocations: readonly CheckedAllocation[]; readonly detail: boolean },
): number {
  out("Scanning for IPs that are in use by a workload or node but not allocated in IPAM...\n");
  const assigned = new Set(allocations.map(({ ip }) => ip));
  let outside = 0;
  let inside = 0;
  for (const [ip, owners] of users) {
    if (detail && owners.length > 1) out(`  ${ip} has multiple owners.\n`);
    if (assigned.has(ip)) continue;
    const address = tryParseAddress(ip);
    const isInside = address !== undefined && facts.pools.some(({ prefix }) => containsAddress(prefix, address));
    if (isInside) inside++;
    else outside++;
    const what = isInside ? "and in active IPAM pool but has no IPAM allocation" : "is not in any active IP pool";
    if (detail) for (const owner of owners) out(`  ${ip} in use by ${owner} ${what}.\n`);
  }
  out(`Found ${outside} in-use IPs that are not in active IP pools.\n`);
  out(`Found ${inside} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.\n\n`);
  return outside + inside;
}

/** How many blocks are inconsistent in themselves. */
function describeInvalid({ out }: Session, { world }: Facts): number {
  out("Validating IPAMBlock structures...\n");
  let invalid = 0;
  for (const { spec } of world.blocks) {
    const [why] = blockProblems(spec);
    if (why === undefined) continue;
    invalid++;
    out(`  IPAMBlock ${spec.cidr} is invalid: ${why}\n`);
  }
  out(`Found ${invalid} invalid IPAMBlocks.\n`);
  return invalid;
}
