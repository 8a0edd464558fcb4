/**
 * Kernel notifications: multicast groups of rtnetlink and nf_tables, and NFLOG's groups, read on the event loop.
 *
 * nf_tables reports every object of a transaction and then its generation; one event is made of all that, because the
 * only thing an agent does with it is to look again. Notifications say which socket caused them (`portId`).
 */
import {
  encodeNflogBind,
  type MessageView,
  NETLINK_FAMILY,
  type NflogPacket,
  nftMessageTable,
  type NftTable,
  type NftTrace,
  NLMSG_ERROR,
  readAnswer,
  readLink,
  readLinkAddress,
  readNeighbour,
  readNflogPacket,
  readNftMessage,
  readNftTrace,
  readRoute,
  RTM,
} from "@calico-ts/netlink";
import type { KernelEvent, WatchGroup, WatchOptions } from "./kernel.ts";
import { type FilterInstruction, pollReadable, sysAttachFilter } from "./libc.ts";
import { answerError, NetlinkSocket } from "./netlink-socket.ts";

/** RTNLGRP_* (linux/rtnetlink.h). */
const ROUTE_GROUPS: Readonly<Record<Exclude<WatchGroup, "nftables">, readonly number[]>> = {
  link: [1],
  neighbour: [3],
  address: [5, 9],
  route: [7, 11],
};
const NFNLGRP_NFTABLES = 7;
const NFNLGRP_NFTRACE = 9;
/** Headers; a rule's `snaplen` may ask for less. */
const NFLOG_COPY_BYTES = 256;
/** Datagrams per wake-up, so that a flood of notifications leaves room for everything else. */
const PER_TURN = 64;

interface Listener {
  readonly protocol: number;
  readonly groups: readonly number[];
  /** Undefined: the kernel dropped some. */
  readonly onMessage: (message: MessageView | undefined) => void;
}

function listen(stack: DisposableStack, netns: number, { protocol, groups, onMessage }: Listener): NetlinkSocket {
  const socket = stack.use(new NetlinkSocket(protocol, { netns, groups }));
  const handle = pollReadable(socket.fd, () => {
    for (let count = 0; count < PER_TURN && !stack.disposed; count++) {
      const messages = socket.receiveNow();
      if (messages === undefined) return;
      if (messages === "overrun") onMessage(undefined);
      else for (const message of messages) if (!stack.disposed) onMessage(message);
    }
  });
  stack.defer(() => handle.close());
  return socket;
}

export function watchTraces(netns: number, onTrace: (trace: NftTrace | "overrun") => void): Disposable {
  const stack = new DisposableStack();
  const onMessage = (message: MessageView | undefined): void => {
    const trace = message === undefined ? "overrun" : readNftTrace(message);
    if (trace !== undefined) onTrace(trace);
  };
  try {
    listen(stack, netns, { protocol: NETLINK_FAMILY.NETFILTER, groups: [NFNLGRP_NFTRACE], onMessage });
  } catch (error) {
    stack.dispose();
    throw error;
  }
  return stack;
}

/** @throws CalicoError KERNEL: EBUSY when somebody else listens to a group. */
export function watchNflog(
  netns: number,
  groups: readonly number[],
  onPacket: (packet: NflogPacket | "overrun") => void,
): Disposable {
  const stack = new DisposableStack();
  const onMessage = (message: MessageView | undefined): void => {
    const packet = message === undefined ? "overrun" : readNflogPacket(message);
    if (packet !== undefined) onPacket(packet);
  };
  try {
    const socket = listen(stack, netns, { protocol: NETLINK_FAMILY.NETFILTER, groups: [], onMessage });
    for (const group of groups) bindGroup(socket, group, onMessage);
  } catch (error) {
    stack.dispose();
    throw error;
  }
  return stack;
}

/** Packets of groups bound before may come in between. */
function bindGroup(socket: NetlinkSocket, group: number, onMessage: (message: MessageView) => void): void {
  const operation = `listen to NFLOG group ${group}`;
  const sequence = socket.takeSequence(1);
  socket.send(encodeNflogBind(group, NFLOG_COPY_BYTES, sequence), operation);
  for (;;) {
    for (const message of socket.receive(operation)) {
      if (message.type !== NLMSG_ERROR) {
        onMessage(message);
        continue;
      }
      const answer = readAnswer(message);
      if (answer.sequence !== sequence) continue;
      if (answer.errno !== 0) throw answerError(answer, operation);
      return;
    }
  }
}

/** Classic BPF (linux/filter.h) over a notification: nlmsghdr, then rtmsg; the hosts we run on are little-endian. */
function withoutRoutesBy(protocol: number): FilterInstruction[] {
  const loadByte = (offset: number): FilterInstruction => ({ code: 0x30, jt: 0, jf: 0, k: offset });
  const ifEqual = (value: number, jt: number, jf: number): FilterInstruction => ({ code: 0x15, jt, jf, k: value });
  const answer = (bytes: number): FilterInstruction => ({ code: 0x06, jt: 0, jf: 0, k: bytes });
  return [
    loadByte(NLMSG_TYPE_AT),
    ifEqual(RTM.NEWROUTE, 0, 2),
    loadByte(RTM_PROTOCOL_AT),
    ifEqual(protocol, 1, 0),
    answer(0xffffffff),
    answer(0),
  ];
}

export function watchKernel(
  netns: number,
  { groups, exceptRoutesBy }: WatchOptions & { readonly groups: readonly WatchGroup[] },
  onEvent: (event: KernelEvent) => void,
): Disposable {
  const stack = new DisposableStack();
  const subscribe = (
    protocol: number,
    numbers: readonly number[],
    onMessage: (message: MessageView) => void,
  ): NetlinkSocket =>
    listen(stack, netns, {
      protocol,
      groups: numbers,
      onMessage: (message) => (message === undefined ? onEvent({ kind: "overrun" }) : onMessage(message)),
    });
  try {
    const route = groups.flatMap((group) => (group === "nftables" ? [] : ROUTE_GROUPS[group]));
    if (route.length > 0) {
      const { fd } = subscribe(NETLINK_FAMILY.ROUTE, route, (message) => {
        const event = routeEvent(message);
        if (event !== undefined) onEvent(event);
      });
      if (exceptRoutesBy !== undefined) sysAttachFilter(fd, withoutRoutesBy(exceptRoutesBy));
    }
    if (groups.includes("nftables")) subscribe(NETLINK_FAMILY.NETFILTER, [NFNLGRP_NFTABLES], nftEvents(onEvent));
  } catch (error) {
    stack.dispose();
    throw error;
  }
  return stack;
}

/** Low byte of nlmsg_type, and rtm_protocol behind the header's 16 bytes (linux/netlink.h, linux/rtnetlink.h). */
const NLMSG_TYPE_AT = 4;
const RTM_PROTOCOL_AT = 21;

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
