export type { DetectionInput, Detected, HostInterface } from "./autodetect/detect.ts";
export { detectAddress } from "./autodetect/detect.ts";
export type { DetectionMethod } from "./autodetect/method.ts";
export { parseDetectionMethod } from "./autodetect/method.ts";
export type { NamedPool, PoolSituation, PoolSpec } from "./default-pools.ts";
export { defaultPools } from "./default-pools.ts";
export type { NodeSettings, PoolMode } from "./settings.ts";
export { nodeSettings, readNodeSettings } from "./settings.ts";
export { RESTART_ME, supervise } from "./supervisor.ts";
