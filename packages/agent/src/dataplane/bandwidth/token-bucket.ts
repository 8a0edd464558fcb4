/** What a pod asks for → what the kernel is told. */
import type { BandwidthLimit } from "@calico-ts/dataplane-api";
import type { TokenBucket } from "@calico-ts/netlink";

/** So long a packet may wait in a queue, as upstream has it. */
const LATENCY_SECONDS = 0.025;
const BITS = 8;
/** The kernel counts bursts and queues in 32 bits. */
const MOST_BYTES = 0xffff_ffff;

export function tokenBucket(limit: BandwidthLimit): TokenBucket {
  const rate = Math.ceil(limit.bandwidth / BITS);
  const burst = Math.min(Math.ceil(limit.burst / BITS), MOST_BYTES);
  return {
    rate,
    burst,
    limit: Math.min(Math.ceil(burst + rate * LATENCY_SECONDS), MOST_BYTES),
    ...(limit.peakRate !== undefined && { peakRate: Math.ceil(limit.peakRate / BITS) }),
    ...(limit.minBurst !== undefined && { minBurst: limit.minBurst }),
  };
}
