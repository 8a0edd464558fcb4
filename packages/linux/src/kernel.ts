/**
 * START HERE. The kernel as an agent sees it: tables of links, addresses, routes, rules and neighbours, the nf_tables
 * client, sysctls and notifications, all bound to one network namespace whatever namespace the thread is in later.
 *
 * Table calls are synchronous: a request to rtnetlink takes some ten microseconds. nf_tables transactions may take
 * seconds in the kernel and therefore run on another thread.
 *
 * Everything the kernel refuses is `CalicoError("KERNEL")` with `detail: { errno, errnoName, operation, extack? }`.
 */
import type { Family, IpAddress } from "@calico-ts/net";
import type {
  Link,
  LinkAddress,
  LinkAddressSpec,
  LinkChange,
  LinkSpec,
  Neighbour,
  NeighbourSpec,
  NflogPacket,
  NftChain,
  NftCommand,
  NftElement,
  NftRule,
  NftSet,
  NftTable,
  NftTrace,
  Qdisc,
  QdiscPlace,
  Route,
  RouteQuery,
  RouteSpec,
  RouteWrite,
  RoutingRule,
  TokenBucket,
} from "@calico-ts/netlink";
import type { CalicoError } from "@calico-ts/std";

export interface Kernel extends Disposable {
  /** As given to `openKernel`; absent: the namespace the thread was in. */
  readonly netns: string | undefined;
  readonly links: LinkTable;
  readonly addresses: AddressTable;
  readonly routes: RouteTable;
  readonly rules: RuleTable;
  /** Neighbours and forwarding database entries. */
  readonly neighbours: NeighbourTable;
  readonly shaping: Shaping;
  readonly nft: NftClient;
  readonly conntrack: Conntrack;
  readonly sysctl: Sysctl;
  /** Calls back on the event loop until disposed. */
  watch(groups: readonly WatchGroup[], onEvent: (event: KernelEvent) => void, options?: WatchOptions): Disposable;
  /** Steps of packets whose `nftrace` bit a rule has set, until disposed; `"overrun"`: the kernel dropped some. `traceFlow` makes packets of them. */
  trace(onTrace: (trace: NftTrace | "overrun") => void): Disposable;
  /** Packets that rules with `log group` hand out, until disposed; `"overrun"`: the kernel dropped some. @throws CalicoError KERNEL: EBUSY when somebody else listens to a group */
  nflog(groups: readonly number[], onPacket: (packet: NflogPacket | "overrun") => void): Disposable;
  /** The id this namespace has for the one at the path (`Link.linkNamespace`); undefined: it has none. */
  namespaceIdOf(path: string): number | undefined;
}

export interface LinkTable {
  list(filter?: { readonly kind?: string; readonly master?: number }): Link[];
  get(nameOrIndex: string | number): Link | undefined;
  /** Returns the new link; for one created in another namespace, undefined. */
  create(spec: LinkSpec): Link | undefined;
  set(nameOrIndex: string | number, change: LinkChange): void;
  /** False: there was none. The kernel may take tens of milliseconds to let go of a link: `remove` waits for it on another thread. */
  delete(nameOrIndex: string | number): boolean;
  remove(nameOrIndex: string | number): Promise<boolean>;
}

/** One request of a `many` call. */
export type TableOp<Spec> =
  | { readonly do: "add"; readonly value: Spec }
  | { readonly do: "replace"; readonly value: Spec }
  /** Absence is not an error. */
  | { readonly do: "delete"; readonly value: Spec };

/** What was refused, by its place among the operations. */
export type ManyResult = ReadonlyMap<number, CalicoError>;

export interface Table<Value, Spec, Filter> {
  list(filter?: Filter): Value[];
  /** Fails with EEXIST when there is one. */
  add(value: Spec): void;
  replace(value: Spec): void;
  /** False: there was none. */
  delete(value: Spec): boolean;
  /** All requests in as few system calls as fit; each stands for itself. */
  many(ops: readonly TableOp<Spec>[]): ManyResult;
}

export interface AddressFilter {
  readonly family?: Family;
  readonly link?: number;
}
export interface RouteFilter {
  readonly family?: Family;
  readonly table?: number;
  readonly protocol?: number;
  readonly link?: number;
}
export interface RuleFilter {
  readonly family?: Family;
}
export interface NeighbourFilter {
  readonly kind?: "neighbour" | "fdb";
  readonly family?: Family;
  readonly link?: number;
}

export type AddressTable = Table<LinkAddress, LinkAddressSpec, AddressFilter>;
export interface RouteTable extends Table<Route, RouteSpec, RouteFilter> {
  /**
   * As `many`, for full tables: routes that share their terms are encoded once, and the kernel works on another thread (3 to 4 µs a route). Calls are carried out
   * in order. @throws CalicoError CANCELLED (the kernel is disposed), KERNEL
   */
  program(writes: readonly RouteWrite[]): Promise<ManyResult>;
  /** What the kernel would do with a packet: the route it takes, or its refusal (see `lookupRoute` of `@calico-ts/netlink`). */
  lookup(query: RouteQuery): RouteAnswer;
}
export type RouteAnswer =
  | { readonly route: Route }
  | { readonly route?: undefined; readonly errno: number; readonly errnoName: string };
/** `replace` adds when there is no equal rule. */
export type RuleTable = Table<RoutingRule, RoutingRule, RuleFilter>;
export type NeighbourTable = Table<Neighbour, NeighbourSpec, NeighbourFilter>;

/** How fast links may send and receive. Gone with the link. */
export interface Shaping {
  /** At roots and ingresses, of every link. */
  list(): Qdisc[];
  /** What the link sends. `handle`: the discipline's major number, 1 to 0xfffe, which tells whose it is. */
  setBucket(link: number, handle: number, bucket: TokenBucket): void;
  /** What enters the link leaves through `target` (an `ifb`) before anybody sees it; replaces an earlier redirection. */
  redirect(link: number, target: number): void;
  /** The target, if what enters the link is redirected. */
  redirectOf(link: number): number | undefined;
  /** False: there was none. */
  remove(link: number, place: QdiscPlace): boolean;
}

export interface NftRuleEntry {
  readonly chain: string;
  readonly handle: bigint;
  readonly rule: NftRule;
}

export interface NftClient {
  /**
   * One transaction, all or nothing. A refusal names the command: `detail.commandIndex` and `detail.command` beside
   * the errno. Concurrent calls on one client run one after the other.
   */
  apply(commands: readonly NftCommand[]): Promise<void>;
  listTables(): Promise<NftTable[]>;
  listChains(table: NftTable): Promise<NftChain[]>;
  /** In rule order. Without a chain: of the whole table, chain by chain. */
  listRules(table: NftTable, chain?: string): Promise<NftRuleEntry[]>;
  listSets(table: NftTable): Promise<NftSet[]>;
  /** Fails with NOT_FOUND when the set is not there. */
  listElements(table: NftTable, set: NftSet | string): Promise<NftElement[]>;
  /** Counts transactions of the namespace. */
  generation(): Promise<number>;
  /** The port id that notifications of our own transactions carry (`KernelEvent.portId`). */
  readonly portId: number;
}

export interface ConntrackFlow {
  readonly family: Family;
  readonly protocol: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly replySource: IpAddress;
  readonly replyDestination: IpAddress;
  readonly replySourcePort?: number;
  readonly replyDestinationPort?: number;
  readonly mark: number;
  readonly status: number;
  readonly zone: number;
  /** See `ConntrackEntry.tcpState`. */
  readonly tcpState?: number;
}

export interface Conntrack {
  list(filter?: { readonly family?: Family; readonly address?: IpAddress }): ConntrackFlow[];
  /**
   * Deletes the flows (of one protocol) that have one of the addresses at either end in either direction; returns how many. The kernel walks its whole table
   * for it, some twenty milliseconds for a usual one, so ask once for many.
   */
  delete(filter: { readonly addresses: readonly IpAddress[]; readonly protocol?: number }): number;
  /**
   * The same for flows of every protocol, without counting them: where the kernel looks for them itself (Linux 6.8), which costs a tenth of that. Each of the four
   * ends is a request of its own.
   */
  forget(addresses: readonly IpAddress[]): void;
  /** Forgets every connection of the namespace. */
  flush(): void;
}

export interface Sysctl {
  /** `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.100/rp_filter`; undefined when there is no such key. */
  get(key: string): string | undefined;
  set(key: string, value: string | number): void;
}

export interface WatchOptions {
  /**
   * RTPROT_*: that this protocol's routes are there, or are others now, is not told, only that they go. For who writes them by the thousand and would drown in its
   * own news. The kernel leaves them out.
   */
  readonly exceptRoutesBy?: number;
}

export type WatchGroup = "link" | "address" | "route" | "neighbour" | "nftables";

export type KernelEvent =
  | { readonly kind: "link"; readonly gone: boolean; readonly link: Link; readonly portId: number }
  | { readonly kind: "address"; readonly gone: boolean; readonly address: LinkAddress; readonly portId: number }
  | { readonly kind: "route"; readonly gone: boolean; readonly route: Route; readonly portId: number }
  | { readonly kind: "neighbour"; readonly gone: boolean; readonly neighbour: Neighbour; readonly portId: number }
  /** A transaction was committed. `tables` are those it touched; `portId` is the socket that sent it. */
  | {
      readonly kind: "nftables";
      readonly generation: number;
      readonly tables: readonly NftTable[];
      readonly portId: number;
      readonly process?: { readonly id: number; readonly name: string };
    }
  /** The kernel dropped notifications because we were slow: list everything again. */
  | { readonly kind: "overrun" };
