/** Reads the protobuf wire format: tags, varints, lengths (protobuf.dev, "Encoding"). Bad input throws an ApiError 400. */
import { badRequest } from "../meta/api-error.ts";

export interface Field {
  readonly number: number;
  /** A varint or fixed number as bigint; a length-delimited value as bytes. */
  readonly value: bigint | Uint8Array;
  /** 64-bit floats come as `fixed`. */
  readonly fixed: boolean;
}

export function* readFields(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const need = (count: number): void => {
    if (count < 0 || at + count > bytes.length) throw truncated();
  };
  const varint = (): bigint => {
    let result = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      need(1);
      const byte = bytes[at++] ?? 0;
      result |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, result);
    }
    throw truncated();
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const number = tag >>> 3;
    switch (tag & 7) {
      case 0:
        yield { number, value: varint(), fixed: false };
        break;
      case 1:
        need(8);
        yield { number, value: view.getBigUint64(at, true), fixed: true };
        at += 8;
        break;
      case 2: {
        const length = Number(varint());
        need(length);
        yield { number, value: bytes.subarray(at, at + length), fixed: false };
        at += length;
        break;
      }
      case 5:
        need(4);
        yield { number, value: BigInt(view.getUint32(at, true)), fixed: true };
        at += 4;
        break;
      default:
        throw truncated();
    }
  }
}

const truncated = (): Error =>
  badRequest("unable to decode the protobuf body: proto: illegal wireType or unexpected end");
