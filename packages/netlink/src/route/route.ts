/** Routes ↔ RTM_*ROUTE messages (linux/rtnetlink.h), multipath next hops and IPv6 gateways of IPv4 routes included. */
import {
  addressBits,
  addressFromBytes,
  type Family,
  formatAddress,
  formatPrefix,
  type IpAddress,
  prefixAddress,
  prefixOf,
} from "@calico-ts/net";
import {
  type AttributeTable,
  address,
  type Codec,
  nested,
  optional,
  readTable,
  u32,
  writeTable,
} from "../codec/attributes.ts";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, viewOf } from "../codec/reader.ts";
import type { MessageWriter } from "../codec/writer.ts";
import { familyNumber, familyOf, modeFlags, RTM, type RouteRequest, type WriteMode } from "./request.ts";
import type { NextHop, Route, RouteSpec, RouteType } from "./values.ts";

/** RTN_* in order of their numbers. */
const TYPES: readonly RouteType[] = [
  "unspecified",
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
  "nat",
];

const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;
const RTM_F_LOOKUP_TABLE = 0x1000;
const RT_TABLE_MAIN = 254;
const RT_TABLE_COMPAT = 252;
const RTPROT_STATIC = 4;
const SCOPE = { UNIVERSE: 0, LINK: 253, HOST: 254, NOWHERE: 255 } as const;

/** RTA_VIA: a gateway of another family than the route's. */
const via: Codec<IpAddress> = {
  write(out, value) {
    out.u16(familyNumber(value.family));
    address.write(out, value);
  },
  read(data) {
    const family = familyOf(viewOf(need(data, 2)).getUint16(0, LITTLE_ENDIAN_HOST));
    return family === undefined ? undefined : addressFromBytes(need(data.subarray(2), family === 4 ? 4 : 16));
  },
};

interface WireHop {
  readonly gateway?: IpAddress;
  readonly via?: IpAddress;
}
const hopTable: AttributeTable<WireHop> = { gateway: optional(5, address), via: optional(18, via) };

const hopToWire = (family: Family, gateway: IpAddress | undefined): WireHop =>
  gateway === undefined ? {} : gateway.family === family ? { gateway } : { via: gateway };

/** struct rtnexthop, each followed by its attributes. */
const nextHops = (family: Family): Codec<readonly NextHop[]> => ({
  write(out, hops) {
    for (const hop of hops) {
      const inner = hopToWire(family, hop.gateway);
      const size = hop.gateway === undefined ? 8 : hopSize(hop.gateway, family);
      out.u16(size);
      out.u8(hop.onlink === true ? RTNH_F_ONLINK : 0);
      out.u8(hop.weight - 1);
      out.u32(hop.link ?? 0);
      writeTable(out, hopTable, inner);
    }
  },
  read(data) {
    const hops: NextHop[] = [];
    const view = viewOf(data);
    for (let at = 0; data.length - at >= 8; ) {
      const length = view.getUint16(at, LITTLE_ENDIAN_HOST);
      if (length < 8) break;
      hops.push(readHop(need(data.subarray(at), length).subarray(0, length)));
      at += (length + 3) & ~3;
    }
    return hops;
  },
});

const hopSize = (gateway: IpAddress, family: Family): number => {
  const bytes = gateway.family === 4 ? 4 : 16;
  return 8 + 4 + (gateway.family === family ? bytes : (bytes + 2 + 3) & ~3);
};

function readHop(data: Uint8Array): NextHop {
  const view = viewOf(data);
  const { gateway, via: other } = readTable(hopTable, data.subarray(8));
  const link = view.getUint32(4, LITTLE_ENDIAN_HOST);
  const found = gateway ?? other;
  return {
    ...(found === undefined ? {} : { gateway: found }),
    ...(link === 0 ? {} : { link }),
    weight: view.getUint8(3) + 1,
    ...((view.getUint8(2) & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
  };
}

/** Written with every property, so that a full table's worth of them has one shape. */
interface WireRoute {
  readonly destination?: IpAddress | undefined;
  readonly link?: number | undefined;
  readonly gateway?: IpAddress | undefined;
  readonly metric?: number | undefined;
  readonly preferredSource?: IpAddress | undefined;
  readonly metrics?: { readonly mtu?: number } | undefined;
  readonly nextHops?: readonly NextHop[] | undefined;
  readonly table?: number | undefined;
  readonly via?: IpAddress | undefined;
}

const routeTable = (family: Family): AttributeTable<WireRoute> => ({
  destination: optional(1, address),
  link: optional(4, u32),
  gateway: optional(5, address),
  metric: optional(6, u32),
  preferredSource: optional(7, address),
  metrics: optional(8, nested<{ readonly mtu?: number }>({ mtu: optional(2, u32) })),
  nextHops: optional(9, nextHops(family)),
  table: optional(15, u32),
  via: optional(18, via),
});
const TABLES = { 4: routeTable(4), 6: routeTable(6) } as const;

/** Undefined for what is no unicast IP route message, and for the cache's clones. @throws CalicoError BAD_INPUT */
export const readRoute = (message: MessageView): Route | undefined => read(message, false);

/** The answer to `lookupRoute`, which is such a clone: its destination is the one address that was asked about. */
export const readFoundRoute = (message: MessageView): Route | undefined => read(message, true);

function read(message: MessageView, clones: boolean): Route | undefined {
  if (message.type !== RTM.NEWROUTE && message.type !== RTM.DELROUTE) return undefined;
  const view = viewOf(need(message.body, 12));
  const family = familyOf(view.getUint8(0));
  const flags = view.getUint32(8, LITTLE_ENDIAN_HOST);
  if (family === undefined || (!clones && (flags & RTM_F_CLONED) !== 0)) return undefined;
  const wire = readTable(TABLES[family], message.body.subarray(12));
  const gateway = wire.gateway ?? wire.via;
  const tos = view.getUint8(3);
  const rest = flags & ~(RTNH_F_ONLINK | RTM_F_CLONED | RTM_F_LOOKUP_TABLE);
  return {
    destination: prefixOf(wire.destination ?? { family, value: 0n }, view.getUint8(1)),
    type: TYPES[view.getUint8(7)] ?? "unspecified",
    table: wire.table ?? view.getUint8(4),
    protocol: view.getUint8(5),
    scope: view.getUint8(6),
    ...(tos === 0 ? {} : { tos }),
    ...(wire.metric === undefined ? {} : { metric: wire.metric }),
    ...(gateway === undefined ? {} : { gateway }),
    ...(wire.link === undefined ? {} : { link: wire.link }),
    ...((flags & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
    ...(wire.preferredSource === undefined ? {} : { preferredSource: wire.preferredSource }),
    ...(wire.metrics?.mtu === undefined ? {} : { mtu: wire.metrics.mtu }),
    ...(wire.nextHops === undefined || wire.nextHops.length === 0 ? {} : { nextHops: wire.nextHops }),
    ...(rest === 0 ? {} : { flags: rest }),
  };
}

/** What `ip route` would choose. */
function defaultScope(spec: RouteSpec): number {
  if (spec.destination.family === 6) return SCOPE.UNIVERSE;
  switch (spec.type ?? "unicast") {
    case "local":
    case "nat":
      return SCOPE.HOST;
    case "broadcast":
    case "multicast":
    case "anycast":
      return SCOPE.LINK;
    case "unicast":
      return spec.gateway === undefined && spec.nextHops === undefined ? SCOPE.LINK : SCOPE.UNIVERSE;
    default:
      return SCOPE.UNIVERSE;
  }
}

interface HeaderDefaults {
  readonly protocol: number;
  readonly scope: number;
  readonly type: RouteType;
}

function writeBody(out: MessageWriter, spec: RouteSpec, defaults: HeaderDefaults): void {
  const { destination } = spec;
  const { family } = destination;
  const table = spec.table ?? RT_TABLE_MAIN;
  out.u8(familyNumber(family));
  out.u8(destination.length);
  out.u8(0);
  out.u8(spec.tos ?? 0);
  out.u8(table < 256 ? table : RT_TABLE_COMPAT);
  out.u8(spec.protocol ?? defaults.protocol);
  out.u8(spec.scope ?? defaults.scope);
  out.u8(TYPES.indexOf(spec.type ?? defaults.type));
  out.u32(spec.onlink === true ? RTNH_F_ONLINK : 0);
  const { gateway, link, metric, preferredSource, mtu, nextHops: hops } = spec;
  writeTable<WireRoute>(out, TABLES[family], {
    destination: destination.length === 0 ? undefined : prefixAddress(destination),
    link,
    gateway: gateway?.family === family ? gateway : undefined,
    metric,
    preferredSource,
    metrics: mtu === undefined ? undefined : { mtu },
    nextHops: hops,
    table,
    via: gateway?.family === family ? undefined : gateway,
  });
}

const describe = (spec: RouteSpec): string =>
  `${spec.type === undefined || spec.type === "unicast" ? "" : `${spec.type} `}route ${formatPrefix(spec.destination)} in table ${spec.table ?? RT_TABLE_MAIN}`;

export const writeRoute = (spec: RouteSpec, mode: WriteMode): RouteRequest => ({
  type: RTM.NEWROUTE,
  flags: NLM_F.ACK | modeFlags(mode),
  // Only wanted when something is wrong, and a full table has hundreds of thousands.
  get operation() {
    return `${mode} ${describe(spec)}`;
  },
  body: (out) => writeBody(out, spec, { protocol: RTPROT_STATIC, scope: defaultScope(spec), type: "unicast" }),
});

/** Deletes the first route that has everything the spec says; what it leaves out matches anything. */
export const deleteRoute = (spec: RouteSpec): RouteRequest => ({
  type: RTM.DELROUTE,
  flags: NLM_F.ACK,
  get operation() {
    return `delete ${describe(spec)}`;
  },
  body: (out) => writeBody(out, spec, { protocol: 0, scope: SCOPE.NOWHERE, type: "unspecified" }),
});

export interface RouteDumpFilter {
  readonly family?: Family;
  readonly table?: number;
  readonly protocol?: number;
  readonly link?: number;
}

/** Without a table: all tables. Filters work on sockets with strict checking. */
export const dumpRoutes = (filter: RouteDumpFilter): RouteRequest => ({
  type: RTM.GETROUTE,
  flags: NLM_F.DUMP,
  operation: filter.table === undefined ? "list routes" : `list routes of table ${filter.table}`,
  body(out) {
    out.u8(familyNumber(filter.family));
    out.u8(0);
    out.u8(0);
    out.u8(0);
    out.u8(0);
    out.u8(filter.protocol ?? 0);
    out.u8(0);
    out.u8(0);
    out.u32(0);
    // An all-families dump takes no attributes.
    if (filter.family === undefined) return;
    writeTable<WireRoute>(out, TABLES[filter.family], {
      ...(filter.table === undefined ? {} : { table: filter.table }),
      ...(filter.link === undefined ? {} : { link: filter.link }),
    });
  },
});

/** A packet the kernel is asked about: what would happen to it. */
export interface RouteQuery {
  readonly destination: IpAddress;
  readonly source?: IpAddress;
  /** Index of the link it comes in by; absent: this namespace sends it. */
  readonly input?: number;
  readonly mark?: number;
}

interface WireQuery {
  readonly destination: IpAddress;
  readonly source?: IpAddress;
  readonly input?: number;
  readonly mark?: number;
}
const queryTable: AttributeTable<WireQuery> = {
  destination: optional(1, address),
  source: optional(2, address),
  input: optional(3, u32),
  mark: optional(16, u32),
};

/**
 * As `ip route get`. Refusals are answers too: ENETUNREACH (no route), EHOSTUNREACH (an `unreachable` route, or a packet from outside
 * that would have to be forwarded where forwarding is off), EINVAL (a `blackhole`, or a source that cannot be), EACCES (`prohibit`), EXDEV (the reverse-path
 * filter). From Linux 6.13 on every refusal of a packet that comes in is EINVAL.
 */
export const lookupRoute = (query: RouteQuery): RouteRequest => ({
  type: RTM.GETROUTE,
  flags: 0,
  operation: `look up the route to ${formatAddress(query.destination)}`,
  body(out) {
    const { destination, source, input, mark } = query;
    const bits = addressBits(destination.family);
    out.u8(familyNumber(destination.family));
    out.u8(bits);
    out.u8(source === undefined ? 0 : bits);
    out.u8(0);
    out.u8(0);
    out.u8(0);
    out.u8(0);
    out.u8(0);
    out.u32(RTM_F_LOOKUP_TABLE);
    writeTable<WireQuery>(out, queryTable, {
      destination,
      ...(source === undefined ? {} : { source }),
      ...(input === undefined ? {} : { input }),
      ...(mark === undefined ? {} : { mark }),
    });
  },
});
