/** Environment variables of kube-controllers: upstream's names. An empty one leaves the matter to the KubeControllersConfiguration. */
import {
  durationMs,
  type Environment,
  flag,
  list,
  logLevel,
  type LogLevel,
  readSettings,
  setting,
  type SettingValues,
  text,
} from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";

export const CONTROLLERS = [
  "node",
  "policy",
  "workloadendpoint",
  "namespace",
  "serviceaccount",
  "loadbalancer",
] as const;
export type ControllerName = (typeof CONTROLLERS)[number];

const controllersSettings = {
  logLevel: setting<LogLevel | undefined>("LOG_LEVEL", { parse: logLevel, default: undefined, help: "Log level." }),
  enabledControllers: setting<readonly string[]>("ENABLED_CONTROLLERS", {
    parse: list,
    default: [],
    help: "Which controllers run, separated by commas: node, loadbalancer. Others of upstream's are named in the log and not run.",
  }),
  reconcilerPeriod: setting<number | undefined>("RECONCILER_PERIOD", {
    parse: durationMs,
    default: undefined,
    help: "How often everything is compared.",
  }),
  compactionPeriod: setting<number | undefined>("COMPACTION_PERIOD", {
    parse: durationMs,
    default: undefined,
    help: "How often etcd forgets its history; 0: never.",
  }),
  syncNodeLabels: setting<boolean | undefined>("SYNC_NODE_LABELS", {
    parse: flag,
    default: undefined,
    help: "Whether labels of Kubernetes' nodes are copied to Calico's; etcd only.",
  }),
  healthEnabled: setting<boolean | undefined>("HEALTH_ENABLED", {
    parse: flag,
    default: undefined,
    help: "Whether datastore and API server are asked every ten seconds, for the readiness probe.",
  }),
  statusFile: setting("STATUS_FILE", {
    parse: text,
    default: "/status/status.json",
    help: "Where check-status finds how things are; under CALICO_HOST_ROOT.",
  }),
  hostRoot: setting("CALICO_HOST_ROOT", { parse: text, default: "/", help: "Folder that host paths are under." }),
} as const;

export type ControllersSettings = SettingValues<typeof controllersSettings>;

/** Variables that win over the KubeControllersConfiguration; upstream lists those that are set in its status. */
export const OVERRIDES = [
  "LOG_LEVEL",
  "ENABLED_CONTROLLERS",
  "RECONCILER_PERIOD",
  "COMPACTION_PERIOD",
  "HEALTH_ENABLED",
  "SYNC_NODE_LABELS",
  "AUTO_HOST_ENDPOINTS",
] as const;

/** Upstream's other spelling. */
const ALIASES: Readonly<Record<string, ControllerName>> = { profile: "namespace" };

/** @throws CalicoError BAD_INPUT naming every variable that is wrong */
export function readControllersSettings(
  env: Environment,
): Omit<ControllersSettings, "enabledControllers"> & { readonly enabledControllers: readonly ControllerName[] } {
  const settings = readSettings(controllersSettings, env);
  return { ...settings, enabledControllers: settings.enabledControllers.map(controllerName) };
}

function controllerName(given: string): ControllerName {
  const name = ALIASES[given.toLowerCase()] ?? CONTROLLERS.find((known) => known === given.toLowerCase());
  if (name !== undefined) return name;
  throw new CalicoError(
    "BAD_INPUT",
    `ENABLED_CONTROLLERS names "${given}"; the controllers are ${CONTROLLERS.join(", ")}`,
  );
}
