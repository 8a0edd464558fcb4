/** Which timer of a session runs out when. */
import type { SessionState, SessionTimer } from "./session.ts";

/** Running timers, hold first: a peer whose hold timer has run out gets no more keepalives. */
export function runningTimers(state: SessionState): readonly (readonly [timer: SessionTimer, at: number])[] {
  const all: readonly (readonly [SessionTimer, number | undefined])[] = [
    ["hold", "holdAt" in state ? state.holdAt : undefined],
    ["keepalive", "keepaliveAt" in state ? state.keepaliveAt : undefined],
    ["delay-open", "delayOpenAt" in state ? state.delayOpenAt : undefined],
    ["connect-retry", "connectRetryAt" in state ? state.connectRetryAt : undefined],
    ["idle-hold", "idleHoldAt" in state ? state.idleHoldAt : undefined],
  ];
  return all.filter((entry): entry is readonly [SessionTimer, number] => entry[1] !== undefined);
}

/** The next moment the session wants `dueTimer` asked; undefined when it waits for others only. */
export function nextDeadline(state: SessionState): number | undefined {
  let first: number | undefined;
  for (const [, at] of runningTimers(state)) if (first === undefined || at < first) first = at;
  return first;
}

/** A timer that has run out, or undefined. Feed it as an event and ask again. */
export function dueTimer(state: SessionState, now: number): SessionTimer | undefined {
  return runningTimers(state).find(([, at]) => at <= now)?.[0];
}
