import { describe, expect, test } from "vitest";
import { SmallWorld } from "../../../test/cluster/small-world.ts";
import type { DaemonSet, Node, Taint } from "../kube/objects.ts";
import { placePod } from "../scheduler/schedule.ts";
import { reconcileDaemonSet, targetNode } from "./daemon-set.ts";

const daemonSet = (image = "v1"): DaemonSet => ({
  metadata: { name: "agent", namespace: "kube-system" },
  spec: {
    selector: { matchLabels: { app: "agent" } },
    template: {
      metadata: { labels: { app: "agent" } },
      spec: { hostNetwork: true, nodeSelector: { os: "linux" }, containers: [{ name: "c", image }] },
    },
  },
});

const node = (name: string, taints: readonly Taint[] = [], labels = { os: "linux" }): Node => ({
  metadata: { name, labels },
  spec: { taints },
});

function settle(world: SmallWorld): void {
  for (let round = 0; round < 100; round++) {
    const [object] = world.all("DaemonSet");
    const pods = world.ownedBy("Pod", object);
    if (!world.perform(reconcileDaemonSet({ daemonSet: object, pods, nodes: world.all("Node"), nowMs: world.nowMs })))
      return;
  }
  throw new Error("does not settle");
}

const nodesOf = (world: SmallWorld): readonly string[] =>
  world
    .all("Pod")
    .map((pod) => targetNode(pod) ?? "")
    .toSorted();

describe("a DaemonSet", () => {
  test("runs once on every node that takes it, through the scheduler", () => {
    const world = new SmallWorld();
    world.put("DaemonSet", daemonSet());
    world.put("Node", node("a"));
    world.put("Node", node("b", [{ key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" }]));
    world.put("Node", node("c", [{ key: "dedicated", value: "gpu", effect: "NoSchedule" }]));
    world.put("Node", node("d", [], { os: "windows" }));
    settle(world);
    expect(nodesOf(world)).toEqual(["a", "b"]);
    const loads = world.all("Node").map((each) => ({ node: each, pods: new Map() }));
    for (const pod of world.all("Pod"))
      expect(placePod(pod, loads, [])).toEqual({ kind: "bind", node: targetNode(pod) });
    expect(world.get("DaemonSet", "kube-system/agent").status).toMatchObject({
      desiredNumberScheduled: 2,
      numberReady: 0,
    });
  });

  test("follows nodes that come, go and change their labels", () => {
    const world = new SmallWorld();
    world.put("DaemonSet", daemonSet());
    world.put("Node", node("a"));
    settle(world);
    world.put("Node", node("b"));
    settle(world);
    expect(nodesOf(world)).toEqual(["a", "b"]);
    world.remove("Node", "a");
    world.patch("Node", "b", { metadata: { labels: { os: "plan9" } } });
    settle(world);
    expect(world.all("Pod")).toEqual([]);
  });

  test("replaces one pod at a time, the broken ones first", () => {
    const world = new SmallWorld();
    world.put("DaemonSet", daemonSet());
    for (const name of ["a", "b", "c"]) world.put("Node", node(name));
    settle(world);
    for (const pod of world.all("Pod")) world.setReady(pod, true);
    world.patch("DaemonSet", "kube-system/agent", { spec: { template: daemonSet("v2").spec.template } });
    settle(world);
    const outdated = () => world.all("Pod").filter((pod) => pod.spec.containers[0].image === "v1");
    for (const left of [2, 1, 0]) {
      expect(outdated()).toHaveLength(left);
      for (const pod of world.all("Pod")) world.setReady(pod, true);
      settle(world);
    }
    expect(world.get("DaemonSet", "kube-system/agent").status).toMatchObject({
      updatedNumberScheduled: 3,
      numberAvailable: 3,
    });
  });
});
