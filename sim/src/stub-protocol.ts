/**
 * What a stub server says, and how a prober asks: the one place both sides read.
 *
 * A stub listens on each declared container port of a pod no program stands for.
 *   TCP   the client sends the line `calico-probe`; the stub answers one JSON line and closes. A client that speaks HTTP
 *         instead gets a 200 with the same JSON as its body (kubelet probes and `curl` work).
 *   UDP   any datagram is answered with one datagram holding the JSON.
 * ICMP is answered by the pod's kernel, as everywhere.
 */

/** The request line of the TCP form, without its newline. */
export const STUB_REQUEST = "calico-probe";

/** Who answered. `pod` is `namespace/name`. */
export interface StubGreeting {
  readonly pod: string;
  readonly node: string;
  readonly port: number;
}

export const formatGreeting = (greeting: StubGreeting): string =>
  JSON.stringify({ pod: greeting.pod, node: greeting.node, port: greeting.port });

/** The greeting in an answer, or undefined when something else answered (a real program, a foreign server). */
export function parseGreeting(text: string): StubGreeting | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    const { pod, node, port } = value as Partial<StubGreeting>;
    if (typeof pod !== "string" || typeof node !== "string" || typeof port !== "number") return undefined;
    return { pod, node, port };
  } catch {
    return undefined;
  }
}
