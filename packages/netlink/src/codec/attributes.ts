/**
 * Descriptor tables: one table says which attribute number holds which property, and how; encoding and decoding both
 * follow from it.
 *
 * ```ts
 * interface Cmp { readonly sreg: number; readonly op: "eq" | "neq"; readonly data: Uint8Array }
 * const cmp: AttributeTable<Cmp> = { sreg: required(1, be32), op: required(2, oneOf(be32, ["eq", "neq"])), data: required(3, dataValue) };
 * ```
 *
 * Decoding keeps only what the table knows: newer kernels send more, and that is no error.
 */
import type { Family, IpAddress } from "@calico-ts/net";
import { addressBytes, addressFromBytes, formatMac, parseMac } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { LITTLE_ENDIAN_HOST } from "./byte-order.ts";
import { need, readAttributes, viewOf } from "./reader.ts";
import { textFrom } from "./text.ts";
import { type MessageWriter, NLA_F_NESTED } from "./writer.ts";

export interface Codec<V> {
  readonly write: (out: MessageWriter, value: V) => void;
  /** Undefined: the bytes say the same as absence (a flag that is off). */
  readonly read: (data: Uint8Array) => V | undefined;
  /** True when the content is attributes: sets the NLA_F_NESTED bit. */
  readonly nested?: boolean;
}

export interface Attribute<V> {
  readonly type: number;
  readonly codec: Codec<V>;
  readonly required: boolean;
}

export type AttributeTable<T> = { readonly [K in keyof T]-?: Attribute<Exclude<T[K], undefined>> };

export const required = <V>(type: number, codec: Codec<V>): Attribute<V> => ({ type, codec, required: true });
export const optional = <V>(type: number, codec: Codec<V>): Attribute<V> => ({ type, codec, required: false });

/** Writes each property that is there, in the order of the table. */
export function writeTable<T>(out: MessageWriter, table: AttributeTable<T>, value: T): void {
  for (const key in table) {
    const content = value[key];
    if (content === undefined) continue;
    const { type, codec } = table[key] as unknown as Attribute<unknown>;
    const start = out.begin(codec.nested === true ? type | NLA_F_NESTED : type);
    codec.write(out, content);
    out.end(start);
  }
}

/** @throws CalicoError BAD_INPUT when a required attribute is missing or one is too short. */
export function readTable<T>(table: AttributeTable<T>, data: Uint8Array): T {
  const byType = keysByType(table);
  const out: Record<string, unknown> = {};
  for (const attribute of readAttributes(data)) {
    const known = byType.get(attribute.type);
    if (known === undefined) continue;
    const value = known.codec.read(attribute.data);
    if (value !== undefined) out[known.key] = value;
  }
  for (const { key, required, type } of byType.values()) {
    if (required && !(key in out)) {
      throw new CalicoError("BAD_INPUT", `malformed netlink data: attribute ${type} ("${key}") is missing`);
    }
  }
  return out as T;
}

interface KnownAttribute extends Attribute<unknown> {
  readonly key: string;
}

const indexes = new WeakMap<object, ReadonlyMap<number, KnownAttribute>>();

function keysByType<T>(table: AttributeTable<T>): ReadonlyMap<number, KnownAttribute> {
  let index = indexes.get(table);
  if (index === undefined) {
    const entries = Object.entries(table as unknown as Readonly<Record<string, Attribute<unknown>>>);
    index = new Map(entries.map(([key, attribute]) => [attribute.type, { key, ...attribute }]));
    indexes.set(table, index);
  }
  return index;
}

export const u8: Codec<number> = {
  write: (out, value) => out.u8(value),
  read: (data) => viewOf(need(data, 1)).getUint8(0),
};
export const u16: Codec<number> = {
  write: (out, value) => out.u16(value),
  read: (data) => viewOf(need(data, 2)).getUint16(0, LITTLE_ENDIAN_HOST),
};
export const u32: Codec<number> = {
  write: (out, value) => out.u32(value),
  read: (data) => viewOf(need(data, 4)).getUint32(0, LITTLE_ENDIAN_HOST),
};
export const s32: Codec<number> = {
  write: (out, value) => out.u32(value),
  read: (data) => viewOf(need(data, 4)).getInt32(0, LITTLE_ENDIAN_HOST),
};
export const be16: Codec<number> = {
  write: (out, value) => out.be16(value),
  read: (data) => viewOf(need(data, 2)).getUint16(0),
};
export const be32: Codec<number> = {
  write: (out, value) => out.be32(value),
  read: (data) => viewOf(need(data, 4)).getUint32(0),
};
export const beS32: Codec<number> = {
  write: (out, value) => out.be32(value),
  read: (data) => viewOf(need(data, 4)).getInt32(0),
};
export const be64: Codec<bigint> = {
  write: (out, value) => out.be64(value),
  read: (data) => viewOf(need(data, 8)).getBigUint64(0),
};
/** Zero and absence are one. */
export const be32NonZero: Codec<number> = {
  write: be32.write,
  read: (data) => be32.read(data) || undefined,
};
export const text: Codec<string> = { write: (out, value) => out.text(value), read: textFrom };
export const bytes: Codec<Uint8Array> = { write: (out, value) => out.raw(value), read: (data) => data.slice() };

/** One byte, 0 or 1, both meaningful. */
export const bool8: Codec<boolean> = {
  write: (out, value) => out.u8(value ? 1 : 0),
  read: (data) => u8.read(data) !== 0,
};
/** Present when true. */
export const flag: Codec<boolean> = { write: () => {}, read: () => true };
/** Bits of a 32-bit word, network order; off and absence are one. */
export const beBit = (bit: number): Codec<boolean> => ({
  write: (out, value) => out.be32(value ? bit : 0),
  read: (data) => (((be32.read(data) ?? 0) & bit) !== 0 ? true : undefined),
});

export const mac: Codec<string> = {
  write: (out, value) => out.raw(parseMac(value)),
  // Tunnels carry their IP address where Ethernet has its MAC: not one.
  read: (data) => (data.length === 6 ? formatMac(data) : undefined),
};

export const address: Codec<IpAddress> = {
  write(out, value) {
    if (value.family === 4) out.be32(Number(value.value));
    else out.raw(addressBytes(value));
  },
  read: (data) => (data.length === 4 || data.length === 16 ? addressFromBytes(data) : undefined),
};
/** For attributes that hold one family only. */
export const addressOf = (family: Family): Codec<IpAddress> => ({
  write: address.write,
  read: (data) => addressFromBytes(need(data, family === 4 ? 4 : 16).subarray(0, family === 4 ? 4 : 16)),
});

/** Names for numbers. An unknown number is an error: the caller decides what to do with the whole. */
export function oneOf<K extends string>(codec: Codec<number>, numbers: Readonly<Record<K, number>>): Codec<K> {
  const names = new Map(Object.entries<number>(numbers).map(([name, number]) => [number, name as K]));
  return {
    write: (out, value) => codec.write(out, numbers[value]),
    read(data) {
      const number = codec.read(data);
      const name = number === undefined ? undefined : names.get(number);
      if (name === undefined) throw new CalicoError("BAD_INPUT", `netlink: no name for the value ${number}`);
      return name;
    },
  };
}

export const nested = <T>(table: AttributeTable<T>): Codec<T> => ({
  nested: true,
  write: (out, value) => writeTable(out, table, value),
  read: (data) => readTable(table, data),
});

/** A list: every item is an attribute of that type inside. */
export const listOf = <T>(type: number, item: Codec<T>): Codec<readonly T[]> => ({
  nested: true,
  write(out, values) {
    for (const value of values) {
      const start = out.begin(item.nested === true ? type | NLA_F_NESTED : type);
      item.write(out, value);
      out.end(start);
    }
  },
  read: (data) =>
    readAttributes(data)
      .filter((attribute) => attribute.type === type)
      .flatMap((attribute) => item.read(attribute.data) ?? []),
});
