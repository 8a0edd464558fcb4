/**
 * What command line and daemon say to each other: one JSON line there, one JSON line back, per connection, over the run's
 * `daemon.sock` (root only, by the folder's and the socket's mode).
 */
import type { PodView } from "../cluster/cluster-port.ts";
import type { ProbeRequest, ProbeResult } from "../probe/probe-request.ts";
import type { RouterStatus } from "../routers/router-set.ts";
import type { Expectations, ExpectedFlow } from "../verify/expectations.ts";

export type ControlRequest =
  | { readonly op: "status" }
  | { readonly op: "down" }
  /** Where `exec` should go. */
  | { readonly op: "resolve"; readonly target: string }
  | { readonly op: "pods"; readonly namespace: string }
  | { readonly op: "probe"; readonly requests: readonly ProbeRequest[] }
  | { readonly op: "matrix"; readonly namespaces: readonly string[] }
  | { readonly op: "verify"; readonly expectations: Expectations };

export interface ControlResults {
  readonly status: LiveStatus;
  readonly down: null;
  readonly resolve: ExecTarget;
  readonly pods: readonly PodView[];
  readonly probe: readonly ProbeResult[];
  readonly matrix: MatrixResult;
  readonly verify: VerifyResult;
}

export type ControlAnswer =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string };

export interface LiveStatus {
  readonly nodes: readonly { readonly name: string; readonly ready: boolean; readonly running: boolean }[];
  readonly pods: { readonly total: number; readonly ready: number };
  readonly waitingFor: readonly string[];
  readonly routers: readonly RouterStatus[];
}

export interface ExecTarget {
  readonly kind: "node" | "pod" | "router";
  readonly name: string;
  readonly node: string | undefined;
  readonly netns: string;
}

/** The probes, and what a person calls each pod: its workload's name when that has one pod only. */
export interface MatrixResult {
  readonly results: readonly ProbeResult[];
  readonly pods: readonly MatrixPod[];
}

export interface MatrixPod {
  /** `namespace/name` as in the results. */
  readonly pod: string;
  readonly label: string;
}

export interface VerifyResult {
  readonly checks: readonly VerifiedFlow[];
  /** Names in the file that mean nobody. */
  readonly dangling: readonly string[];
}

export interface VerifiedFlow extends ExpectedFlow {
  readonly verdict: ProbeResult["verdict"];
  readonly latencyMs: number;
  readonly detail: string;
}

/** Messages over the IPC channel between `up` and the daemon it started. */
export type UpMessage =
  | { readonly type: "progress"; readonly text: string }
  | { readonly type: "ready"; readonly summary: UpSummary }
  | { readonly type: "failed"; readonly code: string; readonly message: string; readonly bundle: string | undefined };

/** `detach`: the run outlives this channel. Without it, losing the channel tears the run down. */
export type DaemonMessage = { readonly type: "detach" } | { readonly type: "cancel" };

export interface UpSummary {
  readonly nodes: number;
  readonly pods: number;
  readonly stubWorkloads: number;
  readonly apiServer: string;
  readonly kubeconfig: string;
}
