export type { Identity, KeyPair } from "./auth/certificates.ts";
export type { PodLogRequest, PodLogs } from "./core.ts";
export type { KubeconfigParts } from "./kubeconfig.ts";
export { formatKubeconfig } from "./kubeconfig.ts";
export type { KubeObject, ObjectMeta } from "./meta/object.ts";
export type { User } from "./registry/resource.ts";
export type { ApiServer, ApiServerOptions } from "./server.ts";
export { startApiServer } from "./server.ts";
export { Store } from "./storage/store.ts";
