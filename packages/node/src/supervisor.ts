/**
 * Runs a child process for as long as the signal lives: started again with back-off when it ends, at once when it asks to be (exit code
 * 129, "configuration changed", as upstream's wrapper does). The child dies with its parent even when the parent is killed, because
 * its standard input is a pipe that the child watches (`CALICO_EXIT_ON_STDIN_CLOSE`).
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import type { Clock, Logger } from "@calico-ts/runtime";
import { Backoff } from "@calico-ts/runtime";

export const RESTART_ME = 129;
const STOP_GRACE_MS = 5000;
/** A child that ran this long had started properly: the next failure waits the shortest time again. */
const SETTLED_MS = 30_000;

export interface SuperviseOptions {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly clock: Clock;
  readonly onStart?: (pid: number) => void;
}

/** Resolves when the signal aborted and the child is gone. */
export async function supervise(options: SuperviseOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, name } = options;
  const backoff = new Backoff({ firstMs: 250, maxMs: 10_000 });
  while (!signal.aborted) {
    const startedAt = clock.monotonic();
    const code = await runOnce(options, signal);
    if (signal.aborted) return;
    if (clock.monotonic() - startedAt > SETTLED_MS) backoff.reset();
    if (code === RESTART_ME) {
      log.info("child.restart_requested", { child: name });
      continue;
    }
    const delayMs = Math.round(backoff.nextMs());
    log.error("child.ended", { child: name, exit: code, restartInMs: delayMs });
    await clock.sleep(delayMs, signal).catch(() => undefined);
  }
}

/** Runs the program to its end: the exit code, or why there is none. */
export function runOnce(options: SuperviseOptions, signal: AbortSignal): Promise<number | string> {
  const [program, ...args] = options.command;
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      env: { ...options.env, CALICO_EXIT_ON_STDIN_CLOSE: "1" },
      stdio: ["pipe", "inherit", "inherit"],
    });
    child.stdin.on("error", () => undefined);
    const stop = (): void => stopChild(child);
    signal.addEventListener("abort", stop, { once: true });
    child.once("spawn", () => {
      options.log.info("child.started", { child: options.name, childPid: child.pid });
      if (child.pid !== undefined) options.onStart?.(child.pid);
    });
    const finish = (outcome: number | string): void => {
      signal.removeEventListener("abort", stop);
      resolve(outcome);
    };
    child.once("error", (error) => finish(error.message));
    child.once("exit", (code, killedBy) => finish(code ?? killedBy ?? "unknown"));
  });
}

function stopChild(child: ChildProcess): void {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_GRACE_MS);
  child.once("exit", () => clearTimeout(timer));
}
