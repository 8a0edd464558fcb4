/**
 * The helper's side of graceful restart (RFC 4724 section 4.2), with RFC 8538 (NOTIFICATION) and RFC 9494 (long-lived): which routes of a lost peer stay, for how
 * long, and when the stale ones go. State only; `routing.ts` marks and removes.
 */
import { unreachable } from "@calico-ts/std";
import type { Negotiated } from "../fsm/negotiate.ts";
import type { SessionEnd } from "../fsm/session.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { NOTIFY } from "../wire/notification.ts";

/** Longest wait for End-of-RIB once the peer is back (section 4.2 leaves it to the implementation), and for the end of a refresh (RFC 7313 section 4 does as well). */
export const STALE_PATH_MS = 360_000;

export interface StaleFamily {
  readonly phase: "restart" | "long-lived" | "awaiting-end-of-rib";
  readonly until: number;
  /** 0: none agreed. */
  readonly longLivedMs: number;
}

/** Families whose routes stay after this end, with the time each has. Empty: all routes go. */
export function keptFamilies(
  negotiated: Negotiated,
  end: SessionEnd,
  now: number,
): ReadonlyMap<RoutedFamily, StaleFamily> {
  const { restart, longLived } = negotiated;
  const kept = new Map<RoutedFamily, StaleFamily>();
  if (restart === undefined || !isGraceful(end, restart.notification)) return kept;
  for (const family of new Set([...restart.families.keys(), ...longLived.keys()])) {
    const longLivedMs = (longLived.get(family)?.staleSeconds ?? 0) * 1000;
    // A family that only the long-lived capability names has no time before that (RFC 9494 section 4.2).
    const restartMs = restart.families.has(family) ? restart.restartSeconds * 1000 : 0;
    if (restartMs === 0 && longLivedMs === 0) continue;
    kept.set(family, { phase: "restart", until: now + restartMs, longLivedMs });
  }
  return kept;
}

/**
 * Without RFC 8538 on both sides any NOTIFICATION ends it all; with it, only a Hard Reset does. Either way a peer that keeps another connection with us in place of this
 * one has not failed: where both dial at once after a restart, one end may have been up while the other still had to choose (RFC 4271 section 6.8).
 */
function isGraceful({ cause, notification }: SessionEnd, acrossNotification: boolean): boolean {
  switch (cause) {
    case "connection-lost":
      return true;
    case "hold-expired":
    case "error-found":
    case "unexpected-message":
      return acrossNotification;
    case "notification-received":
      return is(notification, NOTIFY.collision) || (acrossNotification && !is(notification, NOTIFY.hardReset));
    case "stopped":
    case "collision":
    case "connect-failed":
      return false;
    default:
      return unreachable(cause);
  }
}

const is = (one: SessionEnd["notification"], [code, subcode]: readonly [number, number]): boolean =>
  one?.code === code && one.subcode === subcode;

/** The peer is back: does it still forward along the routes of this family? */
export const stillForwards = (
  { restart, longLived }: Negotiated,
  family: RoutedFamily,
  phase: StaleFamily["phase"],
): boolean =>
  phase === "long-lived"
    ? longLived.get(family)?.forwardingPreserved === true
    : restart?.families.get(family)?.forwardingPreserved === true;
