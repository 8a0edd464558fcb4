/**
 * From a well-formed topology file to a plan, or to everything that is wrong with it.
 *
 * Order: names, then ranges (of subnets, pools, services), then joints (which subnet, which router), then addresses. A step
 * leaves out what an earlier one refused, so one mistake is one message.
 */
import type { IpAddress, Prefix } from "@calico-ts/net";
import {
  addressBits,
  containsAddress,
  formatAddress,
  formatPrefix,
  overlaps,
  tryParseAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import type { FieldPath } from "../problems.ts";
import { AddressBook } from "./address-book.ts";
import type { BgpResult } from "./check-bgp.ts";
import { planBgp, ZONE_LABEL } from "./check-bgp.ts";
import type { Leg, NodePlan, PoolPlan, RouterPlan, SubnetPlan, TopologyPlan } from "./plan.ts";
import { routesFrom, unreachableSubnets } from "./routes.ts";
import type { TopologyFile, TopologyNode } from "./topology-schema.ts";

export interface FieldProblem {
  readonly path: FieldPath;
  readonly message: string;
}

/** Everything but what is copied from the file as it is. */
export type CheckedPlan = Omit<TopologyPlan, "resources">;

export type CheckResult =
  | { readonly ok: true; readonly plan: CheckedPlan }
  | { readonly ok: false; readonly problems: readonly FieldProblem[] };

const DEFAULT_SERVICE_CIDR = "10.96.0.0/16";
const DEFAULT_BLOCK_SIZE = { 4: 26, 6: 122 } as const;
const BLOCK_SIZES = { 4: [20, 32], 6: [116, 128] } as const;

export function checkTopology(file: TopologyFile): CheckResult {
  const problems: FieldProblem[] = [];
  const refuse = (path: FieldPath, message: string): void => {
    problems.push({ path, message });
  };
  const ranges: NamedRange[] = [];
  const subnets = readSubnets(file, refuse, ranges);
  const nodes = nameNodes(file, refuse);
  const serviceCidrs = readServiceCidrs(file, refuse, ranges);
  const pools = readPools(file, nodes.length, refuse, ranges);
  refuseOverlaps(ranges, refuse);
  refuseDuplicates(
    file.routers?.map((router) => router.name) ?? [],
    (index) => ["routers", index, "name"],
    "router",
    refuse,
  );
  const subnetNames = new Set(file.subnets.map((subnet) => subnet.name));
  checkJoints(file, subnetNames, refuse);
  checkNodeSubnets(file, subnetNames, refuse);
  if (problems.length > 0) {
    // Addresses can still be told apart from what failed so far, as long as the subnets are readable.
    if (subnets.length === file.subnets.length) assignAddresses(file, nodes, subnets, refuse);
    return { ok: false, problems };
  }
  const placed = assignAddresses(file, nodes, subnets, refuse);
  if (problems.length > 0 || placed === undefined) return { ok: false, problems };
  const bgp = planBgp(
    {
      file,
      subnets,
      routers: placed.routers,
      nodes: placed.nodes.map(({ node, leg }) => ({
        ...leg,
        name: node.name,
        labels: labelsOf(node, leg),
        as: node.entry.as,
      })),
    },
    refuse,
  );
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, plan: assemble(placed, bgp, { subnets, pools, serviceCidrs }) };
}

const labelsOf = (node: NamedNode, leg: Leg): Readonly<Record<string, string>> => ({
  [ZONE_LABEL]: leg.subnet,
  ...node.entry.labels,
});

/** Where Calico keeps what a node's own BGP speaker is told; `nodeAnnotationKey` of the model is the same on the other side. */
function annotationsOf(node: NamedNode): Readonly<Record<string, string>> {
  const { as, clusterId } = node.entry;
  return {
    ...(as === undefined ? {} : { "projectcalico.org/ASNumber": String(as) }),
    ...(clusterId === undefined ? {} : { "projectcalico.org/RouteReflectorClusterID": clusterId }),
  };
}

type Refuse = (path: FieldPath, message: string) => void;

interface NamedRange {
  readonly what: string;
  readonly path: FieldPath;
  readonly prefix: Prefix;
}

interface NamedNode {
  readonly name: string;
  readonly entry: TopologyNode;
  readonly path: FieldPath;
  readonly subnet: string | undefined;
}

/** One or two prefixes from text; refuses what is none, two of one family, and set host bits. */
function readPrefixes(text: string, path: FieldPath, refuse: Refuse): Prefix[] {
  const found: Prefix[] = [];
  for (const part of text.split(",").map((piece) => piece.trim())) {
    const prefix = part.includes("/") ? tryParsePrefix(part) : undefined;
    if (prefix === undefined) {
      const masked = part.includes("/") ? tryParsePrefix(part, "mask") : undefined;
      refuse(
        path,
        masked === undefined
          ? `${JSON.stringify(part)} is no prefix; write it like 10.0.0.0/24`
          : `${part} has bits set beyond its length; did you mean ${formatPrefix(masked)}?`,
      );
    } else if (found.some(({ family }) => family === prefix.family)) {
      refuse(path, `has two IPv${prefix.family} prefixes; at most one of each family`);
    } else found.push(prefix);
  }
  return found.toSorted((a, b) => a.family - b.family);
}

function readSubnets(file: TopologyFile, refuse: Refuse, ranges: NamedRange[]): SubnetPlan[] {
  refuseDuplicates(
    file.subnets.map((subnet) => subnet.name),
    (index) => ["subnets", index, "name"],
    "subnet",
    refuse,
  );
  const plans: SubnetPlan[] = [];
  const families = new Set<string>();
  for (const [index, subnet] of file.subnets.entries()) {
    const path = ["subnets", index, "cidr"];
    const prefixes = readPrefixes(subnet.cidr, path, refuse);
    if (prefixes.length === 0) continue;
    for (const prefix of prefixes) {
      if (addressBits(prefix.family) - prefix.length < 3)
        refuse(
          path,
          `${formatPrefix(prefix)} is too small for a subnet; use /${addressBits(prefix.family) - 3} or larger`,
        );
      ranges.push({ what: `subnet ${subnet.name}`, path, prefix });
    }
    families.add(prefixes.map(({ family }) => family).join("+"));
    plans.push({ name: subnet.name, prefixes, mtu: subnet.mtu ?? 1500 });
  }
  if (families.size > 1) refuse(["subnets"], "all subnets must have the same IP families");
  return plans;
}

function readServiceCidrs(file: TopologyFile, refuse: Refuse, ranges: NamedRange[]): Prefix[] {
  const path = ["cluster", "serviceCidr"];
  const prefixes = readPrefixes(file.cluster?.serviceCidr ?? DEFAULT_SERVICE_CIDR, path, refuse);
  for (const prefix of prefixes) {
    const hostBits = addressBits(prefix.family) - prefix.length;
    if (hostBits < 4 || hostBits > 20)
      refuse(path, `${formatPrefix(prefix)}: a service range has between 16 and 1048576 addresses`);
    ranges.push({ what: "the service range", path, prefix });
  }
  return prefixes;
}

function readPools(file: TopologyFile, nodeCount: number, refuse: Refuse, ranges: NamedRange[]): PoolPlan[] {
  refuseDuplicates(
    file.pools.map((pool) => pool.name),
    (index) => ["pools", index, "name"],
    "pool",
    refuse,
  );
  const plans: PoolPlan[] = [];
  const blocks = new Map<4 | 6, bigint>();
  for (const [index, pool] of file.pools.entries()) {
    const path = ["pools", index];
    const [cidr] = readPrefixes(pool.cidr, [...path, "cidr"], refuse);
    if (cidr === undefined) continue;
    if (pool.cidr.includes(","))
      refuse([...path, "cidr"], "a pool has one prefix; write a second pool for the other family");
    const [least, most] = BLOCK_SIZES[cidr.family];
    const blockSize = pool.blockSize ?? DEFAULT_BLOCK_SIZE[cidr.family];
    const encapsulation = pool.encapsulation ?? "none";
    ranges.push({ what: `pool ${pool.name}`, path: [...path, "cidr"], prefix: cidr });
    if (blockSize < least || blockSize > most) {
      refuse([...path, "blockSize"], `${blockSize} is no block size for IPv${cidr.family}; use ${least} to ${most}`);
    } else if (cidr.length > blockSize) {
      refuse(
        [...path, "cidr"],
        `${formatPrefix(cidr)} is smaller than one block (/${blockSize}); widen the pool or set a blockSize of at least ${cidr.length}`,
      );
    } else if (pool.disabled !== true) {
      blocks.set(cidr.family, (blocks.get(cidr.family) ?? 0n) + (1n << BigInt(blockSize - cidr.length)));
    }
    if (encapsulation === "none" && pool.mode !== undefined)
      refuse(
        [...path, "mode"],
        "says when to encapsulate, but encapsulation is none; leave it out or choose ipip or vxlan",
      );
    if (encapsulation === "ipip" && cidr.family === 6)
      refuse([...path, "encapsulation"], "ipip carries IPv4 only; use vxlan or none");
    plans.push({
      name: pool.name,
      cidr,
      blockSize,
      encapsulation,
      mode: pool.mode ?? "always",
      natOutgoing: pool.natOutgoing ?? true,
      nodeSelector: pool.nodeSelector ?? "all()",
      disabled: pool.disabled ?? false,
    });
  }
  for (const [family, count] of blocks) {
    if (count < BigInt(nodeCount)) {
      const last = plans.findLastIndex((pool) => pool.cidr.family === family && !pool.disabled);
      refuse(
        ["pools", last, "cidr"],
        `the IPv${family} pools hold ${count} block${count === 1n ? "" : "s"} for ${nodeCount} nodes, and each node needs one; widen the pool or make blocks smaller`,
      );
    }
  }
  if (plans.length === file.pools.length && blocks.size === 0 && plans.every((pool) => pool.disabled))
    refuse(["pools"], "every pool is disabled, so no pod could get an address");
  return plans;
}

function refuseOverlaps(ranges: readonly NamedRange[], refuse: Refuse): void {
  for (const [index, range] of ranges.entries()) {
    for (const earlier of ranges.slice(0, index)) {
      if (overlaps(range.prefix, earlier.prefix)) {
        refuse(range.path, `${formatPrefix(range.prefix)} overlaps ${earlier.what} (${formatPrefix(earlier.prefix)})`);
      }
    }
  }
}

function refuseDuplicates(
  names: readonly string[],
  path: (index: number) => FieldPath,
  what: string,
  refuse: Refuse,
): void {
  const seen = new Set<string>();
  for (const [index, name] of names.entries()) {
    if (seen.has(name)) refuse(path(index), `a second ${what} named ${JSON.stringify(name)}; names are unique`);
    seen.add(name);
  }
}

function checkJoints(file: TopologyFile, subnetNames: ReadonlySet<string>, refuse: Refuse): void {
  for (const [index, router] of (file.routers ?? []).entries()) {
    for (const [at, subnet] of router.subnets.entries()) {
      const path = ["routers", index, "subnets", at];
      if (!subnetNames.has(subnet)) refuse(path, unknownSubnet(subnet, subnetNames));
      else if (router.subnets.indexOf(subnet) !== at) refuse(path, `subnet ${subnet} is listed twice`);
    }
  }
  const home = file.cluster?.controlPlaneSubnet ?? file.subnets[0]?.name ?? "";
  if (!subnetNames.has(home)) return refuse(["cluster", "controlPlaneSubnet"], unknownSubnet(home, subnetNames));
  for (const name of unreachableSubnets(home, [...subnetNames], file.routers ?? [])) {
    const index = file.subnets.findIndex((subnet) => subnet.name === name);
    refuse(
      ["subnets", index, "name"],
      `no router joins subnet ${name} to ${home}, where the API server is; add it to a router's subnets`,
    );
  }
}

function checkNodeSubnets(file: TopologyFile, subnetNames: ReadonlySet<string>, refuse: Refuse): void {
  for (const [index, node] of file.nodes.entries()) {
    if (node.subnet === undefined) {
      if (subnetNames.size > 1) refuse(["nodes", index], `needs a subnet, since there are ${subnetNames.size}`);
    } else if (!subnetNames.has(node.subnet))
      refuse(["nodes", index, "subnet"], unknownSubnet(node.subnet, subnetNames));
  }
}

const unknownSubnet = (name: string, known: ReadonlySet<string>): string =>
  `there is no subnet named ${JSON.stringify(name)}; there are: ${[...known].join(", ")}`;

function nameNodes(file: TopologyFile, refuse: Refuse): NamedNode[] {
  const nodes: NamedNode[] = [];
  const onlySubnet = file.subnets.length === 1 ? file.subnets[0]?.name : undefined;
  const counters = new Map<string, number>();
  for (const [index, entry] of file.nodes.entries()) {
    const path = ["nodes", index];
    const subnet = entry.subnet ?? onlySubnet;
    if ((entry.name === undefined) === (entry.count === undefined)) {
      refuse(
        path,
        entry.name === undefined
          ? "needs a name, or a count of like nodes"
          : "has both a name and a count; write one of them",
      );
      continue;
    }
    if (entry.name !== undefined) {
      if (entry.prefix !== undefined) refuse([...path, "prefix"], "goes with count; a named node has none");
      nodes.push({ name: entry.name, entry, path: [...path, "name"], subnet });
      continue;
    }
    if (entry.address !== undefined)
      refuse([...path, "address"], "goes with a named node; counted nodes get the next free addresses");
    const prefix = entry.prefix ?? "node-";
    for (let left = entry.count ?? 0; left > 0; left--) {
      const number = (counters.get(prefix) ?? 0) + 1;
      counters.set(prefix, number);
      nodes.push({ name: `${prefix}${number}`, entry, path: [...path, "count"], subnet });
    }
  }
  refuseDuplicates(
    nodes.map((node) => node.name),
    (index) => nodes[index]?.path ?? [],
    "node",
    refuse,
  );
  if (nodes.length > 500) refuse(["nodes"], `${nodes.length} nodes; this simulator holds up to 500`);
  return nodes;
}

interface Placed {
  readonly routers: readonly { readonly name: string; readonly legs: readonly Leg[] }[];
  readonly controlPlane: Leg;
  readonly nodes: readonly { readonly node: NamedNode; readonly leg: Leg }[];
}

/** Addresses people wrote come first; the rest is filled in around them: routers, control plane, then nodes from .11. */
function assignAddresses(
  file: TopologyFile,
  nodes: readonly NamedNode[],
  subnets: readonly SubnetPlan[],
  refuse: Refuse,
): Placed | undefined {
  const books = new Map(subnets.map((subnet) => [subnet.name, new AddressBook(subnet)]));
  const home = file.cluster?.controlPlaneSubnet ?? file.subnets[0]?.name ?? "";
  const written = (text: string, path: FieldPath, subnet: string, owner: string): IpAddress[] => {
    const found: IpAddress[] = [];
    for (const part of text.split(",").map((piece) => piece.trim())) {
      const address = tryParseAddress(part);
      const book = books.get(subnet);
      if (address === undefined) refuse(path, `${JSON.stringify(part)} is no IP address`);
      else if (book !== undefined) {
        const why = outside(book, address) ?? book.claim(address, owner);
        if (why === undefined) found.push(address);
        else refuse(path, why);
      }
    }
    return found;
  };
  const controlPlaneText = file.cluster?.controlPlaneAddress;
  const controlPlaneFixed =
    controlPlaneText === undefined
      ? undefined
      : written(controlPlaneText, ["cluster", "controlPlaneAddress"], home, "the API server");
  const fixed = new Map<NamedNode, IpAddress[]>();
  for (const node of nodes) {
    const { address } = node.entry;
    if (address === undefined || node.entry.name === undefined) continue;
    fixed.set(node, written(address, [...node.path.slice(0, 2), "address"], node.subnet ?? "", `node ${node.name}`));
  }

  const fill = (subnet: string, owner: string, has: readonly IpAddress[], from: "start" | "nodes"): Leg | undefined => {
    const book = books.get(subnet);
    const addresses = book?.fill(owner, has, from);
    return addresses === undefined ? undefined : { subnet, addresses };
  };
  const full = new Set<string>();
  const orFull = (leg: Leg | undefined, subnet: string): Leg => {
    if (leg === undefined) full.add(subnet);
    return leg ?? { subnet, addresses: [] };
  };
  const routers = (file.routers ?? []).map((router) => ({
    name: router.name,
    legs: router.subnets.map((subnet) => orFull(fill(subnet, `router ${router.name}`, [], "start"), subnet)),
  }));
  const controlPlane = orFull(fill(home, "the API server", controlPlaneFixed ?? [], "start"), home);
  const placed = nodes.map((node) => {
    const subnet = node.subnet ?? "";
    return { node, leg: orFull(fill(subnet, `node ${node.name}`, fixed.get(node) ?? [], "nodes"), subnet) };
  });
  for (const name of full) {
    const index = file.subnets.findIndex((subnet) => subnet.name === name);
    if (index >= 0)
      refuse(["subnets", index, "cidr"], `subnet ${name} has too few addresses for its routers and nodes; widen it`);
  }
  return full.size > 0 ? undefined : { routers, controlPlane, nodes: placed };
}

function outside(book: AddressBook, address: IpAddress): string | undefined {
  const { name, prefixes } = book.subnet;
  if (prefixes.some((prefix) => containsAddress(prefix, address))) return undefined;
  return `${formatAddress(address)} lies outside subnet ${name} (${prefixes.map(formatPrefix).join(", ")})`;
}

function assemble(
  placed: Placed,
  bgp: BgpResult,
  rest: Pick<TopologyPlan, "subnets" | "pools" | "serviceCidrs">,
): CheckedPlan {
  const fabric = { subnets: rest.subnets, routers: placed.routers, controlPlane: placed.controlPlane };
  const routers = placed.routers.map(
    (router): RouterPlan => ({
      ...router,
      routes: routesFrom(router.legs, "router", fabric),
      bgp: bgp.speakers.get(router.name),
    }),
  );
  const nodes = placed.nodes.map(
    ({ node, leg }): NodePlan => ({
      ...leg,
      name: node.name,
      routes: routesFrom([leg], "endpoint", fabric),
      labels: labelsOf(node, leg),
      annotations: annotationsOf(node),
      taints: node.entry.taints ?? [],
    }),
  );
  const controlPlane = { ...placed.controlPlane, routes: routesFrom([placed.controlPlane], "control-plane", fabric) };
  return { ...rest, bgp: bgp.cluster, routers, controlPlane, nodes };
}
