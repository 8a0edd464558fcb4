/** What a pod asks for → what the kernel is told. */
import type { BandwidthLimit } from "@calico-ts/dataplane-api";
import type { TokenBucket } from "@calico-ts/netlink";

/** So long a packet may wait in a queue, as upstream has it. */
const LATENCY_SECONDS = 0.025;
const BITS = 8;
const ETHERNET_HEADER = 14;
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

/**
 * The peak's own burst is one packet of the device unless more is asked for: with less nothing would pass, with the whole burst there would be no peak.
 * What may wait for the peak is what may wait at all, if that is less (tc does the same: iproute2, q_tbf.c).
 */
export function bucketOfDevice(bucket: TokenBucket, mtu: number): TokenBucket {
  const { peakRate } = bucket;
  if (peakRate === undefined) return bucket;
  const minBurst = Math.max(bucket.minBurst ?? 0, mtu + ETHERNET_HEADER);
  return { ...bucket, minBurst, limit: Math.min(bucket.limit, Math.ceil(minBurst + peakRate * LATENCY_SECONDS)) };
}
