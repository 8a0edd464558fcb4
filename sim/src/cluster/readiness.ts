/** Waiting for the cluster with progress, and saying what is missing when it takes too long. */
import { CalicoError } from "@calico-ts/std";
import type { Cluster, Progress } from "./cluster-port.ts";
import { pause } from "./kube/informer.ts";

const POLL_MS = 100;
/** Ready must hold for two looks, since a controller may be about to create what is missing. */
const LOOKS = 2;

export interface ReadinessSource {
  /** Brings `look` up to what the server holds now. */
  readonly refresh: () => Promise<void>;
  readonly look: () => Progress;
}

export async function waitUntilReady(
  { refresh, look }: ReadinessSource,
  { timeoutMs, signal, onProgress }: Parameters<Cluster["whenReady"]>[0],
): Promise<Progress> {
  const deadline = Date.now() + timeoutMs;
  const cancelled = signal ?? new AbortController().signal;
  let shown = "";
  let good = 0;
  let fresh = false;
  for (;;) {
    if (cancelled.aborted) throw new CalicoError("CANCELLED", "no longer waiting for the cluster");
    // A server that does not answer is waited for like everything else.
    fresh ||= await refresh().then(
      () => true,
      () => false,
    );
    const progress = look();
    const text = `${progress.nodesReady}/${progress.nodes} ${progress.podsReady}/${progress.pods}`;
    if (text !== shown) onProgress?.(progress);
    shown = text;
    good = fresh && progress.waitingFor.length === 0 && progress.nodesReady === progress.nodes ? good + 1 : 0;
    if (good >= LOOKS) return progress;
    if (Date.now() > deadline) {
      throw new CalicoError(
        "TIMEOUT",
        `not ready after ${Math.round(timeoutMs / 1000)} s: ${progress.waitingFor.slice(0, 5).join("; ")}`,
        {
          detail: {
            podsReady: progress.podsReady,
            pods: progress.pods,
            nodesReady: progress.nodesReady,
            nodes: progress.nodes,
          },
        },
      );
    }
    await pause(POLL_MS, cancelled);
  }
}
