export type { KindStatus } from "./kind-source.ts";
export { openSyncer, type Syncer, type SyncerOptions } from "./syncer.ts";
export type { KindSelection, SyncBatch, SyncKey, SyncKind, SyncUpdate, SyncUpdateOf } from "./update.ts";
