/**
 * START HERE for probing: opens sockets inside pods' namespaces, many at a time, and says what the network did.
 *
 * A socket belongs to the namespace it was opened in, so probing needs no process there: each probe costs one socket of
 * this process. The packets take the whole way a packet of the pod would.
 */
import type { IpAddress } from "@calico-ts/net";
import { errorText, hasCode } from "@calico-ts/std";
import { probeIcmp } from "./icmp-probe.ts";
import type { Finding, ProbeRequest, ProbeResult, ResolvedProbe } from "./probe-request.ts";
import { errnoName, verdictOfErrno } from "./socket-error.ts";
import type { ProbeView } from "./targets.ts";
import { resolveProbe } from "./targets.ts";
import { probeTcp } from "./tcp-probe.ts";
import { probeUdp } from "./udp-probe.ts";

/** Sockets in a namespace. Descriptors belong to the caller. All throw (or reject with) KERNEL when the kernel refuses. */
export interface ProbeSockets {
  /** Non-blocking, with the connect under way. */
  tcp(netns: string, address: IpAddress, port: number): number;
  /** Bound to a port of the kernel's choice. */
  udp(netns: string, family: 4 | 6): number;
  /** One echo request; the round trip in milliseconds. Rejects with TIMEOUT. */
  ping(netns: string, address: IpAddress, timeoutMs: number): Promise<number>;
}

export interface ProberOptions {
  readonly view: ProbeView;
  readonly sockets: ProbeSockets;
  /** Probes that wait for an answer at one time. */
  readonly parallelism: number;
}

/**
 * Probes that are being answered cost time, those that nobody answers only patience. So few may be young at one time, which
 * keeps latencies true and listening queues short, and many may be old.
 */
const YOUNG_AT_ONCE = 256;
const YOUNG_FOR_MS = 100;

export interface Prober {
  /** Results in the order of the requests. Never rejects: what cannot be asked is a result with the verdict `error`. */
  probe(requests: readonly ProbeRequest[]): Promise<ProbeResult[]>;
}

export function createProber(options: ProberOptions): Prober {
  const { view, sockets, parallelism } = options;

  const one = async (request: ProbeRequest, snapshot: ProbeView): Promise<ProbeResult> => {
    const startedAt = performance.now();
    try {
      const resolved = resolveProbe(snapshot, request);
      const finding = checkAnswer(resolved, await send(sockets, resolved));
      return result(request, finding);
    } catch (error) {
      const latencyMs = performance.now() - startedAt;
      if (hasCode(error, "KERNEL")) return result(request, { ...verdictOfErrno(errnoName(error)), latencyMs });
      return result(request, { verdict: "error", latencyMs, detail: errorText(error) });
    }
  };

  return {
    probe: async (requests) => {
      const results: ProbeResult[] = [];
      const everything = Promise.withResolvers<void>();
      let left = requests.length;
      const snapshot = indexed(view);
      let next = 0;
      let waiting = 0;
      const put = async (index: number, request: ProbeRequest): Promise<void> => {
        results[index] = await one(request, snapshot);
        waiting--;
        if (--left === 0) everything.resolve();
      };
      const worker = async (): Promise<void> => {
        for (let index = next++; index < requests.length; index = next++) {
          const request = requests[index];
          if (request === undefined) continue;
          waiting++;
          const done = put(index, request);
          await (waiting < parallelism ? Promise.race([done, sleep(YOUNG_FOR_MS)]) : done);
        }
      };
      await Promise.all(Array.from({ length: Math.min(YOUNG_AT_ONCE, parallelism, requests.length) }, worker));
      if (left > 0) await everything.promise;
      return results;
    },
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The same view with exact names found at once: a matrix of 500 pods looks up half a million names. */
function indexed(view: ProbeView): ProbeView {
  const byName = new Map(view.pods().map((pod) => [`${pod.namespace}/${pod.name}`, pod]));
  return {
    pods: () => view.pods(),
    services: () => view.services(),
    findPod: (namespace, name) => {
      const pod = byName.get(`${namespace}/${name}`);
      return pod !== undefined && !pod.terminating ? pod : view.findPod(namespace, name);
    },
  };
}

function send(sockets: ProbeSockets, { request, netns, address, port }: ResolvedProbe): Promise<Finding> {
  switch (request.protocol) {
    case "tcp":
      return probeTcp(sockets.tcp(netns, address, port));
    case "udp":
      return probeUdp(sockets.udp(netns, address.family), address, port);
    case "icmp":
      return probeIcmp((timeoutMs) => sockets.ping(netns, address, timeoutMs));
  }
}

/** An answer from another pod than the one asked proves a wrong route or a stale address, not a permission. */
function checkAnswer({ expectPod }: ResolvedProbe, finding: Finding): Finding {
  if (expectPod === undefined || finding.answeredBy === undefined || finding.answeredBy === expectPod) return finding;
  return { ...finding, verdict: "error", detail: `${finding.answeredBy} answered instead of ${expectPod}` };
}

const result = (request: ProbeRequest, finding: Finding): ProbeResult => ({
  from: request.from,
  to: request.to,
  port: request.port,
  protocol: request.protocol,
  ...(request.family === undefined ? {} : { family: request.family }),
  verdict: finding.verdict,
  latencyMs: Math.round(finding.latencyMs * 1000) / 1000,
  detail: finding.detail,
});
