/** Framing (RFC 4271 section 4.1, RFC 8654): bytes in any portions in, whole messages out. Dead after the first error. */
import type { Notification } from "./notification.ts";
import { NOTIFY, notification } from "./notification.ts";
import { WireWriter } from "./writer.ts";

export type MessageType = "open" | "update" | "notification" | "keepalive" | "route-refresh";

/** `body` is what follows the header: a view, valid until the next `push`. */
export interface Frame {
  readonly type: MessageType;
  readonly body: Uint8Array;
}

export const HEADER_LENGTH = 19;
export const CLASSIC_MAX = 4096;
export const EXTENDED_MAX = 65_535;

const TYPES: Readonly<Record<number, MessageType>> = {
  1: "open",
  2: "update",
  3: "notification",
  4: "keepalive",
  5: "route-refresh",
};
const CODES: Readonly<Record<MessageType, number>> = {
  open: 1,
  update: 2,
  notification: 3,
  keepalive: 4,
  "route-refresh": 5,
};
/** Smallest whole message per type (RFC 4271 section 6.1); NOTIFICATION 21, KEEPALIVE exactly 19. */
const SHORTEST: Readonly<Record<MessageType, number>> = {
  open: 29,
  update: 23,
  notification: 21,
  keepalive: 19,
  "route-refresh": 23,
};

export class MessageFramer {
  #pending = new Uint8Array(0);
  #failure: Notification | undefined;
  /** OPEN and KEEPALIVE stay within 4096 even when extended messages were agreed on (RFC 8654 section 4). */
  maxMessage = CLASSIC_MAX;

  /** The frames that are complete now. After a failure nothing more comes out. */
  push(chunk: Uint8Array): { readonly frames: readonly Frame[]; readonly failure: Notification | undefined } {
    const frames: Frame[] = [];
    if (this.#failure !== undefined) return { frames, failure: this.#failure };
    const bytes = this.#pending.length === 0 ? chunk : concat(this.#pending, chunk);
    let at = 0;
    while (bytes.length - at >= HEADER_LENGTH) {
      const length = ((bytes[at + 16] ?? 0) << 8) | (bytes[at + 17] ?? 0);
      const type = TYPES[bytes[at + 18] ?? 0];
      this.#failure = this.#check(bytes, at, length, type);
      if (this.#failure !== undefined || type === undefined) break;
      if (bytes.length - at < length) break;
      frames.push({ type, body: bytes.subarray(at + HEADER_LENGTH, at + length) });
      at += length;
    }
    this.#pending = this.#failure === undefined ? bytes.slice(at) : new Uint8Array(0);
    return { frames, failure: this.#failure };
  }

  #check(bytes: Uint8Array, at: number, length: number, type: MessageType | undefined): Notification | undefined {
    for (let byte = 0; byte < 16; byte++) if (bytes[at + byte] !== 0xff) return notification(NOTIFY.notSynchronized);
    const lengthField = Uint8Array.of(length >>> 8, length & 0xff);
    if (length < HEADER_LENGTH || length > this.maxMessage) return notification(NOTIFY.badMessageLength, lengthField);
    if (type === undefined) return notification(NOTIFY.badMessageType, Uint8Array.of(bytes[at + 18] ?? 0));
    const tooLong = (type === "keepalive" && length > HEADER_LENGTH) || (type === "open" && length > CLASSIC_MAX);
    if (length < SHORTEST[type] || tooLong) return notification(NOTIFY.badMessageLength, lengthField);
    return undefined;
  }
}

export function encodeMessage(type: MessageType, body: Uint8Array = new Uint8Array(0)): Uint8Array {
  const length = HEADER_LENGTH + body.length;
  const writer = new WireWriter(length);
  for (let word = 0; word < 8; word++) writer.u16(0xffff);
  return writer.u16(length).u8(CODES[type]).bytes(body).finish();
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
