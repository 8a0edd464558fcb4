/** The daemon's end of the channel to the `up` that waits for it. */
import { CalicoError, errorText } from "@calico-ts/std";
import type { DaemonMessage, UpMessage, UpSummary } from "./control-protocol.ts";

export class UpChannel {
  #detached = false;

  constructor(stop: (why: string) => void) {
    process.on("message", (message: DaemonMessage) => {
      if (message.type === "detach") this.#detached = true;
      else stop("`up` was interrupted");
    });
    process.on("disconnect", () => {
      if (!this.#detached) stop("`up` is gone before the cluster was ready");
    });
  }

  progress(text: string): void {
    this.#send({ type: "progress", text });
  }

  ready(summary: UpSummary): void {
    this.#send({ type: "ready", summary });
  }

  failed(error: unknown, bundle: string | undefined): void {
    const code = error instanceof CalicoError ? error.code : "INTERNAL";
    this.#send({ type: "failed", code, message: errorText(error), bundle });
  }

  /** Lets this process end. */
  close(): void {
    this.#detached = true;
    if (process.connected) process.disconnect();
  }

  #send(message: UpMessage): void {
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  }
}
