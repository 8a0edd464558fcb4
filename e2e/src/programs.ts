/**
 * The product's programs as the simulator runs them: which images they stand for, and how their containers' commands become processes of a
 * node. Nothing is changed for the simulator's sake but two variables: where the node's host paths are, and where its credentials are
 * (their in-cluster path is one per machine, and here many nodes share one).
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { NodeProgram, ProgramContext } from "@calico-ts/sim";
import { execInNamespace, spawnInNamespace } from "@calico-ts/sim";
import { CalicoError } from "@calico-ts/std";

interface Program {
  readonly image: RegExp;
  /** The image's entry point, and the commands it has, by the bundle that runs them. */
  readonly entrypoint: string;
  readonly commands: Readonly<Record<string, string>>;
}

const PROGRAMS: readonly Program[] = [
  {
    image: /(^|\/)calico-ts\/node(:|@|$)/,
    entrypoint: "calico-node",
    commands: { "calico-node": "packages/node/dist/bin/calico-node.mjs" },
  },
  {
    image: /(^|\/)calico-ts\/cni(:|@|$)/,
    entrypoint: "install-cni",
    commands: { "install-cni": "packages/cni/dist/bin/install-cni.mjs" },
  },
  {
    image: /(^|\/)calico-ts\/kube-controllers(:|@|$)/,
    entrypoint: "calico-kube-controllers",
    commands: {
      "calico-kube-controllers": "packages/controllers/dist/bin/calico-kube-controllers.mjs",
      "check-status": "packages/controllers/dist/bin/check-status.mjs",
    },
  },
];

/** Our own speaker as a router's. */
export const SPEAKER_PROGRAM = "e2e/dist/bin/calico-speaker.mjs";

/** Files besides the bundles that the programs need. */
const PARTS: readonly string[] = [
  "packages/agent/dist/bin/calico-agent.mjs",
  "packages/bgp-daemon/dist/bin/calico-bgp.mjs",
  "packages/cni/dist/bin/calico",
  "packages/cni/dist/bin/calico-ipam",
];

/** @param root the folder of the checkout */
export function nodePrograms(root: string): NodeProgram[] {
  return PROGRAMS.map((program) => ({
    image: program.image,
    start: (context) => spawnInNamespace(context, commandLine(root, program, context), environment(root, context)),
    exec: (context, signal) =>
      execInNamespace(context, commandLine(root, program, context), { signal, env: environment(root, context) }),
  }));
}

/** @throws CalicoError UNAVAILABLE naming what has not been built */
export function requireBuilt(root: string): void {
  const files = [...PROGRAMS.flatMap((program) => Object.values(program.commands)), ...PARTS];
  const missing = files.filter((file) => !existsSync(join(root, file)));
  if (missing.length > 0) throw new CalicoError("UNAVAILABLE", `not built: ${missing.join(", ")}; run: npm run build`);
}

function commandLine(root: string, program: Program, context: ProgramContext): string[] {
  const [command = program.entrypoint, ...args] = context.command;
  const bundle = program.commands[command];
  if (bundle === undefined) {
    throw new CalicoError(
      "BAD_INPUT",
      `container ${context.container} of pod ${context.namespace}/${context.pod} runs "${command}", which the image ${context.image} does not have; it has ${Object.keys(program.commands).join(", ")}`,
    );
  }
  return [process.execPath, join(root, bundle), ...args];
}

function environment(root: string, context: ProgramContext): Record<string, string> {
  return {
    CALICO_HOST_ROOT: context.hostRoot,
    CALICO_CNI_SOURCE: join(root, "packages/cni/dist/bin"),
    NODE_COMPILE_CACHE: join(root, "node_modules/.cache/node-compile"),
    ...(context.serviceAccountDir !== undefined && { KUBECONFIG: join(context.serviceAccountDir, "kubeconfig") }),
  };
}
