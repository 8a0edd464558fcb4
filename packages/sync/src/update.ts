/** What a syncer hands over. */
import type { KindMap, KindName } from "@calico-ts/model";

export interface SyncKey {
  readonly name: string;
  readonly namespace?: string | undefined;
}

export interface SyncUpdateOf<K extends KindName> {
  readonly kind: K;
  readonly key: SyncKey;
  /** As it is now; undefined: it is gone. */
  readonly resource: KindMap[K] | undefined;
}

/** Tagged by `kind`, so a switch on it narrows the resource. */
export type SyncUpdate = { readonly [K in KindName]: SyncUpdateOf<K> }[KindName];

export interface SyncBatch {
  /** At most one per resource: the newest. */
  readonly updates: readonly SyncUpdate[];
  /** With this batch everything that existed when the syncer started has been handed over. Stays true afterwards. */
  readonly inSync: boolean;
}

export interface KindSelection<K extends KindName> {
  readonly kind: K;
  readonly namespace?: string;
  readonly labelSelector?: string;
  /** `spec.nodeName=n1`, for example: the server filters, the rest never crosses the wire. */
  readonly fieldSelector?: string;
  /** Keeps only what the consumer reads: a pod is ten kilobytes, its labels and addresses are two hundred bytes. */
  readonly project?: (resource: KindMap[K]) => KindMap[K];
}

/** A kind in full, or with conditions. */
export type SyncKind = KindName | { readonly [K in KindName]: KindSelection<K> }[KindName];
