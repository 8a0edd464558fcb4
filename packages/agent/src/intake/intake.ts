/**
 * Batches of the sync stream → the compiler, by way of the pod overlay; and the in-sync gate.
 *
 * The gate opens with the first complete snapshot, unless ClusterInformation says that the datastore is not ready (an upgrade or
 * a migration is under way): then everything waits until it is. If it stops being ready later, the agent starts again and waits
 * at the gate, with the last rules in force.
 */
import type { Pod } from "@calico-ts/model";
import type { SyncBatch, SyncUpdate } from "@calico-ts/sync";
import type { PodOverlay, PodRef } from "./pod-overlay.ts";

export interface CompilerInput {
  update(update: SyncUpdate): void;
  setInSync(): void;
  flush(): void;
}

export interface IntakeOptions {
  readonly compiler: CompilerInput;
  readonly overlay: PodOverlay;
  /** Everything is known except the datastore's own word that it may be used. */
  readonly onNotReady: () => void;
  /** It was in use and may not be any more. */
  readonly onNoLongerReady: () => void;
}

export class Intake {
  readonly #options: IntakeOptions;
  #datastoreReady = true;
  #open = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  accept(batch: SyncBatch): void {
    const { compiler, onNoLongerReady, onNotReady, overlay } = this.#options;
    for (const update of batch.updates) {
      if (update.kind === "ClusterInformation" && update.key.name === "default") {
        this.#datastoreReady = update.resource?.spec?.datastoreReady !== false;
      }
      if (update.kind === "Pod") overlay.update(podRef(update), update.resource);
      else compiler.update(update);
    }
    if (!this.#datastoreReady) {
      if (this.#open) onNoLongerReady();
      else if (batch.inSync) onNotReady();
      return;
    }
    if (batch.inSync && !this.#open) {
      this.#open = true;
      compiler.setInSync();
    }
    compiler.flush();
  }
}

const podRef = (update: SyncUpdate): PodRef => ({ namespace: update.key.namespace ?? "", name: update.key.name });

export const podUpdate = (ref: PodRef, resource: Pod | undefined): SyncUpdate => ({
  kind: "Pod",
  key: { namespace: ref.namespace, name: ref.name },
  resource,
});
