/**
 * NOTIFICATION messages (RFC 4271 sections 4.5 and 6, RFC 4486, RFC 5492, RFC 7313, RFC 8538, RFC 9003, RFC 9234): codes as a table, and an
 * error value that carries one. A shutdown communication (RFC 9003, which replaced RFC 8203) is text in the data of Cease 2 and 4.
 */
import { WireReader } from "./reader.ts";
import { WireWriter } from "./writer.ts";

export interface Notification {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
}

/** Names of codes and subcodes as the IANA registry has them. */
export const NOTIFICATION_NAMES: Readonly<
  Record<number, { readonly name: string; readonly subcodes: Readonly<Record<number, string>> }>
> = {
  1: {
    name: "Message Header Error",
    subcodes: { 1: "Connection Not Synchronized", 2: "Bad Message Length", 3: "Bad Message Type" },
  },
  2: {
    name: "OPEN Message Error",
    subcodes: {
      1: "Unsupported Version Number",
      2: "Bad Peer AS",
      3: "Bad BGP Identifier",
      4: "Unsupported Optional Parameter",
      6: "Unacceptable Hold Time",
      7: "Unsupported Capability",
      11: "Role Mismatch",
    },
  },
  3: {
    name: "UPDATE Message Error",
    subcodes: {
      1: "Malformed Attribute List",
      2: "Unrecognized Well-known Attribute",
      3: "Missing Well-known Attribute",
      4: "Attribute Flags Error",
      5: "Attribute Length Error",
      6: "Invalid ORIGIN Attribute",
      8: "Invalid NEXT_HOP Attribute",
      9: "Optional Attribute Error",
      10: "Invalid Network Field",
      11: "Malformed AS_PATH",
    },
  },
  4: { name: "Hold Timer Expired", subcodes: {} },
  5: {
    name: "Finite State Machine Error",
    subcodes: {
      1: "Unexpected Message in OpenSent",
      2: "Unexpected Message in OpenConfirm",
      3: "Unexpected Message in Established",
    },
  },
  6: {
    name: "Cease",
    subcodes: {
      1: "Maximum Number of Prefixes Reached",
      2: "Administrative Shutdown",
      3: "Peer De-configured",
      4: "Administrative Reset",
      5: "Connection Rejected",
      6: "Other Configuration Change",
      7: "Connection Collision Resolution",
      8: "Out of Resources",
      9: "Hard Reset",
      10: "BFD Down",
    },
  },
  7: { name: "ROUTE-REFRESH Message Error", subcodes: { 1: "Invalid Message Length" } },
};

export const NOTIFY = {
  notSynchronized: [1, 1],
  badMessageLength: [1, 2],
  badMessageType: [1, 3],
  unsupportedVersion: [2, 1],
  badPeerAs: [2, 2],
  badIdentifier: [2, 3],
  unsupportedParameter: [2, 4],
  unacceptableHoldTime: [2, 6],
  openUnspecific: [2, 0],
  unsupportedCapability: [2, 7],
  roleMismatch: [2, 11],
  malformedAttributeList: [3, 1],
  unrecognisedWellKnown: [3, 2],
  optionalAttributeError: [3, 9],
  invalidNetworkField: [3, 10],
  holdTimerExpired: [4, 0],
  unexpectedInOpenSent: [5, 1],
  unexpectedInOpenConfirm: [5, 2],
  unexpectedInEstablished: [5, 3],
  maximumPrefixes: [6, 1],
  administrativeShutdown: [6, 2],
  peerDeconfigured: [6, 3],
  administrativeReset: [6, 4],
  connectionRejected: [6, 5],
  configurationChange: [6, 6],
  collision: [6, 7],
  outOfResources: [6, 8],
  hardReset: [6, 9],
  refreshBadLength: [7, 1],
} as const satisfies Readonly<Record<string, readonly [number, number]>>;

export function notification(kind: readonly [number, number], data: Uint8Array = new Uint8Array(0)): Notification {
  return { code: kind[0], subcode: kind[1], data };
}

/** Cease/Hard Reset around another NOTIFICATION (RFC 8538 section 3): the peer is to forget our routes although graceful restart was agreed on. */
export const hardReset = ({ code, subcode, data }: Notification): Notification =>
  notification(NOTIFY.hardReset, Uint8Array.of(code, subcode, ...data));

/** For people: `Cease: Administrative Shutdown ("maintenance")`. */
export function describeNotification({ code, subcode, data }: Notification): string {
  if (code === 6 && subcode === 9 && data.length >= 2) {
    const [innerCode = 0, innerSubcode = 0] = data;
    // One level only: a Hard Reset inside a Hard Reset means nothing.
    const inner =
      innerCode === 6 && innerSubcode === 9
        ? notification([6, 0])
        : { code: innerCode, subcode: innerSubcode, data: data.subarray(2) };
    return `Hard Reset: ${describeNotification(inner)}`;
  }
  const known = NOTIFICATION_NAMES[code];
  if (known === undefined) return `unknown notification ${code}/${subcode}`;
  const sub = known.subcodes[subcode];
  const text =
    sub === undefined ? (subcode === 0 ? known.name : `${known.name} (${subcode})`) : `${known.name}: ${sub}`;
  const message = shutdownMessage({ code, subcode, data });
  return message === "" ? text : `${text} ("${message}")`;
}

/** Decodes the body of a NOTIFICATION; undefined when it is shorter than its two codes. */
export function decodeNotification(body: Uint8Array): Notification | undefined {
  const reader = new WireReader(body);
  const code = reader.u8();
  const subcode = reader.u8();
  return reader.overran ? undefined : { code, subcode, data: reader.rest().slice() };
}

export function encodeNotificationBody({ code, subcode, data }: Notification): Uint8Array {
  return new WireWriter(2 + data.length).u8(code).u8(subcode).bytes(data).finish();
}

/** Cease 2 and 4 with text: one length octet, then at most 255 bytes of UTF-8 (RFC 9003 section 2). Longer text is cut at a character. */
export function shutdownNotification(kind: readonly [number, number], text: string): Notification {
  let utf8 = encodeUtf8(text);
  if (utf8.length > 255) {
    let end = 255;
    while (end > 0 && ((utf8[end] ?? 0) & 0xc0) === 0x80) end--;
    utf8 = utf8.subarray(0, end);
  }
  return notification(
    kind,
    utf8.length === 0 ? utf8 : new WireWriter(utf8.length + 1).u8(utf8.length).bytes(utf8).finish(),
  );
}

/** The operator's text, or "" when there is none or it is malformed. Control characters are replaced: this goes to logs. */
export function shutdownMessage({ code, subcode, data }: Notification): string {
  if (code !== 6 || (subcode !== 2 && subcode !== 4) || data.length < 2) return "";
  const length = data[0] ?? 0;
  if (length === 0 || length > data.length - 1) return "";
  return printable(decodeUtf8(data.subarray(1, 1 + length)));
}

function printable(text: string): string {
  let out = "";
  for (const char of text) out += (char.codePointAt(0) ?? 0) < 0x20 || char === "\u007f" ? "\ufffd" : char;
  return out;
}

/** TextEncoder is not part of the language, and this package has nothing else. */
export function encodeUtf8(text: string): Uint8Array {
  const out: number[] = [];
  for (const char of text) {
    const point = char.codePointAt(0) ?? 0;
    const scalar = point >= 0xd800 && point <= 0xdfff ? 0xfffd : point;
    if (scalar < 0x80) out.push(scalar);
    else if (scalar < 0x800) out.push(0xc0 | (scalar >> 6), 0x80 | (scalar & 63));
    else if (scalar < 0x10000) out.push(0xe0 | (scalar >> 12), 0x80 | ((scalar >> 6) & 63), 0x80 | (scalar & 63));
    else
      out.push(0xf0 | (scalar >> 18), 0x80 | ((scalar >> 12) & 63), 0x80 | ((scalar >> 6) & 63), 0x80 | (scalar & 63));
  }
  return Uint8Array.from(out);
}

/** Malformed sequences become U+FFFD. */
export function decodeUtf8(bytes: Uint8Array): string {
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at++] ?? 0;
    const extra =
      lead < 0x80
        ? 0
        : lead >= 0xc2 && lead < 0xe0
          ? 1
          : lead >= 0xe0 && lead < 0xf0
            ? 2
            : lead >= 0xf0 && lead < 0xf5
              ? 3
              : -1;
    let point = extra === 0 ? lead : lead & (0x3f >> extra);
    let good = extra >= 0;
    for (let left = extra; left > 0 && good; left--) {
      const next = bytes[at] ?? 0;
      good = (next & 0xc0) === 0x80;
      if (good) {
        point = (point << 6) | (next & 63);
        at++;
      }
    }
    const overlong = (extra === 2 && point < 0x800) || (extra === 3 && (point < 0x10000 || point > 0x10ffff));
    out += good && !overlong && !(point >= 0xd800 && point <= 0xdfff) ? String.fromCodePoint(point) : "\ufffd";
  }
  return out;
}
