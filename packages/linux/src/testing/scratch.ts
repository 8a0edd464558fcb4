/** A namespace for one test: made, used and gone, with the kernel opened in it and `ip` and `nft` as witnesses. */
import { execFileSync } from "node:child_process";
import type { Kernel } from "../kernel.ts";
import { createNamespace, deleteNamespace, inNamespace } from "../namespace.ts";
import { openKernel } from "../open-kernel.ts";

export interface ScratchNamespace extends Disposable {
  readonly name: string;
  readonly path: string;
  readonly kernel: Kernel;
  /** Runs a program in it and returns what it printed; throws when it fails. */
  run(command: string, ...args: string[]): string;
  /** The same for a program that prints JSON (`ip -j`, `nft -j`). */
  json(command: string, ...args: string[]): unknown;
}

let count = 0;

export function scratchNamespace(label = "test"): ScratchNamespace {
  const name = `ct-${process.pid}-${label}-${++count}`;
  const path = createNamespace(name);
  try {
    const kernel = openKernel({ netns: path });
    const run = (command: string, ...args: string[]): string =>
      inNamespace(path, () => execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }));
    return {
      name,
      path,
      kernel,
      run,
      json: (command: string, ...args: string[]): unknown => JSON.parse(run(command, ...args)),
      [Symbol.dispose]() {
        kernel[Symbol.dispose]();
        deleteNamespace(name);
      },
    };
  } catch (error) {
    deleteNamespace(name);
    throw error;
  }
}
