/** OPEN (RFC 4271 section 4.2), with capabilities (RFC 5492) and the extended optional parameters length (RFC 9072). */
import { AS_TRANS } from "./attributes/as-path.ts";
import type { Capability } from "./capabilities.ts";
import { decodeCapabilities, encodeCapability } from "./capabilities.ts";
import type { Notification } from "./notification.ts";
import { NOTIFY, notification } from "./notification.ts";
import { WireReader } from "./reader.ts";
import { WireWriter } from "./writer.ts";

export interface OpenMessage {
  readonly version: 4;
  /** The AS of the four-octet capability when the peer sent it, else the 16-bit field. */
  readonly as: number;
  readonly holdSeconds: number;
  /** Router id as an unsigned 32-bit integer; never 0 (RFC 6286). */
  readonly identifier: number;
  readonly capabilities: readonly Capability[];
  /** Known capabilities whose value was malformed: ignored, and worth a log line. */
  readonly malformedCapabilities: readonly number[];
}

export type OpenDecoding =
  | { readonly ok: true; readonly open: OpenMessage }
  | { readonly ok: false; readonly notify: Notification };

const PARAMETER_CAPABILITIES = 2;
const EXTENDED_LENGTH = 255;

const refuse = (kind: readonly [number, number], data?: Uint8Array): OpenDecoding => ({
  ok: false,
  notify: notification(kind, data),
});

/** What can be judged without the configuration; AS, identifier equality and roles are the session's business. */
export function decodeOpen(body: Uint8Array): OpenDecoding {
  const reader = new WireReader(body);
  const version = reader.u8();
  const as16 = reader.u16();
  const holdSeconds = reader.u16();
  const identifier = reader.u32();
  let parametersLength = reader.u8();
  if (reader.overran) return refuse(NOTIFY.openUnspecific);
  // Data of this refusal: the largest version we speak (RFC 4271 section 6.2).
  if (version !== 4) return refuse(NOTIFY.unsupportedVersion, Uint8Array.of(0, 4));
  if (holdSeconds === 1 || holdSeconds === 2) return refuse(NOTIFY.unacceptableHoldTime);
  if (identifier === 0) return refuse(NOTIFY.badIdentifier);

  let extended = false;
  // The first length says nothing then, except that it is not zero (RFC 9072 section 2).
  if (parametersLength !== 0 && body[10] === EXTENDED_LENGTH) {
    extended = true;
    reader.u8();
    parametersLength = reader.u16();
  }
  if (parametersLength !== reader.remaining || reader.overran) return refuse(NOTIFY.openUnspecific);
  const capabilities: Capability[] = [];
  const malformed: number[] = [];
  while (reader.remaining > 0) {
    const type = reader.u8();
    const value = reader.bytes(extended ? reader.u16() : reader.u8());
    if (reader.overran) return refuse(NOTIFY.openUnspecific);
    if (type !== PARAMETER_CAPABILITIES) return refuse(NOTIFY.unsupportedParameter);
    const decoded = decodeCapabilities(value);
    if (decoded === undefined) return refuse(NOTIFY.openUnspecific);
    capabilities.push(...decoded.capabilities);
    malformed.push(...decoded.malformed);
  }
  const fourOctet = capabilities.find((capability) => capability.kind === "four-octet-as");
  const as = fourOctet?.as ?? as16;
  if (as === 0) return refuse(NOTIFY.badPeerAs);
  return {
    ok: true,
    open: { version: 4, as, holdSeconds, identifier, capabilities, malformedCapabilities: malformed },
  };
}

/** Capabilities go into one parameter each while they fit the classic length, else the extended form is used (RFC 9072). */
export function encodeOpenBody(open: Omit<OpenMessage, "malformedCapabilities">): Uint8Array {
  const writer = new WireWriter();
  writer
    .u8(4)
    .u16(open.as > 0xffff ? AS_TRANS : open.as)
    .u16(open.holdSeconds)
    .u32(open.identifier);
  const encoded = open.capabilities.map((capability) => {
    const one = new WireWriter();
    encodeCapability(capability, one);
    return one.finish();
  });
  const classicLength = encoded.reduce((sum, bytes) => sum + bytes.length + 2, 0);
  const extended = classicLength >= EXTENDED_LENGTH;
  if (extended)
    writer
      .u8(EXTENDED_LENGTH)
      .u8(EXTENDED_LENGTH)
      .u16(classicLength + encoded.length);
  else writer.u8(classicLength);
  for (const bytes of encoded) {
    writer.u8(PARAMETER_CAPABILITIES);
    if (extended) writer.u16(bytes.length);
    else writer.u8(bytes.length);
    writer.bytes(bytes);
  }
  return writer.finish();
}
