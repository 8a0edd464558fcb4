/**
 * Pools as address management sees them, and which of them a request may take from.
 *
 * Without a request for particular pools, a pool must assign automatically, select the node and (when it has a
 * namespaceSelector) the namespace. Pools asked for by name skip these three. In both cases it must be enabled, not
 * being deleted, not declared unallocatable by its controller, and allow the intended use.
 */
import type { IPPool } from "@calico-ts/model";
import { containsAddress, type Family, type IpAddress, type Prefix, tryParsePrefix } from "@calico-ts/net";
import { parseSelector } from "@calico-ts/selector";
import { CalicoError } from "@calico-ts/std";

export type IntendedUse = "Workload" | "Tunnel" | "LoadBalancer";

export interface Pool {
  readonly name: string;
  readonly prefix: Prefix;
  readonly blockLength: number;
  readonly enabled: boolean;
  readonly automatic: boolean;
  readonly uses: readonly string[];
  readonly nodeSelector: LabelTest;
  /** undefined: every namespace, and requests that are for none. */
  readonly namespaceSelector: LabelTest | undefined;
}

/** A selector with its text, for messages. */
export interface LabelTest {
  readonly text: string;
  readonly matches: (labels: Labels) => boolean;
}

const DEFAULT_USES = ["Workload", "Tunnel"];

/** undefined for a pool whose CIDR nobody can read: it takes part in nothing. */
export function poolOf(resource: IPPool): Pool | undefined {
  const { spec, metadata, status } = resource;
  const prefix = tryParsePrefix(spec.cidr, "mask");
  if (prefix === undefined) return undefined;
  const refused = status?.conditions?.some(({ type, status }) => type === "Allocatable" && status === "False") ?? false;
  const deleting = (metadata.deletionTimestamp ?? "") !== "";
  const asked = spec.blockSize ?? 0;
  return {
    name: metadata.name,
    prefix,
    blockLength: asked === 0 ? (prefix.family === 4 ? 26 : 122) : asked,
    enabled: spec.disabled !== true && !deleting && !refused,
    automatic: (spec.assignmentMode ?? "Automatic") === "Automatic",
    uses: spec.allowedUses === undefined || spec.allowedUses.length === 0 ? DEFAULT_USES : spec.allowedUses,
    nodeSelector: labelTest(spec.nodeSelector ?? ""),
    namespaceSelector: (spec.namespaceSelector ?? "") === "" ? undefined : labelTest(spec.namespaceSelector ?? ""),
  };
}

export type Labels = Readonly<Record<string, string>>;

export interface PoolRequest {
  readonly family: Family;
  readonly use: IntendedUse;
  /** Names or CIDRs; empty: any pool that selects. */
  readonly pools: readonly string[];
  readonly nodeLabels: Labels;
  /** Absent: the address is for no pod. */
  readonly namespaceLabels?: Labels | undefined;
}

export interface Qualification {
  /** Take from these, in this order. */
  readonly qualified: readonly Pool[];
  readonly rejected: readonly { readonly pool: string; readonly why: string }[];
}

/** @throws CalicoError NO_QUALIFIED_POOL when a pool that was asked for by name cannot be used at all */
export function qualifyPools(request: PoolRequest, all: readonly Pool[]): Qualification {
  const candidates =
    request.pools.length === 0
      ? all.filter((pool) => pool.prefix.family === request.family)
      : request.pools.map((wanted) => findRequested(wanted, request.family, all));
  const qualified: Pool[] = [];
  const rejected: { pool: string; why: string }[] = [];
  for (const pool of candidates) {
    const why = rejection(pool, request);
    if (why === undefined) qualified.push(pool);
    else rejected.push({ pool: pool.name, why });
  }
  return { qualified, rejected };
}

function rejection(pool: Pool, request: PoolRequest): string | undefined {
  if (!pool.enabled) return "is disabled or being deleted";
  if (request.pools.length === 0) {
    if (!pool.automatic) return "gives out addresses only when asked for by name (assignmentMode Manual)";
    if (!selectsNode(pool, request.nodeLabels))
      return `does not select this node (nodeSelector ${pool.nodeSelector.text})`;
    if (!selectsNamespace(pool, request.namespaceLabels)) {
      return `does not select this namespace (namespaceSelector ${pool.namespaceSelector?.text ?? ""})`;
    }
  }
  if (!pool.uses.includes(request.use)) return `is for ${pool.uses.join(" and ")}, not for ${request.use}`;
  return undefined;
}

export const selectsNode = (pool: Pool, labels: Labels): boolean => pool.nodeSelector.matches(labels);

const selectsNamespace = ({ namespaceSelector }: Pool, labels: Labels | undefined): boolean =>
  namespaceSelector === undefined || (labels !== undefined && namespaceSelector.matches(labels));

/** A selector that does not parse selects nothing: admission refuses it, so it is an accident. */
function labelTest(text: string): LabelTest {
  try {
    const selector = parseSelector(text);
    return { text, matches: (labels) => selector.matches(new Map(Object.entries(labels))) };
  } catch {
    return { text, matches: () => false };
  }
}

function findRequested(wanted: string, family: Family, all: readonly Pool[]): Pool {
  const prefix = tryParsePrefix(wanted, "mask");
  const found = all.find(
    (pool) =>
      pool.name === wanted ||
      (prefix !== undefined &&
        pool.prefix.value === prefix.value &&
        pool.prefix.length === prefix.length &&
        pool.prefix.family === prefix.family),
  );
  const complain = (why: string): never => {
    throw new CalicoError("NO_QUALIFIED_POOL", `pool "${wanted}" was asked for, but ${why}`, {
      detail: { pool: wanted },
    });
  };
  if (found === undefined)
    return complain(`there is none: the pools are ${all.map((pool) => pool.name).join(", ") || "none"}`);
  if (found.prefix.family !== family)
    return complain(`it is an IPv${found.prefix.family} pool and the request is for IPv${family}`);
  if (!found.enabled) return complain("it is disabled or being deleted");
  return found;
}

/** The pool an address lies in; of overlapping ones the narrowest. */
export function poolContaining(pools: readonly Pool[], address: IpAddress): Pool | undefined {
  return pools
    .filter((pool) => containsAddress(pool.prefix, address))
    .toSorted((a, b) => b.prefix.length - a.prefix.length)[0];
}
