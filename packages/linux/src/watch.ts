/**
 * Kernel notifications: multicast groups of rtnetlink and nf_tables, read on the event loop.
 *
 * nf_tables reports every object of a transaction and then its generation; one event is made of all that, because the
 * only thing an agent does with it is to look again. Notifications say which socket caused them (`portId`).
 */
import {
  type MessageView,
  NETLINK_FAMILY,
  nftMessageTable,
  type NftTable,
  readLink,
  readLinkAddress,
  readNeighbour,
  readNftMessage,
  readRoute,
  RTM,
} from "@calico-ts/netlink";
import type { KernelEvent, WatchGroup } from "./kernel.ts";
import { pollReadable } from "./libc.ts";
import { NetlinkSocket } from "./netlink-socket.ts";

/** RTNLGRP_* (linux/rtnetlink.h). */
const ROUTE_GROUPS: Readonly<Record<Exclude<WatchGroup, "nftables">, readonly number[]>> = {
  link: [1],
  neighbour: [3],
  address: [5, 9],
  route: [7, 11],
};
const NFNLGRP_NFTABLES = 7;
/** Datagrams per wake-up, so that a flood of notifications leaves room for everything else. */
const PER_TURN = 64;

export function watchKernel(
  netns: number,
  groups: readonly WatchGroup[],
  onEvent: (event: KernelEvent) => void,
): Disposable {
  const stack = new DisposableStack();
  const listen = (protocol: number, numbers: readonly number[], onMessage: (message: MessageView) => void): void => {
    const socket = stack.use(new NetlinkSocket(protocol, { netns, groups: numbers }));
    const handle = pollReadable(socket.fd, () => {
      for (let count = 0; count < PER_TURN && !stack.disposed; count++) {
        const messages = socket.receiveNow();
        if (messages === undefined) return;
        if (messages === "overrun") onEvent({ kind: "overrun" });
        else for (const message of messages) if (!stack.disposed) onMessage(message);
      }
    });
    stack.defer(() => handle.close());
  };
  try {
    const route = groups.flatMap((group) => (group === "nftables" ? [] : ROUTE_GROUPS[group]));
    if (route.length > 0) {
      listen(NETLINK_FAMILY.ROUTE, route, (message) => {
        const event = routeEvent(message);
        if (event !== undefined) onEvent(event);
      });
    }
    if (groups.includes("nftables")) listen(NETLINK_FAMILY.NETFILTER, [NFNLGRP_NFTABLES], nftEvents(onEvent));
  } catch (error) {
    stack.dispose();
    throw error;
  }
  return stack;
}

const GONE: ReadonlySet<number> = new Set([RTM.DELLINK, RTM.DELADDR, RTM.DELROUTE, RTM.DELNEIGH]);

function routeEvent(message: MessageView): KernelEvent | undefined {
  const origin = { gone: GONE.has(message.type), portId: message.portId };
  const link = readLink(message);
  if (link !== undefined) return { kind: "link", ...origin, link };
  const address = readLinkAddress(message);
  if (address !== undefined) return { kind: "address", ...origin, address };
  const route = readRoute(message);
  if (route !== undefined) return { kind: "route", ...origin, route };
  const neighbour = readNeighbour(message);
  return neighbour === undefined ? undefined : { kind: "neighbour", ...origin, neighbour };
}

function nftEvents(onEvent: (event: KernelEvent) => void): (message: MessageView) => void {
  const tables = new Map<string, NftTable>();
  return (message) => {
    const table = nftMessageTable(message);
    if (table !== undefined) {
      tables.set(`${table.family} ${table.name}`, table);
      return;
    }
    const object = readNftMessage(message);
    if (object.kind !== "generation") return;
    const touched = [...tables.values()];
    tables.clear();
    onEvent({
      kind: "nftables",
      generation: object.id,
      tables: touched,
      portId: message.portId,
      ...(object.process === undefined ? {} : { process: object.process }),
    });
  };
}
