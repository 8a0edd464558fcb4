/**
 * The last node: keeps at most one pending message per object, drops those that say what was said before, and lets the
 * rest out in `FLUSH_PHASES` order. What was sent is remembered, so a change that was taken back before the flush leaves no
 * trace, and nothing is removed that was never announced.
 */
import type { DataplaneMessage, IpSetType, MessageKind } from "@calico-ts/dataplane-api";
import { FLUSH_PHASES } from "@calico-ts/dataplane-api";

export class Sequencer {
  readonly #emit: (message: DataplaneMessage) => void;
  /** By object: the last update sent. */
  readonly #sent = new Map<string, DataplaneMessage>();
  readonly #pending = new Map<string, DataplaneMessage>();
  readonly #queues = new Map<MessageKind, DataplaneMessage[]>();

  constructor(emit: (message: DataplaneMessage) => void) {
    this.#emit = emit;
  }

  /** The object's latest state: its update or its remove message. `object` is the same text for both. */
  update(object: string, message: DataplaneMessage): void {
    this.#pending.set(object, message);
  }

  setReplaced(id: string, type: IpSetType, members: readonly string[]): void {
    this.#queue({ kind: "ip-set-update", id, type, members });
  }

  setChanged(id: string, added: readonly string[], removed: readonly string[]): void {
    this.#queue({ kind: "ip-set-delta", id, added, removed });
  }

  setRemoved(id: string): void {
    this.#queue({ kind: "ip-set-remove", id });
  }

  flush(): void {
    for (const [object, message] of this.#pending) this.#settle(object, message);
    this.#pending.clear();
    for (const phase of FLUSH_PHASES) {
      for (const kind of phase.kinds) {
        for (const message of this.#queues.get(kind) ?? []) this.#emit(message);
      }
    }
    this.#queues.clear();
  }

  #settle(object: string, message: DataplaneMessage): void {
    const before = this.#sent.get(object);
    if (message.kind.endsWith("-remove")) {
      if (before === undefined) return;
      this.#sent.delete(object);
    } else {
      if (before !== undefined && JSON.stringify(before) === JSON.stringify(message)) return;
      this.#sent.set(object, message);
    }
    this.#queue(message);
  }

  #queue(message: DataplaneMessage): void {
    const queue = this.#queues.get(message.kind);
    if (queue === undefined) this.#queues.set(message.kind, [message]);
    else queue.push(message);
  }
}
