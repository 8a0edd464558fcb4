/** The commands of `calico-node` that talk to the datastore: from the process's environment to what they need. */
import { randomBytes, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { openFromEnvironment } from "@calico-ts/datastore";
import { createLogger, runUntilSignal, systemClock } from "@calico-ts/runtime";
import { setNetworkAvailable } from "./network-available.ts";
import type { RunNodeOptions } from "./run.ts";
import { runNode, startUp } from "./run.ts";
import { readNodeSettings } from "./settings.ts";

/** The agent's live heap is small; a young generation that may not grow to its default keeps the process so, too. */
export const AGENT_NODE_FLAGS: readonly string[] = ["--max-semi-space-size=2"];

const COMMANDS = {
  run: runNode,
  startup: startUp,
  shutdown: (options: RunNodeOptions) => setNetworkAvailable(options, false),
} as const;

/** The exit code. */
export async function runCommand(command: keyof typeof COMMANDS, version: string): Promise<number> {
  const settings = readNodeSettings(process.env);
  const log = createLogger({ component: "node", stream: process.stdout, level: settings.logLevel });
  const nodeName = settings.nodename === "" ? hostname().toLowerCase() : settings.nodename;
  return runUntilSignal(
    async (signal) => {
      await using client = await openFromEnvironment(process.env);
      const options: RunNodeOptions = {
        client,
        settings,
        nodeName,
        version,
        agentCommand: programCommand("CALICO_AGENT_PROGRAM", "agent/dist/bin/calico-agent.mjs", ...AGENT_NODE_FLAGS),
        // Of a full table most of what is made young lives on: a large young generation costs memory and saves nothing.
        bgpCommand: programCommand(
          "CALICO_BGP_PROGRAM",
          "bgp-daemon/dist/bin/calico-bgp.mjs",
          "--max-semi-space-size=8",
        ),
        env: process.env,
        newGuid: () => randomUUID().replaceAll("-", ""),
        randomBytes: (count) => randomBytes(count),
        clock: systemClock,
        log,
      };
      await COMMANDS[command](options, signal);
    },
    { log },
  );
}

/** Where an image says it is; in its package's dist in a checkout. */
function programCommand(
  variable: string,
  inCheckout: string,
  ...flags: readonly string[]
): readonly [string, ...string[]] {
  const path = process.env[variable] ?? join(import.meta.dirname, "../../..", inCheckout);
  return [process.execPath, ...flags, path];
}
