import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ProbeResult } from "./simulator.ts";
import { eventually, Run, traces, workloadOf } from "./simulator.ts";

// A public eleven-service shop with thirteen NetworkPolicies, written by people who had no simulator in mind. The data is not part of this
// repository: the test runs where it lies beside the checkout, and says so where it does not.
const NAME = `t-boutique-${process.pid}`;
const DATA = join(import.meta.dirname, "../../../shared/data/boutique");
const present = existsSync(DATA);
if (!present) process.stderr.write(`boutique: ${DATA} is not there; its scenario cannot run here\n`);

const SERVICES: Readonly<Record<string, number>> = {
  adservice: 9555,
  cartservice: 7070,
  checkoutservice: 5050,
  currencyservice: 7000,
  emailservice: 8080,
  frontend: 8080,
  paymentservice: 50051,
  productcatalogservice: 3550,
  recommendationservice: 8080,
  "redis-cart": 6379,
  shippingservice: 50051,
};
const WORKLOADS = [...Object.keys(SERVICES), "loadgenerator"];

/** Who may call whom, read off the policies by hand. Everybody may call the frontend. */
const CALLERS: Readonly<Record<string, readonly string[]>> = {
  adservice: ["frontend"],
  cartservice: ["frontend", "checkoutservice"],
  checkoutservice: ["frontend"],
  currencyservice: ["frontend", "checkoutservice"],
  emailservice: ["checkoutservice"],
  frontend: WORKLOADS.filter((name) => name !== "frontend"),
  paymentservice: ["checkoutservice"],
  productcatalogservice: ["frontend", "checkoutservice", "recommendationservice"],
  recommendationservice: ["frontend"],
  "redis-cart": ["cartservice"],
  shippingservice: ["frontend", "checkoutservice"],
};

const flow = (result: ProbeResult): string =>
  `${workloadOf(result.from)} → ${workloadOf(result.to)}:${result.port} ${result.verdict}`.replaceAll("default/", "");

function expected(allowed: (from: string, to: string) => boolean): string[] {
  return Object.entries(SERVICES)
    .flatMap(([to, port]) =>
      WORKLOADS.filter((from) => from !== to).map(
        (from) => `${from} → ${to}:${port} ${allowed(from, to) ? "allowed" : "denied"}`,
      ),
    )
    .toSorted();
}

const flows = async (run: Run): Promise<string[]> => (await run.matrix("--namespace", "default")).map(flow).toSorted();

describe.skipIf(!present)("the boutique", () => {
  let run: Run;
  beforeAll(async () => {
    run = await Run.up(NAME, "--manifests", DATA);
  }, 180_000);
  afterAll(async () => {
    await run?.[Symbol.asyncDispose]();
    expect(traces(NAME)).toEqual([]);
  });

  const byPolicy = expected((from, to) => CALLERS[to]?.includes(from) ?? false);

  test("has every pod ready", async () => {
    const lines = (await run.must("get", "pods", "--no-headers")).trim().split("\n");
    expect(lines).toHaveLength(WORKLOADS.length);
    for (const line of lines) expect(line).toMatch(/\s1\/1\s+Running\s/);
  });

  test("allows exactly the flows its policies allow", async () => {
    expect(await flows(run)).toEqual(byPolicy);
  });

  test("Services resolve to their backends", async () => {
    const answer = await run.probe("default/frontend", "svc:default/productcatalogservice", 3550);
    expect(answer).toMatchObject({ verdict: "allowed", detail: expect.stringContaining("productcatalogservice") });
    expect((await run.probe("default/adservice", "svc:default/productcatalogservice", 3550)).verdict).toBe("denied");
  });

  test("verdicts follow policies that are removed and applied again, without a restart", async () => {
    await run.must("delete", "-f", join(DATA, "network-policy-deny-all.yaml"));
    // Every service still has a policy of its own: only the load generator's ingress was protected by deny-all alone, and it has no port.
    expect(await flows(run)).toEqual(byPolicy);
    await run.must("delete", "networkpolicy", "--all");
    await eventually(
      "open matrix",
      () => flows(run),
      (seen) => seen.join() === expected(() => true).join(),
    );
    await run.must("apply", "-f", join(DATA, "network-policy-deny-all.yaml"));
    await eventually(
      "closed matrix",
      () => flows(run),
      (seen) => seen.join() === expected(() => false).join(),
    );
    for (const file of WORKLOADS.map((name) => (name === "redis-cart" ? "redis" : name))) {
      await run.must("apply", "-f", join(DATA, `network-policy-${file}.yaml`));
    }
    await eventually(
      "matrix by policy",
      () => flows(run),
      (seen) => seen.join() === byPolicy.join(),
    );
  });
});
