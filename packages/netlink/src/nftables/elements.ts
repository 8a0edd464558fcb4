/**
 * Set elements ↔ attributes. Our element is a key or an inclusive range of keys; the kernel has three shapes for that:
 *
 * - hash sets: the key;
 * - interval sets with one field (rbtree): two entries, the first key and, flagged as an end, the key after the last.
 *   A range that reaches the largest key has no end entry;
 * - interval sets over concatenations (pipapo): one entry with key and inclusive end.
 */
import { type AttributeTable, be32, bytes, listOf, nested, optional, required, text } from "../codec/attributes.ts";
import type { MessageWriter } from "../codec/writer.ts";
import { compareBytes, sameBytes } from "./bytes.ts";
import { dataCodec, type NftData, valueCodec } from "./data.ts";
import { commentData, readComment } from "./userdata.ts";
import type { NftElement, NftSet } from "./values.ts";

const ELEM = { KEY: 1, DATA: 2, FLAGS: 3, USERDATA: 6, KEY_END: 10 } as const;
const INTERVAL_END = 1;
const LIST_ELEM = 1;

export interface WireElement {
  readonly key?: Uint8Array;
  readonly data?: NftData;
  readonly flags?: number;
  readonly userdata?: Uint8Array;
  readonly keyEnd?: Uint8Array;
}
const elementTable: AttributeTable<WireElement> = {
  // Absent in a catch-all element.
  key: optional(ELEM.KEY, valueCodec),
  data: optional(ELEM.DATA, dataCodec),
  flags: optional(ELEM.FLAGS, be32),
  userdata: optional(ELEM.USERDATA, bytes),
  keyEnd: optional(ELEM.KEY_END, valueCodec),
};

export interface WireElements {
  readonly table: string;
  readonly set: string;
  readonly elements?: readonly WireElement[];
}
export const elementsTable: AttributeTable<WireElements> = {
  table: required(1, text),
  set: required(2, text),
  elements: optional(3, listOf(LIST_ELEM, nested(elementTable))),
};

/** Writes the entries of one element. `forDelete` leaves out what does not identify it. */
export function writeElement(out: MessageWriter, set: NftSet, element: NftElement, forDelete: boolean): void {
  const item = out.beginNested(LIST_ELEM);
  writeData(out, ELEM.KEY, element.key);
  const range = set.interval === true;
  const concat = set.keyTypes.length > 1;
  if (range && concat) writeData(out, ELEM.KEY_END, element.keyEnd ?? element.key);
  if (!forDelete) {
    if (element.value !== undefined) {
      const data = out.beginNested(ELEM.DATA);
      dataCodec.write(out, element.value);
      out.end(data);
    }
    if (element.comment !== undefined) out.attributeBytes(ELEM.USERDATA, commentData(element.comment));
  }
  out.end(item);
  if (range && !concat) {
    const after = successor(element.keyEnd ?? element.key);
    if (after !== undefined) writeEnd(out, after);
  }
}

function writeEnd(out: MessageWriter, key: Uint8Array): void {
  const item = out.beginNested(LIST_ELEM);
  writeData(out, ELEM.KEY, key);
  out.attributeBe32(ELEM.FLAGS, INTERVAL_END);
  out.end(item);
}

function writeData(out: MessageWriter, type: number, value: Uint8Array): void {
  const start = out.beginNested(type);
  out.attributeBytes(1, value);
  out.end(start);
}

/** Back from the entries of a whole dump. Catch-all elements have no key of ours and are left out. */
export function elementsFromWire(set: NftSet, wire: readonly WireElement[]): NftElement[] {
  if (set.interval !== true || set.keyTypes.length > 1) {
    return wire.flatMap((entry) => {
      if (entry.key === undefined) return [];
      const { key, keyEnd } = entry;
      const whole = keyEnd !== undefined && !sameBytes(key, keyEnd) ? { key, keyEnd } : { key };
      return [{ ...whole, ...contents(entry) }];
    });
  }
  return joinIntervals(wire);
}

function contents(entry: WireElement): Pick<NftElement, "value" | "comment"> {
  const comment = entry.userdata === undefined ? undefined : readComment(entry.userdata);
  return {
    ...(entry.data === undefined ? {} : { value: entry.data }),
    ...(comment === undefined ? {} : { comment }),
  };
}

const isEnd = (entry: WireElement): boolean => ((entry.flags ?? 0) & INTERVAL_END) !== 0;

function joinIntervals(wire: readonly WireElement[]): NftElement[] {
  const entries = wire.filter((entry): entry is WireElement & { readonly key: Uint8Array } => entry.key !== undefined);
  // Ends first at equal keys: [a, b) and [b, c) share b.
  const sorted = entries.toSorted((a, b) => compareBytes(a.key, b.key) || Number(isEnd(b)) - Number(isEnd(a)));
  const out: NftElement[] = [];
  sorted.forEach((entry, index) => {
    if (isEnd(entry)) return;
    // Without an end entry the next start ends the range, and the last range reaches the largest key.
    const next = sorted[index + 1];
    const last = next === undefined ? new Uint8Array(entry.key.length).fill(255) : predecessor(next.key);
    const range = sameBytes(entry.key, last) ? { key: entry.key } : { key: entry.key, keyEnd: last };
    out.push({ ...range, ...contents(entry) });
  });
  return out;
}

/** The next larger key, or undefined after the largest. */
function successor(key: Uint8Array): Uint8Array | undefined {
  const out = key.slice();
  for (let at = out.length - 1; at >= 0; at--) {
    out[at] = ((out[at] ?? 0) + 1) & 255;
    if (out[at] !== 0) return out;
  }
  return undefined;
}

function predecessor(key: Uint8Array): Uint8Array {
  const out = key.slice();
  for (let at = out.length - 1; at >= 0; at--) {
    out[at] = ((out[at] ?? 0) - 1) & 255;
    if (out[at] !== 255) break;
  }
  return out;
}
