/** What a command sees of the process: two streams, the environment, and whether colours are welcome. */
import { isatty } from "node:tty";
import type { Paint } from "@calico-ts/policy-compiler";
import { errorText } from "@calico-ts/std";
import colorsModule from "picocolors";
import type { Colors } from "picocolors/types.js";

export interface Terminal {
  readonly out: (text: string) => void;
  /** Beside the result: complaints, progress. */
  readonly note: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly colors: Colors;
}

export function processTerminal(): Terminal {
  // A reader that has seen enough (`| head`) closes its end; that is no failure.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") process.stderr.write(`${errorText(error)}\n`);
  });
  return {
    out: (text) => void process.stdout.write(`${text}\n`),
    note: (text) => void process.stderr.write(`${text}\n`),
    env: process.env,
    colors: colorsModule.createColors(colorsModule.isColorSupported && isatty(process.stdout.fd)),
  };
}

export const paintOf = ({ colors }: Terminal): Paint => ({
  good: colors.green,
  bad: colors.red,
  dim: colors.dim,
  bold: colors.bold,
});
