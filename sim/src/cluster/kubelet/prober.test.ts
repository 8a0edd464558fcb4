import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Container } from "../kube/objects.ts";
import type { ProbeOutcome } from "./probe-check.ts";
import { countResult, Prober } from "./prober.ts";

test("thresholds count results in a row", () => {
  const probe = { failureThreshold: 2, successThreshold: 2 };
  let count = { successes: 0, failures: 0 };
  const decisions = [false, true, false, false, true, true].map((ok) => {
    const step = countResult(count, ok, probe);
    count = step.count;
    return step.decided;
  });
  expect(decisions).toEqual([undefined, undefined, undefined, "failure", undefined, "success"]);
});

describe("the prober of a container", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  function watch(
    container: Partial<Container>,
    answer: () => ProbeOutcome,
    execStartsProgram = false,
  ): { readonly prober: Prober; readonly heard: string[] } {
    const heard: string[] = [];
    const prober = new Prober({
      container: { name: "c", ...container },
      check: () => Promise.resolve(answer()),
      maxInitialDelayMs: 1_000,
      execStartsProgram,
      onReady: (ready) => heard.push(`ready ${ready}`),
      onStarted: () => heard.push("started"),
      onUnhealthy: (kind) => heard.push(`unhealthy ${kind}`),
      onFailure: () => undefined,
    });
    return { prober, heard };
  }

  test("without probes a container is ready at once", () => {
    expect(watch({}, () => ({ ok: true })).heard).toEqual(["started", "ready true"]);
  });

  test("readiness is asked eagerly until the first success, then once a period", async () => {
    let ok = false;
    let asked = 0;
    const { prober, heard } = watch(
      { readinessProbe: { periodSeconds: 10, tcpSocket: { port: 1 }, failureThreshold: 1 } },
      () => {
        asked += 1;
        return ok ? { ok: true } : { ok: false, message: "no" };
      },
    );
    await vi.advanceTimersByTimeAsync(400);
    expect(asked).toBe(3);
    ok = true;
    await vi.advanceTimersByTimeAsync(500);
    expect(heard.at(-1)).toBe("ready true");
    asked = 0;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(asked).toBe(2);
    prober.stop();
  });

  test.each([
    [false, 4],
    [true, 0],
  ])(
    "an exec probe that starts a program (%s) waits for the one it asks to start",
    async (execStartsProgram, early) => {
      let asked = 0;
      const { prober, heard } = watch(
        { readinessProbe: { periodSeconds: 10, exec: { command: ["x"] } } },
        () => {
          asked += 1;
          return asked > early + 1 ? { ok: true } : { ok: false, message: "no" };
        },
        execStartsProgram,
      );
      await vi.advanceTimersByTimeAsync(690);
      expect(asked).toBe(early === 0 ? 0 : 3);
      await vi.advanceTimersByTimeAsync(5000);
      expect(heard.at(-1)).toBe("ready true");
      prober.stop();
    },
  );

  test("the startup probe holds the others back and gives up after its whole patience", async () => {
    const { prober, heard } = watch(
      { startupProbe: { periodSeconds: 5, failureThreshold: 3 }, livenessProbe: { periodSeconds: 1 } },
      () => ({ ok: false, message: "no" }),
    );
    await vi.advanceTimersByTimeAsync(14_000);
    expect(heard).toEqual([]);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(heard).toEqual(["unhealthy startup"]);
    prober.stop();
  });

  test("liveness failing often enough asks for a restart, and a stopped prober is silent", async () => {
    const { prober, heard } = watch({ livenessProbe: { periodSeconds: 1, failureThreshold: 3 } }, () => ({
      ok: false,
      message: "no",
    }));
    await vi.advanceTimersByTimeAsync(5_000);
    expect(heard).toContain("unhealthy liveness");
    prober.stop();
    heard.length = 0;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(heard).toEqual([]);
  });
});
