/** One ICMP probe: an echo request, and a second one when the first is not answered. */
import { hasCode } from "@calico-ts/std";
import type { Finding } from "./probe-request.ts";

const ATTEMPTS_MS = [400, 600] as const;

/** `ping` sends one echo request and resolves to the round trip, or rejects with TIMEOUT. Other errors pass through. */
export async function probeIcmp(ping: (timeoutMs: number) => Promise<number>): Promise<Finding> {
  const startedAt = performance.now();
  for (const timeoutMs of ATTEMPTS_MS) {
    try {
      return { verdict: "allowed", latencyMs: await ping(timeoutMs), detail: "echo reply" };
    } catch (error) {
      if (!hasCode(error, "TIMEOUT")) throw error;
    }
  }
  const latencyMs = performance.now() - startedAt;
  return {
    verdict: "denied",
    latencyMs,
    detail: `no echo reply within ${Math.round(latencyMs)} ms: dropped on the way`,
  };
}
