import { expect, test } from "vitest";
import { defaultConfiguration, runningConfig } from "./config.ts";
import { readControllersSettings } from "./settings.ts";

const config = (env: Readonly<Record<string, string>>, spec: Partial<typeof defaultConfiguration.spec> = {}) =>
  runningConfig(readControllersSettings(env), { ...defaultConfiguration.spec, ...spec });

test("defaults are upstream's", () => {
  expect(config({})).toEqual({
    logLevel: "Info",
    health: true,
    metricsPort: 9094,
    compactionMs: 600_000,
    controllers: ["node", "policy", "workloadendpoint", "serviceaccount", "namespace", "loadbalancer"],
    node: { leakGraceMs: 900_000, reconcileMs: 300_000, syncLabels: true },
    loadBalancer: { assignIPs: "AllServices" },
  });
});

test("environment over resource over defaults, field by field", () => {
  const spec = {
    controllers: { node: { leakGracePeriod: "0", reconcilerPeriod: "1m" } },
    prometheusMetricsPort: 0,
    logSeverityScreen: "Warning",
  } as const;
  expect(config({}, spec)).toMatchObject({
    controllers: ["node"],
    logLevel: "Warning",
    metricsPort: 0,
    node: { leakGraceMs: 0, reconcileMs: 60_000 },
  });
  const env = {
    ENABLED_CONTROLLERS: "node, Profile",
    LOG_LEVEL: "debug",
    RECONCILER_PERIOD: "2m",
    SYNC_NODE_LABELS: "false",
    HEALTH_ENABLED: "false",
  };
  expect(config(env, spec)).toMatchObject({
    controllers: ["node", "namespace"],
    logLevel: "Debug",
    health: false,
    node: { leakGraceMs: 0, reconcileMs: 120_000, syncLabels: false },
  });
});
