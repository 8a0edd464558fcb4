/**
 * Capabilities (RFC 5492): one descriptor each, in a table. A capability we know but whose value is malformed is ignored and reported, as
 * RFC 5492 section 5 wants of what is not understood; one we do not know is kept as bytes.
 *
 * 1 multiprotocol (RFC 4760) · 2 route refresh (RFC 2918) · 5 extended next hop (RFC 8950) · 6 extended message (RFC 8654) · 9 role (RFC 9234) ·
 * 64 graceful restart (RFC 4724, RFC 8538) · 65 four-octet AS (RFC 6793) · 69 additional paths (RFC 7911) · 70 enhanced refresh (RFC 7313) ·
 * 71 long-lived graceful restart (RFC 9494) · 73 host name (draft-walton-bgp-hostname-capability)
 */
import type { AddressFamily } from "./family.ts";
import { decodeUtf8, encodeUtf8 } from "./notification.ts";
import { WireReader } from "./reader.ts";
import type { WireWriter } from "./writer.ts";

export type Role = "provider" | "rs" | "rs-client" | "customer" | "peer";

export type Capability =
  | ({ readonly kind: "multiprotocol" } & AddressFamily)
  | { readonly kind: "route-refresh" }
  | {
      readonly kind: "extended-next-hop";
      readonly entries: readonly (AddressFamily & { readonly nextHopAfi: number })[];
    }
  | { readonly kind: "extended-message" }
  | { readonly kind: "role"; readonly role: Role }
  | {
      readonly kind: "graceful-restart";
      /** R: the speaker has restarted. */
      readonly restarted: boolean;
      /** N (RFC 8538): graceful restart covers NOTIFICATION too. */
      readonly notification: boolean;
      /** 0–4095. */
      readonly restartSeconds: number;
      readonly families: readonly (AddressFamily & { readonly forwardingPreserved: boolean })[];
    }
  | { readonly kind: "four-octet-as"; readonly as: number }
  | {
      readonly kind: "add-path";
      readonly families: readonly (AddressFamily & { readonly receive: boolean; readonly send: boolean })[];
    }
  | { readonly kind: "enhanced-route-refresh" }
  | {
      readonly kind: "long-lived-graceful-restart";
      /** staleSeconds: 0–16777215. */
      readonly families: readonly (AddressFamily & {
        readonly forwardingPreserved: boolean;
        readonly staleSeconds: number;
      })[];
    }
  | { readonly kind: "host-name"; readonly host: string; readonly domain: string }
  | { readonly kind: "unknown"; readonly code: number; readonly value: Uint8Array };

type Known = Exclude<Capability, { readonly kind: "unknown" }>;

interface CapabilityCodec<C extends Known> {
  readonly code: number;
  /** Undefined: malformed. The caller checks that every byte was read. */
  readonly decode: (reader: WireReader) => C | undefined;
  readonly encode: (capability: C, writer: WireWriter) => void;
}

type CapabilityTable = { readonly [K in Known["kind"]]: CapabilityCodec<Extract<Known, { readonly kind: K }>> };

const ROLES: readonly Role[] = ["provider", "rs", "rs-client", "customer", "peer"];

const empty = <K extends "route-refresh" | "extended-message" | "enhanced-route-refresh">(
  code: number,
  kind: K,
): { readonly code: number; readonly decode: () => { readonly kind: K }; readonly encode: () => void } => ({
  code,
  decode: () => ({ kind }),
  encode: () => undefined,
});

const readFamily = (reader: WireReader): AddressFamily => ({ afi: reader.u16(), safi: reader.u8() });
const writeFamily = (writer: WireWriter, { afi, safi }: AddressFamily): WireWriter => writer.u16(afi).u8(safi);

function readEach<T>(reader: WireReader, size: number, read: () => T): T[] | undefined {
  if (reader.remaining % size !== 0) return undefined;
  const out: T[] = [];
  while (reader.remaining > 0) out.push(read());
  return out;
}

const TABLE: CapabilityTable = {
  multiprotocol: {
    code: 1,
    decode: (reader) => {
      const afi = reader.u16();
      reader.u8();
      return { kind: "multiprotocol", afi, safi: reader.u8() };
    },
    encode: ({ afi, safi }, writer) => void writer.u16(afi).u8(0).u8(safi),
  },
  "route-refresh": empty(2, "route-refresh"),
  "extended-next-hop": {
    code: 5,
    decode: (reader) => {
      const entries = readEach(reader, 6, () => ({ afi: reader.u16(), safi: reader.u16(), nextHopAfi: reader.u16() }));
      return entries && { kind: "extended-next-hop", entries };
    },
    encode: ({ entries }, writer) => {
      for (const { afi, safi, nextHopAfi } of entries) writer.u16(afi).u16(safi).u16(nextHopAfi);
    },
  },
  "extended-message": empty(6, "extended-message"),
  role: {
    code: 9,
    decode: (reader) => {
      const role = ROLES[reader.u8()];
      return role && { kind: "role", role };
    },
    encode: ({ role }, writer) => void writer.u8(ROLES.indexOf(role)),
  },
  "graceful-restart": {
    code: 64,
    decode: (reader) => {
      const flags = reader.u16();
      const families = readEach(reader, 4, () => ({
        ...readFamily(reader),
        forwardingPreserved: (reader.u8() & 0x80) !== 0,
      }));
      return (
        families && {
          kind: "graceful-restart",
          restarted: (flags & 0x8000) !== 0,
          notification: (flags & 0x4000) !== 0,
          restartSeconds: flags & 0x0fff,
          families,
        }
      );
    },
    encode: ({ restarted, notification, restartSeconds, families }, writer) => {
      writer.u16((restarted ? 0x8000 : 0) | (notification ? 0x4000 : 0) | Math.min(restartSeconds, 4095));
      for (const family of families) writeFamily(writer, family).u8(family.forwardingPreserved ? 0x80 : 0);
    },
  },
  "four-octet-as": {
    code: 65,
    decode: (reader) => ({ kind: "four-octet-as", as: reader.u32() }),
    encode: ({ as }, writer) => void writer.u32(as),
  },
  "add-path": {
    code: 69,
    decode: (reader) => {
      const families = readEach(reader, 4, () => {
        const family = readFamily(reader);
        const mode = reader.u8();
        return { ...family, receive: (mode & 1) !== 0, send: (mode & 2) !== 0, valid: mode >= 1 && mode <= 3 };
      });
      // RFC 7911 section 4: an entry with another mode is ignored.
      const known = families
        ?.filter((entry) => entry.valid)
        .map(({ afi, safi, receive, send }) => ({ afi, safi, receive, send }));
      return known && { kind: "add-path", families: known };
    },
    encode: ({ families }, writer) => {
      for (const family of families) writeFamily(writer, family).u8((family.receive ? 1 : 0) | (family.send ? 2 : 0));
    },
  },
  "enhanced-route-refresh": empty(70, "enhanced-route-refresh"),
  "long-lived-graceful-restart": {
    code: 71,
    decode: (reader) => {
      const families = readEach(reader, 7, () => {
        const family = readFamily(reader);
        const forwardingPreserved = (reader.u8() & 0x80) !== 0;
        return { ...family, forwardingPreserved, staleSeconds: (reader.u8() << 16) | reader.u16() };
      });
      return families && { kind: "long-lived-graceful-restart", families };
    },
    encode: ({ families }, writer) => {
      for (const family of families) {
        const seconds = Math.min(family.staleSeconds, 0xffffff);
        writeFamily(writer, family)
          .u8(family.forwardingPreserved ? 0x80 : 0)
          .u8(seconds >>> 16)
          .u16(seconds & 0xffff);
      }
    },
  },
  "host-name": {
    code: 73,
    decode: (reader) => {
      const host = decodeUtf8(reader.bytes(reader.u8()));
      return { kind: "host-name", host, domain: decodeUtf8(reader.bytes(reader.u8())) };
    },
    encode: ({ host, domain }, writer) => {
      for (const text of [host, domain]) {
        const utf8 = encodeUtf8(text).subarray(0, 100);
        writer.u8(utf8.length).bytes(utf8);
      }
    },
  },
};

const BY_CODE: ReadonlyMap<number, CapabilityCodec<Known>> = new Map(
  Object.values(TABLE).map((codec) => [codec.code, codec as unknown as CapabilityCodec<Known>]),
);

export interface DecodedCapabilities {
  readonly capabilities: readonly Capability[];
  /** Codes of known capabilities whose value was malformed and which were therefore ignored. */
  readonly malformed: readonly number[];
}

/** The value of one Capabilities optional parameter; undefined when its framing is broken. */
export function decodeCapabilities(value: Uint8Array): DecodedCapabilities | undefined {
  const reader = new WireReader(value);
  const capabilities: Capability[] = [];
  const malformed: number[] = [];
  while (reader.remaining > 0) {
    const code = reader.u8();
    const body = reader.bytes(reader.u8());
    if (reader.overran) return undefined;
    const codec = BY_CODE.get(code);
    if (codec === undefined) {
      capabilities.push({ kind: "unknown", code, value: body.slice() });
      continue;
    }
    const bodyReader = new WireReader(body);
    const capability = codec.decode(bodyReader);
    if (capability === undefined || !bodyReader.exhausted) malformed.push(code);
    else capabilities.push(capability);
  }
  return { capabilities, malformed };
}

export function encodeCapability(capability: Capability, writer: WireWriter): void {
  if (capability.kind === "unknown") {
    writer.u8(capability.code).u8(capability.value.length).bytes(capability.value);
    return;
  }
  const codec = TABLE[capability.kind] as unknown as CapabilityCodec<Known>;
  writer.u8(codec.code);
  const lengthAt = writer.length;
  writer.u8(0);
  codec.encode(capability, writer);
  writer.patchU8(lengthAt, writer.length - lengthAt - 1);
}
