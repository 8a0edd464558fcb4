/**
 * START HERE for the command line: every command, its flags and its exit codes.
 *
 *   0  done            1  failed, or the network disagrees            2  bad input: nothing was created
 *
 * `exec` passes on the exit code of its command. `main` returns the code and never exits itself, so output through a pipe is
 * written to its end. What a command does is loaded when it is asked for: the daemon brings API server and cluster along, and the short
 * commands should answer at once.
 */
import { errorText, hasCode } from "@calico-ts/std";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import colorsModule from "picocolors";
import type { Colors } from "picocolors/types.js";
import type { DaemonOptions } from "../daemon/daemon-options.ts";
import { PROBE_PROTOCOLS } from "../probe/probe-request.ts";
import { runPaths } from "../run/run-folder.ts";
import { shippedNames } from "../topology/shipped.ts";
import type { RunOptions } from "./choose-run.ts";
import { chooseLiveRun } from "./choose-run.ts";
import type { DoctorOptions } from "./doctor.ts";
import type { DownOptions } from "./down.ts";
import type { ExplainOptions } from "./explain.ts";
import type { KillEachOptions } from "./kill-each.ts";
import type { SimulatorPlugins, Terminal } from "./plugins.ts";
import { processTerminal } from "./plugins.ts";
import type { MatrixOptions, ProbeOptions } from "./probe.ts";
import type { UpOptions } from "./up.ts";
import type { VerifyOptions } from "./verify.ts";

const EXIT_FAILED = 1;
const EXIT_BAD_INPUT = 2;

/** `argv` without node and script. */
export async function main(
  argv: readonly string[],
  plugins: SimulatorPlugins,
  terminal: Terminal = processTerminal,
): Promise<number> {
  let exitCode = 0;
  const program = buildProgram(plugins, terminal, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_BAD_INPUT; // it has said why
    const badInput = hasCode(error, "BAD_INPUT") || hasCode(error, "ALREADY_EXISTS");
    terminal.note(colorsFor(process.stderr).red(errorText(error)));
    return badInput ? EXIT_BAD_INPUT : EXIT_FAILED;
  }
}

const colorsFor = (stream: { readonly isTTY?: boolean }) =>
  colorsModule.createColors(colorsModule.isColorSupported && stream.isTTY === true);

const collect = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

function wholeNumber(least: number, most?: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= (most ?? Infinity)) return value;
    throw new InvalidArgumentError(
      `Expected a whole number from ${least} ${most === undefined ? "on" : `to ${most}`}.`,
    );
  };
}

function seconds(text: string): number {
  const value = Number(text);
  if (text !== "" && value >= 0 && value <= 3600) return value;
  throw new InvalidArgumentError("Expected seconds, from 0 to 3600.");
}

type AddCommand = (name: string, description: string) => Command;

interface View {
  readonly terminal: Terminal;
  readonly colors: Colors;
}

function buildProgram(plugins: SimulatorPlugins, terminal: Terminal, setExit: (code: number) => void): Command {
  const program = new Command(plugins.command ?? "calico-sim");
  program
    .description("Boots a Kubernetes cluster with the real network plugin out of network namespaces, on this host.")
    .enablePositionalOptions()
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.note(text.trimEnd()),
    });
  const colors = colorsFor(process.stdout);
  const view = { terminal, colors, width: process.stdout.columns ?? 160 };
  const command: AddCommand = (name, description) =>
    program.command(name).description(description).option("--name <run>", "which run, when more than one is up");

  addUp(program, { plugins, terminal, setExit });
  command("down", "end a run and remove everything it made; twice is fine")
    .option("--all", "every run, and whatever dead runs left")
    .action(async (options: DownOptions) => setExit(await (await import("./down.ts")).down(options, terminal)));
  command("status", "runs, their nodes, what they wait for")
    .option("--json", "for programs: an array of runs")
    .action(async (options: RunOptions & { json?: boolean }) =>
      setExit(await (await import("./status.ts")).status(options, terminal, colors)),
    );
  command("kubeconfig", "print the path of a kubeconfig for kubectl").action((options: RunOptions) => {
    terminal.out(runPaths(chooseLiveRun(options)).kubeconfig);
  });
  command("exec", "run a command of this host inside a node's, a router's or a pod's network")
    .argument("<target>", "NODE, ROUTER or NAMESPACE/POD")
    .argument("<command...>", "after --, the command and its arguments")
    .passThroughOptions()
    .action(async (target: string, words: string[], options: RunOptions) => {
      const { exec } = await import("./exec.ts");
      setExit(await exec({ run: chooseLiveRun(options), target, command: withoutSeparator(words) }, terminal));
    });
  command("probe", "send one probe from a pod and tell what the network did")
    .requiredOption("--from <pod>", "NAMESPACE/POD; a Deployment's name stands for any one of its pods")
    .requiredOption("--to <target>", "NAMESPACE/POD, svc:NAMESPACE/NAME or an IP address")
    .option("--port <n>", "destination port (not for icmp)", wholeNumber(1, 65_535))
    .addOption(new Option("--protocol <protocol>", "tcp, udp or icmp").choices(PROBE_PROTOCOLS).default("tcp"))
    .addOption(
      new Option("--family <family>", "which address of a target that has both; default: its first").choices([
        "4",
        "6",
      ]),
    )
    .addOption(
      new Option("--expect <verdict>", "exit with 1 unless this is the verdict").choices(["allowed", "denied"]),
    )
    .option("--json", "for programs: one object")
    .action(async (options: ProbeOptions & RunOptions) => {
      const { probe } = await import("./probe.ts");
      setExit(await probe(chooseLiveRun(options), options, view));
    });
  addExplain(command, setExit, view);
  command("matrix", "probe every pod against every declared container port of every other pod")
    .option("--namespace <namespace>", "only pods of this namespace; may be given several times", collect)
    .option("--json", "for programs: an array of probe results")
    .action(async (options: MatrixOptions & RunOptions) => {
      const { matrix } = await import("./probe.ts");
      setExit(await matrix(chooseLiveRun(options), options, view));
    });
  command("verify", "compare the network with a file of expectations; exit code 1 and a diff when they disagree")
    .argument("<file>", "expectations (sim/README.md tells the format)")
    .option("--within <seconds>", "keep asking this long until the network agrees", wholeNumber(0, 3600))
    .option("--json", "for programs: one object")
    .action(async (file: string, options: VerifyOptions & RunOptions) => {
      const { verify } = await import("./verify.ts");
      setExit(await verify({ run: chooseLiveRun(options), file }, options, view));
    });
  addKillEach(command, { plugins, setExit, view });
  program
    .command("demo", { isDefault: plugins.demo !== undefined, hidden: plugins.demo === undefined })
    .description("what happens without a command: bring a cluster up with the demo, prove it, leave it running")
    .action(async () => setExit(await (await import("./demo.ts")).demo(plugins, view)));
  program
    .command("doctor")
    .description("what this host can and cannot do, and what that costs")
    .option("--json", "for programs")
    .action(async (options: DoctorOptions) => setExit(await (await import("./doctor.ts")).doctor(options, view)));
  return program;
}

/** Options behind the target are the command's own, `--` included; that one is ours. */
const withoutSeparator = (words: readonly string[]): readonly string[] => (words[0] === "--" ? words.slice(1) : words);

interface UpWiring {
  readonly plugins: SimulatorPlugins;
  readonly terminal: Terminal;
  readonly setExit: (code: number) => void;
}

function addUp(program: Command, { plugins, terminal, setExit }: UpWiring): void {
  program
    .command("up")
    .description("boot a cluster, apply manifests, wait until everything is ready; the cluster stays up afterwards")
    .option(
      "--topology <file>",
      `a topology file, or the name of one that comes with the simulator: ${shippedNames().join(", ")}`,
    )
    .option("--nodes <n>", "that many nodes, whatever count the topology has", wholeNumber(1, 500))
    .option("--manifests <path>", "a file or folder of Kubernetes manifests; may be given several times", collect)
    .option("--name <run>", "name of the run, to have several at once (default: sim)")
    .option("--kubeconfig <file>", "use this Kubernetes API server instead of the embedded one")
    .option("--timeout <seconds>", "how long everything may take to become ready", wholeNumber(1, 3600), 180)
    .action(async (options: UpOptions) => setExit(await (await import("./up.ts")).up(options, plugins, terminal)));
  program
    .command("daemon", { hidden: true })
    .argument("<options>")
    .action(async (text: string) => {
      const { runDaemon } = await import("../daemon/daemon.ts");
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by `up` of this very program
      setExit(await runDaemon(JSON.parse(text) as DaemonOptions, plugins));
    });
}

function addExplain(command: AddCommand, setExit: (code: number) => void, view: View): void {
  command("explain", "tell whether policies allow a packet, which rule says so, and what the kernel has counted")
    .argument("<from>", "NAMESPACE/POD, NAMESPACE/WORKLOAD, node:NAME or an IP address")
    .argument("<to>", "the same, or svc:NAMESPACE/NAME")
    .argument("<traffic>", "tcp/80, udp/53, tcp/http, icmp")
    .addOption(
      new Option("--expect <verdict>", "exit with 1 unless this is the verdict").choices(["allowed", "denied"]),
    )
    .option("--json", "for programs: one object; with --watch one line for each packet")
    .option("--watch", "then trace the flow's packets through the nodes' kernels, until Ctrl-C")
    .option("--count <n>", "with --watch: end after so many packets", wholeNumber(1))
    .option(
      "--source-port <port>",
      "with --watch: only packets from (and answers to) this port",
      wholeNumber(1, 65_535),
    )
    .action(async (from: string, to: string, traffic: string, options: ExplainOptions) => {
      const { explain } = await import("./explain.ts");
      setExit(await explain(chooseLiveRun(options), { question: { from, to, traffic }, options }, view));
    });
}

function addKillEach(
  command: AddCommand,
  { plugins, setExit, view }: { plugins: SimulatorPlugins; setExit: (code: number) => void; view: View },
): void {
  command(
    "kill-each",
    "kill every process of the run in turn under traffic; exit code 1 when one cost more than it may",
  )
    .option("--only <text>", "only processes with this in their kind or place; may be given several times", collect)
    .option("--one-of-each", "one process of each kind instead of all")
    .option("--simulator-too", "the simulator's own daemon as the last one: the run ends with it")
    .option("--list", "say what would be killed and what is promised, and kill nothing")
    .option("--settle <seconds>", "keep looking for losses so long after all is well again", seconds, 2)
    .option("--timeout <seconds>", "how long it may take until all is well again", seconds, 90)
    .option("--json", "for programs: one object")
    .action(async (options: KillEachOptions) =>
      setExit(await (await import("./kill-each.ts")).kill(options, plugins, view)),
    );
}
