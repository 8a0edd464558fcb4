/** The rtnetlink tables of one namespace: synchronous calls over one socket. */
import { closeSync } from "node:fs";
import type { Family } from "@calico-ts/net";
import {
  type Answer,
  addRoutingRule,
  changeLink,
  createLink,
  deleteLink,
  deleteLinkAddress,
  deleteNeighbour,
  deleteRoute,
  deleteRoutingRule,
  dumpLinkAddresses,
  dumpLinks,
  dumpNeighbours,
  dumpRoutes,
  dumpRoutingRules,
  encodeRequest,
  encodeRouteWrites,
  getLink,
  getNamespaceId,
  type Link,
  type LinkChange,
  type LinkSpec,
  lookupRoute,
  type MessageView,
  type Neighbour,
  NETLINK_FAMILY,
  type Route,
  type RouteRequest,
  type RouteSpec,
  type RouteWrite,
  type RoutingRule,
  readFoundRoute,
  readLink,
  readLinkAddress,
  readNamespaceId,
  readNeighbour,
  readRoute,
  readRoutingRule,
  routeWriteRequest,
  type WriteMode,
  writeLinkAddress,
  writeNeighbour,
  writeRoute,
} from "@calico-ts/netlink";
import { CalicoError } from "@calico-ts/std";
import type {
  AddressTable,
  LinkTable,
  ManyResult,
  NeighbourFilter,
  NeighbourTable,
  RouteAnswer,
  RouteFilter,
  RouteTable,
  RuleTable,
  Table,
  TableOp,
} from "./kernel.ts";
import { ERRNO, errnoName } from "./libc.ts";
import { openNamespace } from "./namespace.ts";
import { answerError, NetlinkSocket } from "./netlink-socket.ts";

/** What the kernel says of an object that is not there: it depends on the table. */
export const ABSENT: ReadonlySet<number> = new Set([ERRNO.ENOENT, ERRNO.ESRCH, ERRNO.ENODEV, ERRNO.EADDRNOTAVAIL]);

export function list<T>(
  socket: NetlinkSocket,
  request: RouteRequest,
  read: (message: MessageView) => T | undefined,
): T[] {
  const out: T[] = [];
  const answer = socket.dump(
    request.operation,
    (sequence) => encodeRequest(request, sequence),
    (message) => {
      const value = read(message);
      if (value !== undefined) out.push(value);
    },
  );
  // A routing table that was never used does not exist; a link that went away has nothing.
  if (answer.errno !== 0 && !ABSENT.has(answer.errno)) throw answerError(answer, request.operation);
  return out;
}

interface Requests<Value, Spec, Filter> {
  list(filter: Filter | undefined): Value[];
  write(value: Spec, mode: WriteMode): RouteRequest;
  delete(value: Spec): RouteRequest;
  /** Answers to `replace` that mean "already so". */
  readonly replaceAccepts?: number;
}

function table<Value, Spec, Filter>(
  socket: NetlinkSocket,
  requests: Requests<Value, Spec, Filter>,
): Table<Value, Spec, Filter> {
  const accepts = (op: TableOp<Spec>, errno: number): boolean =>
    errno === 0 ||
    (op.do === "delete" && ABSENT.has(errno)) ||
    (op.do === "replace" && errno === requests.replaceAccepts);
  const requestOf = (op: TableOp<Spec>): RouteRequest =>
    op.do === "delete" ? requests.delete(op.value) : requests.write(op.value, op.do);
  const one = (op: TableOp<Spec>): Answer => {
    const request = requestOf(op);
    const answer = socket.tryRequest(request);
    if (!accepts(op, answer.errno)) throw answerError(answer, request.operation);
    return answer;
  };
  return {
    list: (filter) => requests.list(filter),
    add: (value) => void one({ do: "add", value }),
    replace: (value) => void one({ do: "replace", value }),
    delete: (value) => one({ do: "delete", value }).errno === 0,
    many(ops): ManyResult {
      const sent = ops.map(requestOf);
      const refusals = new Map<number, CalicoError>();
      socket.transact(sent, (answer, index) => {
        const op = ops[index];
        if (op === undefined || accepts(op, answer.errno)) return;
        refusals.set(index, answerError(answer, sent[index]?.operation ?? op.do));
      });
      return refusals;
    },
  };
}

const IF_NAME_MAX = 15;

const canExist = (target: string | number): boolean =>
  typeof target === "number" ? target > 0 : target !== "" && target.length <= IF_NAME_MAX;

/** Threads that may wait for links to go; the others of the pool stay free for rules. */
const REMOVALS_AT_ONCE = 2;

/** @param netns of the socket: removals have sockets of their own */
export function linkTable(socket: NetlinkSocket, netns: number): LinkTable {
  const lanes: Promise<unknown>[] = Array.from({ length: REMOVALS_AT_ONCE }, () => Promise.resolve());
  let nextLane = 0;
  const removeNow = async (target: string | number): Promise<boolean> => {
    using own = new NetlinkSocket(NETLINK_FAMILY.ROUTE, { netns });
    const request = deleteLink(target);
    return wasThere(await own.tryRequestAsync(request), request.operation);
  };
  const get = (target: string | number): Link | undefined => {
    // The kernel calls a name that is too long an invalid request; to a caller it is a link that is not there.
    if (!canExist(target)) return undefined;
    const request = getLink(target);
    const { answer, value: link } = ask(socket, request, readLink);
    if (answer.errno !== 0 && !ABSENT.has(answer.errno)) throw answerError(answer, request.operation);
    return link;
  };
  return {
    list(filter = {}) {
      const links = list(socket, dumpLinks(), readLink);
      return links.filter(
        (link) =>
          (filter.kind === undefined ||
            filter.kind === (link.info.kind === "other" ? link.info.name : link.info.kind)) &&
          (filter.master === undefined || filter.master === link.master),
      );
    },
    get,
    create(spec: LinkSpec) {
      socket.request(createLink(spec));
      if (spec.kind === "veth" && spec.peer.up === true) switchPeerOn(socket, spec);
      return spec.namespaceFd === undefined ? get(spec.name) : undefined;
    },
    set(target: string | number, change: LinkChange) {
      const index = typeof target === "number" ? target : get(target)?.index;
      if (index === undefined) {
        throw new CalicoError("NOT_FOUND", `there is no link "${target}" to change`, { detail: { link: target } });
      }
      const name = typeof target === "string" ? `link "${target}"` : undefined;
      const { bridgePort, ...rest } = change;
      // Port options of a link that is only becoming a port come too early in one request.
      if (Object.keys(rest).length > 0) socket.request(changeLink(index, rest, name));
      if (bridgePort !== undefined) socket.request(changeLink(index, { bridgePort }, name));
    },
    delete(target) {
      if (!canExist(target)) return false;
      const request = deleteLink(target);
      return wasThere(socket.tryRequest(request), request.operation);
    },
    async remove(target) {
      if (!canExist(target)) return false;
      const lane = nextLane++ % REMOVALS_AT_ONCE;
      const before = lanes[lane];
      const removal = (async () => {
        await before;
        return removeNow(target);
      })();
      lanes[lane] = removal.catch(() => undefined);
      return removal;
    },
  };
}

function wasThere(answer: Answer, operation: string): boolean {
  if (answer.errno === 0) return true;
  if (ABSENT.has(answer.errno)) return false;
  throw answerError(answer, operation);
}

/** The peer may be in a third namespace, where our socket does not reach. */
function switchPeerOn(socket: NetlinkSocket, spec: Extract<LinkSpec, { kind: "veth" }>): void {
  const { name, namespaceFd = spec.namespaceFd } = spec.peer;
  if (namespaceFd === undefined) {
    switchOn(socket, name);
    return;
  }
  using there = new NetlinkSocket(NETLINK_FAMILY.ROUTE, { netns: namespaceFd });
  switchOn(there, name);
}

function switchOn(socket: NetlinkSocket, name: string): void {
  const { value: link } = ask(socket, getLink(name), readLink);
  if (link === undefined) {
    throw new CalicoError("NOT_FOUND", `there is no link "${name}" to switch on`, { detail: { link: name } });
  }
  socket.request(changeLink(link.index, { up: true }, `link "${name}"`));
}

export const addressTable = (socket: NetlinkSocket): AddressTable =>
  table(socket, {
    list: (filter = {}) =>
      list(socket, dumpLinkAddresses(filter), readLinkAddress).filter(
        (address) =>
          (filter.link === undefined || filter.link === address.link) &&
          (filter.family === undefined || filter.family === address.address.family),
      ),
    write: writeLinkAddress,
    delete: deleteLinkAddress,
    // IPv4 refuses to replace an address by itself on some kernels.
    replaceAccepts: ERRNO.EEXIST,
  });

const BOTH: readonly Family[] = [4, 6];
const families = (family: Family | undefined): readonly Family[] => (family === undefined ? BOTH : [family]);

const matchesRoute = (filter: RouteFilter, route: Route): boolean =>
  (filter.table === undefined || filter.table === route.table) &&
  (filter.protocol === undefined || filter.protocol === route.protocol) &&
  (filter.link === undefined ||
    filter.link === route.link ||
    route.nextHops?.some((hop) => hop.link === filter.link) === true);

/** Answers to a datagram of them fit the receive buffer even when each is an error. */
const WRITES_PER_SEND = 2048;

/** @param netns of the socket: full tables go through one of their own */
export function routeTable(socket: NetlinkSocket, netns: number): RouteTable & Disposable {
  const writer = new RouteWriter(netns);
  return {
    ...smallRouteTable(socket),
    program: (writes) => writer.program(writes),
    [Symbol.dispose]: () => writer.end(),
  };
}

/** A socket for `program`, which works on another thread; it stays open until that thread has come back. */
class RouteWriter {
  readonly #netns: number;
  #socket: NetlinkSocket | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #ended = false;

  constructor(netns: number) {
    this.#netns = netns;
  }

  program(writes: readonly RouteWrite[]): Promise<ManyResult> {
    const before = this.#last;
    const result = (async () => {
      await before;
      return this.#program(writes);
    })();
    this.#last = result.catch(() => undefined);
    return result;
  }

  end(): void {
    this.#ended = true;
    void this.#last.then(() => this.#socket?.[Symbol.dispose]());
  }

  async #program(writes: readonly RouteWrite[]): Promise<ManyResult> {
    if (this.#ended) throw new CalicoError("CANCELLED", "routes cannot be programmed: the kernel's sockets are closed");
    this.#socket ??= new NetlinkSocket(NETLINK_FAMILY.ROUTE, { netns: this.#netns });
    const refusals = new Map<number, CalicoError>();
    for (let from = 0; from < writes.length; from += WRITES_PER_SEND) {
      const some = writes.slice(from, from + WRITES_PER_SEND);
      const operation = `program ${some.length} routes`;
      const encode = (sequence: number): Uint8Array => encodeRouteWrites(some, sequence);
      await this.#socket.transactAsync({ count: some.length, operation, encode }, (answer, index) => {
        const write = some[index];
        if (write === undefined || (write.do === "delete" && ABSENT.has(answer.errno))) return;
        refusals.set(from + index, answerError(answer, routeWriteRequest(write).operation));
      });
    }
    return refusals;
  }
}

const smallRouteTable = (socket: NetlinkSocket): Omit<RouteTable, "program"> => ({
  ...table<Route, RouteSpec, RouteFilter>(socket, {
    list: (filter = {}) =>
      families(filter.family)
        // The kernel's own link filter does not see the next hops of multipath routes: that one is ours.
        .flatMap((family) => {
          const { table, protocol } = filter;
          const request = dumpRoutes({
            family,
            ...(table === undefined ? {} : { table }),
            ...(protocol === undefined ? {} : { protocol }),
          });
          return list(socket, request, readRoute);
        })
        .filter((route) => matchesRoute(filter, route)),
    write: writeRoute,
    delete: deleteRoute,
  }),
  lookup(query): RouteAnswer {
    const { answer, value } = ask(socket, lookupRoute(query), readFoundRoute);
    if (value !== undefined) return { route: value };
    return { errno: answer.errno, errnoName: errnoName(answer.errno) };
  },
});

/** One request with one answer. */
function ask<T>(
  socket: NetlinkSocket,
  request: RouteRequest,
  read: (message: MessageView) => T | undefined,
): { readonly answer: Answer; readonly value: T | undefined } {
  let value: T | undefined;
  const answer = socket.dump(
    request.operation,
    (sequence) => encodeRequest(request, sequence),
    (message) => {
      value = read(message);
    },
  );
  return { answer, value };
}

export function namespaceIdOf(socket: NetlinkSocket, path: string): number | undefined {
  const fd = openNamespace(path);
  try {
    const request = getNamespaceId(fd);
    const { answer, value } = ask(socket, request, readNamespaceId);
    if (answer.errno !== 0) throw answerError(answer, request.operation);
    return value;
  } finally {
    closeSync(fd);
  }
}

export const ruleTable = (socket: NetlinkSocket): RuleTable =>
  table<RoutingRule, RoutingRule, { readonly family?: Family }>(socket, {
    list: (filter = {}) =>
      families(filter.family).flatMap((family) => list(socket, dumpRoutingRules(family), readRoutingRule)),
    write: addRoutingRule,
    delete: deleteRoutingRule,
    replaceAccepts: ERRNO.EEXIST,
  });

export const neighbourTable = (socket: NetlinkSocket): NeighbourTable =>
  table(socket, {
    list: (filter: NeighbourFilter = {}) => {
      const matches = (entry: Neighbour): boolean =>
        (filter.link === undefined || filter.link === entry.link) &&
        (filter.family === undefined || entry.kind === "fdb" || filter.family === entry.address.family);
      const { family, link } = filter;
      const own = {
        kind: "neighbour" as const,
        ...(family === undefined ? {} : { family }),
        ...(link === undefined ? {} : { link }),
      };
      return [
        ...(filter.kind === "fdb" ? [] : list(socket, dumpNeighbours(own), readNeighbour)),
        ...(filter.kind === "neighbour" ? [] : list(socket, dumpNeighbours({ kind: "fdb" }), readNeighbour)),
      ].filter(matches);
    },
    write: writeNeighbour,
    delete: deleteNeighbour,
  });
