/**
 * Two connections with one peer (RFC 4271 section 6.8, RFC 6286 section 2.3): the one that the speaker with the higher identifier opened survives; with
 * equal identifiers, which only external peers may have, the higher AS decides. Both ends come to the same answer without talking.
 */
export type ConnectionSide = "outgoing" | "incoming";

export interface SpeakerIdentity {
  readonly identifier: number;
  readonly as: number;
}

/** The side that stays, as seen from `local`. */
export function survivingSide(local: SpeakerIdentity, remote: SpeakerIdentity): ConnectionSide {
  const localWins =
    local.identifier === remote.identifier ? local.as > remote.as : local.identifier > remote.identifier;
  return localWins ? "outgoing" : "incoming";
}

export const otherSide = (side: ConnectionSide): ConnectionSide => (side === "outgoing" ? "incoming" : "outgoing");
