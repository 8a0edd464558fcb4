/**
 * UPDATE (RFC 4271 section 4.3, RFC 4760) with revised error handling (RFC 7606). A decoded update says what is withdrawn and what is reachable
 * per family; a malformed one says so as a value, with what it costs.
 */
import type { IpAddress } from "@calico-ts/net";
import { addressBytes } from "@calico-ts/net";
import type { AttributeContext } from "./attributes/table.ts";
import type { AttributeProblem } from "./attributes/decode.ts";
import { decodeAttributes, encodeAttributes, worstRecovery } from "./attributes/decode.ts";
import { AS_TRANS, mergeAs4Path } from "./attributes/as-path.ts";
import type { DecodedAttributes, PathAttributes } from "./attributes/values.ts";
import type { AddressFamily } from "./family.ts";
import { familyNumbers, routedFamily } from "./family.ts";
import type { RoutedFamily } from "./family.ts";
import type { Nlri, NlriFormat } from "./nlri.ts";
import { decodeNlri, encodeNlri, nlriSize } from "./nlri.ts";
import type { Notification } from "./notification.ts";
import { NOTIFY, notification } from "./notification.ts";
import { WireReader } from "./reader.ts";
import { WireWriter } from "./writer.ts";

export interface FamilyRoutes {
  readonly family: RoutedFamily;
  readonly nlri: readonly Nlri[];
  /** Set when one UPDATE announces IPv4 routes the classic way and others by MP_REACH: the next hops of the latter. */
  readonly nextHops?: readonly IpAddress[];
}

export interface UpdateMessage {
  readonly withdrawn: readonly FamilyRoutes[];
  readonly reachable: readonly FamilyRoutes[];
  /** Of everything in `reachable`; next hops of MP_REACH included. */
  readonly attributes: PathAttributes;
  /** Set when the update is an End-of-RIB marker (RFC 4724 section 2). */
  readonly endOfRib?: AddressFamily;
  /** Malformed attributes that were dropped or turned the update into withdrawals. Worth a log line each. */
  readonly problems: readonly AttributeProblem[];
}

export type UpdateDecoding =
  | { readonly ok: true; readonly update: UpdateMessage }
  | { readonly ok: false; readonly notify: Notification; readonly reason: string };

const reset = (reason: string, notify = notification(NOTIFY.malformedAttributeList)): UpdateDecoding => ({
  ok: false,
  notify,
  reason,
});

/** Never throws. */
export function decodeUpdate(body: Uint8Array, context: AttributeContext): UpdateDecoding {
  const reader = new WireReader(body);
  const withdrawnBytes = reader.bytes(reader.u16());
  const attributeBytes = reader.bytes(reader.u16());
  if (reader.overran) return reset("the lengths inside the UPDATE exceed it");
  const addPath4 = context.addPath.has("ipv4-unicast");
  const withdrawn4 = decodeNlri(new WireReader(withdrawnBytes), { family: "ipv4-unicast", addPath: addPath4 });
  const reachable4 = decodeNlri(reader, { family: "ipv4-unicast", addPath: addPath4 });
  // RFC 7606 section 5.3: NLRI that cannot be parsed leaves nothing to treat as withdrawn.
  if (withdrawn4 === undefined) return reset("malformed withdrawn routes", notification(NOTIFY.invalidNetworkField));
  if (reachable4 === undefined) return reset("malformed NLRI", notification(NOTIFY.invalidNetworkField));
  const { attributes, problems } = decodeAttributes(attributeBytes, context);
  const worst = worstRecovery(problems);
  if (worst?.recovery === "session-reset") return reset(worst.reason, worst.notify);
  // RFC 7606 section 5.2: without reachable routes in sight there is nothing to treat as withdrawn; they may be in what could not be read.
  const announces = reachable4.length > 0 || (attributes.mpReach?.nlri.length ?? 0) > 0;
  if (worst?.recovery === "treat-as-withdraw" && !announces) return reset(worst.reason);
  return {
    ok: true,
    update: assemble(
      {
        withdrawn4,
        reachable4,
        attributes,
        problems: announces ? [...problems, ...missing(attributes, reachable4.length > 0)] : problems,
      },
      context,
    ),
  };
}

/**
 * What an UPDATE says of the routes it announces, from its attribute list alone; an MP_REACH_NLRI needs no prefixes. Undefined when anything is wrong: then `decodeUpdate`
 * says what that costs.
 */
export function decodeRouteAttributes(list: Uint8Array, context: AttributeContext): PathAttributes | undefined {
  const { attributes, problems } = decodeAttributes(list, context);
  const { mpReach } = attributes;
  if (problems.length > 0 || missing(attributes, mpReach === undefined).length > 0) return undefined;
  return routeAttributes(attributes, mpReach?.nextHops ?? [], context);
}

interface Parts {
  readonly withdrawn4: readonly Nlri[];
  readonly reachable4: readonly Nlri[];
  readonly attributes: DecodedAttributes;
  readonly problems: readonly AttributeProblem[];
}

function assemble({ withdrawn4, reachable4, attributes, problems }: Parts, context: AttributeContext): UpdateMessage {
  const { mpReach, mpUnreach } = attributes;
  const withdrawn: FamilyRoutes[] = [];
  const reachable: FamilyRoutes[] = [];
  if (withdrawn4.length > 0) withdrawn.push({ family: "ipv4-unicast", nlri: withdrawn4 });
  if (reachable4.length > 0) reachable.push({ family: "ipv4-unicast", nlri: reachable4 });
  const unreachFamily = mpUnreach === undefined ? undefined : routedFamily(mpUnreach);
  if (mpUnreach !== undefined && unreachFamily !== undefined && mpUnreach.nlri.length > 0) {
    withdrawn.push({ family: unreachFamily, nlri: mpUnreach.nlri });
  }
  const reachFamily = mpReach === undefined ? undefined : routedFamily(mpReach);
  const mixed = reachable4.length > 0;
  if (mpReach !== undefined && reachFamily !== undefined && mpReach.nlri.length > 0) {
    const { nlri, nextHops } = mpReach;
    reachable.push({ family: reachFamily, nlri, ...(mixed && { nextHops }) });
  }
  const merged = routeAttributes(attributes, mixed ? [] : (mpReach?.nextHops ?? []), context);
  const endOfRib = endOfRibOf({ withdrawn4, reachable4, attributes, problems });
  if (worstRecovery(problems)?.recovery === "treat-as-withdraw") {
    return { withdrawn: [...withdrawn, ...reachable], reachable: [], attributes: {}, problems };
  }
  return { withdrawn, reachable, attributes: merged, problems, ...(endOfRib !== undefined && { endOfRib }) };
}

/** The next hops of MP_REACH_NLRI, where they count, and what AS4_* say have taken their places. */
function routeAttributes(
  attributes: DecodedAttributes,
  [nextHop, linkLocalNextHop]: readonly IpAddress[],
  context: AttributeContext,
): PathAttributes {
  // Of most there is nothing to take out.
  if ((attributes.mpReach ?? attributes.mpUnreach ?? attributes.as4Path ?? attributes.as4Aggregator) === undefined) {
    return attributes;
  }
  const {
    mpReach: _mpReach,
    mpUnreach: _mpUnreach,
    as4Path: _as4Path,
    as4Aggregator: _as4Aggregator,
    ...rest
  } = attributes;
  return {
    ...rest,
    ...(nextHop !== undefined && { nextHop }),
    ...(linkLocalNextHop !== undefined && { linkLocalNextHop }),
    ...(!context.fourOctetAs && withAs4(attributes)),
  };
}

/**
 * What a two-octet speaker carried for others (RFC 6793 section 4.2.3). An AGGREGATOR that is not AS_TRANS, beside an AS4_AGGREGATOR, was written after the two of
 * them by somebody who knew neither: then both are out of date.
 */
function withAs4({ aggregator, as4Aggregator, as4Path, asPath }: DecodedAttributes): PathAttributes {
  if (as4Aggregator !== undefined && aggregator !== undefined && aggregator.as !== AS_TRANS) return {};
  return {
    ...(as4Path !== undefined && asPath !== undefined && { asPath: mergeAs4Path(asPath, as4Path) }),
    ...(as4Aggregator !== undefined && aggregator !== undefined && { aggregator: as4Aggregator }),
  };
}

/** RFC 7606 section 3 (d): a route without the mandatory attributes is withdrawn. `classic`: routes outside of MP_REACH_NLRI. */
function missing(attributes: DecodedAttributes, classic: boolean): AttributeProblem[] {
  const absent: [boolean, number, string][] = [
    [attributes.origin === undefined, 1, "ORIGIN"],
    [attributes.asPath === undefined, 2, "AS_PATH"],
    [attributes.nextHop === undefined && classic, 3, "NEXT_HOP"],
  ];
  return absent
    .filter(([gone]) => gone)
    .map(([, code, name]) => ({ recovery: "treat-as-withdraw", code, reason: `${name} is missing` }));
}

function endOfRibOf({ withdrawn4, reachable4, attributes, problems }: Parts): AddressFamily | undefined {
  if (withdrawn4.length > 0 || reachable4.length > 0 || problems.length > 0) return undefined;
  const present = Object.keys(attributes);
  if (present.length === 0) return { afi: 1, safi: 1 };
  const { mpUnreach } = attributes;
  if (present.length === 1 && mpUnreach?.nlri.length === 0) return { afi: mpUnreach.afi, safi: mpUnreach.safi };
  return undefined;
}

export interface UpdateLimits {
  /** Largest message: 4096, or 65535 with extended messages (RFC 8654). */
  readonly maxMessage: number;
}

const HEADER = 19;

/** The frame of an UPDATE: how many bytes of NLRI fit, and the body around them. */
export interface UpdateShape {
  /** Not positive: the attributes alone are too long for a message. */
  readonly room: number;
  readonly wrap: (nlri: Uint8Array) => Uint8Array;
}

export function withdrawalShape(family: RoutedFamily, { maxMessage }: UpdateLimits): UpdateShape {
  if (family === "ipv4-unicast") {
    return {
      room: maxMessage - HEADER - 4,
      wrap: (nlri) => new WireWriter(nlri.length + 4).u16(nlri.length).bytes(nlri).u16(0).finish(),
    };
  }
  const { afi, safi } = familyNumbers(family);
  const wrap = (nlri: Uint8Array): Uint8Array => {
    const writer = new WireWriter(nlri.length + 12).u16(0).u16(0);
    const length = nlri.length + 3;
    if (length > 255) writer.u8(0x90).u8(15).u16(length);
    else writer.u8(0x80).u8(15).u8(length);
    writer.u16(afi).u8(safi).bytes(nlri);
    writer.patchU16(2, writer.length - 4);
    return writer.finish();
  };
  return { room: maxMessage - HEADER - 4 - 7, wrap };
}

/** IPv4 with an IPv4 next hop goes the classic way, everything else in MP_REACH_NLRI, which comes first (RFC 7606 section 5.1). */
export function announcementShape(
  family: RoutedFamily,
  attributes: PathAttributes,
  context: AttributeContext,
  { maxMessage }: UpdateLimits,
): UpdateShape {
  const { linkLocalNextHop, ...plain } = withoutAs4(attributes, context);
  if (family === "ipv4-unicast" && attributes.nextHop?.family !== 6) {
    const encoded = encodeAttributes(plain, context);
    return {
      room: maxMessage - HEADER - 4 - encoded.length,
      wrap: (nlri) =>
        new WireWriter(encoded.length + nlri.length + 4).u16(0).u16(encoded.length).bytes(encoded).bytes(nlri).finish(),
    };
  }
  const { nextHop, ...others } = plain;
  const hops = [nextHop, linkLocalNextHop].filter((hop) => hop !== undefined).map(addressBytes);
  const encoded = encodeAttributes(others, context);
  const { afi, safi } = familyNumbers(family);
  const head = new WireWriter(40)
    .u16(afi)
    .u8(safi)
    .u8(hops.reduce((sum, hop) => sum + hop.length, 0));
  for (const hop of hops) head.bytes(hop);
  const start = head.u8(0).finish();
  const wrap = (nlri: Uint8Array): Uint8Array => {
    const length = start.length + nlri.length;
    const writer = new WireWriter(length + encoded.length + 8).u16(0).u16(0);
    if (length > 255) writer.u8(0x90).u8(14).u16(length);
    else writer.u8(0x80).u8(14).u8(length);
    writer.bytes(start).bytes(nlri).bytes(encoded);
    writer.patchU16(2, writer.length - 4);
    return writer.finish();
  };
  return { room: maxMessage - HEADER - 4 - encoded.length - start.length - 4, wrap };
}

/** Bodies of UPDATE messages that withdraw, as few as fit. */
export function encodeWithdrawals(routes: FamilyRoutes, context: AttributeContext, limits: UpdateLimits): Uint8Array[] {
  const { family, nlri } = routes;
  const { room, wrap } = withdrawalShape(family, limits);
  return chunks(nlri, { family, addPath: context.addPath.has(family) }, room).map(wrap);
}

/** Bodies of UPDATE messages that announce routes with one set of attributes; none when the attributes leave no room. */
export function encodeAnnouncements(
  routes: FamilyRoutes,
  attributes: PathAttributes,
  context: AttributeContext,
  limits: UpdateLimits,
): Uint8Array[] {
  const { family, nlri } = routes;
  const { room, wrap } = announcementShape(family, attributes, context, limits);
  return chunks(nlri, { family, addPath: context.addPath.has(family) }, room).map(wrap);
}

/** The marker that all routes of a family have been sent (RFC 4724 section 2). */
export function encodeEndOfRib(family: RoutedFamily): Uint8Array {
  if (family === "ipv4-unicast") return Uint8Array.of(0, 0, 0, 0);
  const { afi, safi } = familyNumbers(family);
  return new WireWriter().u16(0).u16(6).u8(0x80).u8(15).u8(3).u16(afi).u8(safi).finish();
}

/** Towards a two-octet speaker, what does not fit goes into AS4_PATH and AS4_AGGREGATOR (RFC 6793 section 4.2.2). */
function withoutAs4(attributes: PathAttributes, context: AttributeContext): DecodedAttributes & PathAttributes {
  if (context.fourOctetAs) return attributes;
  const large = attributes.asPath?.some((segment) => segment.ases.some((as) => as > 0xffff)) ?? false;
  const as4Path = attributes.asPath?.filter((segment) => segment.kind === "sequence" || segment.kind === "set");
  return {
    ...attributes,
    ...(large && as4Path !== undefined && { as4Path }),
    ...(attributes.aggregator !== undefined &&
      attributes.aggregator.as > 0xffff && { as4Aggregator: attributes.aggregator }),
  };
}

function chunks(nlri: readonly Nlri[], format: NlriFormat, room: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  let writer = new WireWriter();
  for (const one of nlri) {
    const size = nlriSize(one, format.addPath);
    if (size > room) continue;
    if (writer.length + size > room) {
      out.push(writer.finish());
      writer = new WireWriter();
    }
    encodeNlri(writer, one, format);
  }
  if (writer.length > 0) out.push(writer.finish());
  return out;
}
