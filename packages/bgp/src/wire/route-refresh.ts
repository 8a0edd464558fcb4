/** ROUTE-REFRESH (RFC 2918) and its demarcation (RFC 7313). */
import type { AddressFamily } from "./family.ts";
import { WireReader } from "./reader.ts";
import { WireWriter } from "./writer.ts";

export type RefreshKind = "request" | "begin" | "end";

export interface RouteRefresh extends AddressFamily {
  readonly kind: RefreshKind;
}

const KINDS: readonly RefreshKind[] = ["request", "begin", "end"];

/** `bad-length`: RFC 7313 section 5 wants a NOTIFICATION; `ignore`: an unknown subtype is ignored. */
export function decodeRouteRefresh(body: Uint8Array, enhanced: boolean): RouteRefresh | "bad-length" | "ignore" {
  if (body.length !== 4) return "bad-length";
  const reader = new WireReader(body);
  const afi = reader.u16();
  const kind = KINDS[reader.u8()];
  const safi = reader.u8();
  if (!enhanced) return { afi, safi, kind: "request" };
  return kind === undefined ? "ignore" : { afi, safi, kind };
}

export const encodeRouteRefresh = ({ afi, safi, kind }: RouteRefresh): Uint8Array =>
  new WireWriter(4).u16(afi).u8(KINDS.indexOf(kind)).u8(safi).finish();
