import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SmallWorld } from "../../../test/cluster/small-world.ts";
import { conditionOf, type Deployment, isPodReady, type PodTemplate } from "../kube/objects.ts";
import { reconcileDeployment, rolloutLimits } from "./deployment.ts";
import { reconcileReplicaSet, replicaSetStatus } from "./replica-set.ts";

const template = (image: string): PodTemplate => ({
  metadata: { labels: { app: "web" } },
  spec: { containers: [{ name: "c", image }] },
});

const deployment = (spec: Partial<Deployment["spec"]> = {}): Deployment => ({
  metadata: { name: "web", namespace: "shop" },
  spec: { replicas: 3, selector: { matchLabels: { app: "web" } }, template: template("v1"), ...spec },
});

/** Both controllers, until neither has anything to write. */
function settle(world: SmallWorld): void {
  for (let round = 0; ; round++) {
    if (round > 200) throw new Error("does not settle");
    let wrote = false;
    for (const each of world.all("Deployment")) {
      const replicaSets = world.ownedBy("ReplicaSet", each);
      const withPods = new Set(
        replicaSets.filter((set) => world.ownedBy("Pod", set).length > 0).map((set) => set.metadata.name),
      );
      wrote =
        world.perform(
          reconcileDeployment({ deployment: each, replicaSets, orphans: [], withPods, nowMs: world.nowMs }),
        ) || wrote;
    }
    for (const replicaSet of world.all("ReplicaSet")) {
      const look = () => ({ replicaSet, pods: world.ownedBy("Pod", replicaSet), orphans: [], nowMs: world.nowMs });
      wrote = world.perform(reconcileReplicaSet(look())) || wrote;
      wrote = world.perform(replicaSetStatus(look())) || wrote;
    }
    if (!wrote) return;
  }
}

/** Pods become ready one by one, in the order `choose` picks, until nothing changes. */
function rollToTheEnd(world: SmallWorld, check: () => void, choose: (of: number) => number): void {
  for (let round = 0; round < 500; round++) {
    settle(world);
    check();
    const waiting = world.all("Pod").filter((pod) => !isPodReady(pod));
    const next = waiting[choose(waiting.length) % Math.max(1, waiting.length)];
    if (next === undefined) return;
    world.nowMs += 100;
    world.setReady(next, true);
  }
  throw new Error("the rollout does not end");
}

describe("a Deployment", () => {
  test("makes a hashed ReplicaSet and says what kubectl rollout status reads", () => {
    const world = new SmallWorld();
    world.put("Deployment", deployment());
    settle(world);
    const [replicaSet] = world.all("ReplicaSet");
    const hash = replicaSet.metadata.labels?.["pod-template-hash"];
    expect(replicaSet.metadata.name).toBe(`web-${hash}`);
    expect(replicaSet.spec.selector.matchLabels).toEqual({ app: "web", "pod-template-hash": hash });
    expect(world.all("Pod")).toHaveLength(3);
    expect(world.all("Pod").every((pod) => pod.metadata.labels?.["pod-template-hash"] === hash)).toBe(true);
    let status = world.get("Deployment", "shop/web").status;
    expect(status).toMatchObject({ observedGeneration: 1, replicas: 3, updatedReplicas: 3, unavailableReplicas: 3 });
    expect(conditionOf(status?.conditions, "Available")).toMatchObject({ status: "False" });
    for (const pod of world.all("Pod")) world.setReady(pod, true);
    settle(world);
    status = world.get("Deployment", "shop/web").status;
    expect(status).toMatchObject({ availableReplicas: 3, unavailableReplicas: 0 });
    expect(conditionOf(status?.conditions, "Available")).toMatchObject({
      status: "True",
      reason: "MinimumReplicasAvailable",
    });
    expect(conditionOf(status?.conditions, "Progressing")).toMatchObject({ reason: "NewReplicaSetAvailable" });
  });

  test("a template that comes back uses its old ReplicaSet under a new revision", () => {
    const world = new SmallWorld();
    world.put("Deployment", deployment());
    const roll = (image: string): void => {
      world.patch("Deployment", "shop/web", { spec: { template: template(image) } });
      rollToTheEnd(
        world,
        () => undefined,
        () => 0,
      );
    };
    roll("v1");
    const [first] = world.all("ReplicaSet");
    roll("v2");
    roll("v1");
    expect(world.all("ReplicaSet")).toHaveLength(2);
    const again = world.get("ReplicaSet", `shop/${first.metadata.name}`);
    expect(again.spec.replicas).toBe(3);
    expect(again.metadata.annotations?.["deployment.kubernetes.io/revision"]).toBe("3");
    expect(world.get("Deployment", "shop/web").metadata.annotations?.["deployment.kubernetes.io/revision"]).toBe("3");
  });

  test("keeps revisionHistoryLimit old ReplicaSets", () => {
    const world = new SmallWorld();
    world.put("Deployment", deployment({ replicas: 1, revisionHistoryLimit: 2 }));
    for (const image of ["v1", "v2", "v3", "v4", "v5"]) {
      world.patch("Deployment", "shop/web", { spec: { template: template(image) } });
      rollToTheEnd(
        world,
        () => undefined,
        () => 0,
      );
    }
    const images = world.all("ReplicaSet").map((each) => each.spec.template.spec.containers[0].image);
    expect(new Set(images)).toEqual(new Set(["v3", "v4", "v5"]));
  });

  test("Recreate starts nothing new before the last old pod is gone", () => {
    const world = new SmallWorld();
    world.put("Deployment", deployment({ strategy: { type: "Recreate" } }));
    rollToTheEnd(
      world,
      () => undefined,
      () => 0,
    );
    world.patch("Deployment", "shop/web", { spec: { template: template("v2") } });
    rollToTheEnd(
      world,
      () => {
        const images = new Set(world.all("Pod").map((pod) => pod.spec.containers[0].image));
        expect(images.size).toBeLessThan(2);
      },
      () => 0,
    );
    expect(world.all("Pod").map((pod) => pod.spec.containers[0].image)).toEqual(["v2", "v2", "v2"]);
  });

  test("paused changes nothing but its size", () => {
    const world = new SmallWorld();
    world.put("Deployment", deployment());
    rollToTheEnd(
      world,
      () => undefined,
      () => 0,
    );
    world.patch("Deployment", "shop/web", { spec: { paused: true, replicas: 5, template: template("v2") } });
    settle(world);
    expect(world.all("ReplicaSet")).toHaveLength(1);
    expect(world.all("Pod")).toHaveLength(5);
  });

  test("a rollout that does not move reports ProgressDeadlineExceeded", () => {
    const world = new SmallWorld();
    world.put("Deployment", deployment({ progressDeadlineSeconds: 60 }));
    settle(world);
    world.nowMs += 61_000;
    settle(world);
    const { status } = world.get("Deployment", "shop/web");
    expect(conditionOf(status?.conditions, "Progressing")).toMatchObject({
      status: "False",
      reason: "ProgressDeadlineExceeded",
    });
  });

  test("property: a rollout ends, within surge and availability all the way, and leaves only new pods", () => {
    const amount = fc.oneof(
      fc.integer({ min: 0, max: 4 }),
      fc.integer({ min: 0, max: 100 }).map((n) => `${n}%`),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        amount,
        amount,
        fc.infiniteStream(fc.nat(100)),
        (replicas, maxSurge, maxUnavailable, choices) => {
          const world = new SmallWorld();
          const object = world.put(
            "Deployment",
            deployment({ replicas, strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge, maxUnavailable } } }),
          );
          const { surge, unavailable } = rolloutLimits(object);
          const choose = (): number => choices.next().value;
          rollToTheEnd(world, () => undefined, choose);
          world.patch("Deployment", "shop/web", { spec: { template: template("v2") } });
          rollToTheEnd(
            world,
            () => {
              expect(world.all("Pod").length).toBeLessThanOrEqual(replicas + surge);
              expect(world.all("Pod").filter(isPodReady).length).toBeGreaterThanOrEqual(replicas - unavailable);
            },
            choose,
          );
          expect(world.all("Pod").map((pod) => pod.spec.containers[0].image)).toEqual(Array(replicas).fill("v2"));
          expect(world.get("Deployment", "shop/web").status).toMatchObject({
            updatedReplicas: replicas,
            availableReplicas: replicas,
            replicas,
          });
        },
      ),
      { numRuns: 60 },
    );
  });
});
