/** Walks the attributes of an UPDATE by the table, with the error handling of RFC 7606 section 3 to 5. */
import type { Notification } from "../notification.ts";
import { NOTIFY, notification } from "../notification.ts";
import { WireReader } from "../reader.ts";
import { WireWriter } from "../writer.ts";
import type { AttributeCodec, AttributeContext, AttributeField, Recovery } from "./table.ts";
import { ATTRIBUTE_FIELDS, ATTRIBUTES, FIELD_BY_CODE } from "./table.ts";
import type { DecodedAttributes, UnknownAttribute } from "./values.ts";

export interface AttributeProblem {
  readonly recovery: Recovery;
  /** Code of the attribute; 0 when it is the list itself. */
  readonly code: number;
  readonly reason: string;
  /** What a reset says; absent: Malformed Attribute List. */
  readonly notify?: Notification;
}

export interface AttributeDecoding {
  readonly attributes: DecodedAttributes;
  readonly problems: readonly AttributeProblem[];
}

const OPTIONAL = 0x80;
const TRANSITIVE = 0x40;
const PARTIAL = 0x20;
const EXTENDED = 0x10;

const flagsOf: Readonly<Record<AttributeCodec<unknown>["class"], number>> = {
  "well-known": TRANSITIVE,
  "optional-transitive": OPTIONAL | TRANSITIVE,
  "optional-non-transitive": OPTIONAL,
};

/** In which list each code was seen last, by the number of the list: lists are walked one at a time, and a set for each would cost as much as the walk. */
const seenIn = new Float64Array(256);
let lists = 0;

/** An attribute where it is. Views of it are made when they are needed: blocks come by the hundred thousand. */
interface Found {
  readonly flags: number;
  readonly code: number;
  readonly value: WireReader;
  readonly list: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** With flags, code and length: what a NOTIFICATION shows the peer (RFC 4271 section 6.3). */
const whole = ({ list: bytes, start, end }: Found): Uint8Array => bytes.slice(start, end);

/** Never throws. `problems` says what was wrong and what each costs; attributes that were well are there all the same. */
export function decodeAttributes(bytes: Uint8Array, context: AttributeContext): AttributeDecoding {
  const reader = new WireReader(bytes);
  const attributes: Fields = {};
  const unknown: UnknownAttribute[] = [];
  const problems: AttributeProblem[] = [];
  lists++;
  while (reader.remaining > 0) {
    const start = bytes.length - reader.remaining;
    const flags = reader.u8();
    const code = reader.u8();
    const length = (flags & EXTENDED) === 0 ? reader.u8() : reader.u16();
    const value = reader.sub(length);
    if (reader.overran) {
      // RFC 7606 section 4: the list is cut short; what follows cannot be framed, but NLRI can still be located.
      problems.push({ recovery: "treat-as-withdraw", code, reason: "the attribute list ends inside an attribute" });
      break;
    }
    if (seenIn[code] === lists) {
      // RFC 7606 section 3 (g): the first counts, except that reachability may not come twice.
      const recovery = code === 14 || code === 15 ? "session-reset" : "attribute-discard";
      problems.push({ recovery, code, reason: `attribute ${code} appears twice` });
      continue;
    }
    seenIn[code] = lists;
    const field = FIELD_BY_CODE.get(code);
    const found: Found = { flags, code, value, list: bytes, start, end: bytes.length - reader.remaining };
    if (field === undefined) decodeUnknown(found, unknown, problems);
    else decodeKnown(found, { field, context }, attributes, problems);
  }
  if (unknown.length > 0) attributes.unknown = unknown;
  return { attributes: attributes as DecodedAttributes, problems };
}

type Fields = Partial<Record<AttributeField | "unknown", unknown>>;

function decodeKnown(
  found: Found,
  { field, context }: { readonly field: AttributeField; readonly context: AttributeContext },
  attributes: Fields,
  problems: AttributeProblem[],
): void {
  const { flags, value } = found;
  const codec: AttributeCodec<unknown> = ATTRIBUTES[field] as unknown as AttributeCodec<unknown>;
  if (codec.internalOnly === true && !context.internal) return;
  const length = value.remaining;
  const decoded = codec.decode(value, context);
  const { code, name, onMalformed } = codec;
  if (decoded === undefined || !value.exhausted) {
    const notify = notification(NOTIFY.optionalAttributeError, whole(found));
    const reason = `${name}: malformed, ${length} bytes`;
    problems.push({ recovery: onMalformed, code, reason, ...(onMalformed === "session-reset" && { notify }) });
    return;
  }
  if (((flags ^ flagsOf[codec.class]) & (OPTIONAL | TRANSITIVE)) !== 0) {
    // RFC 7606 section 3 (c): whatever a malformed value would cost. The routes of an MP_REACH_NLRI have to be known to be withdrawn.
    problems.push({ recovery: "treat-as-withdraw", code, reason: `${name}: flags 0x${flags.toString(16)}` });
    if (field !== "mpReach" && field !== "mpUnreach") return;
  }
  attributes[field] = decoded;
}

function decodeUnknown(found: Found, unknown: UnknownAttribute[], problems: AttributeProblem[]): void {
  const { flags, code } = found;
  if ((flags & OPTIONAL) === 0) {
    // RFC 4271 section 6.3 asks for a reset; RFC 7606 section 3 keeps that for well-known attributes nobody knows.
    const notify = notification(NOTIFY.unrecognisedWellKnown, whole(found));
    problems.push({ recovery: "session-reset", code, reason: `unrecognised well-known attribute ${code}`, notify });
    return;
  }
  if ((flags & TRANSITIVE) === 0) return;
  unknown.push({ code, transitive: true, partial: (flags & PARTIAL) !== 0, value: found.value.rest().slice() });
}

/** The strongest of the problems, or undefined when there is none. */
export function worstRecovery(problems: readonly AttributeProblem[]): AttributeProblem | undefined {
  const rank: Readonly<Record<Recovery, number>> = {
    "session-reset": 2,
    "treat-as-withdraw": 1,
    "attribute-discard": 0,
  };
  return problems.reduce<AttributeProblem | undefined>(
    (worst, problem) => (worst === undefined || rank[problem.recovery] > rank[worst.recovery] ? problem : worst),
    undefined,
  );
}

/** Written into again and again: nothing that encodes attributes calls back. */
const [list, value] = [new WireWriter(4096), new WireWriter(4096)];

/** In order of code, MP_UNREACH and MP_REACH first as RFC 7606 section 5.1 asks of senders. */
export function encodeAttributes(attributes: DecodedAttributes, context: AttributeContext): Uint8Array {
  const writer = list.reset();
  for (const field of ENCODE_ORDER) {
    if (attributes[field] === undefined) continue;
    const codec = ATTRIBUTES[field] as unknown as AttributeCodec<unknown>;
    codec.encode(attributes[field], value.reset(), context);
    writeAttribute(writer, flagsOf[codec.class], codec.code, value.view());
  }
  for (const { code, value: carried } of attributes.unknown ?? []) {
    // We pass on what we do not understand, and say so (RFC 4271 section 5).
    writeAttribute(writer, OPTIONAL | TRANSITIVE | PARTIAL, code, carried);
  }
  return writer.finish();
}

const ENCODE_ORDER: readonly AttributeField[] = [
  "mpUnreach",
  "mpReach",
  ...ATTRIBUTE_FIELDS.filter((field) => field !== "mpReach" && field !== "mpUnreach").toSorted(
    (a, b) => ATTRIBUTES[a].code - ATTRIBUTES[b].code,
  ),
];

function writeAttribute(writer: WireWriter, flags: number, code: number, value: Uint8Array): void {
  if (value.length > 255)
    writer
      .u8(flags | EXTENDED)
      .u8(code)
      .u16(value.length);
  else writer.u8(flags).u8(code).u8(value.length);
  writer.bytes(value);
}
