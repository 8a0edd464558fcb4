/** Puts the parts of `kernel.ts` together over sockets in one namespace. */
import { closeSync } from "node:fs";
import { NETLINK_FAMILY } from "@calico-ts/netlink";
import { conntrackTable } from "./conntrack.ts";
import type { Kernel } from "./kernel.ts";
import { openNamespace } from "./namespace.ts";
import { NetlinkSocket } from "./netlink-socket.ts";
import { KernelNftClient } from "./nft-client.ts";
import { sysctlOf } from "./sysctl.ts";
import { shapingOf } from "./shaping.ts";
import { addressTable, linkTable, namespaceIdOf, neighbourTable, routeTable, ruleTable } from "./tables.ts";
import { watchKernel, watchNflog, watchTraces } from "./watch.ts";

/**
 * The kernel of a namespace: a path such as /run/netns/x, or the thread's current one.
 * @throws CalicoError NOT_FOUND (no such namespace), KERNEL
 */
export function openKernel(options: { readonly netns?: string } = {}): Kernel {
  const stack = new DisposableStack();
  try {
    const netns = openNamespace(options.netns);
    stack.defer(() => closeSync(netns));
    const route = stack.use(new NetlinkSocket(NETLINK_FAMILY.ROUTE, { netns }));
    const nft = stack.use(new KernelNftClient(netns));
    const netfilter = stack.use(new NetlinkSocket(NETLINK_FAMILY.NETFILTER, { netns }));
    return {
      netns: options.netns,
      links: linkTable(route, netns),
      addresses: addressTable(route),
      routes: stack.use(routeTable(route, netns)),
      rules: ruleTable(route),
      neighbours: neighbourTable(route),
      shaping: shapingOf(route),
      nft,
      conntrack: conntrackTable(netfilter),
      sysctl: sysctlOf(netns),
      watch: (groups, onEvent, watchOptions) => watchKernel(netns, { groups, ...watchOptions }, onEvent),
      trace: (onTrace) => watchTraces(netns, onTrace),
      nflog: (groups, onPacket) => watchNflog(netns, groups, onPacket),
      namespaceIdOf: (path) => namespaceIdOf(route, path),
      [Symbol.dispose]: () => stack.dispose(),
    };
  } catch (error) {
    stack.dispose();
    throw error;
  }
}
