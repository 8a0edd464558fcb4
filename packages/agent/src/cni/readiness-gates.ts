/** `readiness_gates` of the network configuration: URLs that must answer well before this node starts pods. */
import type { Clock } from "@calico-ts/runtime";
import { CniFailure, TRY_AGAIN_LATER } from "./cni-failure.ts";

const EVERY_MS = 5000;
const LIMIT_MS = 30_000;

/** @throws CniFailure 11 when one of them does not answer with success in time */
export async function passReadinessGates(urls: readonly string[], clock: Clock, signal: AbortSignal): Promise<void> {
  const startedAt = clock.monotonic();
  for (const url of urls) {
    for (let why = await refusal(url, signal); why !== undefined; why = await refusal(url, signal)) {
      if (signal.aborted || clock.monotonic() - startedAt + EVERY_MS > LIMIT_MS) {
        throw new CniFailure(TRY_AGAIN_LATER, `the readiness gate ${url} is not open: ${why}`);
      }
      await clock.sleep(EVERY_MS, signal).catch(() => undefined);
    }
  }
}

async function refusal(url: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(EVERY_MS)]) });
    await answer.body?.cancel();
    return answer.ok ? undefined : `it answers ${answer.status}`;
  } catch (error) {
    return error instanceof Error ? error.message : "it cannot be asked";
  }
}
