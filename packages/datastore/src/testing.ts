export { type DatastoreUnderTest, datastoreContract, type OpenedDatastore } from "./testing/contract.ts";
export { intercept, type InterceptHooks, type Operation } from "./intercept.ts";
export { installDefinitions, installForeignDefinitions } from "./testing/install-definitions.ts";
export { type EtcdServer, type EtcdServerOptions, startEtcd } from "./testing/etcd-server.ts";
