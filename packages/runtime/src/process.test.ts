import { once } from "node:events";
import { createServer } from "node:http";
import { CalicoError } from "@calico-ts/std";
import { describe, expect, test } from "vitest";
import {
  durationMs,
  flag,
  integer,
  list,
  logLevel,
  oneOf,
  readSettings,
  setting,
  settingsReference,
} from "./config-table.ts";
import { Health } from "./health.ts";
import { openDebugServer, openHealthServer, openMetricsServer } from "./http-server.ts";
import { createLogger, parseLogLevel } from "./logger.ts";
import { createMetricsRegistry, registerMetrics } from "./metrics.ts";
import { runUntilSignal } from "./run.ts";
import { FakeClock } from "./testing/fake-clock.ts";

const fetchText = async (port: number, path: string): Promise<{ status: number; body: string }> => {
  const response = await fetch(`http://localhost:${port}${path}`);
  return { status: response.status, body: await response.text() };
};

describe("logger", () => {
  const written = (level: "Debug" | "Info", format: "text" | "json", burst?: number) => {
    const lines: string[] = [];
    const clock = new FakeClock(0);
    const stream = { write: (line: string) => lines.push(line.trimEnd()) };
    const log = createLogger({
      component: "felix",
      stream,
      level,
      format,
      clock,
      pid: 7,
      ...(burst === undefined ? {} : { burst }),
    });
    return { lines, clock, log };
  };

  test("writes text with components, fields and causes, and nothing below its level", () => {
    const { lines, log } = written("Info", "text");
    const error = new CalicoError("KERNEL", "cannot add route", { cause: new Error("file exists") });
    log.child("routes", { table: 254 }).warning("write.failed", { error, dst: "10.0.0.0/8", note: "two words" });
    log.debug("hidden");
    log.setLevel("Debug");
    log.debug("shown");
    expect(lines).toEqual([
      '1970-01-01 00:00:00.000 [WARNING][7] felix/routes/write.failed: table=254 error="KERNEL: cannot add route: file exists" dst=10.0.0.0/8 note="two words"',
      "1970-01-01 00:00:00.000 [DEBUG][7] felix/shown:",
    ]);
  });

  test("json lines survive bigint, cycles, maps and errors", () => {
    const { lines, log } = written("Info", "json");
    const cycle: Record<string, unknown> = {};
    cycle["self"] = cycle;
    log.info("odd", { big: 10n, map: new Map([["a", new Set([1])]]), error: new CalicoError("TIMEOUT", "slow") });
    log.info("cycle", { cycle });
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      event: "odd",
      big: "10",
      map: { a: [1] },
      error: { code: "TIMEOUT", message: "slow" },
    });
    expect(lines[1]).toContain("unprintable");
  });

  test("a repeating line is held back and counted", async () => {
    const { lines, clock, log } = written("Info", "text", 2);
    for (let i = 0; i < 10; i++) log.info("again");
    expect(lines).toHaveLength(2);
    await clock.advance(10_000);
    log.info("again");
    expect(lines[2]).toContain("suppressed=8");
  });

  test("levels are read in upstream's spellings", () => {
    expect(["INFO", "warn", "Warning", "panic", "none"].map(parseLogLevel)).toEqual([
      "Info",
      "Warning",
      "Warning",
      "Fatal",
      "None",
    ]);
    expect(parseLogLevel("loud")).toBeUndefined();
  });
});

describe("health", () => {
  test("a silent reporter times out; overrides replace its timeout", async () => {
    const clock = new FakeClock(0);
    const health = new Health(clock, { slow: 60_000 });
    health.register("loop", { live: true, ready: true, timeoutMs: 30_000 });
    health.register("slow", { live: true, timeoutMs: 1000 });
    expect(health.summary()).toMatchObject({ live: true, ready: false });
    health.report("loop", { live: true, ready: true });
    expect(health.summary()).toMatchObject({ live: true, ready: true });
    await clock.advance(31_000);
    expect(health.summary()).toMatchObject({ live: false, ready: false });
    health.report("loop", { ready: true });
    expect(health.summary()).toMatchObject({ live: true, ready: true });
    await clock.advance(30_000);
    expect(health.summary().lines.map((line) => line.timedOut)).toEqual([false, true]);
  });

  test("is served over HTTP, with the table as the answer", async () => {
    const health = new Health(new FakeClock());
    health.register("loop", { live: true, ready: true });
    await using server = await openHealthServer(health, { port: 0 });
    expect(await fetchText(server.port, "/liveness")).toMatchObject({ status: 200 });
    const notReady = await fetchText(server.port, "/readiness");
    expect(notReady.status).toBe(503);
    expect(notReady.body).toMatch(/loop +- +live +non-ready/);
    expect((await fetchText(server.port, "/other")).status).toBe(404);
  });

  test("a taken port is an error that says so", async () => {
    const taken = createServer().listen(0, "localhost");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    await expect(openHealthServer(new Health(new FakeClock()), { port })).rejects.toThrow(/another process listens/);
    taken.close();
  });
});

describe("metrics and debug", () => {
  test("a table becomes typed metrics on its own registry", async () => {
    const registry = createMetricsRegistry();
    const metrics = registerMetrics(registry, {
      felix_errors: { kind: "counter", help: "Errors.", labels: ["where"] },
      felix_apply_seconds: { kind: "histogram", help: "Time.", buckets: [0.1, 1] },
    });
    metrics.felix_errors.inc({ where: "routes" });
    metrics.felix_apply_seconds.observe(0.5);
    await using server = await openMetricsServer(registry, { port: 0 });
    const { body } = await fetchText(server.port, "/metrics");
    expect(body).toContain('felix_errors{where="routes"} 1');
    expect(body).toContain('felix_apply_seconds_bucket{le="1"} 1');
  });

  test("debug sources are listed and read on request; a failing one answers 500", async () => {
    const broken = (): never => {
      throw new Error("no such luck");
    };
    await using server = await openDebugServer({ state: () => ({ routes: 3n }), broken }, { port: 0 });
    expect(JSON.parse((await fetchText(server.port, "/debug")).body)).toEqual(["state", "broken"]);
    expect(JSON.parse((await fetchText(server.port, "/debug/state")).body)).toEqual({ routes: "3" });
    expect(await fetchText(server.port, "/debug/broken")).toEqual({ status: 500, body: "no such luck\n" });
  });
});

describe("settings", () => {
  const table = {
    port: setting("X_PORT", { parse: integer(0, 65_535), default: 9099, help: "Port." }),
    level: setting("X_LEVEL", { parse: logLevel, default: "Info", help: "Level." }),
    on: setting("X_ON", { parse: flag, default: false, help: "On." }),
    mode: setting("X_MODE", { parse: oneOf("Always", "Never"), default: "Never", help: "Mode." }),
    kinds: setting<readonly string[]>("X_KINDS", { parse: list, default: [], help: "Kinds." }),
    every: setting("X_EVERY", { parse: durationMs, default: 1000, help: "Period." }),
  };

  test("become typed values", () => {
    const env = { X_PORT: "80", X_LEVEL: "warn", X_ON: "Yes", X_MODE: "always", X_KINDS: "a, b,", X_EVERY: "1m30s" };
    expect(readSettings(table, env)).toEqual({
      port: 80,
      level: "Warning",
      on: true,
      mode: "Always",
      kinds: ["a", "b"],
      every: 90_000,
    });
    expect(readSettings(table, { X_PORT: "" }).port).toBe(9099);
  });

  test("complain about everything that is wrong at once", () => {
    expect(() => readSettings(table, { X_PORT: "70000", X_EVERY: "soon" })).toThrow(
      /X_PORT="70000": must be an integer from 0 to 65535\n.*X_EVERY="soon"/,
    );
    expect(settingsReference(table)).toContain("| `X_PORT` | `9099` | Port. |");
  });
});

describe("runUntilSignal", () => {
  test("ends with 0 on a signal, with 1 and a log line on a failure", async () => {
    const lines: string[] = [];
    const log = createLogger({ component: "p", stream: { write: (line: string) => lines.push(line) } });
    const stopped = runUntilSignal(
      async (signal) => {
        setImmediate(() => process.kill(process.pid, "SIGTERM"));
        await once(signal, "abort");
        throw signal.reason;
      },
      { log },
    );
    expect(await stopped).toBe(0);
    expect(await runUntilSignal(() => Promise.reject(new Error("bad")), { log })).toBe(1);
    expect(lines.at(-1)).toContain("bad");
  });
});
