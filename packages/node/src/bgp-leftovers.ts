/**
 * A node that had BGP and has it no longer: the routes that its daemon left are removed. Not before the agent is ready, which has its own routes for the same
 * destinations waiting and puts each in at once.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock, Logger } from "@calico-ts/runtime";
import { checkProbes } from "./probes.ts";
import type { NodeSettings } from "./settings.ts";
import { runOnce } from "./supervisor.ts";

export interface BgpLeftoversOptions {
  readonly settings: Pick<
    NodeSettings,
    "backend" | "disableAgent" | "healthHost" | "healthPort" | "hostRoot" | "nodenameFile"
  >;
  readonly bgpCommand: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Logger;
}

export async function removeBgpLeftovers(options: BgpLeftoversOptions, signal: AbortSignal): Promise<void> {
  const { bgpCommand, clock, env, log, settings } = options;
  // Written by the daemon (packages/bgp-daemon, leftovers.ts); read here so that a node without BGP starts no program for nothing.
  if (settings.backend === "bird" || !existsSync(join(settings.hostRoot, "var/run/calico/bgp.routes"))) return;
  for (let waitMs = 250; !signal.aborted; waitMs = Math.min(waitMs * 2, 10_000)) {
    try {
      if (!settings.disableAgent) await checkProbes(["felix-ready"], settings);
      const outcome = await runOnce({ name: "bgp-sweep", command: [...bgpCommand, "sweep"], env, clock, log }, signal);
      if (outcome === 0) return;
      log.error("bgp_leftovers.failed", { exit: outcome });
    } catch (error) {
      log.debug("bgp_leftovers.waiting", { error });
    }
    await clock.sleep(waitMs, signal).catch(() => undefined);
  }
}
