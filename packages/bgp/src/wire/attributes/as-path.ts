/** AS paths (RFC 4271 section 5.1.2, confederations RFC 5065, four-octet numbers RFC 6793). */
import type { WireReader } from "../reader.ts";
import type { WireWriter } from "../writer.ts";

export interface AsPathSegment {
  readonly kind: "set" | "sequence" | "confed-sequence" | "confed-set";
  readonly ases: readonly number[];
}

export type AsPath = readonly AsPathSegment[];

const KINDS: Readonly<Record<number, AsPathSegment["kind"]>> = {
  1: "set",
  2: "sequence",
  3: "confed-sequence",
  4: "confed-set",
};
const CODES: Readonly<Record<AsPathSegment["kind"], number>> = {
  set: 1,
  sequence: 2,
  "confed-sequence": 3,
  "confed-set": 4,
};
/** Stands in 16 bits for an AS number that needs 32 (RFC 6793). */
export const AS_TRANS = 23456;
/** A segment counts its AS numbers in one octet. */
const LONGEST_SEGMENT = 255;

/** Undefined when malformed: an unknown segment type, an empty segment, one cut short (RFC 7606 section 7.2), or AS 0 in it (RFC 7607 section 2). */
export function decodeAsPath(reader: WireReader, fourOctet: boolean): AsPath | undefined {
  const path: AsPathSegment[] = [];
  while (reader.remaining > 0) {
    const kind = KINDS[reader.u8()];
    const count = reader.u8();
    if (kind === undefined || count === 0 || reader.remaining < count * (fourOctet ? 4 : 2)) return undefined;
    const ases: number[] = [];
    for (let at = 0; at < count; at++) ases.push(fourOctet ? reader.u32() : reader.u16());
    if (ases.includes(0)) return undefined;
    path.push({ kind, ases: ases.slice() });
  }
  // Arrays that grew have room for more; paths are kept by the ten thousand, so they get their exact size.
  return path.slice();
}

/** Towards a peer without four-octet numbers, larger ones become AS_TRANS. */
export function encodeAsPath(path: AsPath, writer: WireWriter, fourOctet: boolean): void {
  for (const { kind, ases } of path) {
    for (let at = 0; at < ases.length; at += LONGEST_SEGMENT) {
      const part = ases.slice(at, at + LONGEST_SEGMENT);
      writer.u8(CODES[kind]).u8(part.length);
      for (const as of part) {
        if (fourOctet) writer.u32(as);
        else writer.u16(as > 0xffff ? AS_TRANS : as);
      }
    }
  }
}

/** For the decision process (RFC 4271 section 9.1.2.2 a, RFC 5065): a set counts one, confederation segments nothing. */
export function asPathLength(path: AsPath): number {
  let length = 0;
  for (const { kind, ases } of path) {
    if (kind === "sequence") length += ases.length;
    else if (kind === "set") length += 1;
  }
  return length;
}

/** The AS that announced the route to us: the first of the leftmost sequence; undefined for an empty path or one that starts with a set. */
export function firstAs(path: AsPath): number | undefined {
  const first = path.find((segment) => segment.kind === "sequence" || segment.kind === "set");
  return first?.kind === "sequence" ? first.ases[0] : undefined;
}

/** The AS the route came from in the beginning; undefined when the path is empty or ends in a set. */
export function originAs(path: AsPath): number | undefined {
  const last = path.at(-1);
  return last?.kind === "sequence" ? last.ases.at(-1) : undefined;
}

export function countAs(path: AsPath, as: number): number {
  return path.reduce((sum, segment) => sum + segment.ases.filter((one) => one === as).length, 0);
}

export function prependAs(path: AsPath, as: number, times = 1): AsPath {
  const added = Array.from({ length: times }, () => as);
  const [first, ...rest] = path;
  if (first?.kind === "sequence" && first.ases.length + times <= LONGEST_SEGMENT) {
    return [{ kind: "sequence", ases: [...added, ...first.ases] }, ...rest];
  }
  return [{ kind: "sequence", ases: added }, ...path];
}

/** RFC 6793 section 4.2.3: the two-octet path tells how long it is, AS4_PATH what its tail really was. */
export function mergeAs4Path(path: AsPath, as4Path: AsPath): AsPath {
  const countOf = (one: AsPath): number => asPathLength(one);
  const missing = countOf(path) - countOf(as4Path);
  if (missing < 0) return path;
  const head: AsPathSegment[] = [];
  let left = missing;
  for (const segment of path) {
    if (segment.kind === "confed-sequence" || segment.kind === "confed-set") {
      if (left > 0) head.push(segment);
      continue;
    }
    if (left <= 0) break;
    const take = segment.kind === "set" ? 1 : Math.min(left, segment.ases.length);
    head.push(segment.kind === "set" ? segment : { kind: "sequence", ases: segment.ases.slice(0, take) });
    left -= take;
  }
  const tail = as4Path.filter((segment) => segment.kind === "sequence" || segment.kind === "set");
  const lastHead = head.at(-1);
  const firstTail = tail[0];
  if (lastHead?.kind === "sequence" && firstTail?.kind === "sequence") {
    return [...head.slice(0, -1), { kind: "sequence", ases: [...lastHead.ases, ...firstTail.ases] }, ...tail.slice(1)];
  }
  return [...head, ...tail];
}

/** As routers print it: `65001 65002 {65003,65004}`. */
export function formatAsPath(path: AsPath): string {
  return path
    .map(({ kind, ases }) => {
      if (kind === "sequence") return ases.join(" ");
      if (kind === "set") return `{${ases.join(",")}}`;
      return kind === "confed-sequence" ? `(${ases.join(" ")})` : `[${ases.join(",")}]`;
    })
    .join(" ");
}
