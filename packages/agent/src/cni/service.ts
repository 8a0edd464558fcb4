/**
 * START HERE for CNI. What the executables ask of the agent: ADD, DEL, CHECK, STATUS, GC.
 *
 * ADD answers when address, interface, routes *and policy* are in the kernel; whatever fails takes everything before it back. DEL never
 * waits for the API server: the interface goes at once, and an address that cannot be returned now is returned by a queue.
 * Requests for one pod run one after the other; different pods run side by side and share datastore writes inside the allocator.
 */
import type { IpAddress } from "@calico-ts/net";
import { formatAddress } from "@calico-ts/net";
import type { Clock, Logger } from "@calico-ts/runtime";
import { CalicoError, errorText, hasCode } from "@calico-ts/std";
import { AddressSource, addressesOfResult } from "./address-source.ts";
import { checkFloating, podWishes } from "./annotations.ts";
import {
  CHECK_FAILED,
  CniFailure,
  INVALID_CONFIG,
  INVALID_ENVIRONMENT,
  NO_ADDRESS,
  NOT_AVAILABLE,
  TRY_AGAIN_LATER,
} from "./cni-failure.ts";
import { KeyedQueue } from "./keyed-queue.ts";
import { type PodLinkSpec, podInterfaceName } from "./pod-link.ts";
import { Migrations } from "./migrations.ts";
import type { AddressManager, EndpointGate, PodEnd, PodLinks, PodRecord, PodRecords, Plugins } from "./ports.ts";
import { passReadinessGates } from "./readiness-gates.ts";
import { ReleaseQueue } from "./release-queue.ts";
import { type CniRequest, NETKIT, OWN_IPAM, type PodName } from "./request.ts";
import { addResult, ipamResult } from "./result.ts";
import { StageTimes } from "./stage-times.ts";

export interface CniServiceDeps {
  readonly links: PodLinks;
  readonly plugins: Plugins;
  readonly addresses: AddressManager;
  readonly pods: PodRecords;
  readonly endpoints: EndpointGate;
  readonly clock: Clock;
  readonly log: Logger;
  /** The MTU worked out for pods of this node. */
  readonly mtu: () => number;
}

/** Policy must be in the kernel this long after the interface is there, or ADD fails and is undone. */
const POLICY_TIMEOUT_MS = 20_000;
/**
 * An ADD that took longer is undone. Garbage collection returns an address that no pod record names after its grace period, which must be
 * longer than this: an address that is answered is recorded by then.
 */
export const ADD_LIMIT_MS = 4 * 60_000;
/** So long an ADD waits for an agent that is starting. */
const READY_TIMEOUT_MS = 20_000;

export class CniService {
  readonly #deps: CniServiceDeps;
  readonly #queue = new KeyedQueue();
  readonly #releases: ReleaseQueue;
  readonly #source: AddressSource;
  readonly #migrations: Migrations;

  constructor(deps: CniServiceDeps) {
    this.#deps = deps;
    this.#releases = new ReleaseQueue({
      release: (handle) => deps.addresses.release(handle),
      clock: deps.clock,
      log: deps.log,
    });
    const { addresses, endpoints, log, plugins, pods } = deps;
    this.#source = new AddressSource({ addresses, plugins, pods, releases: this.#releases });
    this.#migrations = new Migrations({ machines: addresses.machines, endpoints, log });
  }

  /** The CNI result, or undefined for commands without one. @throws CniFailure */
  async handle(request: CniRequest, signal: AbortSignal): Promise<object | undefined> {
    const key = request.pod === undefined ? request.containerId : `${request.pod.namespace}/${request.pod.name}`;
    switch (request.command) {
      case "ADD":
        return this.#queue.run(key, () =>
          request.program === "calico" ? this.#add(request, signal) : this.#addIpam(request, signal),
        );
      case "DEL":
        return this.#answerEarly((answer) => this.#queue.run(key, () => this.#del(request, signal, answer)));
      case "CHECK":
        return this.#queue.run(key, () => this.#check(request, signal));
      case "STATUS":
        this.#requireReady(NOT_AVAILABLE);
        return undefined;
      case "GC":
        return this.#collect(request);
    }
  }

  /** Addresses of past DELs are returned until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#releases.run(signal), this.#migrations.run(signal)]);
  }

  async #add(request: CniRequest, signal: AbortSignal): Promise<object> {
    await this.#untilReady(signal);
    await passReadinessGates(request.config.readinessGates, this.#deps.clock, signal);
    const pod = requirePod(request);
    if (request.config.raw["device_type"] === NETKIT) {
      const why = "pods get a veth pair, whatever the kernel has: policy is the same";
      this.#deps.log.warning("cni.device_type", { pod: `${pod.namespace}/${pod.name}`, asked: NETKIT, why });
    }
    const times = new StageTimes(this.#deps.clock);
    const [record, held] = await times.of("pod", Promise.all([this.#podRecord(request, pod), this.#held(request)]));
    const wishes = podWishes(record, request.config);
    const hostInterface = podInterfaceName(pod.namespace, pod.name);
    using _reserved = this.#deps.endpoints.reserve(hostInterface);
    const undo: (() => void)[] = [];
    const startedAt = this.#deps.clock.monotonic();
    try {
      const {
        addresses,
        awaited,
        undo: giveBack,
      } = await this.#source.assign(request, wishes, {
        record,
        held,
        signal,
      });
      undo.push(giveBack);
      times.lap("address");
      checkFloating(wishes, addresses);
      if (awaited !== undefined) undo.push(this.#migrations.await(awaited));
      const wanted = linkSpec(request, hostInterface, addresses);
      const end = this.#connect(request, { ...wanted, mac: wishes.mac, routed: awaited === undefined }, undo);
      const { containerId } = request;
      this.#deps.endpoints.announce({ pod, uid: record.uid, containerId, hostInterface, addresses });
      if (!end.wasThere) undo.push(() => this.#deps.endpoints.withdraw(pod, containerId));
      times.lap("link");
      const soonEnough = AbortSignal.any([signal, AbortSignal.timeout(POLICY_TIMEOUT_MS)]);
      await Promise.all([
        times.of("policy", this.#deps.endpoints.programmed(pod, soonEnough)),
        times.of("record", this.#deps.pods.record(pod, record, { containerId, addresses })),
      ]);
      const tookMs = Math.round(this.#deps.clock.monotonic() - startedAt);
      if (tookMs > ADD_LIMIT_MS) {
        throw new CniFailure(TRY_AGAIN_LATER, `it took ${tookMs} ms: too long to be sure of the pod's address`);
      }
      this.#deps.log.info("cni.added", {
        pod: `${pod.namespace}/${pod.name}`,
        interface: hostInterface,
        addresses: addresses.map(formatAddress).join(","),
        ms: times.text(),
      });
      const outcome = { hostInterface, podInterface: end.name, podMac: end.mac, netns: request.netns, addresses };
      return addResult(outcome, request.config.cniVersion, request.config.prevResult);
    } catch (error) {
      for (const step of undo.toReversed()) step();
      throw asFailure(error, `ADD of pod ${pod.namespace}/${pod.name}`);
    }
  }

  /**
   * The pod's interface, made if need be. A container whose interface is there and right keeps it: a repeated ADD, also one that asks for a second
   * interface by another name, is answered with what there is, as upstream does.
   */
  #connect(request: CniRequest, spec: PodLinkSpec, undo: (() => void)[]): PodEnd & { readonly wasThere: boolean } {
    const { links, mtu } = this.#deps;
    const { hostInterface, containerId } = spec;
    const there = links.podEnd(hostInterface, containerId, request.netns);
    if (there !== undefined) {
      if (links.check({ ...spec, podInterface: there.name }).length === 0) return { ...there, wasThere: true };
      links.delete(hostInterface, containerId, request.netns); // half made by an agent that died
    }
    const mac = links.create({ ...spec, mtu: request.config.mtu === 0 ? mtu() : request.config.mtu });
    undo.push(() => links.delete(hostInterface, containerId));
    return { name: spec.podInterface, mac, wasThere: false };
  }

  async #addIpam(request: CniRequest, signal: AbortSignal): Promise<object> {
    await this.#untilReady(signal);
    try {
      const { pod } = request;
      const [record, held] = await Promise.all([
        pod === undefined ? undefined : this.#podRecord(request, pod),
        this.#held(request),
      ]);
      const wishes = podWishes(record, request.config);
      const { addresses } = await this.#source.assign(request, wishes, { record, held, signal });
      return ipamResult(addresses, request.config.cniVersion);
    } catch (error) {
      throw asFailure(error, "address assignment");
    }
  }

  /** The answer goes out when `answer` is called; the next request for the same pod waits for the rest. */
  #answerEarly(work: (answer: () => void) => Promise<unknown>): Promise<undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    work(() => resolve(undefined)).catch(reject);
    return promise;
  }

  /** Nothing that could still fail, and nothing a runtime has to wait for, comes after the answer. */
  async #del(request: CniRequest, signal: AbortSignal, answer: () => void): Promise<void> {
    const { pod } = request;
    if (pod === undefined || request.program !== "calico") {
      await this.#source.release(request, signal);
      answer();
      return;
    }
    const hostInterface = podInterfaceName(pod.namespace, pod.name);
    this.#migrations.forget(pod);
    const deleted = await this.#deps.links.remove(hostInterface, request.containerId, request.netns);
    await this.#source.release(request, signal);
    answer();
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#deps.endpoints.withdraw(pod, request.containerId);
    this.#deps.log.info("cni.deleted", {
      pod: `${pod.namespace}/${pod.name}`,
      interface: hostInterface,
      wasThere: deleted,
    });
    void this.#forget(pod, request.containerId);
  }

  async #check(request: CniRequest, signal: AbortSignal): Promise<undefined> {
    if (request.program === OWN_IPAM) return this.#checkIpam(request, signal);
    const pod = requirePod(request);
    const addresses = await this.#expected(request, signal);
    const problems = addresses.length === 0 ? ["no address is assigned to this container"] : [];
    const told = addressesOfResult(request.config.prevResult).map(formatAddress);
    for (const address of addresses.map(formatAddress)) {
      if (told.length > 0 && !told.includes(address))
        problems.push(`ADD answered ${told.join(", ")}, but it has ${address}`);
    }
    const wanted = linkSpec(request, podInterfaceName(pod.namespace, pod.name), addresses);
    const spec = { ...wanted, routed: !this.#migrations.isAwaited(pod) };
    problems.push(...this.#deps.links.check(spec));
    const soon = AbortSignal.any([signal, AbortSignal.timeout(1000)]);
    await this.#deps.endpoints
      .programmed(pod, soon)
      .catch(() => problems.push("the pod's policy is not in the kernel"));
    if (problems.length > 0)
      throw new CniFailure(CHECK_FAILED, `pod ${pod.namespace}/${pod.name}: ${problems.join("; ")}`);
    return undefined;
  }

  async #checkIpam(request: CniRequest, signal: AbortSignal): Promise<undefined> {
    if ((await this.#expected(request, signal)).length > 0) return undefined;
    throw new CniFailure(CHECK_FAILED, `no address is assigned to container ${request.containerId}`);
  }

  async #expected(request: CniRequest, signal: AbortSignal): Promise<readonly IpAddress[]> {
    try {
      return await this.#source.expected(request, signal);
    } catch (error) {
      throw asFailure(error, "CHECK");
    }
  }

  /** Returns what belongs to attachments the runtime no longer knows (specification 1.1.0, "GC"). */
  async #collect(request: CniRequest): Promise<undefined> {
    const valid = new Set([...request.config.validAttachments].map((text) => text.slice(0, text.indexOf("/"))));
    const prefix = `${request.config.networkName}.`;
    try {
      const stale = this.#deps.links.list().filter(({ containerId }) => !valid.has(containerId));
      await Promise.all(stale.map((one) => this.#deps.links.remove(one.hostInterface, one.containerId)));
      for (const handle of await this.#deps.addresses.handles(prefix)) {
        if (!valid.has(handle.slice(prefix.length))) this.#releases.push(handle);
      }
      for (const { containerId, pod } of await this.#deps.addresses.machines.containers()) {
        if (!valid.has(containerId)) this.#source.endOfMachine(pod, containerId);
      }
    } catch (error) {
      throw asFailure(error, "GC");
    }
    return undefined;
  }

  async #held(request: CniRequest): Promise<readonly IpAddress[]> {
    try {
      return await this.#source.held(request);
    } catch (error) {
      throw asFailure(error, `looking for addresses of container ${request.containerId}`);
    }
  }

  async #podRecord(request: CniRequest, pod: PodName): Promise<PodRecord> {
    try {
      return await this.#deps.pods.get(pod, request.args["K8S_POD_UID"]);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) {
        throw new CniFailure(INVALID_ENVIRONMENT, `pod ${pod.namespace}/${pod.name} does not exist in the cluster`);
      }
      throw asFailure(error, `reading pod ${pod.namespace}/${pod.name}`);
    }
  }

  async #forget(pod: PodName, containerId: string): Promise<void> {
    try {
      await this.#deps.pods.forget(pod, containerId);
    } catch (error) {
      this.#deps.log.warning("cni.forget_failed", { pod: `${pod.namespace}/${pod.name}`, error });
    }
  }

  /** A node that has just booted gets its pods before its agent has read the datastore: waiting beats the runtime's back-off. */
  async #untilReady(signal: AbortSignal): Promise<void> {
    try {
      await this.#deps.endpoints.ready(AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]));
    } catch (error) {
      throw new CniFailure(TRY_AGAIN_LATER, errorText(error));
    }
  }

  #requireReady(code: number): void {
    const why = this.#deps.endpoints.notReady();
    if (why !== undefined) throw new CniFailure(code, `the calico agent is not ready: ${why}`);
  }
}

const linkSpec = (request: CniRequest, hostInterface: string, addresses: readonly IpAddress[]): PodLinkSpec => ({
  hostInterface,
  podInterface: request.ifName,
  containerId: request.containerId,
  netns: request.netns,
  mtu: request.config.mtu,
  addresses,
  allowIpForwarding: request.config.allowIpForwarding,
});

function requirePod(request: CniRequest): PodName {
  if (request.pod !== undefined) return request.pod;
  throw new CniFailure(
    INVALID_CONFIG,
    "CNI_ARGS names no pod (K8S_POD_NAMESPACE and K8S_POD_NAME): only Kubernetes pods are supported",
  );
}

const ADDRESS_CODES = ["POOL_EXHAUSTED", "NO_QUALIFIED_POOL", "ADDRESS_TAKEN", "ADDRESS_OUTSIDE_POOLS"] as const;

function asFailure(error: unknown, what: string): CniFailure {
  if (error instanceof CniFailure) return error;
  if (error instanceof CalicoError) {
    if (ADDRESS_CODES.some((code) => code === error.code))
      return new CniFailure(NO_ADDRESS, `${what}: ${error.message}`);
    if (error.code === "BAD_INPUT") return new CniFailure(INVALID_CONFIG, `${what}: ${error.message}`);
  }
  return new CniFailure(TRY_AGAIN_LATER, `${what} failed: ${errorText(error)}`);
}
