/**
 * What our encoder makes of what our decoder understood, and, written independently of both, what that has to be: the normal form.
 *
 * UPDATE: withdrawals first, then announcements, one message each per family; IPv4 with an IPv4 next hop in the classic fields, everything else in MP_REACH_NLRI and
 * MP_UNREACH_NLRI. Attributes: MP ones first, then by code; flags as the attribute's class wants them, Extended Length only beyond 255 bytes, Partial only on
 * attributes we do not know; a link-local next hop alone instead of behind an unspecified one; communities of each kind ascending and without repetition; bits
 * beyond a prefix's length are zero. What RFC 7606 discards, unknown non-transitive attributes, and what means nothing on an external session are not there.
 * OPEN: one capability per optional parameter.
 */
import type { AttributeContext } from "../src/wire/attributes/table.ts";
import { encodeCapability } from "../src/wire/capabilities.ts";
import { routedFamily } from "../src/wire/family.ts";
import { encodeAnnouncements, encodeEndOfRib, encodeWithdrawals, type UpdateMessage } from "../src/wire/update.ts";
import { WireWriter } from "../src/wire/writer.ts";
import type { OpenMessage } from "../src/wire/open.ts";

const LIMITS = { maxMessage: 65_535 };

/** Bodies of the UPDATEs that say the same. */
export function reencodeUpdate(update: UpdateMessage, context: AttributeContext): Uint8Array[] {
  const { withdrawn, reachable, attributes, endOfRib } = update;
  const ended = endOfRib === undefined ? undefined : routedFamily(endOfRib);
  const { nextHop: _hop, linkLocalNextHop: _local, ...shared } = attributes;
  return [
    ...(ended === undefined ? [] : [encodeEndOfRib(ended)]),
    ...withdrawn.flatMap((routes) => encodeWithdrawals(routes, context, LIMITS)),
    ...reachable.flatMap((routes) => {
      const [nextHop, linkLocalNextHop] = routes.nextHops ?? [];
      const own = { ...shared, ...(nextHop && { nextHop }), ...(linkLocalNextHop && { linkLocalNextHop }) };
      return encodeAnnouncements(routes, routes.nextHops === undefined ? attributes : own, context, LIMITS);
    }),
  ];
}

/** The capabilities of an OPEN, byte by byte, however they are spread over optional parameters. */
export function capabilityBytes({ capabilities }: Pick<OpenMessage, "capabilities">): Uint8Array {
  const writer = new WireWriter();
  for (const capability of capabilities) encodeCapability(capability, writer);
  return writer.finish();
}

interface RawAttribute {
  readonly flags: number;
  readonly code: number;
  readonly value: Uint8Array;
}

/** Values of these are lists that have no order, of so many bytes each. */
const UNORDERED: Readonly<Record<number, number>> = { 8: 4, 16: 8, 32: 12 };
/** Optional and Transitive as each attribute's class has them. */
const CLASS: Readonly<Record<number, number>> = {
  ...{ 1: 0x40, 2: 0x40, 3: 0x40, 4: 0x80, 5: 0x40, 6: 0x40, 7: 0xc0, 8: 0xc0, 9: 0x80, 10: 0x80 },
  ...{ 14: 0x80, 15: 0x80, 16: 0xc0, 17: 0xc0, 18: 0xc0, 32: 0xc0, 35: 0xc0 },
};

/** The normal form of the body of a well-formed UPDATE, worked out on bytes. */
export function normalUpdate(body: Uint8Array): Uint8Array[] {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const withdrawnEnd = 2 + view.getUint16(0);
  const attributesEnd = withdrawnEnd + 2 + view.getUint16(withdrawnEnd);
  const attributes: RawAttribute[] = [];
  for (let at = withdrawnEnd + 2; at < attributesEnd; ) {
    const flags = view.getUint8(at);
    const code = view.getUint8(at + 1);
    const start = at + ((flags & 0x10) === 0 ? 3 : 4);
    const end = start + ((flags & 0x10) === 0 ? view.getUint8(at + 2) : view.getUint16(at + 2));
    attributes.push(normalAttribute({ flags, code, value: body.subarray(start, end) }));
    at = end;
  }
  const unreach = attributes.filter(({ code }) => code === 15);
  const others = attributes
    .filter(({ code }) => code !== 15)
    .toSorted((a, b) => (a.code === 14 ? -1 : b.code === 14 ? 1 : a.code - b.code));
  const withdrawn = body.subarray(2, withdrawnEnd);
  const nlri = body.subarray(attributesEnd);
  const out: Uint8Array[] = [];
  if (withdrawn.length > 0 || (attributes.length === 0 && nlri.length === 0)) out.push(assemble(withdrawn, [], EMPTY));
  if (unreach.length > 0) out.push(assemble(EMPTY, unreach, EMPTY));
  if (others.length > 0) out.push(assemble(EMPTY, others, nlri));
  return out;
}

const EMPTY = new Uint8Array(0);

function normalAttribute({ flags, code, value }: RawAttribute): RawAttribute {
  const size = UNORDERED[code];
  const known = CLASS[code];
  return {
    code,
    flags: known ?? (flags & 0xc0) | 0x20,
    value: code === MP_REACH ? withoutUnspecified(value) : size === undefined ? value : sorted(value, size),
  };
}

const MP_REACH = 14;

/** AFI, SAFI, length of the next hop, next hop: of two addresses the first may say that there is only the second. */
function withoutUnspecified(value: Uint8Array): Uint8Array {
  if (value[3] !== 32 || value.subarray(4, 20).some((byte) => byte !== 0)) return value;
  return Uint8Array.of(...value.subarray(0, 3), 16, ...value.subarray(20));
}

function sorted(value: Uint8Array, size: number): Uint8Array {
  const items = new Set<string>();
  for (let at = 0; at < value.length; at += size) {
    items.add([...value.subarray(at, at + size)].map((byte) => byte.toString(16).padStart(2, "0")).join(""));
  }
  const bytes = [...items].toSorted().join("").match(/../g) ?? [];
  return Uint8Array.from(bytes, (text) => Number.parseInt(text, 16));
}

function assemble(withdrawn: Uint8Array, attributes: readonly RawAttribute[], nlri: Uint8Array): Uint8Array {
  const list = attributes.flatMap(({ flags, code, value }) =>
    value.length > 255
      ? [flags | 0x10, code, value.length >> 8, value.length & 255, ...value]
      : [flags, code, value.length, ...value],
  );
  const sizes = [withdrawn.length, list.length] as const;
  return Uint8Array.of(sizes[0] >> 8, sizes[0] & 255, ...withdrawn, sizes[1] >> 8, sizes[1] & 255, ...list, ...nlri);
}
