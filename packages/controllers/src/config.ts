/**
 * What is in force: environment over the KubeControllersConfiguration over defaults. Pure. The resource's status tells an operator the
 * result (`runningConfig`) and which variables took precedence.
 */
import type { KubeControllersConfiguration } from "@calico-ts/model";
import { durationMs, type LogLevel, parseLogLevel } from "@calico-ts/runtime";
import type { AssignMode } from "./loadbalancer/plan.ts";
import type { ControllerName, readControllersSettings } from "./settings.ts";

export interface RunningConfig {
  readonly logLevel: LogLevel;
  readonly health: boolean;
  /** 0: no metrics. */
  readonly metricsPort: number;
  /** 0: never. etcd only. */
  readonly compactionMs: number;
  readonly controllers: readonly ControllerName[];
  readonly node: {
    /** 0: addresses of pods that are gone are not collected. */
    readonly leakGraceMs: number;
    readonly reconcileMs: number;
    /** etcd only. */
    readonly syncLabels: boolean;
  };
  readonly loadBalancer: { readonly assignIPs: AssignMode };
}

type Spec = KubeControllersConfiguration["spec"];
type Settings = ReturnType<typeof readControllersSettings>;

export const DEFAULT_METRICS_PORT = 9094;
const DEFAULT_PERIOD_MS = 5 * 60_000;
const DEFAULT_GRACE_MS = 15 * 60_000;
const DEFAULT_COMPACTION_MS = 10 * 60_000;

/** What is created when there is none, as upstream does. */
export const defaultConfiguration: KubeControllersConfiguration = {
  apiVersion: "projectcalico.org/v3",
  kind: "KubeControllersConfiguration",
  metadata: { name: "default" },
  spec: {
    controllers: {
      node: {
        reconcilerPeriod: "5m0s",
        syncLabels: "Enabled",
        hostEndpoint: { autoCreate: "Disabled" },
        leakGracePeriod: "15m0s",
      },
      policy: { reconcilerPeriod: "5m0s" },
      workloadEndpoint: { reconcilerPeriod: "5m0s" },
      serviceAccount: { reconcilerPeriod: "5m0s" },
      namespace: { reconcilerPeriod: "5m0s" },
      loadBalancer: { assignIPs: "AllServices" },
    },
    etcdV3CompactionPeriod: "10m0s",
    healthChecks: "Enabled",
    logSeverityScreen: "Info",
    prometheusMetricsPort: DEFAULT_METRICS_PORT,
  },
};

const KEYS: Readonly<Record<keyof Spec["controllers"], ControllerName | undefined>> = {
  node: "node",
  policy: "policy",
  workloadEndpoint: "workloadendpoint",
  serviceAccount: "serviceaccount",
  namespace: "namespace",
  loadBalancer: "loadbalancer",
  migration: undefined,
};

export function runningConfig(settings: Settings, spec: Spec): RunningConfig {
  const { controllers } = spec;
  const configured = Object.entries(KEYS).flatMap(([key, name]) =>
    name !== undefined && controllers[key as keyof Spec["controllers"]] !== undefined ? [name] : [],
  );
  return {
    logLevel: settings.logLevel ?? parseLogLevel(spec.logSeverityScreen ?? "") ?? "Info",
    health: settings.healthEnabled ?? spec.healthChecks !== "Disabled",
    metricsPort: spec.prometheusMetricsPort ?? DEFAULT_METRICS_PORT,
    compactionMs: settings.compactionPeriod ?? period(spec.etcdV3CompactionPeriod, DEFAULT_COMPACTION_MS),
    controllers: settings.enabledControllers.length > 0 ? settings.enabledControllers : configured,
    node: {
      leakGraceMs: period(controllers.node?.leakGracePeriod, DEFAULT_GRACE_MS),
      reconcileMs: settings.reconcilerPeriod ?? period(controllers.node?.reconcilerPeriod, DEFAULT_PERIOD_MS),
      syncLabels: settings.syncNodeLabels ?? controllers.node?.syncLabels !== "Disabled",
    },
    loadBalancer: { assignIPs: controllers.loadBalancer?.assignIPs ?? "AllServices" },
  };
}

/** The form of the resource's status. */
export function statusOf(
  config: RunningConfig,
  spec: Spec,
  environmentVars: Readonly<Record<string, string>>,
): NonNullable<KubeControllersConfiguration["status"]> {
  const runs = new Set(config.controllers);
  const controllers = {
    ...(runs.has("node") && {
      node: {
        ...spec.controllers.node,
        syncLabels: config.node.syncLabels ? ("Enabled" as const) : ("Disabled" as const),
        leakGracePeriod: seconds(config.node.leakGraceMs),
        reconcilerPeriod: seconds(config.node.reconcileMs),
      },
    }),
    ...(runs.has("loadbalancer") && { loadBalancer: config.loadBalancer }),
  };
  return {
    environmentVars: { ...environmentVars },
    runningConfig: {
      controllers,
      healthChecks: config.health ? "Enabled" : "Disabled",
      logSeverityScreen: config.logLevel === "Trace" ? "Debug" : config.logLevel,
      prometheusMetricsPort: config.metricsPort,
      etcdV3CompactionPeriod: seconds(config.compactionMs),
    },
  };
}

const seconds = (ms: number): string => `${ms / 1000}s`;

/** A period nobody can read is its default: validation refuses such a resource before it gets here. */
function period(text: string | undefined, defaultMs: number): number {
  if (text === undefined || text === "") return defaultMs;
  const parsed = durationMs(text);
  return parsed.ok ? parsed.value : defaultMs;
}
