/** The commands of `calico-node` that talk to the datastore: from the process's environment to what they need. */
import { randomBytes, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { openKubernetes } from "@calico-ts/datastore";
import { createLogger, runUntilSignal, systemClock } from "@calico-ts/runtime";
import { setNetworkAvailable } from "./network-available.ts";
import type { RunNodeOptions } from "./run.ts";
import { runNode, startUp } from "./run.ts";
import { readNodeSettings } from "./settings.ts";

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
      await using client = openKubernetes(
        settings.kubeconfig === "" ? { inCluster: true } : { kubeconfig: settings.kubeconfig },
      );
      const options: RunNodeOptions = {
        client,
        settings,
        nodeName,
        version,
        agentCommand: agentCommand(),
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

/** Beside this program in an image, in the agent's package in a checkout. */
function agentCommand(): readonly [string, ...string[]] {
  const path =
    process.env["CALICO_AGENT_PROGRAM"] ?? join(import.meta.dirname, "../../../agent/dist/bin/calico-agent.mjs");
  // The agent's live heap is small; a young generation that may not grow to its default 48 MB keeps the process so, too.
  return [process.execPath, "--max-semi-space-size=2", path];
}
