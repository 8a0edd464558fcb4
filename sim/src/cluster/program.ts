/**
 * The port through which the simulator runs real programs (docs/architecture.md, "@calico-ts/sim").
 *
 * The kubelet stand-in runs a container of a `hostNetwork` pod whose image matches a program as a real process in the
 * node's network namespace. The simulator never imports a program: `e2e` and the command line hand them in.
 */
export interface NodeProgram {
  /** Container images it stands for, matched against the image reference as written in the pod. */
  readonly image: RegExp;
  /** Starts the container's process in `context.netns`. Resolves when the process exists, not when it is ready. */
  start(context: ProgramContext): Promise<RunningProgram>;
  /**
   * Runs a further command of the same image, as an exec probe or `kubectl exec` does, to its end. `context.command` is that
   * command, `context.env` the container's environment. Must end the process when `signal` aborts.
   */
  exec(context: ProgramContext, signal: AbortSignal): Promise<ExecResult>;
}

export interface ProgramContext {
  readonly run: string;
  readonly node: string;
  /** Path of the node's network namespace, /run/netns/…. */
  readonly netns: string;
  /** Directory that stands for the node's `/` (becomes CALICO_HOST_ROOT). */
  readonly hostRoot: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly image: string;
  /** The container's `command` and `args`, `$(VAR)` expanded; empty means the image's own entry point. */
  readonly command: readonly string[];
  /** The container's variables, resolved, with KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * What a container sees as /var/run/secrets/kubernetes.io/serviceaccount: `token` (kept fresh), `ca.crt`, `namespace`;
   * and a `kubeconfig` that refers to them. Absent for automountServiceAccountToken: false.
   */
  readonly serviceAccountDir?: string;
  /** Standard output and error go here, appended. */
  readonly logFile: string;
}

export interface RunningProgram {
  readonly pid: number;
  /** The exit status; 128 + signal number when a signal ended it. Never rejects. */
  readonly exited: Promise<number>;
  /** SIGTERM, and SIGKILL after `graceMs`. Resolves when the process is gone. */
  stop(graceMs: number): Promise<void>;
}

export interface ExecResult {
  readonly exitCode: number;
  /** Standard output and error, the last 10 KiB of them. */
  readonly output: string;
}
