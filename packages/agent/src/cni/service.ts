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
        return this.#status(request, signal);
      case "GC":
        return this.#collect(request, signal);
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
        told,
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
      const wanted = this.#linkSpec(request, hostInterface, addresses);
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
      const ends = { hostInterface, podInterface: end.name, podMac: end.mac, mtu: wanted.mtu, netns: request.netns };
      return addResult({ ...ends, addresses, told }, request.config.cniVersion, request.config.prevResult);
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
    const { links } = this.#deps;
    const { hostInterface, containerId } = spec;
    const there = links.podEnd(hostInterface, containerId, request.netns);
    if (there !== undefined) {
      if (links.check({ ...spec, podInterface: there.name, mac: undefined }).length === 0)
        return { ...there, wasThere: true };
      links.delete(hostInterface, containerId, request.netns); // half made by an agent that died
    }
    const mac = links.create(spec);
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
    const hostInterface = podInterfaceName(pod.namespace, pod.name);
    const told = toldOf(request, hostInterface);
    const addresses = (await this.#expected(request, signal)) ?? told.addresses;
    const problems = [
      ...(addresses.length === 0 ? ["no address is assigned to this container"] : []),
      ...told.problems,
    ];
    const [has, answered] = [addresses, told.addresses].map((list) => list.map(formatAddress).toSorted().join(", "));
    if (answered !== "" && has !== answered)
      problems.push(`ADD answered ${answered}, but it has ${has || "no address"}`);
    const wanted = { ...this.#linkSpec(request, hostInterface, addresses), mac: told.mac };
    problems.push(...this.#deps.links.check({ ...wanted, routed: !this.#migrations.isAwaited(pod) }));
    const soon = AbortSignal.any([signal, AbortSignal.timeout(1000)]);
    await this.#deps.endpoints
      .programmed(pod, soon)
      .catch(() => problems.push("the pod's policy is not in the kernel"));
    if (problems.length > 0)
      throw new CniFailure(CHECK_FAILED, `pod ${pod.namespace}/${pod.name}: ${problems.join("; ")}`);
    return undefined;
  }

  async #checkIpam(request: CniRequest, signal: AbortSignal): Promise<undefined> {
    if ((await this.#expected(request, signal))?.length !== 0) return undefined;
    throw new CniFailure(CHECK_FAILED, `no address is assigned to container ${request.containerId}`);
  }

  async #expected(request: CniRequest, signal: AbortSignal): Promise<readonly IpAddress[] | undefined> {
    try {
      return await this.#source.expected(request, signal);
    } catch (error) {
      throw asFailure(error, "CHECK");
    }
  }

  async #status(request: CniRequest, signal: AbortSignal): Promise<undefined> {
    const why = this.#deps.endpoints.notReady();
    if (why !== undefined) throw new CniFailure(NOT_AVAILABLE, `the calico agent is not ready: ${why}`);
    await this.#source.passOn(request, signal);
  }

  /**
   * Returns what belongs to attachments of this network that the runtime no longer knows (specification 1.1.0, "GC"). Interfaces do not say which network they
   * are of, the addresses of their containers do.
   */
  async #collect(request: CniRequest, signal: AbortSignal): Promise<undefined> {
    const { networkName, validContainers } = request.config;
    const { addresses, links } = this.#deps;
    const prefix = `${networkName}.`;
    try {
      const held = (await addresses.handles(prefix)).map((handle) => handle.slice(prefix.length));
      // With a dot in it, it may as well be a container of a network whose name begins like this one's.
      const stale = held.filter((containerId) => !validContainers.has(containerId) && !containerId.includes("."));
      const machines = (await addresses.machines.containers(networkName)).filter(
        ({ containerId }) => !validContainers.has(containerId),
      );
      const ended = new Set([...stale, ...machines.map(({ containerId }) => containerId)]);
      const interfaces = links.list().filter(({ containerId }) => ended.has(containerId));
      await Promise.all(interfaces.map((one) => links.remove(one.hostInterface, one.containerId)));
      for (const containerId of stale) this.#releases.push(prefix + containerId);
      for (const { containerId, pod } of machines) this.#source.endOfMachine(pod, containerId);
    } catch (error) {
      throw asFailure(error, "GC");
    }
    await this.#source.passOn(request, signal);
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
        throw new CniFailure(
          INVALID_ENVIRONMENT,
          `CNI_ARGS: pod ${pod.namespace}/${pod.name} does not exist in the cluster`,
        );
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

  #linkSpec(request: CniRequest, hostInterface: string, addresses: readonly IpAddress[]): PodLinkSpec {
    const { config, containerId, ifName, netns } = request;
    const { allowIpForwarding, queues, routes } = config;
    const mtu = config.mtu === 0 ? this.#deps.mtu() : config.mtu;
    return {
      hostInterface,
      podInterface: ifName,
      containerId,
      netns,
      mtu,
      queues,
      routes,
      addresses,
      allowIpForwarding,
    };
  }
}

/** What ADD has answered about the pod's interface, or plugins after us in the list since. Other interfaces are others' affair. */
function toldOf(
  { config: { prevResult }, ifName, netns }: CniRequest,
  hostInterface: string,
): {
  readonly addresses: readonly IpAddress[];
  readonly mac: string | undefined;
  readonly problems: readonly string[];
} {
  const interfaces = prevResult?.interfaces ?? [];
  const at = interfaces.findIndex(({ name, sandbox }) => name === ifName && sandbox === netns);
  const own = prevResult?.ips.filter((ip) => at < 0 || ip["interface"] === undefined || ip["interface"] === at);
  const names = interfaces.map(({ name }) => String(name));
  const known = names.length === 0 || names.includes(hostInterface);
  const mac = interfaces[at]?.["mac"];
  return {
    addresses: addressesOfResult(prevResult && { ...prevResult.rest, ...(own?.length && { ips: own }) }),
    mac: typeof mac === "string" ? mac : undefined,
    problems: known ? [] : [`ADD answered the interfaces ${names.join(", ")}, without ${hostInterface}`],
  };
}

function requirePod(request: CniRequest): PodName {
  if (request.pod !== undefined) return request.pod;
  throw new CniFailure(
    INVALID_ENVIRONMENT,
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
