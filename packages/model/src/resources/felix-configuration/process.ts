/** FelixConfiguration keys about the process itself: health, logs, metrics, flow logs, debugging, and the platforms around it. */
import { anyCase, bool, integer, list, object, opt, text, word } from "../../schema/builders.ts";
import { duration } from "./terms.ts";

export const processFields = {
  // Feature detection/overrides
  featureDetectOverride: opt(
    text({
      pattern: "^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$",
      description: "Comma-separated name=true|false: what the kernel can do, against what was detected.",
    }),
  ),
  featureGates: opt(
    text({
      pattern: "^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$",
      description: "Comma-separated name=value: features that are not on by default.",
    }),
  ),
  // Go runtime
  goGCThreshold: opt(integer({ description: "Garbage-collection threshold of upstream's runtime. Default: 40." })),
  goMaxProcs: opt(integer({ description: "Processors upstream's runtime may use; -1: all. Default: -1." })),
  goMemoryLimitMB: opt(integer({ description: "Memory limit of upstream's runtime in MiB; -1: none. Default: -1." })),
  // Health port and timeouts
  healthEnabled: opt(bool({ description: "Whether health is served over HTTP. Default: false." })),
  healthHost: opt(text({ description: "Address health is served on. Default: localhost." })),
  healthPort: opt(integer({ description: "Port health is served on. Default: 9099." })),
  healthTimeoutOverrides: opt(
    list(object({ name: text(), timeout: text() }), {
      description: "Timeouts of named parts of the agent, after which they count as dead.",
    }),
  ),
  // Logging
  logActionRateLimit: opt(
    text({
      pattern: "^[1-9]\\d{0,3}/(?:second|minute|hour|day)$",
      description: "Packets the Log action logs at most, as number/second, /minute, /hour or /day.",
    }),
  ),
  logActionRateLimitBurst: opt(
    integer({ maximum: 9999, minimum: 0, description: "Packets logged before the limit counts. Default: 5." }),
  ),
  logDebugFilenameRegex: opt(text({ description: "Source files that log at debug level." })),
  logFilePath: opt(text({ description: "Log file; none turns it off. Default: /var/log/calico/felix.log." })),
  logPrefix: opt(
    text({
      pattern: "^([a-zA-Z0-9%: /_-])*$",
      description:
        "What lines of the Log action begin with; %t is the tier, %k the kind, %n the name, %p the name with its namespace. Default: calico-packet.",
    }),
  ),
  logSeverityFile: opt(
    anyCase(["Trace", "Debug", "Info", "Warning", "Error", "Fatal"], {
      description: "Level of the log file. Default: INFO.",
    }),
  ),
  logSeverityScreen: opt(
    anyCase(["Trace", "Debug", "Info", "Warning", "Error", "Fatal"], {
      description: "Level of standard output. Default: INFO.",
    }),
  ),
  logSeveritySys: opt(
    anyCase(["Trace", "Debug", "Info", "Warning", "Error", "Fatal"], {
      description: "Level of syslog. Default: INFO.",
    }),
  ),
  // Prometheus metrics
  prometheusGoMetricsEnabled: opt(bool({ description: "Whether metrics of the runtime are served. Default: true." })),
  prometheusMetricsCAFile: opt(text({ description: "CA that signs clients of the metrics endpoint." })),
  prometheusMetricsCertFile: opt(text({ description: "Certificate of the metrics endpoint." })),
  prometheusMetricsClientAuth: opt(
    word(["RequireAndVerifyClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "NoClientCert"], {
      description: "What clients of the metrics endpoint must show. Default: NoClientCert.",
    }),
  ),
  prometheusMetricsEnabled: opt(bool({ description: "Whether metrics are served. Default: false." })),
  prometheusMetricsHost: opt(text({ description: "Address metrics are served on; all when absent." })),
  prometheusMetricsKeyFile: opt(text({ description: "Key of the metrics endpoint." })),
  prometheusMetricsPort: opt(integer({ description: "Port metrics are served on. Default: 9091." })),
  prometheusProcessMetricsEnabled: opt(
    bool({ description: "Whether metrics of the process are served. Default: true." }),
  ),
  prometheusWireGuardMetricsEnabled: opt(bool({ description: "Whether WireGuard metrics are served. Default: true." })),
  // file reports
  flowLogsCollectorDebugTrace: opt(
    bool({ description: "Whether the flow collector logs every step. Default: false." }),
  ),
  flowLogsFlushInterval: opt(duration({ description: "How often flows are reported. Default: 300s." })),
  flowLogsGoldmaneServer: opt(text({ description: "Where flows are reported to." })),
  flowLogsLocalReporter: opt(
    word(["Disabled", "Enabled"], { description: "Whether flows are served on a local socket. Default: Disabled." }),
  ),
  flowLogsPolicyEvaluationMode: opt(
    word(["None", "Continuous"], {
      description: "Whether policies of running flows are evaluated again and again. Default: Continuous.",
    }),
  ),
  // Debug/test-only (generally unsupported)
  debugDisableLogDropping: opt(
    bool({ description: "Whether logs may block the process instead of being dropped. Default: false." }),
  ),
  debugHost: opt(text({ description: "Address of the debug server. Default: localhost." })),
  debugMemoryProfilePath: opt(text({ description: "Where memory profiles are written." })),
  debugPort: opt(integer({ description: "Port of the debug server; off when absent. Default: 0." })),
  debugSimulateCalcGraphHangAfter: opt(
    duration({ description: "For tests: stop calculating after this time. Default: 0s." }),
  ),
  debugSimulateDataplaneApplyDelay: opt(
    duration({ description: "For tests: delay every update of the dataplane. Default: 0s." }),
  ),
  debugSimulateDataplaneHangAfter: opt(
    duration({ description: "For tests: stop updating the dataplane after this time. Default: 0s." }),
  ),
  // Usage reporting
  usageReportingEnabled: opt(
    bool({
      description:
        "Whether upstream's agent reports its version and the cluster's size. This one never does. Default: true.",
    }),
  ),
  usageReportingInitialDelay: opt(duration({ description: "How long before the first such report. Default: 300s." })),
  usageReportingInterval: opt(duration({ description: "How often. Default: 86400s." })),
  // OpenStack support
  endpointReportingDelay: opt(
    duration({ description: "How long to wait before reporting an endpoint (OpenStack). Default: 1s." }),
  ),
  endpointReportingEnabled: opt(
    bool({ description: "Whether the state of endpoints is reported (OpenStack). Default: false." }),
  ),
  metadataAddr: opt(
    text({ description: "Where the metadata server is (OpenStack); none turns it off. Default: 127.0.0.1." }),
  ),
  metadataPort: opt(integer({ description: "Port of the metadata server (OpenStack). Default: 8775." })),
  openstackRegion: opt(text({ description: "Name of this region (OpenStack)." })),
  reportingInterval: opt(
    duration({ description: "How often the agent reports that it lives (etcd); 0 turns it off. Default: 30s." }),
  ),
  reportingTTL: opt(duration({ description: "How long such a report counts. Default: 90s." })),
  // Windows
  windowsManageFirewallRules: opt(
    word(["Enabled", "Disabled"], {
      description: "Whether the agent opens its ports in the Windows firewall. Default: Disabled.",
    }),
  ),
  // AWS integration
  awsSrcDstCheck: opt(
    word(["DoNothing", "Enable", "Disable"], {
      description: "What to do about the source-destination check of AWS. Default: DoNothing.",
    }),
  ),
};
