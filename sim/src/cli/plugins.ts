/** What a caller of the command line plugs in, and how its commands speak. */
import type { NodeProgram } from "../cluster/program.ts";
import type { ProcessKind } from "../kills/process-kinds.ts";

/** Supplied by whoever builds the executable: the product under test. */
export interface SimulatorPlugins {
  /** Programs that run for container images; see `NodeProgram`. */
  readonly programs: readonly NodeProgram[];
  /** Files or folders of manifests applied before the user's: what installs the product in the cluster. */
  readonly manifests: readonly string[];
  /** The same for topologies whose nodes speak BGP. Without it such topologies are refused. */
  readonly bgpManifests?: readonly string[];
  /** How the caller's own BGP speaker is started in a router (`src/routers/own-speaker.ts`); the first words of the command. */
  readonly speaker?: readonly string[];
  /** The product's processes, and what may be lost while one of them is away; `kill-each` asks. */
  readonly processes?: readonly ProcessKind[];
  /** What the product's programs on a node say is not well; empty when all is. The path is the node's host root. */
  readonly nodeTrouble?: (hostRoot: string) => Promise<readonly string[]>;
  /** Called before anything is created; throws a CalicoError when the product cannot run (not built, for example). */
  readonly check?: () => void;
  /** What the command line does when it is given no command. Without it: show the help. */
  readonly demo?: DemoParts;
  /** How the user starts this command line; shown in hints. Default `calico-sim`. */
  readonly command?: string;
}

export interface DemoParts {
  readonly manifests: string;
  readonly expectations: string;
}

/** Where a command's words go. */
export interface Terminal {
  /** Results. */
  out(line: string): void;
  /** Progress, hints and errors. */
  note(line: string): void;
}

export const processTerminal: Terminal = {
  out: (line) => void process.stdout.write(`${line}\n`),
  note: (line) => void process.stderr.write(`${line}\n`),
};
