/**
 * Programs in a namespace. Node forks on the calling thread, so a child started while this thread is in a namespace is
 * born there: no `ip netns exec`, no `nsenter`.
 */
import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { inNamespace } from "./namespace.ts";

export interface ProgramOptions extends SpawnOptions {
  /** A path such as /run/netns/x; absent: the current namespace. */
  readonly netns?: string;
  /**
   * The kernel kills it when this process is gone, however that ends (`setpriv --pdeathsig`). Bound to the thread that started
   * it: use it from the main thread.
   */
  readonly dieWithParent?: boolean;
}

/** As `child_process.spawn`; errors of starting (ENOENT) arrive as its "error" event. */
export function startProgram(command: string, args: readonly string[], options: ProgramOptions = {}): ChildProcess {
  const { netns, dieWithParent, ...rest } = options;
  const start = (): ChildProcess =>
    dieWithParent === true
      ? spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], rest)
      : spawn(command, [...args], rest);
  return netns === undefined ? start() : inNamespace(netns, start);
}
