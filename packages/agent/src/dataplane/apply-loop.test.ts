import { FakeClock, settle } from "@calico-ts/runtime/testing";
import { silentLogger } from "@calico-ts/runtime";
import { describe, expect, test } from "vitest";
import { ApplyLoop, type PassReport } from "./apply-loop.ts";
import { APPLY_PHASES, type PhaseName } from "./phases.ts";

type Steps = Record<PhaseName, () => Promise<void> | void>;

function world(changes: Partial<Steps> = {}) {
  const clock = new FakeClock();
  const ran: PhaseName[] = [];
  const steps = Object.fromEntries(
    APPLY_PHASES.map(({ name }) => [
      name,
      async () => {
        ran.push(name);
        await changes[name]?.();
      },
    ]),
  ) as Steps;
  const reports: PassReport[] = [];
  const loop = new ApplyLoop({
    order: APPLY_PHASES,
    steps,
    clock,
    log: silentLogger,
    onPass: (report) => reports.push(report),
  });
  return { clock, loop, ran, reports, all: APPLY_PHASES.map(({ name }) => name) };
}

describe("apply loop", () => {
  test("nothing runs before the gate opens, and then everything in order", async () => {
    const { all, loop, ran } = world();
    loop.mark();
    loop.mark();
    await settle();
    expect(ran).toEqual([]);
    loop.open();
    await settle();
    expect(ran).toEqual(all);
    await loop[Symbol.asyncDispose]();
  });

  test("many marks are one pass; a mark during a pass leads to one more", async () => {
    const release = Promise.withResolvers<void>();
    let first = true;
    const { loop, reports } = world({
      rules: async () => {
        if (first) await release.promise;
        first = false;
      },
    });
    loop.open();
    for (let i = 0; i < 10; i++) loop.mark();
    await settle();
    expect(loop.busy).toBe(true);
    for (let i = 0; i < 10; i++) loop.mark();
    release.resolve();
    await settle();
    expect(reports).toHaveLength(2);
    await loop[Symbol.asyncDispose]();
  });

  test("a failed phase holds up what needs it, and nothing else, and comes back", async () => {
    let healthy = false;
    const { clock, loop, ran, reports } = world({
      rules: () => {
        if (!healthy) throw new Error("no");
      },
    });
    loop.open();
    await settle();
    expect([...(reports[0]?.failed.keys() ?? [])]).toEqual(["rules"]);
    expect(reports[0]?.held).toEqual(["workload-routes"]);
    expect(ran).toContain("cluster-routes");
    expect(loop.failures().has("rules")).toBe(true);

    // while it waits, other work goes on and it is not tried again
    const before = ran.filter((name) => name === "rules").length;
    loop.mark();
    await settle();
    expect(ran.filter((name) => name === "rules")).toHaveLength(before);
    expect(reports.at(-1)?.held).toEqual(["rules", "workload-routes"]);

    healthy = true;
    await clock.advance(50);
    await settle();
    expect(loop.failures().size).toBe(0);
    expect(ran.at(-1)).toBe("mtu-file");
    expect(reports.at(-1)?.held).toEqual([]);
    await loop[Symbol.asyncDispose]();
  });

  test("a timer that rings before the clock says so does not leave a phase waiting for ever", async () => {
    const clock = new FakeClock();
    const early = {
      now: () => 0,
      monotonic: () => 0,
      sleep: (ms: number, signal?: AbortSignal) => clock.sleep(ms, signal),
    };
    let attempts = 0;
    const steps = Object.fromEntries(APPLY_PHASES.map(({ name }) => [name, () => undefined])) as Steps;
    steps.rules = () => {
      if (++attempts === 1) throw new Error("no");
    };
    const loop = new ApplyLoop({ order: APPLY_PHASES, steps, clock: early, log: silentLogger });
    loop.open();
    await settle();
    await clock.advance(1000);
    await settle();
    expect(attempts).toBe(2);
    expect(loop.failures().size).toBe(0);
    await loop[Symbol.asyncDispose]();
  });

  test("every need names an earlier phase", () => {
    const seen = new Set<PhaseName>();
    for (const { because, name, needs } of APPLY_PHASES) {
      expect(because.length).toBeGreaterThan(20);
      for (const need of needs) expect(seen.has(need), `${name} needs ${need}`).toBe(true);
      seen.add(name);
    }
  });
});
