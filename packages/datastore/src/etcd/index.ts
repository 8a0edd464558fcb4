export { openEtcd, type EtcdDatastore, type EtcdOptions } from "./client.ts";
export { type EtcdConfig, etcdConfigFromEnvironment } from "./config.ts";
