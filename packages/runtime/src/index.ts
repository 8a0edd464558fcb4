export { AsyncQueue } from "./async-queue.ts";
export { type Clock, cancelled, systemClock, throwIfAborted } from "./clock.ts";
export {
  durationMs,
  type Environment,
  flag,
  integer,
  list,
  logLevel,
  oneOf,
  type Parsed,
  readSettings,
  type Setting,
  setting,
  settingsReference,
  type SettingTable,
  type SettingValues,
  text,
} from "./config-table.ts";
export { DirtyLoop, type DirtyLoopOptions } from "./dirty-loop.ts";
export {
  formatHealth,
  Health,
  type HealthLine,
  type HealthPromise,
  type HealthReport,
  type HealthSummary,
} from "./health.ts";
export {
  type HttpReply,
  type HttpRoutes,
  type HttpServer,
  type HttpServerOptions,
  openDebugServer,
  openHealthServer,
  openHttpServer,
  openMetricsServer,
} from "./http-server.ts";
export {
  createLogger,
  LOG_LEVELS,
  type LogFields,
  type Logger,
  type LoggerOptions,
  type LogLevel,
  type LogStream,
  parseLogLevel,
  type RootLogger,
  silentLogger,
} from "./logger.ts";
export { isServed, listenAt } from "./local-socket.ts";
export { manifestFiles, readInput } from "./manifest-files.ts";
export { Backoff, type BackoffOptions, isTransient, retryAfterMs, type RetryOptions, withRetry } from "./retry.ts";
export { type RunOptions, runUntilSignal, supervisorGone } from "./run.ts";
export { buildScoped, onDispose, TaskGroup } from "./tasks.ts";
