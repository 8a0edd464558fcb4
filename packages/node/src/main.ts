/**
 * `calico-node`: its commands, flags and exit codes. What it does while running is in run.ts.
 *
 * `health` runs on every node every few seconds for ever, and most of what it costs is loading code: so this file loads nothing but the
 * settings and the probes, and the commands that do something (commands.ts) are loaded when they are asked for.
 */
import { CalicoError, errorText } from "@calico-ts/std";
import { checkProbes, parseProbes } from "./probes.ts";
import { readNodeSettings } from "./settings.ts";

const VERSION = "v3.34.0-calico-ts.0.1.0";

const HELP = `calico-node: makes this machine a Calico node and keeps its programs running.

  calico-node                         start up, then supervise the agent and the BGP daemon until a signal
  calico-node startup                 start up only
  calico-node health --felix-live --felix-ready --bird-live --bird-ready --bird6-live --bird6-ready
                                      exit 0 when the agent and BGP are alive / ready; the reason and exit 1 otherwise
  calico-node shutdown                mark the node's network as unavailable
  calico-node version

Settings come from the environment (NODENAME, IP, CALICO_IPV4POOL_CIDR, FELIX_…): packages/node/src/settings.ts
`;

async function main(args: readonly string[]): Promise<number> {
  const [command = "run", ...rest] = args;
  if (command.startsWith("-") && !["-h", "--help", "-v", "--version"].includes(command)) return health(args);
  switch (command) {
    case "run":
    case "startup":
    case "shutdown":
      return (await import("./commands.ts")).runCommand(command, VERSION);
    case "health":
      return health(rest);
    case "version":
    case "-v":
    case "--version":
      process.stdout.write(`${VERSION}\n`);
      return 0;
    case "help":
    case "-h":
    case "--help":
      process.stdout.write(HELP);
      return 0;
    default:
      process.stderr.write(`calico-node: unknown command "${command}"\n\n${HELP}`);
      return 2;
  }
}

async function health(flags: readonly string[]): Promise<number> {
  const settings = readNodeSettings(process.env);
  await checkProbes(parseProbes(flags), settings);
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`calico-node: ${errorText(error)}\n`);
  process.exitCode = error instanceof CalicoError && error.code === "BAD_INPUT" ? 2 : 1;
}
