/** A route, where it came from, and the destination it competes for. One object per path; lists are linked because most hold one entry. */
import type { IpAddress } from "@calico-ts/net";
import type { AttributeSet } from "./attribute-set.ts";
import type { AddressKey, PrefixKey } from "./prefix-map.ts";

/** Where routes come from: a peer, or ourselves. The speaker keeps it up to date across sessions; routes refer to it. */
export interface Source {
  /** The peer's name; undefined for routes of our own. */
  readonly peer: string | undefined;
  readonly address: IpAddress | undefined;
  kind: "local" | "internal" | "external";
  /** We reflect for it (RFC 4456). */
  reflectorClient: boolean;
  /** BGP identifier of the peer. */
  identifier: number;
  /** One of 30 bits, for `Destination.heardFrom`. Sources may share one. */
  readonly bit: number;
}

/** Why a route is on its way out. A route heard again loses all marks. */
export const STALE = {
  /** The peer restarts (RFC 4724). */
  restart: 1,
  /** The peer has been gone for long (RFC 9494): last choice. */
  longLived: 2,
  /** The peer is telling everything again (RFC 7313). */
  refresh: 4,
} as const;

export interface Route {
  readonly source: Source;
  /** As received with additional paths; 0 without. */
  readonly pathId: number;
  received: AttributeSet;
  /** After import policy; undefined: not eligible, see `rejected`. */
  accepted: AttributeSet | undefined;
  rejected: string | undefined;
  stale: number;
  /** The path identifier we advertise it with; 0: none yet. */
  exportId: number;
  /** Whole seconds of the speaker's clock: engines keep small integers without a box of their own. */
  learnedAt: number;
  next: Route | undefined;
}

/** What a peer group was told about a destination. With additional paths there are several, told apart by `pathId`. */
export interface ExportRecord {
  readonly group: object;
  readonly pathId: number;
  readonly set: AttributeSet;
  readonly source: Source;
  readonly next: ExportRecord | undefined;
}

export interface Destination extends PrefixKey {
  readonly address: AddressKey;
  readonly length: number;
  routes: Route | undefined;
  /** Bits of sources: without its bit a source has no route here, which saves looking through the list. */
  heardFrom: number;
  best: Route | undefined;
  /** What `best` was when it was chosen: routes change in place. */
  bestSet: AttributeSet | undefined;
  /** With multipath, all that are as good as the best, which comes first; undefined when it is alone. */
  equal: readonly { readonly route: Route; readonly set: AttributeSet }[] | undefined;
  exports: ExportRecord | undefined;
  dirty: boolean;
}

export function routesOf(destination: Destination): Route[] {
  const out: Route[] = [];
  for (let route = destination.routes; route !== undefined; route = route.next) out.push(route);
  return out;
}
