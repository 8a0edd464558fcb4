/** Shaping of one namespace's links over its rtnetlink socket. */
import {
  addIngress,
  deleteQdisc,
  dumpIngressFilters,
  dumpQdiscs,
  readQdisc,
  readRedirect,
  redirectIngress,
  type RouteRequest,
  setTokenBucket,
} from "@calico-ts/netlink";
import type { Shaping } from "./kernel.ts";
import { ERRNO } from "./libc.ts";
import { answerError, type NetlinkSocket } from "./netlink-socket.ts";
import { ABSENT, list } from "./tables.ts";

export function shapingOf(socket: NetlinkSocket): Shaping {
  const remove = (request: RouteRequest): boolean => {
    const { errno, ...rest } = socket.tryRequest(request);
    // "Invalid argument": there is an ingress nobody has added, or a root that is the link's own.
    if (errno === 0) return true;
    if (ABSENT.has(errno) || errno === ERRNO.EINVAL) return false;
    throw answerError({ errno, ...rest }, request.operation);
  };
  return {
    list: () => list(socket, dumpQdiscs(), readQdisc),
    setBucket: (link, handle, bucket) => {
      socket.request(setTokenBucket(link, handle, bucket));
    },
    redirect(link, target) {
      remove(deleteQdisc(link, "ingress"));
      socket.request(addIngress(link));
      socket.request(redirectIngress(link, target));
    },
    redirectOf: (link) => list(socket, dumpIngressFilters(link), readRedirect)[0],
    remove: (link, place) => remove(deleteQdisc(link, place)),
  };
}
