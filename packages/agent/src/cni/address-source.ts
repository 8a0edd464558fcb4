/**
 * Where a pod's addresses come from: our own IPAM (any from the pools, or exactly those asked for), a pod's own say with no IPAM at all, or
 * another IPAM plugin (`host-local`, `static`, …), which is run with the configuration it expects.
 */
import type { IpAddress } from "@calico-ts/net";
import { tryParseAddress } from "@calico-ts/net";
import { type PodWishes, podWishes } from "./annotations.ts";
import { CniFailure, INVALID_CONFIG, INVALID_ENVIRONMENT, NO_ADDRESS } from "./cni-failure.ts";
import { isLauncher } from "./machines.ts";
import type { AddressManager, AwaitedMachine, Plugins, PodRecord, PodRecords } from "./ports.ts";
import type { ReleaseQueue } from "./release-queue.ts";
import { asObject, type CniRequest, type Json, OWN_IPAM, type PodName } from "./request.ts";

export interface AddressSourceDeps {
  readonly addresses: AddressManager;
  readonly pods: PodRecords;
  readonly plugins: Plugins;
  readonly releases: ReleaseQueue;
}

export interface Lease {
  readonly addresses: readonly IpAddress[];
  /** Gives back what this assignment took; nothing when the container had it already. */
  readonly undo: () => void;
  /** The virtual machine that is about to move here: no route may lead to the pod yet. */
  readonly awaited?: AwaitedMachine | undefined;
  /** `routes` and `dns` of another plugin's result. */
  readonly told?: Json | undefined;
}

const nothing = (): void => undefined;

export class AddressSource {
  readonly #deps: AddressSourceDeps;

  constructor(deps: AddressSourceDeps) {
    this.#deps = deps;
  }

  async assign(
    request: CniRequest,
    wishes: PodWishes,
    context: {
      readonly record: PodRecord | undefined;
      readonly held: readonly IpAddress[];
      readonly signal: AbortSignal;
    },
  ): Promise<Lease> {
    if (wishes.unmanaged.length > 0) return { addresses: wishes.unmanaged, undo: nothing };
    if (request.config.ipamType !== OWN_IPAM) return this.#delegate(request, context.signal);
    const { addresses: manager, releases } = this.#deps;
    const handle = handleOf(request);
    // A failure does not take away what a container had before: only DEL does.
    if (context.held.length > 0) return { addresses: context.held, undo: nothing };
    const ofMachine = await this.#assignToMachine(request, wishes, context);
    if (ofMachine !== undefined) return ofMachine;
    const undo = (): void => releases.push(handle);
    const exact = exactAddresses(request, wishes);
    if (exact.length > 0) {
      await manager.assignExactly({ handle, pod: request.pod, addresses: exact });
      return { addresses: exact, undo };
    }
    const { want4, want6, pools4, pools6 } = wishes;
    const assigned = await manager.assign({
      handle,
      pod: request.pod,
      namespaceLabels: context.record?.namespaceLabels ?? {},
      want4,
      want6,
      pools4,
      pools6,
      signal: context.signal,
    });
    return { addresses: assigned, undo };
  }

  async #assignToMachine(
    request: CniRequest,
    wishes: PodWishes,
    { record, signal }: { readonly record: PodRecord | undefined; readonly signal: AbortSignal },
  ): Promise<Lease | undefined> {
    const { config, containerId, pod } = request;
    const machine = record?.machine;
    if (pod === undefined || record === undefined || machine === undefined) return undefined;
    const { want4, want6, pools4, pools6 } = wishes;
    const lease = await this.#deps.addresses.machines.assign({
      network: config.networkName,
      pod,
      containerId,
      machine,
      exact: exactAddresses(request, wishes),
      namespaceLabels: record.namespaceLabels,
      want4,
      want6,
      pools4,
      pools6,
      signal,
    });
    if (lease === undefined) return undefined;
    const undo = (): void => {
      if (lease.noted) this.endOfMachine(pod, containerId);
    };
    return { addresses: lease.addresses, undo, awaited: lease.awaited };
  }

  endOfMachine(pod: PodName, containerId: string): void {
    this.#deps.releases.push(machineKey(pod, containerId), this.#deps.addresses.machines.end(pod, containerId));
  }

  /** What our own IPAM has given this container already: a second ADD, after one whose answer was lost, finds the address of the first. */
  async held(request: CniRequest): Promise<readonly IpAddress[]> {
    if (request.config.ipamType !== OWN_IPAM) return [];
    const handle = handleOf(request);
    await this.#deps.releases.drain(handle);
    if (request.pod !== undefined) await this.#deps.releases.drain(machineKey(request.pod, request.containerId));
    return this.#deps.addresses.addressesOf(handle);
  }

  /** Never waits for the datastore. */
  async release(request: CniRequest, signal: AbortSignal): Promise<void> {
    if (request.config.ipamType === OWN_IPAM) {
      this.#deps.releases.push(handleOf(request));
      if (request.pod !== undefined && isLauncher(request.pod)) this.endOfMachine(request.pod, request.containerId);
      return;
    }
    await this.#runAtAll(request, signal);
  }

  /** STATUS and GC of another plugin (specification 1.1.0, section 4); those of earlier versions know neither. */
  async passOn(request: CniRequest, signal: AbortSignal): Promise<void> {
    const { cniVersion, ipamType } = request.config;
    if (request.program === "calico" && ipamType !== OWN_IPAM && cniVersion === "1.1.0")
      await this.#runAtAll(request, signal);
  }

  /** What does not depend on which CIDRs the node has is done without asking for them. */
  async #runAtAll(request: CniRequest, signal: AbortSignal): Promise<void> {
    const { ipamType: type, raw } = request.config;
    await this.#deps.plugins.run({ type, request, config: withPodCidrs(raw, ["0.0.0.0/0", "::/0"]), signal });
  }

  /** What is on record for this container, whatever ADD answered; undefined where another plugin has the record, whose own CHECK has then succeeded. */
  async expected(request: CniRequest, signal: AbortSignal): Promise<readonly IpAddress[] | undefined> {
    const { args, config, pod } = request;
    if (config.ipamType !== OWN_IPAM) {
      const { ipamType: type } = config;
      await this.#deps.plugins.run({ type, request, config: await this.#pluginConfig(request), signal });
      return undefined;
    }
    const { addresses, pods } = this.#deps;
    const held = await addresses.addressesOf(handleOf(request));
    if (held.length > 0 || pod === undefined) return held;
    const machines = isLauncher(pod) ? await addresses.machines.of(pod) : [];
    if (machines.length > 0 || !config.allowAddressesWithoutIpam) return machines;
    return podWishes(await pods.get(pod, args["K8S_POD_UID"]), config).unmanaged;
  }

  async #delegate(request: CniRequest, signal: AbortSignal): Promise<Lease> {
    const { plugins } = this.#deps;
    const type = request.config.ipamType;
    const config = await this.#pluginConfig(request);
    const result = await plugins.run({ type, request, config, signal });
    const undo = (): void => {
      const del: CniRequest = { ...request, command: "DEL" };
      void plugins.run({ type, request: del, config, signal: AbortSignal.timeout(10_000) }).catch(nothing);
    };
    const { routes, dns } = asObject(result) ?? {};
    const told = { ...(Array.isArray(routes) && { routes }), ...(asObject(dns) && { dns }) };
    const addresses = addressesOfResult(asObject(result));
    if (addresses.length > 0) return { addresses, undo, told };
    undo();
    throw new CniFailure(NO_ADDRESS, `the IPAM plugin ${type} gave no address`);
  }

  async #pluginConfig(request: CniRequest): Promise<Json> {
    const { raw } = request.config;
    if (!mentionsPodCidr(raw)) return raw;
    const cidrs = await this.#deps.pods.nodePodCidrs();
    if (cidrs.length === 0) {
      throw new CniFailure(
        INVALID_CONFIG,
        "ipam: usePodCidr is configured, but this node has no pod CIDR (spec.podCIDRs)",
      );
    }
    return withPodCidrs(raw, cidrs);
  }
}

/** What the queue knows the end of a machine's pod by; no handle looks so. */
const machineKey = (pod: PodName, containerId: string): string => `${pod.namespace}/${pod.name} ${containerId}`;

/** `<network>.<container id>`, as upstream writes it. */
export const handleOf = (request: CniRequest): string => `${request.config.networkName}.${request.containerId}`;

/** CNI_ARGS may name one (`IP=…`); the pod's annotation wins. */
function exactAddresses(request: CniRequest, wishes: PodWishes): readonly IpAddress[] {
  const asked = request.args["IP"];
  if (wishes.addresses.length > 0 || asked === undefined || asked === "") return wishes.addresses;
  const address = tryParseAddress(asked);
  if (address === undefined) throw new CniFailure(INVALID_ENVIRONMENT, `CNI_ARGS: IP=${asked} is not an address`);
  return [address];
}

/** Of a result in any version: `ips` since 0.3.0, `ip4` and `ip6` before. */
export function addressesOfResult(result: object | undefined): IpAddress[] {
  if (result === undefined) return [];
  const { ips, ip4, ip6 } = result as Json;
  const texts: unknown[] = Array.isArray(ips)
    ? (ips as unknown[]).map((ip) => asObject(ip)?.["address"])
    : [asObject(ip4)?.["ip"], asObject(ip6)?.["ip"]];
  return texts.flatMap((text) =>
    typeof text === "string" ? (tryParseAddress(text.split("/", 1)[0] ?? "") ?? []) : [],
  );
}

const MARKS: readonly string[] = ["usePodCidr", "usePodCidrIPv6"];

const mentionsPodCidr = (raw: Json): boolean => JSON.stringify(raw["ipam"] ?? {}).includes('"usePodCidr');

/** Replaces `usePodCidr` and `usePodCidrIPv6` wherever `host-local` takes a subnet. */
function withPodCidrs(raw: Json, cidrs: readonly string[]): Json {
  const ipam = asObject(raw["ipam"]);
  if (ipam === undefined) return raw;
  const replace = (value: unknown): unknown => {
    if (typeof value === "string" && MARKS.includes(value)) {
      const wants6 = value === "usePodCidrIPv6";
      return cidrs.find((cidr) => cidr.includes(":") === wants6) ?? value;
    }
    if (Array.isArray(value)) return (value as unknown[]).map(replace);
    const object = asObject(value);
    if (object === undefined) return value;
    return Object.fromEntries(Object.entries(object).map(([key, inner]) => [key, replace(inner)]));
  };
  return { ...raw, ipam: replace(ipam) };
}
