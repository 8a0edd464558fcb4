/**
 * The outermost frame of a program: run until it ends or a signal asks it to. The first SIGTERM or SIGINT aborts the
 * signal and waits for an orderly end; a second one exits at once with 128 + its number, as shells expect.
 */
import { constants } from "node:os";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { Logger } from "./logger.ts";

export interface RunOptions {
  readonly log: Logger;
  /** How long an orderly end may take before the process exits anyway. */
  readonly graceMs?: number;
}

/** Resolves to the exit code: 0 after an orderly end or a stop by signal, 1 after a failure (which is logged). */
export async function runUntilSignal(
  program: (signal: AbortSignal) => Promise<void>,
  options: RunOptions,
): Promise<number> {
  const controller = new AbortController();
  let deadline: NodeJS.Timeout | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(128 + constants.signals[name]);
    options.log.info("process.stopping", { signal: name });
    deadline = setTimeout(() => {
      options.log.error("process.stop_timed_out", { graceMs: options.graceMs ?? 10_000 });
      process.exit(128 + constants.signals[name]);
    }, options.graceMs ?? 10_000);
    deadline.unref();
    controller.abort(new CalicoError("CANCELLED", `stopped by ${name}`));
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  try {
    await program(controller.signal);
    return 0;
  } catch (error) {
    if (controller.signal.aborted && hasCode(error, "CANCELLED")) return 0;
    options.log.fatal("process.failed", { error });
    return 1;
  } finally {
    clearTimeout(deadline);
    process.off("SIGTERM", onSignal);
    process.off("SIGINT", onSignal);
  }
}

/**
 * Aborts when standard input closes, if the environment says CALICO_EXIT_ON_STDIN_CLOSE=1: a supervisor that was killed cannot send a
 * signal; its end of our standard input closes all the same.
 */
export function supervisorGone(env: Readonly<Record<string, string | undefined>>): AbortSignal {
  const gone = new AbortController();
  if (env["CALICO_EXIT_ON_STDIN_CLOSE"] === "1") {
    process.stdin.on("error", () => gone.abort());
    process.stdin.on("close", () => gone.abort());
    process.stdin.resume();
  }
  return gone.signal;
}
