/**
 * `ipam forecast`: when each pool will be full if addresses go on being given out as lately. Records tell when an address that is in use was given out, not
 * which have come back since; so what grew is at most what is counted, and the time told is the earliest.
 */
import { allocationsOf, attributeOf, Ipam, ordinalOf, poolContaining, type PoolUtilization } from "@calico-ts/ipam";
import { formatPrefix, tryParsePrefix } from "@calico-ts/net";
import { durationMs } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { formatTable } from "../table.ts";
import type { Session } from "./session.ts";

export interface ForecastOptions {
  readonly window?: string;
}

const DEFAULT_WINDOW = "24h";
const DAY_MS = 24 * 3_600_000;

export async function forecast({ client, clock, out }: Session, options: ForecastOptions): Promise<void> {
  const text = options.window ?? DEFAULT_WINDOW;
  const parsed = durationMs(text);
  if (!parsed.ok || parsed.value <= 0)
    throw new CalicoError("BAD_INPUT", `--window "${text}" is not a duration such as 24h or 30m`);
  const pools = await new Ipam({ client, clock }).utilization();
  const times = timesByPool(
    (await client.list("IPAMBlock")).items,
    pools.map(({ pool }) => pool),
  );
  const rows = pools.map((use) => {
    const { given, fullInMs } = outlook(use.free, times.get(use.pool.name) ?? [], {
      nowMs: clock.now(),
      windowMs: parsed.value,
    });
    return [
      use.pool.name,
      formatPrefix(use.pool.prefix),
      amount(use.capacity),
      amount(use.inUse + use.cooling),
      amount(use.free),
      String(given),
      blocksLeft(use),
      use.free === 0n ? "full" : fullInMs === undefined ? "not in sight" : `in ${span(fullInMs)}`,
    ];
  });
  out(
    formatTable(
      [
        "POOL",
        "CIDR",
        "IPS TOTAL",
        "IN USE",
        "FREE",
        `GIVEN IN ${text.toUpperCase()}`,
        "BLOCKS LEFT",
        "FULL AT THE EARLIEST",
      ],
      rows,
    ),
  );
}

/** When the addresses in use were given out, by pool. */
function timesByPool(
  blocks: readonly Parameters<typeof allocationsOf>[0][],
  pools: readonly PoolUtilization["pool"][],
): Map<string, number[]> {
  const times = new Map<string, number[]>();
  for (const block of blocks) {
    const prefix = tryParsePrefix(block.spec.cidr);
    if (prefix === undefined) continue;
    for (const { address } of allocationsOf(block)) {
      const ordinal = ordinalOf(prefix, address);
      const attribute = ordinal === undefined ? undefined : attributeOf(block.spec, ordinal);
      const at = Date.parse(attribute?.secondary?.["timestamp"] ?? "");
      const pool = poolContaining(pools, address);
      if (pool === undefined || Number.isNaN(at)) continue;
      times.set(pool.name, [...(times.get(pool.name) ?? []), at]);
    }
  }
  return times;
}

/** Pure. `fullInMs` undefined: nothing was given out lately. A pool younger than the window is judged by its age. */
export function outlook(
  free: bigint,
  times: readonly number[],
  { nowMs, windowMs }: { readonly nowMs: number; readonly windowMs: number },
): { readonly given: number; readonly fullInMs: number | undefined } {
  const given = times.filter((at) => at > nowMs - windowMs && at <= nowMs).length;
  if (given === 0) return { given, fullInMs: undefined };
  const age = Math.max(1, nowMs - Math.min(...times.filter((at) => at <= nowMs)));
  const perMs = given / Math.min(windowMs, age);
  return { given, fullInMs: Number(free) / perMs };
}

/** A node that owns none, under strict affinity, is out of addresses when these are. */
function blocksLeft({ blocks, pool }: PoolUtilization): string {
  const bits = BigInt(pool.blockLength - pool.prefix.length);
  return amount((1n << bits) - BigInt(blocks.length));
}

const amount = (count: bigint): string => (count < 1_000_000_000n ? String(count) : Number(count).toExponential(2));

function span(ms: number): string {
  if (ms >= 365 * DAY_MS) return "more than a year";
  if (ms >= 2 * DAY_MS) return `${Math.floor(ms / DAY_MS)} days`;
  if (ms >= 2 * 3_600_000) return `${Math.floor(ms / 3_600_000)} hours`;
  return `${Math.max(1, Math.floor(ms / 60_000))} minutes`;
}
