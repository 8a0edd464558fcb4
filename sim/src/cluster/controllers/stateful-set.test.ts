import { describe, expect, test } from "vitest";
import { SmallWorld } from "../../../test/cluster/small-world.ts";
import { isPodReady, type StatefulSet } from "../kube/objects.ts";
import { reconcileStatefulSet } from "./stateful-set.ts";

const statefulSet = (spec: Partial<StatefulSet["spec"]> = {}): StatefulSet => ({
  metadata: { name: "db", namespace: "shop" },
  spec: {
    replicas: 3,
    serviceName: "db",
    selector: { matchLabels: { app: "db" } },
    template: { metadata: { labels: { app: "db" } }, spec: { containers: [{ name: "c", image: "v1" }] } },
    ...spec,
  },
});

function settle(world: SmallWorld): void {
  for (let round = 0; round < 100; round++) {
    const [object] = world.all("StatefulSet");
    if (
      !world.perform(
        reconcileStatefulSet({ statefulSet: object, pods: world.ownedBy("Pod", object), nowMs: world.nowMs }),
      )
    )
      return;
  }
  throw new Error("does not settle");
}

const names = (world: SmallWorld): readonly string[] =>
  world
    .all("Pod")
    .map((pod) => pod.metadata.name)
    .toSorted();

function allReady(world: SmallWorld): void {
  for (let round = 0; round < 20; round++) {
    settle(world);
    const waiting = world.all("Pod").filter((pod) => !isPodReady(pod));
    if (waiting.length === 0) return;
    for (const pod of waiting) world.setReady(pod, true);
  }
}

describe("a StatefulSet", () => {
  test("creates in order, each after the one before is ready", () => {
    const world = new SmallWorld();
    world.put("StatefulSet", statefulSet());
    settle(world);
    expect(names(world)).toEqual(["db-0"]);
    world.setReady(world.get("Pod", "shop/db-0"), true);
    settle(world);
    expect(names(world)).toEqual(["db-0", "db-1"]);
    expect(world.get("Pod", "shop/db-1").spec).toMatchObject({ hostname: "db-1", subdomain: "db" });
  });

  test("Parallel does not wait", () => {
    const world = new SmallWorld();
    world.put("StatefulSet", statefulSet({ podManagementPolicy: "Parallel" }));
    settle(world);
    expect(names(world)).toEqual(["db-0", "db-1", "db-2"]);
  });

  test("shrinks from the top and updates from the top down to the partition", () => {
    const world = new SmallWorld();
    world.put("StatefulSet", statefulSet());
    allReady(world);
    const before = world.get("StatefulSet", "shop/db").status?.currentRevision;
    const template = { metadata: { labels: { app: "db" } }, spec: { containers: [{ name: "c", image: "v2" }] } };
    world.patch("StatefulSet", "shop/db", { spec: { template, updateStrategy: { rollingUpdate: { partition: 1 } } } });
    allReady(world);
    const images = () =>
      world
        .all("Pod")
        .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
        .map((pod) => pod.spec.containers[0].image);
    expect(images()).toEqual(["v1", "v2", "v2"]);
    expect(world.get("StatefulSet", "shop/db").status).toMatchObject({ currentRevision: before, updatedReplicas: 2 });
    world.patch("StatefulSet", "shop/db", {
      spec: { replicas: 1, updateStrategy: { rollingUpdate: { partition: 0 } } },
    });
    allReady(world);
    expect(names(world)).toEqual(["db-0"]);
    expect(images()).toEqual(["v2"]);
    const { status } = world.get("StatefulSet", "shop/db");
    expect(status?.currentRevision).toBe(status?.updateRevision);
  });
});
