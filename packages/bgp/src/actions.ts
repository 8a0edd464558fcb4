/** What comes out of a speaker. Whoever owns the sockets does it; nothing here expects an answer except by the speaker's own methods. */
import type { Prefix } from "@calico-ts/net";
import type { ConnectionSide } from "./fsm/collision.ts";
import type { SessionEnd } from "./fsm/session.ts";
import type { PathAttributes } from "./wire/attributes/values.ts";
import type { RoutedFamily } from "./wire/family.ts";

export interface RoutePath {
  /** After import policy. */
  readonly attributes: PathAttributes;
  /** Undefined: one of our own. */
  readonly peer: string | undefined;
  /** Kept although its peer is gone. */
  readonly stale: boolean;
}

/** The best routes of a destination; none: it is gone. The first is the best, the others are as good (multipath). */
export interface RouteAction {
  readonly do: "route";
  readonly family: RoutedFamily;
  readonly prefix: Prefix;
  readonly paths: readonly RoutePath[];
}

export type SpeakerAction =
  /** Open a connection; answer with `connected` or `disconnected`, side "outgoing". */
  | { readonly do: "connect"; readonly peer: string }
  /** Send what is queued, then close. Nothing more has to be said about this connection. */
  | { readonly do: "close"; readonly peer: string; readonly side: ConnectionSide }
  | { readonly do: "send"; readonly peer: string; readonly side: ConnectionSide; readonly bytes: Uint8Array }
  | RouteAction
  | { readonly do: "report"; readonly peer: string; readonly event: PeerEvent };

/** For logs and metrics. */
export type PeerEvent =
  | { readonly kind: "up"; readonly families: readonly RoutedFamily[] }
  | { readonly kind: "down"; readonly end: SessionEnd; readonly routesKept: boolean }
  | { readonly kind: "attempt-failed"; readonly end: SessionEnd }
  | { readonly kind: "malformed-attribute"; readonly reason: string }
  | { readonly kind: "prefix-limit"; readonly routes: number; readonly limit: number }
  | { readonly kind: "stale-routes-dropped"; readonly family: RoutedFamily }
  | { readonly kind: "routes-long-lived-stale"; readonly family: RoutedFamily }
  | { readonly kind: "end-of-rib"; readonly family: RoutedFamily };
