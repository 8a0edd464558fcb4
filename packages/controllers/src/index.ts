export { runningConfig, type RunningConfig } from "./config.ts";
export { type ControllersDeps, type Outcome, runControllers } from "./run.ts";
export { type ControllerName, readControllersSettings } from "./settings.ts";
export { liveness, readiness, StatusFile } from "./status-file.ts";
