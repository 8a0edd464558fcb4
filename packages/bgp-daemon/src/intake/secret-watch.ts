/**
 * Secrets that peers' passwords are in: each is read and followed by its name, so that the daemon needs no right to see any other. One that is not there, or may not
 * be read, counts as looked at: the peers that need it are left out and said.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Secret } from "@calico-ts/model";
import { type Clock, type Logger, TaskGroup, withRetry } from "@calico-ts/runtime";
import { openSyncer } from "@calico-ts/sync";
import type { SecretKey } from "../config/model-input.ts";

export interface SecretWatchOptions {
  readonly client: DatastoreClient;
  readonly namespace: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** A value, or what there is to know of a Secret, has changed. */
  readonly onChange: () => void;
}

interface Followed {
  readonly tasks: TaskGroup;
  data: Secret["data"];
  lookedAt: boolean;
}

export class SecretWatch implements AsyncDisposable {
  readonly #options: SecretWatchOptions;
  readonly #followed = new Map<string, Followed>();

  constructor(options: SecretWatchOptions) {
    this.#options = options;
  }

  /** Follows these Secrets and no others from now on. */
  want(keys: readonly SecretKey[]): void {
    const names = new Set(keys.map(({ name }) => name));
    for (const [name, { tasks }] of this.#followed) {
      if (names.has(name)) continue;
      tasks.abort();
      this.#followed.delete(name);
    }
    for (const name of names) if (!this.#followed.has(name)) this.#follow(name);
  }

  /** Every Secret that is wanted has been asked for once. */
  get settled(): boolean {
    return [...this.#followed.values()].every(({ lookedAt }) => lookedAt);
  }

  value({ name, key }: SecretKey): string | undefined {
    const encoded = this.#followed.get(name)?.data?.[key];
    return encoded === undefined ? undefined : Buffer.from(encoded, "base64").toString("utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#followed.values()].map(({ tasks }) => tasks[Symbol.asyncDispose]()));
  }

  #follow(name: string): void {
    const { client, clock, log, namespace, onChange } = this.#options;
    const tasks = new TaskGroup({ onError: (error) => log.error("bgp.secret.failed", { secret: name, error }) });
    const followed: Followed = { tasks, data: undefined, lookedAt: false };
    this.#followed.set(name, followed);
    tasks.start(async (signal) => {
      try {
        const get = (): Promise<Secret> => client.get("Secret", { namespace, name });
        followed.data = (await withRetry(get, { clock, signal })).data;
      } catch (error) {
        log.warning("bgp.secret.unreadable", { secret: `${namespace}/${name}`, error });
      }
      if (signal.aborted) return;
      followed.lookedAt = true;
      onChange();
      const kinds = [{ kind: "Secret", namespace, fieldSelector: `metadata.name=${name}` }] as const;
      await using syncer = openSyncer({ client, kinds, signal, clock, log: log.child("sync") });
      for await (const { updates } of syncer) {
        for (const update of updates) if (update.kind === "Secret") followed.data = update.resource?.data;
        onChange();
      }
    });
  }
}
