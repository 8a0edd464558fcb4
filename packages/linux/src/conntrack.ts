/** Connection tracking: list flows, and forget those of an address that now belongs to somebody else. */
import { type IpAddress, sameAddress } from "@calico-ts/net";
import {
  type ConntrackEntry,
  encodeConntrackDelete,
  encodeConntrackDump,
  encodeConntrackFlush,
  encodeConntrackForget,
  NLMSG_ERROR,
  readAnswer,
  readConntrack,
} from "@calico-ts/netlink";
import type { Conntrack, ConntrackFlow } from "./kernel.ts";
import { ERRNO } from "./libc.ts";
import { answerError, type NetlinkSocket } from "./netlink-socket.ts";

/** Addresses from which on one walk of the whole table costs less than four requests for each. */
const WALK_INSTEAD = 16;

export function conntrackTable(socket: NetlinkSocket): Conntrack {
  const dump = (family?: 4 | 6): ConntrackEntry[] => {
    const entries: ConntrackEntry[] = [];
    const answer = socket.dump(
      "list tracked connections",
      (sequence) => encodeConntrackDump(family, sequence),
      (message) => {
        const entry = readConntrack(message);
        if (entry !== undefined) entries.push(entry);
      },
    );
    if (answer.errno !== 0) throw answerError(answer, "list tracked connections");
    return entries;
  };

  /** False: the kernel answered with that error; by default, there is no such connection any more. */
  const ask = (operation: string, encode: (sequence: number) => Uint8Array, fine: number = ERRNO.ENOENT): boolean => {
    const sequence = socket.takeSequence(1);
    socket.send(encode(sequence), operation);
    for (;;) {
      for (const message of socket.receive(operation)) {
        if (message.type !== NLMSG_ERROR || message.sequence !== sequence) continue;
        const answer = readAnswer(message);
        if (answer.errno === 0) return true;
        if (answer.errno === fine) return false;
        throw answerError(answer, operation);
      }
    }
  };
  const remove = (entry: ConntrackEntry): boolean =>
    ask("delete a tracked connection", (sequence) => encodeConntrackDelete(entry, sequence));

  const forget = (addresses: readonly IpAddress[]): boolean => {
    for (const address of addresses) {
      for (const direction of ["original", "reply"] as const) {
        for (const end of ["source", "destination"] as const) {
          const encode = (sequence: number): Uint8Array => encodeConntrackForget({ address, direction, end }, sequence);
          if (!ask("forget the connections of an address", encode, ERRNO.EINVAL)) return false;
        }
      }
    }
    return true;
  };

  /** Until the kernel refuses it once: before Linux 6.8 there is no such request. */
  let forgetsItself = true;
  const table: Conntrack = {
    list: (filter = {}) =>
      dump(filter.family)
        .filter((entry) => filter.address === undefined || involves(entry, filter.address))
        .map(flowOf),
    delete({ addresses, protocol }) {
      const families = new Set(addresses.map(({ family }) => family));
      const [family] = families;
      if (family === undefined) return 0;
      return dump(families.size === 1 ? family : undefined).filter(
        (entry) =>
          (protocol === undefined || entry.original.protocol === protocol) &&
          addresses.some((address) => involves(entry, address)) &&
          remove(entry),
      ).length;
    },
    forget(addresses) {
      if (forgetsItself && addresses.length <= WALK_INSTEAD) {
        forgetsItself = forget(addresses);
        if (forgetsItself) return;
      }
      table.delete({ addresses });
    },
    flush: () => {
      ask("forget all tracked connections", encodeConntrackFlush);
    },
  };
  return table;
}

function involves(entry: ConntrackEntry, address: { readonly family: 4 | 6; readonly value: bigint }): boolean {
  const { original, reply } = entry;
  return [original.source, original.destination, reply.source, reply.destination].some((end) =>
    sameAddress(end, address),
  );
}

function flowOf(entry: ConntrackEntry): ConntrackFlow {
  const { original, reply, family, mark, status, zone } = entry;
  return {
    family,
    protocol: original.protocol,
    source: original.source,
    destination: original.destination,
    ...(original.sourcePort === undefined ? {} : { sourcePort: original.sourcePort }),
    ...(original.destinationPort === undefined ? {} : { destinationPort: original.destinationPort }),
    replySource: reply.source,
    replyDestination: reply.destination,
    ...(reply.sourcePort === undefined ? {} : { replySourcePort: reply.sourcePort }),
    ...(reply.destinationPort === undefined ? {} : { replyDestinationPort: reply.destinationPort }),
    mark,
    status,
    zone,
    ...(entry.tcpState === undefined ? {} : { tcpState: entry.tcpState }),
  };
}
