/**
 * The one setting of the host a run depends on: how many neighbours (ARP, NDP) its kernel keeps.
 *
 * All network namespaces share one table, whose limit of 1024 entries suits one machine and not five hundred pods: past it,
 * packets are lost at random, and a probe would report a denial that no policy made. `up` raises the limits when they are
 * low; the originals wait in the state root and come back when the last run is gone, after a crash too.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Enough for some thousands of pods; entries cost memory only when used. */
const WANTED = { gc_thresh1: 16_384, gc_thresh2: 32_768, gc_thresh3: 65_536 } as const;
const TABLES = ["/proc/sys/net/ipv4/neigh/default", "/proc/sys/net/ipv6/neigh/default"];
const SAVED = ".host-limits.json";

export interface HostLimits {
  /** Path of each setting that was raised, and what it was. */
  readonly raised: Readonly<Record<string, string>>;
  readonly failed: readonly string[];
}

export function raiseHostLimits(stateRoot: string, tables: readonly string[] = TABLES): HostLimits {
  const raised: Record<string, string> = {};
  const failed: string[] = [];
  // The highest first: the kernel wants them in order, and a half-raised table should already hold more.
  for (const path of tables.flatMap((table) =>
    Object.keys(WANTED)
      .toReversed()
      .map((key) => join(table, key)),
  )) {
    const wanted = Object.entries(WANTED).find(([key]) => path.endsWith(key))?.[1] ?? 0;
    try {
      const before = readFileSync(path, "utf8").trim();
      if (Number(before) >= wanted) continue;
      writeFileSync(path, String(wanted));
      raised[path] = before;
    } catch {
      if (existsSync(path)) failed.push(path);
    }
  }
  const saved = join(stateRoot, SAVED);
  // What an earlier run saved are the originals; ours would be its raised values.
  if (Object.keys(raised).length > 0)
    writeFileSync(saved, JSON.stringify({ ...raised, ...readSaved(saved) }), { mode: 0o600 });
  return { raised, failed };
}

/** Puts the originals back, lowest first. */
export function restoreHostLimits(stateRoot: string): void {
  const saved = join(stateRoot, SAVED);
  for (const [path, value] of Object.entries(readSaved(saved)).toReversed()) {
    try {
      writeFileSync(path, value);
    } catch {
      // A host that took the raise and refuses its undoing (remounted read-only): nothing more can be done.
    }
  }
  rmSync(saved, { force: true });
}

function readSaved(file: string): Readonly<Record<string, string>> {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Record<string, string>;
  } catch {
    return {};
  }
}
