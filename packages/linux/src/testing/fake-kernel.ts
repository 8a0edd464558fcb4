/**
 * A kernel in memory for unit tests: links, addresses, routes, rules, neighbours, sysctls and conntrack with the checks callers
 * trip over in practice (names taken, links that are not there, unreachable gateways, routes that go with their link),
 * `FakeNft` for nf_tables, and notifications. Errors have the real ones' form.
 *
 * Not here: packets, the routes the kernel makes by itself, other namespaces (a veth peer sent to one disappears).
 */
import {
  type Family,
  formatAddress,
  formatPrefix,
  type IpAddress,
  isLinkLocal,
  containsAddress,
  hostPrefix,
  prefixOf,
} from "@calico-ts/net";
import type {
  Link,
  LinkAddress,
  LinkAddressSpec,
  LinkChange,
  LinkInfo,
  LinkSpec,
  Neighbour,
  NeighbourSpec,
  Route,
  RouteQuery,
  RouteSpec,
  RouteWrite,
  RoutingRule,
} from "@calico-ts/netlink";
import { CalicoError } from "@calico-ts/std";
import type {
  AddressTable,
  Conntrack,
  ConntrackFlow,
  Kernel,
  KernelEvent,
  LinkTable,
  ManyResult,
  NeighbourFilter,
  NeighbourTable,
  RouteAnswer,
  RouteFilter,
  RouteTable,
  RuleTable,
  Sysctl,
  Table,
  WatchGroup,
  WatchOptions,
} from "../kernel.ts";
import { ERRNO, errnoName, kernelError } from "../libc.ts";
import { FakeShaping } from "./fake-shaping.ts";
import { FakeNft } from "./fake-nft.ts";

const ENETUNREACH = 101;
const ENETDOWN = 100;
const EHOSTUNREACH = 113;
const EACCES = 13;
const IFF_UP = 1;
const IFF_LOWER_UP = 0x1_0000;

export class FakeConntrack implements Conntrack {
  readonly flows: ConntrackFlow[] = [];

  list(filter: { readonly family?: Family; readonly address?: IpAddress } = {}): ConntrackFlow[] {
    return this.flows.filter(
      (flow) =>
        (filter.family === undefined || filter.family === flow.family) &&
        (filter.address === undefined || involves(flow, filter.address)),
    );
  }

  delete({ addresses, protocol }: { readonly addresses: readonly IpAddress[]; readonly protocol?: number }): number {
    const kept = this.flows.filter(
      (flow) =>
        (protocol !== undefined && flow.protocol !== protocol) || !addresses.some((address) => involves(flow, address)),
    );
    const gone = this.flows.length - kept.length;
    this.flows.splice(0, this.flows.length, ...kept);
    return gone;
  }

  forget(addresses: readonly IpAddress[]): void {
    this.delete({ addresses });
  }

  flush(): void {
    this.flows.length = 0;
  }
}

function involves(flow: ConntrackFlow, address: IpAddress): boolean {
  const text = formatAddress(address);
  return [flow.source, flow.destination, flow.replySource, flow.replyDestination].some(
    (end) => formatAddress(end) === text,
  );
}

interface Rows<Value, Spec, Filter> {
  key(value: Value | Spec): string;
  /** The row, or the kernel's refusal thrown. */
  make(spec: Spec): Value;
  matches(value: Value, filter: Filter): boolean;
  /** Whether a deletion that leaves things out means this row. */
  selects(spec: Spec, value: Value): boolean;
  changed(value: Value, gone: boolean): void;
}

class FakeTable<Value, Spec, Filter> implements Table<Value, Spec, Filter> {
  readonly #rows = new Map<string, Value>();
  readonly #kind: Rows<Value, Spec, Filter>;

  constructor(kind: Rows<Value, Spec, Filter>) {
    this.#kind = kind;
  }

  list(filter?: Filter): Value[] {
    return [...this.#rows.values()].filter((row) => filter === undefined || this.#kind.matches(row, filter));
  }

  add(spec: Spec): void {
    const row = this.#kind.make(spec);
    const key = this.#kind.key(row);
    if (this.#rows.has(key)) throw kernelError({ errno: ERRNO.EEXIST, operation: `add ${key}` });
    this.#rows.set(key, row);
    this.#kind.changed(row, false);
  }

  replace(spec: Spec): void {
    const row = this.#kind.make(spec);
    this.#rows.set(this.#kind.key(row), row);
    this.#kind.changed(row, false);
  }

  delete(spec: Spec): boolean {
    for (const [key, row] of this.#rows) {
      if (!this.#kind.selects(spec, row)) continue;
      this.#rows.delete(key);
      this.#kind.changed(row, true);
      return true;
    }
    return false;
  }

  many(ops: Parameters<Table<Value, Spec, Filter>["many"]>[0]): ManyResult {
    const refusals = new Map<number, CalicoError>();
    for (const [index, op] of ops.entries()) {
      try {
        if (op.do === "add") this.add(op.value);
        else if (op.do === "replace") this.replace(op.value);
        else this.delete(op.value);
      } catch (error) {
        if (!(error instanceof CalicoError)) throw error;
        refusals.set(index, error);
      }
    }
    return refusals;
  }

  /** Rows that go because something else went. */
  dropWhere(goes: (row: Value) => boolean): void {
    for (const [key, row] of this.#rows) {
      if (!goes(row)) continue;
      this.#rows.delete(key);
      this.#kind.changed(row, true);
    }
  }
}

export class FakeKernel implements Kernel {
  readonly netns: string | undefined;
  readonly links: LinkTable;
  readonly addresses: AddressTable;
  readonly routes: RouteTable;
  readonly rules: RuleTable;
  readonly neighbours: NeighbourTable;
  readonly shaping = new FakeShaping((link) => this.#links.has(link));
  readonly nft = new FakeNft();
  readonly conntrack = new FakeConntrack();
  readonly sysctl: Sysctl;
  /** What sysctls hold; a key that is not here does not exist unless it was set. */
  readonly sysctls = new Map<string, string>([
    ["net/ipv4/ip_forward", "0"],
    ["net/ipv6/conf/all/forwarding", "0"],
  ]);
  readonly #links = new Map<number, Link>();
  readonly #peers = new Map<number, number>();
  readonly #listeners = new Set<(event: KernelEvent) => void>();
  readonly #addresses: FakeTable<LinkAddress, LinkAddressSpec, { readonly family?: Family; readonly link?: number }>;
  readonly #routes: FakeTable<Route, RouteSpec, RouteFilter>;
  readonly #neighbours: FakeTable<Neighbour, NeighbourSpec, NeighbourFilter>;
  #nextIndex = 1;

  constructor(options: { readonly netns?: string } = {}) {
    this.netns = options.netns;
    this.#addresses = new FakeTable(this.#addressRows());
    this.#routes = new FakeTable(this.#routeRows());
    this.#neighbours = new FakeTable(this.#neighbourRows());
    this.addresses = this.#addresses;
    this.routes = Object.assign(this.#routes, {
      lookup: (query: RouteQuery) => this.#lookup(query),
      program: async (writes: readonly RouteWrite[]) => {
        // Somebody else's turn comes first, as it may with another thread.
        await Promise.resolve();
        return this.#routes.many(
          writes.map(({ do: what, destination, terms }) => ({ do: what, value: { ...terms, destination } })),
        );
      },
    });
    this.neighbours = this.#neighbours;
    this.rules = new FakeTable<RoutingRule, RoutingRule, { readonly family?: Family }>(ruleRows());
    this.links = this.#linkTable();
    this.sysctl = this.#sysctlTable();
    const loopback = this.#addLink({ name: "lo", mtu: 65_536 }, { kind: "other", name: "" });
    this.links.set(loopback.index, { up: true });
  }

  [Symbol.dispose](): void {
    this.#listeners.clear();
  }

  watch(
    groups: readonly WatchGroup[],
    onEvent: (event: KernelEvent) => void,
    { exceptRoutesBy }: WatchOptions = {},
  ): Disposable {
    const wanted = new Set<string>([...groups, "overrun"]);
    const listener = (event: KernelEvent): void => {
      if (event.kind === "route" && !event.gone && event.route.protocol === exceptRoutesBy) return;
      if (wanted.has(event.kind)) onEvent(event);
    };
    this.#listeners.add(listener);
    const nft = this.nft.listen(listener);
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(listener);
        nft[Symbol.dispose]();
      },
    };
  }

  /** No packets pass here, so none is logged. */
  nflog(): Disposable {
    return new DisposableStack();
  }

  /** No packets pass here, so there is nothing to trace. */
  trace(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  namespaceIdOf(): undefined {
    return undefined;
  }

  /** The longest prefix, the lowest metric. Rules of other tables and reverse-path filters are not looked at. */
  #lookup({ destination }: RouteQuery): RouteAnswer {
    const own = this.#addresses.list().some((entry) => sameText(entry.address, destination));
    const refused = (errno: number): RouteAnswer => ({ errno, errnoName: errnoName(errno) });
    const [route] = this.#routes
      .list({ family: destination.family })
      .filter(({ table, destination: prefix }) => table === MAIN_TABLE && containsAddress(prefix, destination))
      .toSorted((a, b) => b.destination.length - a.destination.length || (a.metric ?? 0) - (b.metric ?? 0));
    if (own) return { route: { ...(route ?? ANY_ROUTE), destination: hostPrefix(destination), type: "local" } };
    if (route === undefined) return refused(ENETUNREACH);
    const errno = REFUSALS.get(route.type);
    return errno === undefined ? { route: { ...route, destination: hostPrefix(destination) } } : refused(errno);
  }

  #emit(event: KernelEvent): void {
    for (const listener of this.#listeners) queueMicrotask(() => listener(event));
  }

  #linkTable(): LinkTable {
    const get = (target: string | number): Link | undefined =>
      typeof target === "number" ? this.#links.get(target) : this.#links.values().find((link) => link.name === target);
    return {
      list: (filter = {}) =>
        [...this.#links.values()].filter(
          (link) =>
            (filter.kind === undefined ||
              filter.kind === (link.info.kind === "other" ? link.info.name : link.info.kind)) &&
            (filter.master === undefined || filter.master === link.master),
        ),
      get,
      create: (spec) => this.#create(spec),
      set: (target, change) => {
        const link = get(target);
        if (link === undefined) {
          throw new CalicoError("NOT_FOUND", `there is no link "${target}" to change`, { detail: { link: target } });
        }
        this.#change(link, change);
      },
      delete: (target) => {
        const link = get(target);
        if (link === undefined) return false;
        this.#delete(link);
        return true;
      },
      remove: async (target) => this.links.delete(target),
    };
  }

  #create(spec: LinkSpec): Link | undefined {
    const operation = `create ${spec.kind === "other" ? spec.type : spec.kind} link "${spec.name}"`;
    if (this.links.get(spec.name) !== undefined) throw kernelError({ errno: ERRNO.EEXIST, operation });
    if (spec.name.length > 15) throw kernelError({ errno: ERRNO.EINVAL, operation });
    const link = spec.namespaceFd === undefined ? this.#addLink(spec, infoOf(spec)) : undefined;
    if (spec.kind === "veth" && spec.peer.namespaceFd === undefined) {
      const peer = this.#addLink(spec.peer, { kind: "veth" });
      if (link !== undefined) {
        this.#peers.set(link.index, peer.index);
        this.#peers.set(peer.index, link.index);
      }
    }
    return link === undefined ? undefined : this.#links.get(link.index);
  }

  #addLink(spec: LinkChange & { readonly name: string }, info: LinkInfo): Link {
    const index = this.#nextIndex++;
    const up = spec.up === true;
    const link: Link = {
      index,
      name: spec.name,
      hardwareType: 1,
      flags: up ? IFF_UP | IFF_LOWER_UP : 0,
      up,
      carrier: up,
      operState: up ? 6 : 2,
      mtu: spec.mtu ?? 1500,
      mac: spec.mac ?? `02:00:00:00:00:${index.toString(16).padStart(2, "0").slice(-2)}`,
      ...(spec.master === undefined || spec.master === 0 ? {} : { master: spec.master }),
      group: spec.group ?? 0,
      txQueueLength: spec.txQueueLength ?? 1000,
      ...(spec.alias === undefined ? {} : { alias: spec.alias }),
      info,
    };
    this.#links.set(index, link);
    this.#emit({ kind: "link", gone: false, link, portId: 0 });
    return link;
  }

  #change(link: Link, change: LinkChange): void {
    const { namespaceFd, up, master, bridgePort, bridge, vxlan, ipip, promiscuous: _, ...rest } = change;
    if (namespaceFd !== undefined) {
      this.#forget(link);
      return;
    }
    const running = up ?? link.up;
    const { master: oldMaster, ...others } = link;
    const newMaster = master ?? oldMaster;
    const changed: Link = {
      ...others,
      ...rest,
      up: running,
      carrier: running,
      operState: running ? 6 : 2,
      flags: running ? link.flags | IFF_UP | IFF_LOWER_UP : link.flags & ~(IFF_UP | IFF_LOWER_UP),
      ...(newMaster === undefined || newMaster === 0 ? {} : { master: newMaster }),
      ...(bridgePort === undefined ? {} : { bridgePort: { ...link.bridgePort, ...bridgePort } }),
      info: { ...link.info, ...bridge, ...vxlan, ...ipip },
    };
    this.#links.set(link.index, changed);
    this.#emit({ kind: "link", gone: false, link: changed, portId: 0 });
    // Switching a link off takes its routes away and switching it on does not bring them back.
    if (link.up && !running) this.#routes.dropWhere((route) => usesLink(route, link.index));
  }

  #delete(link: Link): void {
    const peer = this.#peers.get(link.index);
    this.#forget(link);
    const other = peer === undefined ? undefined : this.#links.get(peer);
    if (other !== undefined) this.#forget(other);
  }

  #forget(link: Link): void {
    this.#links.delete(link.index);
    this.#peers.delete(link.index);
    this.#routes.dropWhere((route) => usesLink(route, link.index));
    this.#addresses.dropWhere((address) => address.link === link.index);
    this.#neighbours.dropWhere((entry) => entry.link === link.index);
    this.#emit({ kind: "link", gone: true, link, portId: 0 });
  }

  #needLink(index: number | undefined, operation: string): void {
    if (index !== undefined && !this.#links.has(index)) throw kernelError({ errno: ERRNO.ENODEV, operation });
  }

  #addressRows(): Rows<LinkAddress, LinkAddressSpec, { readonly family?: Family; readonly link?: number }> {
    const key = (value: LinkAddressSpec): string =>
      `address ${formatAddress(value.address)}/${value.prefixLength} of link ${value.link}`;
    return {
      key,
      make: (spec) => {
        this.#needLink(spec.link, `add ${key(spec)}`);
        const { noDad, noPrefixRoute, ...rest } = spec;
        const flags = 0x80 | (noDad === true ? 0x02 : 0) | (noPrefixRoute === true ? 0x200 : 0);
        return { ...rest, scope: spec.scope ?? 0, flags };
      },
      matches: (value, filter) =>
        (filter.link === undefined || filter.link === value.link) &&
        (filter.family === undefined || filter.family === value.address.family),
      selects: (spec, value) => key(spec) === key(value),
      changed: (address, gone) => this.#emit({ kind: "address", gone, address, portId: 0 }),
    };
  }

  #routeRows(): Rows<Route, RouteSpec, RouteFilter> {
    const key = (value: RouteSpec): string =>
      `route ${formatPrefix(value.destination)} in table ${value.table ?? 254} metric ${value.metric ?? 0} tos ${value.tos ?? 0}`;
    return {
      key,
      make: (spec) => this.#makeRoute(spec, key(spec)),
      matches: (value, filter) =>
        (filter.family === undefined || filter.family === value.destination.family) &&
        (filter.table === undefined || filter.table === value.table) &&
        (filter.protocol === undefined || filter.protocol === value.protocol) &&
        (filter.link === undefined || usesLink(value, filter.link)),
      selects: (spec, value) =>
        formatPrefix(spec.destination) === formatPrefix(value.destination) &&
        (spec.table ?? 254) === value.table &&
        (spec.metric === undefined || spec.metric === value.metric) &&
        (spec.type === undefined || spec.type === value.type) &&
        (spec.protocol === undefined || spec.protocol === value.protocol) &&
        (spec.link === undefined || spec.link === value.link) &&
        (spec.gateway === undefined || (value.gateway !== undefined && sameText(spec.gateway, value.gateway))),
      changed: (route, gone) => this.#emit({ kind: "route", gone, route, portId: 0 }),
    };
  }

  #makeRoute(spec: RouteSpec, key: string): Route {
    const operation = `write ${key}`;
    const hops = spec.nextHops ?? [spec];
    for (const hop of hops) {
      this.#needLink(hop.link, operation);
      const link = hop.link === undefined ? undefined : this.#links.get(hop.link);
      if (link !== undefined && !link.up) throw kernelError({ errno: ENETDOWN, operation });
      if (hop.gateway !== undefined && hop.onlink !== true && !this.#reachable(hop.gateway, hop.link)) {
        throw kernelError({ errno: ENETUNREACH, operation, extack: "Nexthop has invalid gateway" });
      }
    }
    const direct = spec.gateway === undefined && spec.nextHops === undefined && (spec.type ?? "unicast") === "unicast";
    const v6 = spec.destination.family === 6;
    return {
      ...spec,
      type: spec.type ?? "unicast",
      table: spec.table ?? 254,
      protocol: spec.protocol ?? 4,
      scope: spec.scope ?? (!v6 && direct ? 253 : 0),
      ...(v6 && spec.metric === undefined ? { metric: 1024 } : {}),
    };
  }

  /** Through a prefix that one of our addresses lies in, or a route of link scope. */
  #reachable(gateway: IpAddress, link: number | undefined): boolean {
    const onAddress = this.#addresses
      .list()
      .some(
        (entry) =>
          (link === undefined || link === entry.link) &&
          (containsAddress(prefixOf(entry.address, entry.prefixLength), gateway) ||
            (entry.peer !== undefined && containsAddress(prefixOf(entry.peer, entry.prefixLength), gateway))),
      );
    return (
      onAddress ||
      this.#routes
        .list()
        .some(
          (route) =>
            route.gateway === undefined &&
            route.link !== undefined &&
            (link === undefined || link === route.link) &&
            containsAddress(route.destination, gateway),
        ) ||
      isLinkLocal(gateway)
    );
  }

  #neighbourRows(): Rows<Neighbour, NeighbourSpec, NeighbourFilter> {
    const key = (value: NeighbourSpec): string =>
      value.kind === "fdb"
        ? `forwarding entry ${value.mac} on link ${value.link}`
        : `neighbour ${formatAddress(value.address)} on link ${value.link}`;
    return {
      key,
      make: (spec) => {
        this.#needLink(spec.link, `write ${key(spec)}`);
        const flags = spec.flags ?? (spec.kind === "fdb" ? 2 : 0);
        return { ...spec, state: spec.state ?? 0x80, flags };
      },
      matches: (value, filter) =>
        (filter.kind === undefined || filter.kind === value.kind) &&
        (filter.link === undefined || filter.link === value.link) &&
        (filter.family === undefined || value.kind === "fdb" || filter.family === value.address.family),
      selects: (spec, value) => key(spec) === key(value),
      changed: (neighbour, gone) => this.#emit({ kind: "neighbour", gone, neighbour, portId: 0 }),
    };
  }

  #sysctlTable(): Sysctl {
    const path = (key: string): string => (key.includes("/") ? key : key.split(".").join("/"));
    return {
      get: (key) => this.sysctls.get(path(key)),
      set: (key, value) => void this.sysctls.set(path(key), String(value)),
    };
  }
}

const sameText = (a: IpAddress, b: IpAddress): boolean => formatAddress(a) === formatAddress(b);

const MAIN_TABLE = 254;
/** What the kernel answers where no route leads on. */
const REFUSALS: ReadonlyMap<string, number> = new Map([
  ["blackhole", ERRNO.EINVAL],
  ["unreachable", EHOSTUNREACH],
  ["prohibit", EACCES],
]);
const ANY_ROUTE: Route = {
  destination: { family: 4, value: 0n, length: 0 },
  type: "local",
  table: 255,
  protocol: 2,
  scope: 254,
};

const usesLink = (route: Route, link: number): boolean =>
  route.link === link || route.nextHops?.some((hop) => hop.link === link) === true;

function infoOf(spec: LinkSpec): LinkInfo {
  switch (spec.kind) {
    case "veth":
      return { kind: "veth" };
    case "other":
      return { kind: "other", name: spec.type };
    default: {
      const common = new Set(["name", "mac", "mtu", "up", "master", "txQueueLength", "group", "alias", "namespaceFd"]);
      return Object.fromEntries(Object.entries(spec).filter(([key]) => !common.has(key))) as unknown as LinkInfo;
    }
  }
}

function ruleRows(): Rows<RoutingRule, RoutingRule, { readonly family?: Family }> {
  const key = (rule: RoutingRule): string =>
    JSON.stringify(rule, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
  return {
    key,
    make: (rule) => rule,
    matches: (rule, filter) => filter.family === undefined || filter.family === rule.family,
    selects: (wanted, rule) =>
      wanted.family === rule.family && wanted.priority === rule.priority && key(wanted) === key(rule),
    changed: () => {},
  };
}
