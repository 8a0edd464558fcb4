/**
 * `exec`: a command of the host inside a node's or a pod's network, with this terminal. Only the network is the pod's: files
 * and programs are the host's, since no image was pulled.
 */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { inNamespace } from "@calico-ts/linux";
import { askDaemon } from "../daemon/control-client.ts";
import { EXEC_VARIABLE } from "../names.ts";
import { runEnvironment } from "../run/run-folder.ts";
import type { Terminal } from "./plugins.ts";
import { requireRoot } from "./require-root.ts";

export interface ExecOptions {
  readonly run: string;
  readonly target: string;
  readonly command: readonly string[];
}

const EXIT_NOT_FOUND = 127;
const EXIT_NOT_EXECUTABLE = 126;

/** The command's exit code; 128 + number when a signal ended it; 126 and 127 as shells have them. */
export async function exec(options: ExecOptions, terminal: Terminal): Promise<number> {
  requireRoot("exec");
  const target = await askDaemon(options.run, { op: "resolve", target: options.target });
  const [program = "", ...rest] = options.command;
  const env = { ...process.env, ...runEnvironment(options.run), [EXEC_VARIABLE]: target.name };
  // A child starts in the namespace of the thread that makes it.
  const child = inNamespace(target.netns, () => spawn(program, rest, { stdio: "inherit", env }));
  // Ctrl-C goes to the whole foreground group; the command decides what it means, we only report how it ended.
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore);
  try {
    return await new Promise((resolve) => {
      child.on("error", (error: NodeJS.ErrnoException) => {
        terminal.note(`${program}: ${error.code === "ENOENT" ? "command not found on this host" : error.message}`);
        resolve(error.code === "ENOENT" ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
      });
      child.on("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    });
  } finally {
    process.off("SIGINT", ignore);
  }
}
