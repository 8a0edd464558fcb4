/** What one probe asks and what it found. The result's fields are those of `probe --json`: a contract with scripts. */
import type { IpAddress } from "@calico-ts/net";

export type ProbeProtocol = "tcp" | "udp" | "icmp";
export const PROBE_PROTOCOLS: readonly ProbeProtocol[] = ["tcp", "udp", "icmp"];

/** `denied`: nothing came back, or the network said "prohibited". `error`: the question could not be answered. */
export type Verdict = "allowed" | "denied" | "error";

export interface ProbeRequest {
  /** `namespace/pod`; a Deployment's name stands for any one of its pods. */
  readonly from: string;
  /** `namespace/pod`, `svc:namespace/name` or an address. */
  readonly to: string;
  /** 0 for ICMP. */
  readonly port: number;
  readonly protocol: ProbeProtocol;
  /** Which of the target's addresses; absent: its first. The matrix names it where pods have both. */
  readonly family?: 4 | 6;
}

export interface ProbeResult extends ProbeRequest {
  readonly verdict: Verdict;
  readonly latencyMs: number;
  readonly detail: string;
}

/** A probe with everything looked up: sockets are opened in `netns`, packets go to `address`. */
export interface ResolvedProbe {
  readonly request: ProbeRequest;
  readonly netns: string;
  readonly address: IpAddress;
  readonly port: number;
  /** The pod that has to answer, when the target is one; a Service may be answered by any. */
  readonly expectPod?: string;
}

/** What a probe of one protocol found out. */
export interface Finding {
  readonly verdict: Verdict;
  readonly latencyMs: number;
  readonly detail: string;
  /** Who answered, when it was a stub. */
  readonly answeredBy?: string;
}
