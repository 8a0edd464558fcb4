/**
 * Many routes in one datagram, which are alike but for their destinations: a full table has a handful of next hops. The first of a kind is encoded from the
 * descriptor table, the others are copies of it with another destination.
 */
import type { Family, Prefix } from "@calico-ts/net";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { encodeRequest, type RouteRequest } from "./request.ts";
import { deleteRoute, writeRoute } from "./route.ts";
import type { RouteSpec } from "./values.ts";

export type RouteTerms = Omit<RouteSpec, "destination">;

export interface RouteWrite {
  readonly do: "add" | "replace" | "delete";
  readonly destination: Prefix;
  /** Everything else. Routes that share one object are encoded fastest. */
  readonly terms: RouteTerms;
}

export const routeWriteRequest = ({ do: what, destination, terms }: RouteWrite): RouteRequest =>
  what === "delete" ? deleteRoute({ ...terms, destination }) : writeRoute({ ...terms, destination }, what);

/** Places in a message: struct nlmsghdr, struct rtmsg, then RTA_DST, which comes first where there is one. */
const AT = { flags: 6, sequence: 8, destinationLength: 17, destination: 32 } as const;

interface Kind {
  readonly do: RouteWrite["do"];
  readonly terms: RouteTerms;
  readonly family: Family;
  readonly message: Uint8Array;
}

/** The datagram for these writes, numbered from `sequence` on; only the last is acknowledged if it goes well. */
export function encodeRouteWrites(writes: readonly RouteWrite[], sequence: number): Uint8Array {
  let out = new Uint8Array(writes.length * 64 + 256);
  let view = new DataView(out.buffer);
  let kind: Kind | undefined;
  let at = 0;
  for (const [index, write] of writes.entries()) {
    const { destination, terms } = write;
    const { family, length, value } = destination;
    const isCopy = kind?.terms === terms && kind.do === write.do && kind.family === family && length > 0;
    const message: Uint8Array =
      isCopy && kind !== undefined ? kind.message : encodeRequest(routeWriteRequest(write), sequence);
    if (at + message.length > out.length) {
      const larger = new Uint8Array(2 * (out.length + message.length));
      larger.set(out);
      out = larger;
      view = new DataView(out.buffer);
    }
    out.set(message, at);
    view.setUint32(at + AT.sequence, sequence + index, LITTLE_ENDIAN_HOST);
    if (index < writes.length - 1) {
      view.setUint16(at + AT.flags, view.getUint16(at + AT.flags, LITTLE_ENDIAN_HOST) & ~NLM_F.ACK, LITTLE_ENDIAN_HOST);
    }
    if (isCopy) {
      view.setUint8(at + AT.destinationLength, length);
      if (family === 4) view.setUint32(at + AT.destination, Number(value));
      else {
        view.setBigUint64(at + AT.destination, value >> 64n);
        view.setBigUint64(at + AT.destination + 8, value & 0xffff_ffff_ffff_ffffn);
      }
    } else if (length > 0) kind = { do: write.do, terms, family, message };
    at += message.length;
  }
  return out.subarray(0, at);
}
