export type {
  DatastoreClient,
  DeletePreconditions,
  ListOptions,
  ListResult,
  MergePatch,
  PatchOptions,
  ResourceKey,
  Selection,
  WatchEvent,
  WatchOptions,
} from "./client.ts";
export { describeKey } from "./client.ts";
export type { EtcdConfig, EtcdDatastore, EtcdOptions } from "./etcd/index.ts";
export { intercept, type InterceptHooks, type Operation } from "./intercept.ts";
export { type KubernetesOptions, openKubernetes } from "./kubernetes/client.ts";
export {
  type ConnectionConfig,
  type InClusterOptions,
  parseKubeconfig,
  readInCluster,
  readKubeconfig,
  type UserConfig,
} from "./kubernetes/config.ts";
export { type MemoryDatastore, type MemoryOptions, openMemory } from "./memory/memory-datastore.ts";
export { applyMergePatch } from "./merge-patch.ts";
export { isEtcd, openFromEnvironment } from "./open.ts";
export { compileSelection } from "./selection.ts";
