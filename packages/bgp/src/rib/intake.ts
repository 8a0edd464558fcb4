/**
 * From the body of an UPDATE to announcements and withdrawals, fast. An UPDATE whose attribute block has been seen before costs a lookup; its prefixes go
 * from bytes to keys without objects between. Whatever is unusual (an attribute list that does not frame, duplicates, an IPv4 and an MP announcement
 * together, malformed attributes) takes the general way through `decodeUpdate`, which knows RFC 7606; both ways agree, which a test checks.
 */
import type { PathAttributes } from "../wire/attributes/values.ts";
import type { AttributeContext } from "../wire/attributes/table.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { routedFamily } from "../wire/family.ts";
import type { Notification } from "../wire/notification.ts";
import type { AttributeProblem } from "../wire/attributes/decode.ts";
import { decodeUpdate } from "../wire/update.ts";
import type { AttributeStore } from "./attribute-set.ts";
import { AttributeSet } from "./attribute-set.ts";
import type { AddressKey } from "./prefix-map.ts";
import { addressKey } from "./prefix-map.ts";

/** Where routes go. `begin` is called before the announcements that share its attributes. */
export interface IntakeSink {
  begin(family: RoutedFamily, set: AttributeSet): void;
  announce(address: AddressKey, length: number, pathId: number): void;
  withdraw(
    family: RoutedFamily,
    route: { readonly address: AddressKey; readonly length: number; readonly pathId: number },
  ): void;
  endOfRib(family: RoutedFamily): void;
}

export interface IntakeResult {
  /** The session has to end. */
  readonly failure?: { readonly notify: Notification; readonly reason: string };
  /** Malformed attributes, dropped or turned into withdrawals. */
  readonly problems: readonly AttributeProblem[];
}

export interface IntakeContext extends AttributeContext {
  /** Families agreed on; routes of others are ignored. */
  readonly families: readonly RoutedFamily[];
}

const FINE: IntakeResult = { problems: [] };
const MP_REACH = 14;
const MP_UNREACH = 15;

/** Never throws. */
export function takeUpdate(
  body: Uint8Array,
  context: IntakeContext,
  store: AttributeStore,
  sink: IntakeSink,
): IntakeResult {
  const parts = split(body);
  if (parts === undefined) return takeGenerally(body, context, sink);
  const { attributesAt, attributesEnd, withdrawnEnd } = parts;
  const attributes = scan(body, attributesAt, attributesEnd);
  const classic = body.length > attributesEnd;
  const withdrawsClassic = withdrawnEnd > 2;
  const withdrawsOnly = withdrawsClassic && attributesAt === attributesEnd;
  // Withdrawals of other families, End-of-RIB and mixtures are rare or short enough for the general way.
  const usual =
    attributes !== undefined &&
    attributes.unreach === undefined &&
    (attributes.reach === undefined ? classic || withdrawsOnly : !classic);
  if (!usual) return takeGenerally(body, context, sink);
  const family = attributes.reach === undefined ? "ipv4-unicast" : familyOf(body, attributes.reach);
  if (family === undefined) return takeGenerally(body, context, sink);
  const nlriAt = attributes.reach === undefined ? attributesEnd : nlriStart(body, attributes.reach);
  const nlriEnd = attributes.reach === undefined ? body.length : attributes.reach.end;
  const announced = { body, at: nlriAt, end: nlriEnd, family, addPath: context.addPath.has(family) };
  const withdrawn = {
    body,
    at: 2,
    end: withdrawnEnd,
    family: "ipv4-unicast" as const,
    addPath: context.addPath.has("ipv4-unicast"),
  };
  // An MP_REACH_NLRI without prefixes announces nothing, but the attributes beside it may still be wrong.
  const empty = nlriAt >= nlriEnd && attributes.reach !== undefined;
  if (empty || !wellFormed(announced) || !wellFormed(withdrawn)) return takeGenerally(body, context, sink);
  const set = nlriAt === nlriEnd ? undefined : blockOf(body, { ...parts, reach: attributes.reach }, context, store);
  if (set === undefined && nlriAt < nlriEnd) return takeGenerally(body, context, sink);
  if (withdrawsClassic && context.families.includes("ipv4-unicast")) {
    eachPrefix(withdrawn, (address, length, pathId) => sink.withdraw("ipv4-unicast", { address, length, pathId }));
  }
  if (set === undefined) return FINE;
  if (context.families.includes(family)) {
    sink.begin(family, set);
    eachPrefix(announced, (address, length, pathId) => sink.announce(address, length, pathId));
  }
  store.settle(set);
  return FINE;
}

/** Any UPDATE at all, by the book. */
export function takeGenerally(body: Uint8Array, context: IntakeContext, sink: IntakeSink): IntakeResult {
  const decoded = decodeUpdate(body, context);
  if (!decoded.ok) return { problems: [], failure: decoded };
  const { withdrawn, reachable, attributes, endOfRib, problems } = decoded.update;
  const key = (
    nlri: (typeof reachable)[number]["nlri"][number],
  ): { address: AddressKey; length: number; pathId: number } => ({
    address: addressKey(nlri.prefix),
    length: nlri.prefix.length,
    pathId: nlri.pathId ?? 0,
  });
  for (const { family, nlri } of withdrawn) {
    if (context.families.includes(family)) for (const one of nlri) sink.withdraw(family, key(one));
  }
  for (const { family, nlri, nextHops } of reachable) {
    if (!context.families.includes(family)) continue;
    sink.begin(family, new AttributeSet(nextHops === undefined ? attributes : withNextHops(attributes, nextHops)));
    for (const one of nlri) {
      const { address, length, pathId } = key(one);
      sink.announce(address, length, pathId);
    }
  }
  const ended = endOfRib === undefined ? undefined : routedFamily(endOfRib);
  if (ended !== undefined && context.families.includes(ended)) sink.endOfRib(ended);
  return { problems };
}

function withNextHops(
  attributes: PathAttributes,
  [nextHop, linkLocal]: readonly NonNullable<PathAttributes["nextHop"]>[],
): PathAttributes {
  const { nextHop: _other, linkLocalNextHop: _local, ...rest } = attributes;
  return {
    ...rest,
    ...(nextHop !== undefined && { nextHop }),
    ...(linkLocal !== undefined && { linkLocalNextHop: linkLocal }),
  };
}

interface Parts {
  readonly withdrawnEnd: number;
  readonly attributesAt: number;
  readonly attributesEnd: number;
}

const u16 = (body: Uint8Array, at: number): number => ((body[at] ?? 0) << 8) | (body[at + 1] ?? 0);

function split(body: Uint8Array): Parts | undefined {
  const withdrawnEnd = 2 + u16(body, 0);
  const attributesAt = withdrawnEnd + 2;
  const attributesEnd = attributesAt + u16(body, withdrawnEnd);
  return attributesAt > body.length || attributesEnd > body.length
    ? undefined
    : { withdrawnEnd, attributesAt, attributesEnd };
}

interface Range {
  /** Of the attribute's value. */
  readonly at: number;
  readonly end: number;
  /** Of the attribute, header included. */
  readonly from: number;
}

/** Finds MP_REACH and MP_UNREACH; undefined when the list is not framed well, or has one of them twice or with wrong flags. */
function scan(
  body: Uint8Array,
  start: number,
  end: number,
): { reach: Range | undefined; unreach: Range | undefined } | undefined {
  let reach: Range | undefined;
  let unreach: Range | undefined;
  let at = start;
  while (at < end) {
    const from = at;
    const flags = body[at] ?? 0;
    const code = body[at + 1] ?? 0;
    const extended = (flags & 0x10) !== 0;
    const value = at + (extended ? 4 : 3);
    at = value + (extended ? u16(body, from + 2) : (body[from + 2] ?? 0));
    if (value > end || at > end) return undefined;
    if (code !== MP_REACH && code !== MP_UNREACH) continue;
    if ((flags & 0xc0) !== 0x80) return undefined;
    const range = { at: value, end: at, from };
    if (code === MP_REACH) {
      if (reach !== undefined) return undefined;
      reach = range;
    } else {
      if (unreach !== undefined) return undefined;
      unreach = range;
    }
  }
  return { reach, unreach };
}

function familyOf(body: Uint8Array, { at, end }: Range): RoutedFamily | undefined {
  return end - at < 5 ? undefined : routedFamily({ afi: u16(body, at), safi: body[at + 2] ?? 0 });
}

/** After AFI, SAFI, the next hop with its length, and a reserved octet. */
const nlriStart = (body: Uint8Array, { at }: Range): number => at + 5 + (body[at + 3] ?? 0);

/** The shared attributes of the UPDATE; undefined when they are not all well. */
function blockOf(
  body: Uint8Array,
  { attributesAt, attributesEnd, reach }: Parts & { readonly reach: Range | undefined },
  context: AttributeContext,
  store: AttributeStore,
): AttributeSet | undefined {
  return store.block(
    reach === undefined
      ? body.subarray(attributesAt, attributesEnd)
      : withoutPrefixes(body, { attributesAt, attributesEnd, reach }),
    context,
  );
}

/** The attribute list with an MP_REACH_NLRI that ends where its prefixes begin. */
function withoutPrefixes(
  body: Uint8Array,
  { attributesAt, attributesEnd, reach }: Omit<Parts, "withdrawnEnd"> & { readonly reach: Range },
): Uint8Array {
  const head = body.subarray(reach.at, nlriStart(body, reach));
  const out = new Uint8Array(head.length + attributesEnd - attributesAt - (reach.end - reach.from) + 4);
  out.set([0x90, MP_REACH, head.length >>> 8, head.length & 0xff]);
  out.set(head, 4);
  out.set(body.subarray(attributesAt, reach.from), 4 + head.length);
  out.set(body.subarray(reach.end, attributesEnd), 4 + head.length + reach.from - attributesAt);
  return out;
}

interface Field {
  readonly body: Uint8Array;
  readonly at: number;
  readonly end: number;
  readonly family: RoutedFamily;
  readonly addPath: boolean;
}

/** Checked before the first route is taken: a field is good as a whole or not at all. */
function wellFormed({ body, at, end, family, addPath }: Field): boolean {
  const bits = family === "ipv4-unicast" ? 32 : 128;
  let next = at;
  while (next < end) {
    if (addPath) next += 4;
    const length = body[next] ?? 255;
    if (next >= end || length > bits) return false;
    next += 1 + ((length + 7) >> 3);
  }
  return next === end;
}

function eachPrefix(field: Field, take: (address: AddressKey, length: number, pathId: number) => void): void {
  const { body, end, family, addPath } = field;
  let at = field.at;
  while (at < end) {
    let pathId = 0;
    if (addPath) {
      pathId = u16(body, at) * 0x10000 + u16(body, at + 2);
      at += 4;
    }
    const length = body[at] ?? 0;
    const size = (length + 7) >> 3;
    at++;
    take(family === "ipv4-unicast" ? read4(body, at, length) : read6(body, at, length), length, pathId);
    at += size;
  }
}

/** Bits beyond the length are to be ignored (RFC 4271 section 4.3). */
function read4(body: Uint8Array, at: number, length: number): number {
  if (length === 0) return 0;
  let value = (body[at] ?? 0) << 24;
  if (length > 8) value |= (body[at + 1] ?? 0) << 16;
  if (length > 16) value |= (body[at + 2] ?? 0) << 8;
  if (length > 24) value |= body[at + 3] ?? 0;
  return value & (-1 << (32 - length));
}

function read6(body: Uint8Array, at: number, length: number): bigint {
  const size = (length + 7) >> 3;
  const word = (index: number): bigint => {
    let value = 0;
    for (let byte = 0; byte < 4; byte++) {
      const offset = index * 4 + byte;
      value = value * 256 + (offset < size ? (body[at + offset] ?? 0) : 0);
    }
    return BigInt(value);
  };
  const value = (word(0) << 96n) | (word(1) << 64n) | (size > 8 ? (word(2) << 32n) | word(3) : 0n);
  const host = BigInt(128 - length);
  return (value >> host) << host;
}
