/** Environment of the daemon's metrics, in the manner of BGP_LOGSEVERITYSCREEN and FELIX_PROMETHEUSMETRICS…. */
import { type Environment, flag, integer, readSettings, setting, type SettingValues, text } from "@calico-ts/runtime";

export const metricsSettings = {
  enabled: setting("BGP_PROMETHEUSMETRICSENABLED", { parse: flag, default: false, help: "Serve metrics." }),
  host: setting("BGP_PROMETHEUSMETRICSHOST", { parse: text, default: "", help: "Where; default: all addresses." }),
  port: setting("BGP_PROMETHEUSMETRICSPORT", { parse: integer(1, 65_535), default: 9900, help: "The TCP port." }),
} as const;

export type MetricsSettings = SettingValues<typeof metricsSettings>;

/** @throws CalicoError BAD_INPUT */
export const readMetricsSettings = (env: Environment): MetricsSettings => readSettings(metricsSettings, env);
