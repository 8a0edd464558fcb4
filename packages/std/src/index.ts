export { DeltaTracker } from "./delta-tracker.ts";
export type { ErrorCode, ErrorContext, ErrorDetail } from "./error.ts";
export { CalicoError, errorText, hasCode, unreachable } from "./error.ts";
export { MultiMap } from "./multi-map.ts";
export { RefCounts } from "./ref-counts.ts";
export { sha1Hex, sha224Base64Url, sha256Base64Url, sha256Hex } from "./stable-hash.ts";
