export type { DaemonConfig, DaemonDeps, OwnRoute } from "./daemon.ts";
export { BgpDaemon } from "./daemon.ts";
export { ROUTE_PROTOCOL } from "./kernel/route-exporter.ts";
export type { ConnectTo, ListenAt } from "./session/connections.ts";
export type { ModelInput, ModelResult, Problem, SecretKey } from "./config/model-input.ts";
export { problemText } from "./config/model-input.ts";
export { configFromModel } from "./config/from-model.ts";
