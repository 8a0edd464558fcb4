/**
 * The agent's side of CNI: policy before packets.
 *
 * An ADD makes the interface, then calls `announce`: the pod's endpoint goes to the compiler at once, as if the API server had
 * already echoed the pod's annotations (intake/pod-overlay.ts), and its rules, sysctls and routes are written in the next pass of the
 * apply loop. `programmed` resolves when that has happened. DEL calls `withdraw`, and the endpoint is gone
 * whatever the API server still says. The port is the CNI service's (`EndpointGate`); this is its implementation.
 */
import { formatAddress, hostPrefix, formatPrefix } from "@calico-ts/net";
import { CalicoError, errorText } from "@calico-ts/std";
import type { AnnouncedEndpoint, EndpointGate } from "./cni/ports.ts";
import type { Dataplane } from "./dataplane/dataplane.ts";
import type { PodOverlay, PodRef } from "./intake/pod-overlay.ts";

export interface CniDoorOptions {
  readonly overlay: PodOverlay;
  /** Sends what the compiler has to say now. */
  readonly flush: () => void;
  /** undefined until the first complete snapshot. */
  readonly dataplane: () => Dataplane | undefined;
}

export class CniDoor implements EndpointGate {
  readonly #options: CniDoorOptions;
  /** What each announced endpoint must look like, until it is withdrawn. */
  readonly #expected = new Map<string, AnnouncedEndpoint>();
  readonly #untilReady = new Set<() => void>();

  constructor(options: CniDoorOptions) {
    this.#options = options;
  }

  /** Why this node cannot take pods now, or undefined when it can. */
  notReady(): string | undefined {
    const dataplane = this.#options.dataplane();
    if (dataplane === undefined || dataplane.passes === 0) return "it has not seen all of the datastore yet";
    const failure = dataplane.failures().get("rules");
    return failure === undefined ? undefined : `the kernel refuses its rules: ${errorText(failure)}`;
  }

  /** Resolves when this node can take pods. @throws CalicoError TIMEOUT, CANCELLED */
  ready(signal: AbortSignal): Promise<void> {
    if (this.notReady() === undefined) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      const message = `the calico agent is not ready: ${this.notReady() ?? "it has just become so"}`;
      reject(new CalicoError(isTimeout(signal) ? "TIMEOUT" : "CANCELLED", message, { cause: signal.reason }));
    };
    this.#untilReady.add(resolve);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    return promise.finally(() => {
      this.#untilReady.delete(resolve);
      signal.removeEventListener("abort", onAbort);
    });
  }

  /** The dataplane has finished a pass. */
  passed(): void {
    if (this.#untilReady.size === 0 || this.notReady() !== undefined) return;
    for (const resolve of this.#untilReady) resolve();
  }

  /** Makes the pod's endpoint known at once. If the watch has not shown the pod yet, as soon as it does. */
  announce(endpoint: AnnouncedEndpoint): void {
    this.#expected.set(keyOf(endpoint.pod), endpoint);
    this.#options.overlay.announce(endpoint);
    this.#options.flush();
  }

  /**
   * Resolves when policy and routes of the pod's endpoint are in the kernel: with the announced interface and addresses if it was
   * announced, as the datastore has it otherwise. @throws CalicoError TIMEOUT, CANCELLED
   */
  programmed(pod: PodRef, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let watching: Disposable | undefined;
    const check = (): void => {
      const dataplane = this.#options.dataplane();
      if (dataplane === undefined) return;
      watching ??= dataplane.afterEachPass(check);
      if (this.#isProgrammed(dataplane, pod)) resolve();
    };
    const onAbort = (): void => reject(this.#waitEnded(pod, signal));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    check();
    if (this.#options.dataplane() === undefined) {
      reject(new CalicoError("UNAVAILABLE", "the agent has not seen all of the datastore yet: try again"));
    }
    return promise.finally(() => {
      watching?.[Symbol.dispose]();
      signal.removeEventListener("abort", onAbort);
    });
  }

  /** The endpoint of this container is over. */
  withdraw(pod: PodRef, containerId: string): void {
    if (this.#expected.get(keyOf(pod))?.containerId === containerId) this.#expected.delete(keyOf(pod));
    this.#options.overlay.withdraw(pod, containerId);
    this.#options.flush();
  }

  /** No route leads to the interface until this is disposed. */
  withholdRoutes(hostInterface: string): Disposable {
    return this.#options.dataplane()?.withholdRoutes(hostInterface) ?? { [Symbol.dispose]: () => undefined };
  }

  /** Routes of an interface that an ADD is making are left alone until this is disposed. */
  reserve(hostInterface: string): Disposable {
    return this.#options.dataplane()?.routes.hold(hostInterface) ?? { [Symbol.dispose]: () => undefined };
  }

  #isProgrammed(dataplane: Dataplane, pod: PodRef): boolean {
    const id = endpointId(pod);
    const endpoint = dataplane.endpoints.get(id);
    if (endpoint === undefined || !dataplane.isProgrammed(id)) return false;
    const expected = this.#expected.get(keyOf(pod));
    if (expected === undefined) return true;
    const held = new Set(endpoint.addresses);
    return (
      endpoint.interfaceName === expected.hostInterface &&
      expected.addresses.every(
        (address) => held.has(formatPrefix(hostPrefix(address))) || held.has(formatAddress(address)),
      )
    );
  }

  #waitEnded(pod: PodRef, signal: AbortSignal): CalicoError {
    const dataplane = this.#options.dataplane();
    const failing = [...(dataplane?.failures() ?? [])].map(([phase, error]) => `${phase}: ${errorText(error)}`);
    const known = dataplane?.endpoints.get(endpointId(pod)) !== undefined;
    const why = failing.length > 0 ? failing.join("; ") : known ? "the kernel lags" : "the watch has not shown the pod";
    const what = `policy of pod ${keyOf(pod)} is not in the kernel`;
    const cause: unknown = signal.reason;
    return isTimeout(signal)
      ? new CalicoError("TIMEOUT", `${what} in time (${why})`, { cause })
      : new CalicoError("CANCELLED", `${what}, and nobody waits for it any more`, { cause });
  }
}

/** `AbortSignal.timeout` and what is made of it. */
const isTimeout = (signal: AbortSignal): boolean =>
  signal.reason instanceof Error && signal.reason.name === "TimeoutError";
const keyOf = (pod: PodRef): string => `${pod.namespace}/${pod.name}`;
/** The id the compiler gives to a Kubernetes pod's endpoint. */
const endpointId = (pod: PodRef): string => `k8s/${pod.namespace}/${pod.name}/eth0`;
