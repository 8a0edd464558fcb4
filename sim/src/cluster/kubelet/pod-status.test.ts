import { describe, expect, test } from "vitest";
import { conditionOf, type Pod } from "../kube/objects.ts";
import { type ContainerRecord, newRecord, podStatus } from "./pod-status.ts";

const pod = (spec: Partial<Pod["spec"]> = {}, status: Pod["status"] = {}): Pod => ({
  metadata: { name: "p", namespace: "x" },
  spec: { containers: [{ name: "c", image: "i" }], ...spec },
  status,
});

const record = (change: Partial<ContainerRecord> = {}): ContainerRecord => ({
  ...newRecord({ name: "c", image: "i" }, undefined),
  ...change,
});
const running = { state: { running: {} }, started: true, containerId: "sim://1" };
const ended = (exitCode: number): Partial<ContainerRecord> => ({
  state: { terminated: { exitCode } },
  containerId: "sim://1",
});

const look = (of: Pod, main: readonly ContainerRecord[], init: readonly ContainerRecord[] = []) =>
  podStatus({
    pod: of,
    hostIPs: ["172.30.0.1"],
    podIPs: ["10.0.0.5"],
    hasSandbox: true,
    init,
    main,
    startedAtMs: 0,
    nowMs: 5000,
  });

describe("a pod's status", () => {
  test.each([
    ["Pending before anything runs", pod(), record(), "Pending"],
    ["Running", pod(), record(running), "Running"],
    [
      "Running while it waits to start again",
      pod(),
      record({ restartCount: 2, state: { waiting: { reason: "CrashLoopBackOff" } } }),
      "Running",
    ],
    ["Succeeded", pod({ restartPolicy: "Never" }), record(ended(0)), "Succeeded"],
    ["Failed", pod({ restartPolicy: "Never" }), record(ended(3)), "Failed"],
    ["Succeeded on OnFailure", pod({ restartPolicy: "OnFailure" }), record(ended(0)), "Succeeded"],
    ["Running on OnFailure that failed", pod({ restartPolicy: "OnFailure" }), record(ended(1)), "Running"],
  ] as const)("phase: %s", (_name, of, container, phase) => {
    expect(look(of, [container]).phase).toBe(phase);
  });

  test("Ready needs the probe, the containers and the readiness gates", () => {
    const ready = (of: Pod, ...main: readonly ContainerRecord[]): string | undefined =>
      conditionOf(look(of, main).conditions, "Ready")?.status;
    expect(ready(pod(), record({ ...running, ready: true }))).toBe("True");
    expect(ready(pod(), record({ ...running, ready: true }), record({ ...running, ready: false }))).toBe("False");
    const gated = { readinessGates: [{ conditionType: "lb" }] };
    expect(ready(pod(gated), record({ ...running, ready: true }))).toBe("False");
    expect(
      ready(pod(gated, { conditions: [{ type: "lb", status: "True" }] }), record({ ...running, ready: true })),
    ).toBe("True");
  });

  test("conditions keep their time while they stay, and other people's are kept", () => {
    const since = "2020-01-01T00:00:00Z";
    const before = pod(
      {},
      {
        conditions: [
          { type: "Ready", status: "True", lastTransitionTime: since },
          { type: "lb", status: "True" },
        ],
      },
    );
    const up = look(before, [record({ ...running, ready: true })]).conditions;
    expect(conditionOf(up, "Ready")?.lastTransitionTime).toBe(since);
    expect(conditionOf(up, "lb")).toEqual({ type: "lb", status: "True" });
    const down = look(before, [record(running)]).conditions;
    expect(conditionOf(down, "Ready")?.lastTransitionTime).toBe("1970-01-01T00:00:05Z");
  });

  test("main containers wait as PodInitializing while init containers run", () => {
    const status = look(pod({ initContainers: [{ name: "i" }] }), [record()], [record({ name: "i", ...running })]);
    expect(status.containerStatuses?.[0]?.state).toEqual({ waiting: { reason: "PodInitializing" } });
    expect(conditionOf(status.conditions, "Initialized")?.status).toBe("False");
    expect(status.phase).toBe("Pending");
  });

  test("a container that ran under an earlier kubelet has been restarted", () => {
    const before = {
      name: "c",
      image: "i",
      imageID: "",
      ready: true,
      restartCount: 4,
      state: { running: { startedAt: "t" } },
    };
    const again = newRecord({ name: "c" }, before);
    expect(again.restartCount).toBe(5);
    expect(again.lastState?.terminated).toMatchObject({ exitCode: 137, startedAt: "t" });
  });
});
