/**
 * Routes of a daemon that is gone for good. They stay in the kernel on purpose whenever a daemon ends, and only the next one, or `calico-bgp sweep`, removes them:
 * calico-node runs it when the node no longer has BGP. A note in the folder of sockets, which a reboot empties as it empties the kernel, says that routes of
 * protocol 12 here are ours: without it they may be somebody else's BIRD's, and are left alone.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Kernel } from "@calico-ts/linux";
import { MAIN_TABLE, ROUTE_PROTOCOL } from "./kernel/kernel-view.ts";

const noteIn = (hostRoot: string): string => join(hostRoot, "var/run/calico/bgp.routes");

/** From now on routes of protocol 12 on this node are ours. */
export function noteRoutes(hostRoot: string): void {
  const note = noteIn(hostRoot);
  mkdirSync(dirname(note), { recursive: true });
  writeFileSync(note, "calico-bgp has programmed routes of protocol 12 since this node started\n");
}

/** How many routes were removed; 0 without a note. @throws CalicoError KERNEL for the first one that could not be */
export function sweepRoutes(kernel: Pick<Kernel, "routes">, hostRoot: string): number {
  const note = noteIn(hostRoot);
  if (!existsSync(note)) return 0;
  const routes = kernel.routes.list({ protocol: ROUTE_PROTOCOL }).filter(({ table }) => table === MAIN_TABLE);
  for (const route of routes) {
    const { destination, metric = 0, protocol } = route;
    kernel.routes.delete({ destination, protocol, metric });
  }
  rmSync(note, { force: true });
  return routes.length;
}
