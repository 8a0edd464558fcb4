/** Path attributes as values. An absent field is an absent attribute; unknown transitive ones are carried as bytes. */
import type { IpAddress } from "@calico-ts/net";
import type { AddressFamily } from "../family.ts";
import type { Nlri } from "../nlri.ts";
import type { AsPath } from "./as-path.ts";

export type Origin = "igp" | "egp" | "incomplete";

export interface Aggregator {
  readonly as: number;
  readonly address: IpAddress;
}

/** RFC 8092: three four-octet numbers. */
export interface LargeCommunity {
  readonly global: number;
  readonly local1: number;
  readonly local2: number;
}

/** RFC 4760, with the next hop forms of RFC 2545 and RFC 8950. */
export interface MpReach extends AddressFamily {
  /** Global first, then a link-local one when there are two. */
  readonly nextHops: readonly IpAddress[];
  readonly nlri: readonly Nlri[];
}

export interface MpUnreach extends AddressFamily {
  readonly nlri: readonly Nlri[];
}

export interface UnknownAttribute {
  readonly code: number;
  readonly transitive: boolean;
  readonly partial: boolean;
  readonly value: Uint8Array;
}

/** What is passed on with a route; reachability (MP_REACH, MP_UNREACH) is not part of it. */
export interface PathAttributes {
  readonly origin?: Origin;
  readonly asPath?: AsPath;
  /** IPv4 or, by RFC 8950 and MP_REACH, IPv6. */
  readonly nextHop?: IpAddress;
  readonly linkLocalNextHop?: IpAddress;
  readonly med?: number;
  readonly localPref?: number;
  readonly atomicAggregate?: true;
  readonly aggregator?: Aggregator;
  /** 32-bit values, sorted. */
  readonly communities?: readonly number[];
  readonly originatorId?: number;
  readonly clusterList?: readonly number[];
  /** RFC 4360: eight octets each, as 16 hex digits, sorted. */
  readonly extendedCommunities?: readonly string[];
  readonly largeCommunities?: readonly LargeCommunity[];
  /** RFC 9234. */
  readonly onlyToCustomer?: number;
  readonly unknown?: readonly UnknownAttribute[];
}

/** Attributes as decoded from one UPDATE, before AS4_* are merged into AS_PATH and AGGREGATOR. */
export interface DecodedAttributes extends PathAttributes {
  readonly as4Path?: AsPath;
  readonly as4Aggregator?: Aggregator;
  readonly mpReach?: MpReach;
  readonly mpUnreach?: MpUnreach;
}

/** RFC 1997, RFC 7999, RFC 9494, RFC 8326. */
export const WELL_KNOWN_COMMUNITIES = {
  "graceful-shutdown": 0xffff0000,
  "llgr-stale": 0xffff0006,
  "no-llgr": 0xffff0007,
  blackhole: 0xffff029a,
  "no-export": 0xffffff01,
  "no-advertise": 0xffffff02,
  "no-export-subconfed": 0xffffff03,
  "no-peer": 0xffffff04,
} as const;

export const formatCommunity = (community: number): string => `${community >>> 16}:${community & 0xffff}`;

export const formatLargeCommunity = ({ global, local1, local2 }: LargeCommunity): string =>
  `${global}:${local1}:${local2}`;
