export { CniError } from "./cni-error.ts";
export { DEFERRED_FOLDER } from "./deferred-delete.ts";
export type { CniCommand, CniRequest } from "./request.ts";
export { DEFAULT_SOCKET, readRequest, SUPPORTED_VERSIONS } from "./request.ts";
