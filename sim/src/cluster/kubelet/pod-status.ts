/**
 * From what a worker knows of its containers to the status the API shows. Pure.
 *
 * Phases (API documentation of PodStatus): Pending until every init container is done and a container started; Succeeded or Failed when all
 * containers ended and none will be started again; Running otherwise.
 */
import {
  type Condition,
  conditionOf,
  type Container,
  type ContainerState,
  type ContainerStatus,
  type Pod,
  type PodPhase,
  type PodStatus,
} from "../kube/objects.ts";
import { timestamp } from "../kube/timestamp.ts";

/** One container as its worker knows it. */
export interface ContainerRecord {
  readonly name: string;
  readonly image: string;
  state: ContainerState;
  lastState: ContainerState | undefined;
  restartCount: number;
  /** The readiness probe's word; true without one as long as the container runs. */
  ready: boolean;
  /** The startup probe has succeeded, or there is none, and the container runs. */
  started: boolean;
  containerId: string | undefined;
}

export interface PodRecord {
  readonly pod: Pod;
  readonly hostIPs: readonly string[];
  readonly podIPs: readonly string[];
  readonly hasSandbox: boolean;
  readonly init: readonly ContainerRecord[];
  readonly main: readonly ContainerRecord[];
  readonly startedAtMs: number;
  readonly nowMs: number;
}

export const NOT_PULLED = "not pulled: the simulator runs no images";

export function newRecord(container: Container, before: ContainerStatus | undefined): ContainerRecord {
  // A container that ran under an earlier kubelet was ended with it.
  const ran = before?.state?.running;
  const ended: ContainerState | undefined =
    ran === undefined
      ? before?.lastState
      : {
          terminated: {
            exitCode: 137,
            reason: "Error",
            ...(ran.startedAt === undefined ? {} : { startedAt: ran.startedAt }),
          },
        };
  return {
    name: container.name,
    image: container.image ?? "",
    state: { waiting: { reason: "ContainerCreating" } },
    lastState: ended,
    restartCount: (before?.restartCount ?? 0) + (ran === undefined ? 0 : 1),
    ready: false,
    started: false,
    containerId: undefined,
  };
}

export function podStatus(record: PodRecord): PodStatus {
  const { pod, nowMs } = record;
  const phase = phaseOf(record);
  const finished = phase === "Succeeded" || phase === "Failed";
  const initialized = record.init.every((each) => each.state.terminated?.exitCode === 0 || isSidecarUp(pod, each));
  const notReady = record.main.filter((each) => !each.ready).map((each) => each.name);
  const containersReady = finished
    ? { status: "False", reason: phase === "Succeeded" ? "PodCompleted" : "PodFailed" }
    : notReady.length > 0
      ? {
          status: "False",
          reason: "ContainersNotReady",
          message: `containers with unready status: [${notReady.join(" ")}]`,
        }
      : { status: "True" };
  const gates = (pod.spec.readinessGates ?? []).every(
    (gate) => conditionOf(pod.status?.conditions, gate.conditionType)?.status === "True",
  );
  const ready =
    containersReady.status === "True" && !gates
      ? { status: "False", reason: "ReadinessGatesNotReady", message: "the status of a readiness gate is not True" }
      : containersReady;
  const incomplete = record.init.filter((each) => each.state.terminated?.exitCode !== 0 && !isSidecarUp(pod, each));
  const wanted: readonly Omit<Condition, "lastTransitionTime">[] = [
    { type: "PodReadyToStartContainers", status: record.hasSandbox ? "True" : "False" },
    {
      type: "Initialized",
      ...(initialized
        ? { status: "True" }
        : {
            status: "False",
            reason: "ContainersNotInitialized",
            message: `containers with incomplete status: [${incomplete.map((each) => each.name).join(" ")}]`,
          }),
    },
    { type: "Ready", ...ready },
    { type: "ContainersReady", ...containersReady },
    { type: "PodScheduled", status: "True" },
  ];
  const own = new Set(wanted.map((condition) => condition.type));
  const foreign = (pod.status?.conditions ?? []).filter((condition) => !own.has(condition.type));
  return {
    phase,
    conditions: [...wanted.map((condition) => withTime(condition, pod, nowMs)), ...foreign],
    ...(record.hostIPs[0] === undefined ? {} : { hostIP: record.hostIPs[0] }),
    hostIPs: record.hostIPs.map((ip) => ({ ip })),
    ...(record.podIPs[0] === undefined ? {} : { podIP: record.podIPs[0], podIPs: record.podIPs.map((ip) => ({ ip })) }),
    startTime: pod.status?.startTime ?? timestamp(record.startedAtMs),
    ...(record.init.length === 0
      ? {}
      : { initContainerStatuses: record.init.map((each) => containerStatus(each, true)) }),
    containerStatuses: record.main.map((each) => containerStatus(each, initialized)),
  };
}

function phaseOf({ pod, main, init }: PodRecord): PodPhase {
  const { restartPolicy } = pod.spec;
  const initFailed = restartPolicy === "Never" && init.some((each) => (each.state.terminated?.exitCode ?? 0) !== 0);
  if (initFailed) return "Failed";
  const ended = main.every((each) => each.state.terminated !== undefined);
  if (ended && main.length > 0) {
    const failed = main.some((each) => each.state.terminated?.exitCode !== 0);
    if (restartPolicy === "Never") return failed ? "Failed" : "Succeeded";
    if (restartPolicy === "OnFailure" && !failed) return "Succeeded";
    return "Running";
  }
  const begun = main.some(
    (each) => each.state.running !== undefined || each.state.terminated !== undefined || each.restartCount > 0,
  );
  return begun ? "Running" : "Pending";
}

const isSidecarUp = (pod: Pod, record: ContainerRecord): boolean =>
  (pod.spec.initContainers ?? []).find((each) => each.name === record.name)?.restartPolicy === "Always" &&
  record.started;

/** A condition keeps its time while its status stays. */
function withTime(condition: Omit<Condition, "lastTransitionTime">, pod: Pod, nowMs: number): Condition {
  const known = conditionOf(pod.status?.conditions, condition.type);
  const same = known?.status === condition.status && known.lastTransitionTime !== undefined;
  return { lastProbeTime: null, ...condition, lastTransitionTime: same ? known.lastTransitionTime : timestamp(nowMs) };
}

function containerStatus(record: ContainerRecord, initialized: boolean): ContainerStatus {
  const created = record.containerId !== undefined || record.restartCount > 0;
  const waiting = !created && !initialized && record.state.waiting?.reason === "ContainerCreating";
  return {
    name: record.name,
    image: record.image,
    imageID: "",
    ...(record.containerId === undefined ? {} : { containerID: record.containerId }),
    ready: record.ready,
    started: record.started,
    restartCount: record.restartCount,
    state: waiting ? { waiting: { reason: "PodInitializing" } } : record.state,
    ...(record.lastState === undefined ? {} : { lastState: record.lastState }),
  };
}
