import { expect, test } from "vitest";
import { SmallWorld } from "../../../test/cluster/small-world.ts";
import { conditionOf, type Job, keyOf } from "../kube/objects.ts";
import { reconcileJob } from "./job.ts";

const job = (spec: Partial<Job["spec"]>): Job => ({
  metadata: { name: "migrate", namespace: "shop" },
  spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "c" }] } }, ...spec },
});

function settle(world: SmallWorld): void {
  for (let round = 0; round < 50; round++) {
    const [object] = world.all("Job");
    if (!world.perform(reconcileJob({ job: object, pods: world.ownedBy("Pod", object), nowMs: world.nowMs }))) return;
  }
  throw new Error("does not settle");
}

const finish = (world: SmallWorld, phase: "Succeeded" | "Failed"): void => {
  for (const pod of world.all("Pod"))
    if (pod.status?.phase === undefined) world.patch("Pod", keyOf(pod), { status: { phase } });
};

test("runs as many as asked for at a time until enough succeeded", () => {
  const world = new SmallWorld();
  world.put("Job", job({ parallelism: 2, completions: 3 }));
  settle(world);
  expect(world.all("Pod")).toHaveLength(2);
  finish(world, "Succeeded");
  settle(world);
  expect(world.all("Pod")).toHaveLength(3);
  finish(world, "Succeeded");
  settle(world);
  const { status } = world.get("Job", "shop/migrate");
  expect(status).toMatchObject({ succeeded: 3, active: 0 });
  expect(conditionOf(status?.conditions, "Complete")).toMatchObject({ status: "True" });
});

test("gives up after backoffLimit failures", () => {
  const world = new SmallWorld();
  world.put("Job", job({ completions: 1, backoffLimit: 2 }));
  for (let round = 0; round < 5; round++) {
    settle(world);
    finish(world, "Failed");
  }
  settle(world);
  expect(world.all("Pod")).toHaveLength(3);
  expect(conditionOf(world.get("Job", "shop/migrate").status?.conditions, "Failed")).toMatchObject({
    reason: "BackoffLimitExceeded",
  });
});
