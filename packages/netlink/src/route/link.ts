/** Links ↔ RTM_*LINK messages (linux/if_link.h). */
import type { IpAddress } from "@calico-ts/net";
import {
  type AttributeTable,
  address,
  addressOf,
  be16,
  bool8,
  bytes,
  type Codec,
  flag,
  mac,
  optional,
  readTable,
  s32,
  text,
  u8,
  u16,
  u32,
  writeTable,
} from "../codec/attributes.ts";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, viewOf } from "../codec/reader.ts";
import type { MessageWriter } from "../codec/writer.ts";
import { isUnspecified, RTM, type RouteRequest } from "./request.ts";
import type {
  BridgeOptions,
  BridgePort,
  IpipOptions,
  Link,
  LinkChange,
  LinkInfo,
  LinkSpec,
  TunInfo,
  VxlanOptions,
} from "./values.ts";

const IFLA_LINKINFO = 18;
const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
const VETH_INFO_PEER = 1;
const IFF = { UP: 0x1, PROMISC: 0x100, LOWER_UP: 0x1_0000 } as const;
/** Leave the counters out: they are most of a dump. */
const RTEXT_FILTER_SKIP_STATS = 8;

interface WireLinkInfo {
  readonly kind?: string;
  readonly data?: Uint8Array;
  readonly slaveKind?: string;
  readonly slaveData?: Uint8Array;
}
const infoTable: AttributeTable<WireLinkInfo> = {
  kind: optional(INFO.KIND, text),
  data: optional(INFO.DATA, bytes),
  slaveKind: optional(INFO.SLAVE_KIND, text),
  slaveData: optional(INFO.SLAVE_DATA, bytes),
};

interface WireLink {
  readonly mac?: string;
  readonly name?: string;
  readonly mtu?: number;
  readonly link?: number;
  readonly master?: number;
  readonly txQueueLength?: number;
  readonly operState?: number;
  readonly info?: WireLinkInfo;
  readonly alias?: string;
  readonly group?: number;
  readonly namespaceFd?: number;
  readonly txQueues?: number;
  readonly rxQueues?: number;
  readonly linkNamespace?: number;
}
const linkTable: AttributeTable<WireLink> = {
  mac: optional(1, mac),
  name: optional(3, text),
  mtu: optional(4, u32),
  link: optional(5, u32),
  master: optional(10, u32),
  txQueueLength: optional(13, u32),
  operState: optional(16, u8),
  info: optional(IFLA_LINKINFO, { write: () => {}, read: (data) => readTable(infoTable, data) }),
  alias: optional(20, text),
  group: optional(27, u32),
  namespaceFd: optional(28, u32),
  txQueues: optional(31, u32),
  rxQueues: optional(32, u32),
  linkNamespace: optional(37, s32),
};

const bool32: Codec<boolean> = { write: (out, value) => out.u32(value ? 1 : 0), read: (data) => u32.read(data) !== 0 };

const bridgeTable: AttributeTable<BridgeOptions> = {
  forwardDelay: optional(1, u32),
  ageingTime: optional(4, u32),
  stp: optional(5, bool32),
  vlanFiltering: optional(7, bool8),
  multicastSnooping: optional(23, bool8),
};

const portTable: AttributeTable<BridgePort> = {
  state: optional(1, u8),
  priority: optional(2, u16),
  cost: optional(3, u32),
  hairpin: optional(4, bool8),
  guard: optional(5, bool8),
  learning: optional(8, bool8),
  unicastFlood: optional(9, bool8),
  proxyArp: optional(10, bool8),
  multicastFlood: optional(27, bool8),
  broadcastFlood: optional(30, bool8),
  neighbourSuppress: optional(32, bool8),
  isolated: optional(33, bool8),
};

type WireVxlan = Omit<VxlanOptions, "id" | "local" | "remote"> & {
  readonly id?: number;
  readonly remote4?: IpAddress;
  readonly local4?: IpAddress;
  readonly remote6?: IpAddress;
  readonly local6?: IpAddress;
};
const vxlanTable: AttributeTable<WireVxlan> = {
  id: optional(1, u32),
  remote4: optional(2, addressOf(4)),
  underlay: optional(3, u32),
  local4: optional(4, addressOf(4)),
  ttl: optional(5, u8),
  tos: optional(6, u8),
  learning: optional(7, bool8),
  ageing: optional(8, u32),
  proxy: optional(11, bool8),
  l2miss: optional(13, bool8),
  l3miss: optional(14, bool8),
  port: optional(15, be16),
  remote6: optional(16, addressOf(6)),
  local6: optional(17, addressOf(6)),
  udpChecksum: optional(18, bool8),
  udpZeroChecksum6Tx: optional(19, bool8),
  udpZeroChecksum6Rx: optional(20, bool8),
  gbp: optional(23, flag),
  collectMetadata: optional(25, bool8),
};

const ipipTable: AttributeTable<IpipOptions> = {
  underlay: optional(1, u32),
  local: optional(2, address),
  remote: optional(3, address),
  ttl: optional(4, u8),
  tos: optional(5, u8),
  pmtuDiscovery: optional(10, bool8),
};

interface WireTun {
  readonly owner?: number;
  readonly group?: number;
  readonly type?: number;
  readonly persistent?: boolean;
}
const tunTable: AttributeTable<WireTun> = {
  owner: optional(1, u32),
  group: optional(2, u32),
  type: optional(3, u8),
  persistent: optional(6, bool8),
};
const IFF_TAP = 2;

function vxlanToWire(options: VxlanOptions): WireVxlan {
  const { local, remote, gbp, ...rest } = options;
  return {
    ...rest,
    ...(gbp === true ? { gbp } : {}),
    ...(local === undefined ? {} : local.family === 4 ? { local4: local } : { local6: local }),
    ...(remote === undefined ? {} : remote.family === 4 ? { remote4: remote } : { remote6: remote }),
  };
}

function vxlanFromWire(wire: WireVxlan): VxlanOptions {
  const { id = 0, local4, local6, remote4, remote6, underlay, ...rest } = wire;
  const local = local4 ?? local6;
  const remote = remote4 ?? remote6;
  return {
    id,
    ...rest,
    ...(underlay === undefined || underlay === 0 ? {} : { underlay }),
    ...(local === undefined || isUnspecified(local) ? {} : { local }),
    ...(remote === undefined || isUnspecified(remote) ? {} : { remote }),
  };
}

function ipipFromWire(wire: IpipOptions): IpipOptions {
  const { local, remote, underlay, ...rest } = wire;
  return {
    ...rest,
    ...(underlay === undefined || underlay === 0 ? {} : { underlay }),
    ...(local === undefined || isUnspecified(local) ? {} : { local }),
    ...(remote === undefined || isUnspecified(remote) ? {} : { remote }),
  };
}

function tunFromWire(wire: WireTun): TunInfo {
  const { type, ...rest } = wire;
  return type === undefined ? rest : { ...rest, tap: type === IFF_TAP };
}

function readInfo(wire: WireLinkInfo): LinkInfo {
  const data = wire.data ?? new Uint8Array(0);
  switch (wire.kind) {
    case "veth":
      return { kind: "veth" };
    case "bridge":
      return { kind: "bridge", ...readTable(bridgeTable, data) };
    case "vxlan":
      return { kind: "vxlan", ...vxlanFromWire(readTable(vxlanTable, data)) };
    case "ipip":
      return { kind: "ipip", ...ipipFromWire(readTable(ipipTable, data)) };
    case "tun":
      return { kind: "tun", ...tunFromWire(readTable(tunTable, data)) };
    default:
      return { kind: "other", name: wire.kind ?? "" };
  }
}

interface Header {
  readonly index?: number;
  readonly flags?: number;
  readonly change?: number;
}

/** struct ifinfomsg */
function writeHeader(out: MessageWriter, header: Header): void {
  out.u8(0);
  out.u8(0);
  out.u16(0);
  out.u32(header.index ?? 0);
  out.u32(header.flags ?? 0);
  out.u32(header.change ?? 0);
}

/** Undefined for what is no link message. @throws CalicoError BAD_INPUT for malformed data. */
export function readLink(message: MessageView): Link | undefined {
  if (message.type !== RTM.NEWLINK && message.type !== RTM.DELLINK) return undefined;
  const view = viewOf(need(message.body, 16));
  // Bridges announce their ports under their own family, with a fraction of the attributes.
  if (view.getUint8(0) !== 0) return undefined;
  const flags = view.getUint32(8, LITTLE_ENDIAN_HOST);
  const wire = readTable(linkTable, message.body.subarray(16));
  const { mac: macText, master, link, linkNamespace, alias } = wire;
  const info = wire.info ?? {};
  return {
    index: view.getInt32(4, LITTLE_ENDIAN_HOST),
    name: wire.name ?? "",
    hardwareType: view.getUint16(2, LITTLE_ENDIAN_HOST),
    flags,
    up: (flags & IFF.UP) !== 0,
    carrier: (flags & IFF.LOWER_UP) !== 0,
    operState: wire.operState ?? 0,
    mtu: wire.mtu ?? 0,
    ...(macText === undefined ? {} : { mac: macText }),
    ...(master === undefined ? {} : { master }),
    ...(link === undefined || link === 0 ? {} : { link }),
    ...(linkNamespace === undefined || linkNamespace < 0 ? {} : { linkNamespace }),
    group: wire.group ?? 0,
    txQueueLength: wire.txQueueLength ?? 0,
    ...(alias === undefined ? {} : { alias }),
    info: readInfo(info),
    ...(info.slaveKind === "bridge" ? { bridgePort: readTable(portTable, info.slaveData ?? new Uint8Array(0)) } : {}),
  };
}

const nameOrIndex = (target: string | number): string =>
  typeof target === "number" ? `link ${target}` : `link "${target}"`;

export const dumpLinks = (): RouteRequest => ({
  type: RTM.GETLINK,
  flags: NLM_F.DUMP,
  operation: "list links",
  body(out) {
    writeHeader(out, {});
    writeExtMask(out);
  },
});

export const getLink = (target: string | number): RouteRequest => ({
  type: RTM.GETLINK,
  flags: 0,
  operation: `look up ${nameOrIndex(target)}`,
  body(out) {
    writeHeader(out, typeof target === "number" ? { index: target } : {});
    if (typeof target === "string") out.attributeText(3, target);
    writeExtMask(out);
  },
});

function writeExtMask(out: MessageWriter): void {
  const start = out.begin(29);
  out.u32(RTEXT_FILTER_SKIP_STATS);
  out.end(start);
}

export const deleteLink = (target: string | number): RouteRequest => ({
  type: RTM.DELLINK,
  flags: NLM_F.ACK,
  operation: `delete ${nameOrIndex(target)}`,
  body(out) {
    writeHeader(out, typeof target === "number" ? { index: target } : {});
    if (typeof target === "string") out.attributeText(3, target);
  },
});

export const createLink = (spec: LinkSpec): RouteRequest => ({
  type: RTM.NEWLINK,
  flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL,
  operation: `create ${spec.kind === "other" ? spec.type : spec.kind} link "${spec.name}"`,
  body(out) {
    writeHeader(out, upFlags(spec.up));
    writeTable<WireLink>(out, linkTable, pickCommon(spec));
    const info = out.beginNested(IFLA_LINKINFO);
    out.attributeText(INFO.KIND, spec.kind === "other" ? spec.type : spec.kind);
    writeKindData(out, spec);
    out.end(info);
  },
});

const upFlags = (up: boolean | undefined): Header =>
  up === undefined ? {} : { flags: up ? IFF.UP : 0, change: IFF.UP };

/** The properties that are attributes of their own, out of a spec or change that has others too. */
function pickCommon(spec: WireLink): WireLink {
  const { name, mac: macText, mtu, master, txQueueLength, group, alias, namespaceFd, txQueues, rxQueues } = spec;
  const wire = { name, mac: macText, mtu, master, txQueueLength, group, alias, namespaceFd, txQueues, rxQueues };
  return Object.fromEntries(Object.entries(wire).filter(([, value]) => value !== undefined));
}

function writeKindData(out: MessageWriter, spec: LinkSpec): void {
  const data = (write: () => void): void => {
    const start = out.beginNested(INFO.DATA);
    write();
    out.end(start);
  };
  switch (spec.kind) {
    case "veth":
      return data(() => {
        const peer = out.beginNested(VETH_INFO_PEER);
        // The kernel cannot switch a peer on before the pair is tied together (ENOTCONN): that takes a second request.
        writeHeader(out, {});
        writeTable(out, linkTable, pickCommon(spec.peer));
        out.end(peer);
      });
    case "bridge":
      return data(() => writeTable(out, bridgeTable, spec));
    case "vxlan":
      return data(() => writeTable(out, vxlanTable, vxlanToWire(spec)));
    case "ipip":
      return data(() => writeTable(out, ipipTable, spec));
    default:
      return undefined;
  }
}

export const changeLink = (index: number, change: LinkChange, name = `link ${index}`): RouteRequest => ({
  type: RTM.NEWLINK,
  flags: NLM_F.ACK,
  operation: `change ${name} (${Object.keys(change).join(", ")})`,
  body(out) {
    const promisc = change.promiscuous;
    const up = upFlags(change.up);
    writeHeader(out, {
      index,
      flags: (up.flags ?? 0) | (promisc === true ? IFF.PROMISC : 0),
      change: (up.change ?? 0) | (promisc === undefined ? 0 : IFF.PROMISC),
    });
    writeTable<WireLink>(out, linkTable, pickCommon(change));
    writeChangedOptions(out, change);
  },
});

function writeChangedOptions(out: MessageWriter, change: LinkChange): void {
  const { bridgePort, bridge, vxlan, ipip } = change;
  if (bridgePort === undefined && bridge === undefined && vxlan === undefined && ipip === undefined) return;
  const info = out.beginNested(IFLA_LINKINFO);
  const section = (kind: string, kindType: number, write: () => void): void => {
    out.attributeText(kindType, kind);
    const data = out.beginNested(kindType + 1);
    write();
    out.end(data);
  };
  if (bridge !== undefined) section("bridge", INFO.KIND, () => writeTable(out, bridgeTable, bridge));
  else if (vxlan !== undefined) section("vxlan", INFO.KIND, () => writeTable(out, vxlanTable, vxlanToWire(vxlan)));
  else if (ipip !== undefined) section("ipip", INFO.KIND, () => writeTable(out, ipipTable, ipip));
  if (bridgePort !== undefined) section("bridge", INFO.SLAVE_KIND, () => writeTable(out, portTable, bridgePort));
  out.end(info);
}
