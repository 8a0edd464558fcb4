/**
 * What a new configuration costs. Policy fields change under a session that stays; everything else is part of what the session was opened with, so the session
 * is reset. Peers are recognised by name.
 */
import { CalicoError } from "@calico-ts/std";
import type { PeerConfig, SpeakerConfig } from "./config.ts";

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

/** @throws CalicoError BAD_INPUT; the speaker then stays as it was. */
export function checkConfig({ as, routerId, clusterId, peers }: SpeakerConfig): void {
  const refuse = (what: string): never => {
    throw new CalicoError("BAD_INPUT", `BGP configuration: ${what}`);
  };
  if (!isU32(as)) refuse(`AS ${as} is not between 1 and 4294967295`);
  if (!isU32(routerId)) refuse(`router id ${routerId} is not a non-zero 32-bit number`);
  if (clusterId !== undefined && !isU32(clusterId)) refuse(`cluster id ${clusterId} is not a non-zero 32-bit number`);
  const names = new Set<string>();
  for (const peer of peers) {
    if (names.has(peer.name)) refuse(`two peers are named "${peer.name}"`);
    names.add(peer.name);
    if (!isU32(peer.remoteAs)) refuse(`peer "${peer.name}": AS ${peer.remoteAs} is not between 1 and 4294967295`);
    if (peer.localAs !== undefined && !isU32(peer.localAs))
      refuse(`peer "${peer.name}": local AS ${peer.localAs} is out of range`);
    if (peer.families.length === 0) refuse(`peer "${peer.name}" has no address family`);
    const hold = peer.timers?.holdSeconds;
    if (hold !== undefined && hold !== 0 && (hold < 3 || hold > 65_535)) {
      refuse(`peer "${peer.name}": a hold time of ${hold} s is neither 0 nor between 3 and 65535`);
    }
  }
}
