/**
 * `ipam split`: one pool becomes a power of two smaller ones; blocks and addresses stay as they are. Only while the datastore is locked, because between
 * the steps pools overlap. Everything is checked before anything is written; a split that was interrupted is completed by repeating it.
 */
import type { IPPool } from "@calico-ts/model";
import { formatPrefix, type Prefix, parsePrefix, tryParsePrefix } from "@calico-ts/net";
import { CalicoError, hasCode } from "@calico-ts/std";
import { clusterState } from "./check-report.ts";
import type { Session } from "./session.ts";

export interface SplitOptions {
  readonly cidr?: string;
  readonly name?: string;
}

const MAX_NAME = 253;
/** What "split-" and a number may add. */
const NAME_KEPT = 245;

export async function split(session: Session, number: string, options: SplitOptions): Promise<void> {
  const { client, out } = session;
  if (options.cidr === undefined && options.name === undefined) {
    throw new CalicoError("BAD_INPUT", "say which pool to split: --cidr=CIDR or --name=POOL");
  }
  const { datastoreLocked } = await clusterState(session);
  if (!datastoreLocked) {
    throw new CalicoError(
      "CONFLICT",
      "the datastore is not locked: nodes would take addresses while pools overlap. Run `calicoctl datastore migrate lock` first, and `unlock` afterwards",
    );
  }
  const pool = await findPool(session, options);
  const parts = splitPrefix(pool, parseNumber(number));
  const children = parts.map((prefix, at) => childOf(pool, prefix, at));
  for (const child of children) await checkFree(session, child);
  if (pool.spec.disabled !== true) {
    await client.update("IPPool", { ...pool, spec: { ...pool.spec, disabled: true } });
  }
  for (const child of children) {
    await client.create("IPPool", child).catch((error: unknown) => {
      // It is one of ours: checked above.
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
    });
  }
  await client.delete("IPPool", { name: pool.metadata.name });
  out(`IP Pool ${pool.metadata.name} was successfully split into ${children.length} smaller pools.\n`);
  for (const { metadata, spec } of children) out(`Created ${metadata.name} with CIDR ${spec.cidr}.\n`);
  out("Unlock the datastore when you are done: calicoctl datastore migrate unlock\n");
}

async function findPool({ client }: Session, { cidr, name }: SplitOptions): Promise<IPPool> {
  const { items } = await client.list("IPPool");
  const prefix = cidr === undefined ? undefined : formatPrefix(parsePrefix(cidr));
  const found = items.find(
    (pool) =>
      (name === undefined || pool.metadata.name === name) && (prefix === undefined || pool.spec.cidr === prefix),
  );
  if (found !== undefined) return found;
  const known = items.map(({ metadata, spec }) => `${metadata.name} (${spec.cidr})`).join(", ");
  throw new CalicoError(
    "NOT_FOUND",
    `no pool is ${[name, cidr].filter(Boolean).join(" with ")}: there are ${known || "none"}`,
  );
}

function parseNumber(text: string): number {
  const number = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (number >= 2 && Number.isInteger(Math.log2(number))) return number;
  throw new CalicoError(
    "BAD_INPUT",
    `a pool is split into a power of two of smaller ones (2, 4, 8, …), not into "${text}"`,
  );
}

/** Blocks stay as they are, so every part must hold whole ones. */
function splitPrefix({ metadata, spec }: IPPool, number: number): Prefix[] {
  const prefix = tryParsePrefix(spec.cidr, "mask");
  if (prefix === undefined) throw new CalicoError("BAD_INPUT", `pool ${metadata.name} has no CIDR that can be read`);
  const length = prefix.length + Math.log2(number);
  const blockLength = spec.blockSize ?? (prefix.family === 4 ? 26 : 122);
  if (length > blockLength) {
    const most = 2 ** (blockLength - prefix.length);
    const message = `pool ${metadata.name} (${spec.cidr}) has ${most} blocks of /${blockLength}: it cannot be split into ${number}`;
    throw new CalicoError("BAD_INPUT", message);
  }
  const size = 1n << BigInt((prefix.family === 4 ? 32 : 128) - length);
  return Array.from({ length: number }, (_, at) => ({ ...prefix, value: prefix.value + BigInt(at) * size, length }));
}

function childOf({ metadata, spec }: IPPool, prefix: Prefix, at: number): IPPool {
  const full = `split-${metadata.name}-${at}`;
  const name = full.length > MAX_NAME ? `split-${metadata.name.slice(0, NAME_KEPT)}-${at}` : full;
  const { annotations, labels } = metadata;
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec: { ...spec, cidr: formatPrefix(prefix), disabled: false },
  };
}

async function checkFree({ client }: Session, child: IPPool): Promise<void> {
  const { name } = child.metadata;
  try {
    const { spec } = await client.get("IPPool", { name });
    if (spec.cidr === child.spec.cidr) return;
    throw new CalicoError(
      "ALREADY_EXISTS",
      `there is a pool ${name} already, with CIDR ${spec.cidr}: rename or delete it`,
    );
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
  }
}
