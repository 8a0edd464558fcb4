/**
 * What a speaker is told to be. Plain data: two configurations are compared field by field, and only sessions whose terms changed are reset
 * (`config-diff.ts`). The address to connect to, ports, TTL security, MD5 and interfaces belong to whoever owns the sockets.
 */
import type { IpAddress } from "@calico-ts/net";
import type { Filter } from "./policy/filter.ts";
import type { Role } from "./wire/capabilities.ts";
import type { RoutedFamily } from "./wire/family.ts";

export interface PrefixLimit {
  readonly routes: number;
  /** `warn` reports; `stop` ends the session with Cease (RFC 4486). */
  readonly action: "warn" | "stop";
  /** After `stop`; absent: the usual back-off. */
  readonly restartAfterSeconds?: number;
}

export interface PeerConfig {
  /** Unique; how actions, events and routes refer to the peer. */
  readonly name: string;
  readonly address: IpAddress;
  readonly remoteAs: number;
  /** The AS we are to this peer; absent: the speaker's. */
  readonly localAs?: number;
  readonly families: readonly RoutedFamily[];
  /** Wait for the peer to connect. */
  readonly passive?: boolean;
  readonly timers?: Partial<PeerTimers>;
  readonly reflectorClient?: boolean;
  readonly addPath?: { readonly receive: boolean; readonly send: boolean };
  readonly gracefulRestart?: { readonly restartSeconds: number; readonly longLivedSeconds?: number };
  readonly extendedMessages?: boolean;
  readonly extendedNextHop?: boolean;
  /** Ours (RFC 9234). `strictRole`: refuse a peer that announces none. */
  readonly role?: Role;
  readonly strictRole?: boolean;
  readonly hostName?: string;

  /** How often our own AS may be in a path we accept. */
  readonly allowedLocalAs?: number;
  /** Accept paths of an external peer that do not begin with its AS. */
  readonly allowForeignFirstAs?: boolean;
  readonly prefixLimit?: PrefixLimit;
  /** auto: ourselves towards external peers and for our own routes, unchanged towards internal ones. */
  readonly nextHop?: "auto" | "self" | "keep";
  /** What "ourselves" is per family of the address; absent: the local end of the connection if it is of that family. */
  readonly nextHopSelf?: { readonly ipv4?: IpAddress; readonly ipv6?: IpAddress };
  readonly importFilter?: Filter;
  readonly exportFilter?: Filter;
  /** RFC 8212: without a filter an external peer gives and gets nothing. */
  readonly requireFilters?: boolean;
  /** RFC 8326: routes of and to this peer are about to go away. */
  readonly gracefulShutdown?: boolean;
  /** Present: the peer is shut down; the text is sent along (RFC 9003). */
  readonly shutdown?: string;
}

export interface PeerTimers {
  readonly holdSeconds: number;
  readonly keepaliveSeconds?: number;
  readonly connectRetrySeconds: number;
  readonly delayOpenSeconds: number;
  readonly idleHoldMinSeconds: number;
  readonly idleHoldMaxSeconds: number;
}

export const DEFAULT_TIMERS: PeerTimers = {
  holdSeconds: 90,
  connectRetrySeconds: 5,
  delayOpenSeconds: 0,
  idleHoldMinSeconds: 5,
  idleHoldMaxSeconds: 30,
};

export interface SpeakerConfig {
  readonly as: number;
  /** Unsigned 32 bits, not 0. */
  readonly routerId: number;
  /** Absent: the router id (RFC 4456 section 7). */
  readonly clusterId?: number;
  readonly peers: readonly PeerConfig[];
  /** Routes as good as the best one, up to this many, are reported together. Default 1. */
  readonly maxPaths?: number;
  readonly alwaysCompareMed?: boolean;
  /**
   * We have come back from a restart and kept forwarding (RFC 4724 section 4.1): routes are chosen and advertised only when every restarting-aware
   * peer has told all, or after this many seconds.
   */
  readonly restarting?: { readonly deferralSeconds: number };
}
