/** What `kubectl get pods` says: the status word of a pod is worked out from phase, reasons and container states. */
import { asList, asNumber, asObject, asObjects, asText, type KubeObject } from "../meta/object.ts";
import type { Column } from "../registry/resource.ts";
import { ageOf, humanDuration, orNone } from "./format.ts";

export const podColumns: readonly Column[] = [
  { name: "Ready", type: "string", value: (pod) => summary(pod).ready },
  { name: "Status", type: "string", value: (pod) => summary(pod).reason },
  { name: "Restarts", type: "string", value: (pod, now) => restartsText(pod, now) },
  { name: "Age", type: "string", value: (pod, now) => ageOf(pod.metadata.creationTimestamp, now) },
  { name: "IP", type: "string", priority: 1, value: (pod) => orNone(asText(asObject(pod["status"])["podIP"])) },
  { name: "Node", type: "string", priority: 1, value: (pod) => orNone(asText(asObject(pod["spec"])["nodeName"])) },
  {
    name: "Nominated Node",
    type: "string",
    priority: 1,
    value: (pod) => orNone(asText(asObject(pod["status"])["nominatedNodeName"])),
  },
  { name: "Readiness Gates", type: "string", priority: 1, value: readinessGates },
];

interface Summary {
  readonly ready: string;
  readonly reason: string;
  readonly restarts: number;
  readonly lastRestart: number;
}

function summary(pod: KubeObject): Summary {
  const spec = asObject(pod["spec"]);
  const status = asObject(pod["status"]);
  const phase = asText(status["phase"]);
  let reason = asText(status["reason"]) || phase;
  const init = initReason(spec, status);
  let restarts = init.restarts;
  let lastRestart = init.lastRestart;
  let ready = 0;
  if (init.reason !== undefined) reason = init.reason;
  else {
    restarts = 0;
    let running = false;
    for (const container of asObjects(status["containerStatuses"]).toReversed()) {
      restarts += asNumber(container["restartCount"]) ?? 0;
      lastRestart = Math.max(lastRestart, finishedAt(container["lastState"]));
      const state = asObject(container["state"]);
      const waiting = asText(asObject(state["waiting"])["reason"]);
      const terminated =
        state["terminated"] === undefined ? undefined : terminatedReason(asObject(state["terminated"]));
      if (waiting !== "") reason = waiting;
      else if (terminated !== undefined) reason = terminated;
      else if (container["ready"] === true && state["running"] !== undefined) {
        running = true;
        ready++;
      }
    }
    if (reason === "Completed" && running) reason = isReady(status) ? "Running" : "NotReady";
  }
  if (pod.metadata.deletionTimestamp !== undefined && asText(status["reason"]) === "NodeLost") reason = "Unknown";
  else if (pod.metadata.deletionTimestamp !== undefined && phase !== "Succeeded" && phase !== "Failed")
    reason = "Terminating";
  if (phase === "Pending" && asList(spec["schedulingGates"]).length > 0) reason = "SchedulingGated";
  return { ready: `${ready}/${asList(spec["containers"]).length}`, reason, restarts, lastRestart };
}

function initReason(
  spec: { readonly [k: string]: unknown },
  status: { readonly [k: string]: unknown },
): { reason: string | undefined; restarts: number; lastRestart: number } {
  let restarts = 0;
  let lastRestart = 0;
  const all = asObjects(status["initContainerStatuses"]);
  const total = asList(spec["initContainers"]).length;
  for (const [index, container] of all.entries()) {
    restarts += asNumber(container["restartCount"]) ?? 0;
    lastRestart = Math.max(lastRestart, finishedAt(container["lastState"]));
    const state = asObject(container["state"]);
    const terminated = state["terminated"];
    if (terminated !== undefined && asObject(terminated)["exitCode"] === 0) continue;
    const sidecar = asObjects(spec["initContainers"])[index]?.["restartPolicy"] === "Always";
    if (sidecar && container["started"] === true) continue;
    if (terminated !== undefined)
      return { reason: `Init:${terminatedReason(asObject(terminated))}`, restarts, lastRestart };
    const waiting = asText(asObject(state["waiting"])["reason"]);
    if (waiting !== "" && waiting !== "PodInitializing") return { reason: `Init:${waiting}`, restarts, lastRestart };
    return { reason: `Init:${index}/${total}`, restarts, lastRestart };
  }
  return { reason: undefined, restarts, lastRestart };
}

function terminatedReason(terminated: { readonly [k: string]: unknown }): string {
  const reason = asText(terminated["reason"]);
  if (reason !== "") return reason;
  const signal = asNumber(terminated["signal"]) ?? 0;
  return signal !== 0 ? `Signal:${signal}` : `ExitCode:${asNumber(terminated["exitCode"]) ?? 0}`;
}

const finishedAt = (state: unknown): number =>
  Date.parse(asText(asObject(asObject(state)["terminated"])["finishedAt"])) || 0;

const isReady = (status: { readonly [k: string]: unknown }): boolean =>
  asObjects(status["conditions"]).some((condition) => condition["type"] === "Ready" && condition["status"] === "True");

function restartsText(pod: KubeObject, now: number): string {
  const { restarts, lastRestart } = summary(pod);
  return restarts > 0 && lastRestart > 0 ? `${restarts} (${humanDuration(now - lastRestart)} ago)` : String(restarts);
}

function readinessGates(pod: KubeObject): string {
  const gates = asObjects(asObject(pod["spec"])["readinessGates"]);
  if (gates.length === 0) return "<none>";
  const conditions = asObjects(asObject(pod["status"])["conditions"]);
  const ready = gates.filter((gate) =>
    conditions.some((condition) => condition["type"] === gate["conditionType"] && condition["status"] === "True"),
  );
  return `${ready.length}/${gates.length}`;
}
