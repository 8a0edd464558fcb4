/**
 * What a new configuration costs. Policy fields change under a session that stays; everything else is part of what the session was opened with, so the session
 * is reset. Peers are recognised by name.
 */
import { CalicoError } from "@calico-ts/std";
import type { PeerConfig, SpeakerConfig } from "./config.ts";
import { ROUTED_FAMILIES } from "./wire/family.ts";

/** Deep equality of plain data; sets compare by content, functions and unknown objects by identity. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const left = Object.entries(a).filter(([, value]) => value !== undefined);
  const right = new Map(Object.entries(b).filter(([, value]) => value !== undefined));
  return left.length === right.size && left.every(([key, value]) => right.has(key) && sameValue(value, right.get(key)));
}

const POLICY_FIELDS = [
  "allowedLocalAs",
  "allowForeignFirstAs",
  "prefixLimit",
  "nextHop",
  "nextHopSelf",
  "importFilter",
  "exportFilter",
  "requireFilters",
  "gracefulShutdown",
  "reflectorClient",
] as const satisfies readonly (keyof PeerConfig)[];

export type PeerChange = "none" | "policy" | "session" | "shutdown" | "start";

export function peerChange(before: PeerConfig, after: PeerConfig): PeerChange {
  if (before.shutdown === undefined && after.shutdown !== undefined) return "shutdown";
  if (before.shutdown !== undefined && after.shutdown === undefined) return "start";
  if (sameValue(before, after)) return "none";
  return sameValue(withoutPolicy(before), withoutPolicy(after)) ? "policy" : "session";
}

function withoutPolicy(peer: PeerConfig): object {
  const policy: ReadonlySet<string> = new Set(POLICY_FIELDS);
  return Object.fromEntries(Object.entries(peer).filter(([key]) => !policy.has(key)));
}

const isU32 = (value: number): boolean => Number.isInteger(value) && value > 0 && value <= 0xffffffff;
/** An integer that has its place in so many bits, or that nobody has set. */
const fits = (value: number | undefined, bits: number): boolean =>
  value === undefined || (Number.isInteger(value) && value >= 0 && value < 2 ** bits);
/** Seconds that a timer can run: one of no time at all would never let anything else have its turn. */
const runs = (seconds: number | undefined): boolean =>
  seconds === undefined || (Number.isFinite(seconds) && seconds > 0);

/** @throws CalicoError BAD_INPUT; the speaker then stays as it was. */
export function checkConfig({ as, routerId, clusterId, peers, maxPaths, restarting }: SpeakerConfig): void {
  if (!isU32(as)) refuse(`AS ${as} is not between 1 and 4294967295`);
  if (!isU32(routerId)) refuse(`router id ${routerId} is not a non-zero 32-bit number`);
  if (clusterId !== undefined && !isU32(clusterId)) refuse(`cluster id ${clusterId} is not a non-zero 32-bit number`);
  if (!fits(maxPaths, 32) || maxPaths === 0) refuse(`${maxPaths} paths at most: it takes at least one`);
  if (restarting !== undefined && !(restarting.deferralSeconds >= 0 && Number.isFinite(restarting.deferralSeconds)))
    refuse(`a deferral of ${restarting.deferralSeconds} s is no time`);
  const names = new Set<string>();
  for (const peer of peers) {
    if (names.has(peer.name)) refuse(`two peers are named "${peer.name}"`);
    names.add(peer.name);
    for (const problem of peerProblems(peer)) refuse(`peer "${peer.name}": ${problem}`);
  }
}

function refuse(what: string): never {
  throw new CalicoError("BAD_INPUT", `BGP configuration: ${what}`);
}

function* peerProblems(peer: PeerConfig): IterableIterator<string> {
  const { remoteAs, localAs, families, timers = {}, gracefulRestart, prefixLimit, allowedLocalAs } = peer;
  if (!isU32(remoteAs)) yield `AS ${remoteAs} is not between 1 and 4294967295`;
  if (localAs !== undefined && !isU32(localAs)) yield `local AS ${localAs} is not between 1 and 4294967295`;
  if (families.length === 0) yield "it has no address family";
  for (const family of families) {
    if (!ROUTED_FAMILIES.includes(family)) yield `"${family}" is none of ${ROUTED_FAMILIES.join(", ")}`;
  }
  if (new Set(families).size < families.length) yield `address families twice: ${families.join(", ")}`;
  const { holdSeconds, ...others } = timers;
  if (!fits(holdSeconds, 16) || holdSeconds === 1 || holdSeconds === 2)
    yield `a hold time of ${holdSeconds} s is neither 0 nor between 3 and 65535`;
  for (const [name, seconds] of Object.entries(others)) {
    if (!runs(seconds) && !(name === "delayOpenSeconds" && seconds === 0)) yield `${name} of ${seconds} is no time`;
  }
  const { restartSeconds, longLivedSeconds } = gracefulRestart ?? {};
  if (!fits(restartSeconds, 12)) yield `a restart time of ${restartSeconds} s is not between 0 and 4095`;
  if (!fits(longLivedSeconds, 24))
    yield `a long-lived stale time of ${longLivedSeconds} s is not between 0 and 16777215`;
  if (!fits(prefixLimit?.routes, 32)) yield `a limit of ${prefixLimit?.routes} routes is not between 0 and 4294967295`;
  if (!runs(prefixLimit?.restartAfterSeconds))
    yield `it cannot be restarted after ${prefixLimit?.restartAfterSeconds} s`;
  if (!fits(allowedLocalAs, 32)) yield `our AS cannot be allowed ${allowedLocalAs} times in a path`;
}
