/**
 * Job: pods until enough of them succeeded. Pure. `parallelism`, `completions`, `backoffLimit`, `suspend`; not indexed completion,
 * deadlines or pod failure policies.
 */
import type { Action } from "../kube/actions.ts";
import { conditionOf, isPodReady, isTerminating, type Job, type Pod } from "../kube/objects.ts";
import { timestamp } from "../kube/timestamp.ts";
import { isActive, ownerReference, podFromTemplate, stableJson } from "./pod-template.ts";

export interface JobWorld {
  readonly job: Job;
  /** Pods it controls. */
  readonly pods: readonly Pod[];
  readonly nowMs: number;
}

export function reconcileJob(world: JobWorld): readonly Action[] {
  const { job, nowMs } = world;
  if (isTerminating(job) || isFinished(job)) return [];
  const active = world.pods.filter(isActive);
  const succeeded = world.pods.filter((pod) => pod.status?.phase === "Succeeded").length;
  const failed = world.pods.filter((pod) => pod.status?.phase === "Failed").length;
  const parallelism = job.spec.parallelism ?? 1;
  // Without completions, any success ends the job once the other pods have ended too.
  const { completions } = job.spec;
  const complete = completions === undefined ? succeeded > 0 && active.length === 0 : succeeded >= completions;
  const gaveUp = failed > (job.spec.backoffLimit ?? 6);
  const actions: Action[] = [];
  const remaining = completions === undefined ? (succeeded > 0 ? active.length : parallelism) : completions - succeeded;
  const wanted = complete || gaveUp || job.spec.suspend === true ? 0 : Math.min(parallelism, remaining);
  for (let missing = wanted - active.length; missing > 0; missing--) {
    const owner = ownerReference("batch/v1", "Job", job);
    actions.push({
      do: "create",
      kind: "Pod",
      object: podFromTemplate(job.spec.template, { owner, namespace: job.metadata.namespace }),
    });
  }
  for (const pod of active.slice(wanted)) actions.push({ do: "delete", kind: "Pod", object: pod });
  const before = job.status ?? {};
  const condition = complete
    ? {
        type: "Complete",
        status: "True",
        reason: "CompletionsReached",
        message: "Reached expected number of succeeded pods",
      }
    : gaveUp
      ? {
          type: "Failed",
          status: "True",
          reason: "BackoffLimitExceeded",
          message: "Job has reached the specified backoff limit",
        }
      : undefined;
  const startTime = before.startTime ?? timestamp(nowMs);
  const status = {
    ...before,
    startTime,
    active: complete || gaveUp ? 0 : active.length,
    ready: complete || gaveUp ? 0 : active.filter(isPodReady).length,
    succeeded,
    failed,
    ...(complete ? { completionTime: timestamp(nowMs) } : {}),
    ...(condition === undefined
      ? {}
      : {
          conditions: [
            ...(before.conditions ?? []),
            { ...condition, lastProbeTime: timestamp(nowMs), lastTransitionTime: timestamp(nowMs) },
          ],
        }),
  };
  if (stableJson(status) !== stableJson({ active: 0, ready: 0, succeeded: 0, failed: 0, ...before })) {
    actions.push({ do: "patch", kind: "Job", name: job.metadata, patch: { status }, status: true });
  }
  return actions;
}

export const isFinished = (job: Job): boolean =>
  conditionOf(job.status?.conditions, "Complete")?.status === "True" ||
  conditionOf(job.status?.conditions, "Failed")?.status === "True";
