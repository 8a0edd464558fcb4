import { expect, test } from "vitest";
import { SmallWorld, START_MS } from "../../../test/cluster/small-world.ts";
import { conditionOf, isPodReady, type Node, type Pod } from "../kube/objects.ts";
import { leaseOf } from "../kubelet/node-status.ts";
import { reconcileNode } from "./node-lifecycle.ts";

const node = (ready: string, spec: Node["spec"] = {}): Node => ({
  metadata: { name: "a" },
  spec,
  status: {
    conditions: [
      { type: "Ready", status: ready },
      { type: "NetworkUnavailable", status: "False" },
    ],
  },
});

function settle(world: SmallWorld, beatMs: number): void {
  for (let round = 0; round < 20; round++) {
    const lease = leaseOf("a", undefined, beatMs);
    if (
      !world.perform(
        reconcileNode({
          node: world.get("Node", "a"),
          lease,
          pods: world.all("Pod"),
          nowMs: world.nowMs,
          graceMs: 40_000,
        }),
      )
    )
      return;
  }
  throw new Error("does not settle");
}

const taints = (world: SmallWorld): readonly string[] =>
  (world.get("Node", "a").spec?.taints ?? []).map(({ key, effect }) => `${key}:${effect}`);

test("the not-ready taint comes and goes with the condition; others' taints stay", () => {
  const world = new SmallWorld();
  world.put("Node", node("False", { taints: [{ key: "mine", effect: "NoSchedule" }] }));
  settle(world, START_MS);
  expect(taints(world)).toEqual(["mine:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule"]);
  world.patch("Node", "a", {
    status: { conditions: [{ type: "Ready", status: "True" }] },
    spec: { unschedulable: true },
  });
  settle(world, START_MS);
  expect(taints(world)).toEqual(["mine:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"]);
});

test("a silent node is Unknown, its pods are not ready", () => {
  const world = new SmallWorld();
  world.put("Node", node("True"));
  const pod: Pod = {
    metadata: { name: "p", namespace: "x" },
    spec: { nodeName: "a", containers: [] },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  };
  world.put("Pod", pod);
  world.nowMs += 41_000;
  settle(world, START_MS);
  const { conditions } = world.get("Node", "a").status ?? {};
  expect(conditionOf(conditions, "Ready")).toMatchObject({ status: "Unknown", reason: "NodeStatusUnknown" });
  expect(conditionOf(conditions, "NetworkUnavailable")).toMatchObject({ status: "False" });
  expect(taints(world)).toEqual(["node.kubernetes.io/unreachable:NoSchedule"]);
  expect(isPodReady(world.get("Pod", "x/p"))).toBe(false);
});
