/** Neighbours and forwarding database entries ↔ RTM_*NEIGH messages (linux/neighbour.h). */
import { type Family, formatAddress, type IpAddress } from "@calico-ts/net";
import {
  type AttributeTable,
  address,
  be16,
  mac,
  optional,
  readTable,
  u16,
  u32,
  writeTable,
} from "../codec/attributes.ts";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, viewOf } from "../codec/reader.ts";
import { AF, familyNumber, familyOf, modeFlags, RTM, type RouteRequest, type WriteMode } from "./request.ts";
import type { Neighbour, NeighbourSpec } from "./values.ts";

const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;

interface WireNeighbour {
  readonly destination?: IpAddress;
  readonly mac?: string;
  readonly vlan?: number;
  readonly port?: number;
  readonly vni?: number;
  readonly link?: number;
  readonly master?: number;
}
const neighbourTable: AttributeTable<WireNeighbour> = {
  destination: optional(1, address),
  mac: optional(2, mac),
  vlan: optional(5, u16),
  port: optional(6, be16),
  vni: optional(7, u32),
  link: optional(8, u32),
  master: optional(9, u32),
};

/** Undefined for what is neither. @throws CalicoError BAD_INPUT for malformed data. */
export function readNeighbour(message: MessageView): Neighbour | undefined {
  if (message.type !== RTM.NEWNEIGH && message.type !== RTM.DELNEIGH) return undefined;
  const view = viewOf(need(message.body, 12));
  const family = view.getUint8(0);
  const wire = readTable(neighbourTable, message.body.subarray(12));
  const link = view.getInt32(4, LITTLE_ENDIAN_HOST);
  const state = view.getUint16(8, LITTLE_ENDIAN_HOST);
  const flags = view.getUint8(10);
  const { destination, mac: macText, vlan, port, vni, master } = wire;
  if (family === AF.BRIDGE) {
    if (macText === undefined) return undefined;
    return {
      kind: "fdb",
      link,
      mac: macText,
      ...(destination === undefined ? {} : { destination }),
      ...(vlan === undefined ? {} : { vlan }),
      ...(vni === undefined ? {} : { vni }),
      ...(port === undefined ? {} : { port }),
      ...(master === undefined ? {} : { master }),
      state,
      flags,
    };
  }
  if (familyOf(family) === undefined || destination === undefined) return undefined;
  return {
    kind: "neighbour",
    link,
    address: destination,
    ...(macText === undefined ? {} : { mac: macText }),
    state,
    flags,
  };
}

function request(spec: NeighbourSpec, how: Pick<RouteRequest, "type" | "flags" | "operation">): RouteRequest {
  return {
    ...how,
    body(out) {
      out.u8(spec.kind === "fdb" ? AF.BRIDGE : familyNumber(spec.address.family));
      out.u8(0);
      out.u16(0);
      out.u32(spec.link);
      out.u16(spec.state ?? NUD_PERMANENT);
      out.u8(spec.flags ?? (spec.kind === "fdb" ? NTF_SELF : 0));
      out.u8(0);
      writeTable(out, neighbourTable, toWire(spec));
    },
  };
}

function toWire(spec: NeighbourSpec): WireNeighbour {
  if (spec.kind === "neighbour") {
    return { destination: spec.address, ...(spec.mac === undefined ? {} : { mac: spec.mac }) };
  }
  const { destination, vlan, port, vni } = spec;
  return {
    ...(destination === undefined ? {} : { destination }),
    mac: spec.mac,
    ...(vlan === undefined ? {} : { vlan }),
    ...(port === undefined ? {} : { port }),
    ...(vni === undefined ? {} : { vni }),
  };
}

const describe = (spec: NeighbourSpec): string =>
  spec.kind === "fdb"
    ? `forwarding entry ${spec.mac} on link ${spec.link}`
    : `neighbour ${formatAddress(spec.address)} on link ${spec.link}`;

export const writeNeighbour = (spec: NeighbourSpec, mode: WriteMode): RouteRequest =>
  request(spec, { type: RTM.NEWNEIGH, flags: NLM_F.ACK | modeFlags(mode), operation: `${mode} ${describe(spec)}` });

export const deleteNeighbour = (spec: NeighbourSpec): RouteRequest =>
  request(spec, { type: RTM.DELNEIGH, flags: NLM_F.ACK, operation: `delete ${describe(spec)}` });

export type NeighbourDump =
  | { readonly kind: "neighbour"; readonly family?: Family; readonly link?: number }
  | { readonly kind: "fdb" };

export const dumpNeighbours = (dump: NeighbourDump): RouteRequest => ({
  type: RTM.GETNEIGH,
  flags: NLM_F.DUMP,
  operation: dump.kind === "fdb" ? "list forwarding entries" : "list neighbours",
  body(out) {
    out.u8(dump.kind === "fdb" ? AF.BRIDGE : familyNumber(dump.family));
    out.u8(0);
    out.u16(0);
    out.u32(0);
    out.u32(0);
    if (dump.kind === "neighbour" && dump.link !== undefined) writeTable(out, neighbourTable, { link: dump.link });
  },
});
