/**
 * Which addresses a Service of type LoadBalancer should have. Pure: (service, what it holds, pools, mode) → what to release and what to assign.
 *
 * A service is ours when its class is `calico` or (where all services are served) none; where only those that ask are served, when an annotation, the class or
 * spec.loadBalancerIP asks. What it may hold follows from what it asks for: particular addresses, particular pools, or any pool for load balancers that gives out
 * addresses by itself. One address of each of its families.
 */
import type { Pool } from "@calico-ts/ipam";
import { poolContaining } from "@calico-ts/ipam";
import type { Service } from "@calico-ts/model";
import {
  type Family,
  formatAddress,
  type IpAddress,
  sameAddress,
  tryParseAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import { sha256Base64Url } from "@calico-ts/std";

export type AssignMode = "AllServices" | "RequestedServicesOnly";

const PREFIX = "projectcalico.org/";
const ADDRESSES = `${PREFIX}loadBalancerIPs`;
const POOLS: Readonly<Record<Family, string>> = { 4: `${PREFIX}ipv4pools`, 6: `${PREFIX}ipv6pools` };
const OUR_CLASS = "calico";
const LONGEST_HANDLE = 253;

/** Upstream's: `lb-` and the SHA-256 of name, namespace and uid, without what names of records may not have. */
export function loadBalancerHandle({ metadata }: Service): string {
  const { name, namespace = "", uid = "" } = metadata;
  const hash = sha256Base64Url(`${name}-${namespace}-${uid}`.toLowerCase()).replaceAll(/[-_.]/g, "");
  return `lb-${hash}`.slice(0, LONGEST_HANDLE);
}

export function isManaged({ metadata, spec = {} }: Service, mode: AssignMode): boolean {
  if (spec.type !== "LoadBalancer") return false;
  const serviceClass = spec.loadBalancerClass ?? "";
  if (serviceClass !== "" && serviceClass !== OUR_CLASS) return false;
  if (mode === "AllServices" || serviceClass === OUR_CLASS) return true;
  const { annotations = {} } = metadata;
  const asks = [ADDRESSES, POOLS[4], POOLS[6]].some((key) => (annotations[key] ?? "") !== "");
  return asks || (spec.loadBalancerIP ?? "") !== "";
}

export interface Plan {
  /** Held, and not what the service asks for any more. */
  readonly release: readonly IpAddress[];
  /** Held and right. */
  readonly keep: readonly IpAddress[];
  /** Exactly these, not held yet. */
  readonly exact: readonly IpAddress[];
  /** One of each, from these pools (empty: any that is for load balancers). */
  readonly automatic: readonly { readonly family: Family; readonly pools: readonly string[] }[];
}

export interface PlanFacts {
  readonly service: Service;
  readonly held: readonly IpAddress[];
  readonly pools: readonly Pool[];
  readonly mode: AssignMode;
}

/** A plan, or why what the service asks for cannot be understood: then everything stays as it is. */
export function plan(facts: PlanFacts): Plan | { readonly refused: string } {
  const { held, mode, service } = facts;
  if (!isManaged(service, mode)) return { release: held, keep: [], exact: [], automatic: [] };
  const wishes = readWishes(service);
  if ("refused" in wishes) return wishes;
  const pools = facts.pools.filter(isForLoadBalancers);
  const poolsOf = resolvePools(wishes, pools);
  if ("refused" in poolsOf) return poolsOf;
  const mayHave = (address: IpAddress): boolean => {
    const pool = poolContaining(pools, address);
    if (pool === undefined) return false;
    if (wishes.exact.length > 0) return wishes.exact.some((one) => sameAddress(one, address));
    if (wishes.asksForPools) return poolsOf[address.family].includes(pool);
    return pool.automatic;
  };
  const families = wishes.exact.length > 0 ? [] : familiesOf(service);
  const keep: IpAddress[] = [];
  for (const address of held) {
    const first = !keep.some(({ family }) => family === address.family);
    const wanted = wishes.exact.length > 0 || families.includes(address.family);
    if (mayHave(address) && wanted && first) keep.push(address);
  }
  return {
    keep,
    release: held.filter((address) => !keep.includes(address)),
    exact: wishes.exact.filter((address) => !keep.some((one) => sameAddress(one, address))),
    automatic: families
      .filter((family) => !keep.some((one) => one.family === family))
      .map((family) => ({ family, pools: poolsOf[family].map(({ name }) => name) })),
  };
}

export const isForLoadBalancers = ({ uses }: Pool): boolean => uses.includes("LoadBalancer");

/** What the service's status should say; undefined when it says so already. Entries of others stay only while we give it nothing. */
export function ingressFor(
  { status }: Service,
  facts: {
    readonly held: readonly IpAddress[];
    readonly released: readonly IpAddress[];
    readonly pools: readonly Pool[];
  },
): { readonly ip: string }[] | undefined {
  const now = status?.loadBalancer?.ingress ?? [];
  const ours = facts.held.map((address) => ({ ip: formatAddress(address) }));
  if (ours.length > 0) {
    const same = now.length === ours.length && now.every(({ ip }, at) => ip === ours[at]?.ip);
    return same ? undefined : ours;
  }
  const pools = facts.pools.filter(isForLoadBalancers);
  const left = now.filter(({ ip = "" }) => {
    const address = tryParseAddress(ip);
    if (address === undefined) return true;
    return !facts.released.some((one) => sameAddress(one, address)) && poolContaining(pools, address) === undefined;
  });
  return left.length === now.length ? undefined : (left as { readonly ip: string }[]);
}

interface Wishes {
  readonly exact: readonly IpAddress[];
  readonly pools: Readonly<Record<Family, readonly string[]>>;
  readonly asksForPools: boolean;
}

function readWishes({ metadata, spec = {} }: Service): Wishes | { readonly refused: string } {
  const { annotations = {} } = metadata;
  const texts: string[][] = [];
  for (const key of [ADDRESSES, POOLS[4], POOLS[6]]) {
    const list = readList(annotations[key]);
    if (list === undefined)
      return { refused: `the annotation ${key} must be a JSON list of texts, not ${annotations[key] ?? ""}` };
    texts.push(list);
  }
  const [asked = [], pools4 = [], pools6 = []] = texts;
  const wanted = asked.length > 0 ? asked : [spec.loadBalancerIP ?? ""].filter((text) => text !== "");
  const where = asked.length > 0 ? `the annotation ${ADDRESSES}` : "spec.loadBalancerIP";
  const exact: IpAddress[] = [];
  for (const text of wanted) {
    const address = tryParseAddress(text);
    if (address === undefined) return { refused: `${where}: "${text}" is not an address` };
    if (exact.some(({ family }) => family === address.family)) {
      return { refused: `${where} names more than one IPv${address.family} address; a service has one of each family` };
    }
    exact.push(address);
  }
  return { exact, pools: { 4: pools4, 6: pools6 }, asksForPools: pools4.length > 0 || pools6.length > 0 };
}

function readList(text: string | undefined): string[] | undefined {
  if (text === undefined || text === "") return [];
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
  } catch {
    return undefined;
  }
}

function resolvePools(
  { pools: wanted }: Wishes,
  pools: readonly Pool[],
): Readonly<Record<Family, readonly Pool[]>> | { readonly refused: string } {
  const found: Record<Family, Pool[]> = { 4: [], 6: [] };
  for (const family of [4, 6] as const) {
    for (const text of wanted[family]) {
      const pool = pools.find((one) => one.name === text || isCidrOf(one, text));
      if (pool === undefined)
        return { refused: `the annotation ${POOLS[family]} names "${text}", which is no pool for load balancers` };
      if (pool.prefix.family !== family)
        return { refused: `the annotation ${POOLS[family]} names ${text}, an IPv${pool.prefix.family} pool` };
      found[family].push(pool);
    }
  }
  return found;
}

function isCidrOf({ prefix }: Pool, text: string): boolean {
  const other = tryParsePrefix(text, "mask");
  return (
    other !== undefined &&
    other.family === prefix.family &&
    other.value === prefix.value &&
    other.length === prefix.length
  );
}

/** Those the API server has settled on, in their order; a service that is older than families has its cluster address's. */
function familiesOf({ spec = {} }: Service): Family[] {
  const families = (spec.ipFamilies ?? []).flatMap((family): Family[] =>
    family === "IPv6" ? [6] : family === "IPv4" ? [4] : [],
  );
  if (families.length > 0) return [...new Set(families)];
  const cluster = tryParseAddress(spec.clusterIP ?? "");
  return [cluster?.family ?? 4];
}
