/**
 * Gives Services of type LoadBalancer their addresses, from pools whose `allowedUses` has LoadBalancer, and takes them back. What a service should have is decided in
 * plan.ts; this file finds out for whom something must be done, asks for service and addresses again, live, and does it.
 *
 * The addresses are held under a handle of the service (name, namespace, uid) in blocks of the virtual owner `load-balancer`. Two of these at once do no harm: a handle
 * has one address of each family at most, and everything else is a compare-and-swap.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import {
  type Attributes,
  attributeOf,
  handleOf,
  Ipam,
  type Owner,
  parseOwner,
  type Pool,
  poolOf,
} from "@calico-ts/ipam";
import type { IPAMBlock, Service } from "@calico-ts/model";
import { compareAddresses, formatAddress, type IpAddress } from "@calico-ts/net";
import { type Clock, DirtyLoop, type Logger } from "@calico-ts/runtime";
import { errorText, hasCode } from "@calico-ts/std";
import type { SyncKind, SyncUpdate } from "@calico-ts/sync";
import {
  type AssignMode,
  ingressFor,
  isForLoadBalancers,
  isManaged,
  loadBalancerHandle,
  plan,
  type Plan,
} from "./plan.ts";

export const LOAD_BALANCER_KINDS = [
  "IPAMBlock",
  "IPPool",
  "Namespace",
  "Service",
] as const satisfies readonly SyncKind[];

export interface LoadBalancerOptions {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly mode: AssignMode;
  /** Absent: PASS_GAP_MS. */
  readonly passGapMs?: number;
}

/** Who owns the blocks; upstream's. */
const OWNER: Owner = { type: "virtual", name: "load-balancer" };
const USE = "LoadBalancer";
const PASS_GAP_MS = 200;
/** Everything is compared this often: what nobody told of is found, and what failed is tried again. */
const COMPARE_MS = 5 * 60_000;

interface ServiceName {
  readonly namespace: string;
  readonly name: string;
}

interface Holding extends ServiceName {
  readonly handle: string;
}

export class LoadBalancerController implements AsyncDisposable {
  readonly #options: LoadBalancerOptions;
  readonly #ipam: Ipam;
  readonly #services = new Map<string, Service>();
  readonly #pools = new Map<string, Pool>();
  readonly #namespaces = new Map<string, Readonly<Record<string, string>>>();
  /** By block: whose addresses are in it. */
  readonly #holdings = new Map<string, readonly Holding[]>();
  /** Services to look at in the next pass. */
  readonly #dirty = new Map<string, ServiceName>();
  /** Services that did not get all they asked for. */
  readonly #waiting = new Map<string, ServiceName>();
  #everything = true;
  #upgraded = false;
  #locked = false;
  #loop: DirtyLoop | undefined;

  constructor(options: LoadBalancerOptions) {
    this.#options = options;
    this.#ipam = new Ipam({ client: options.client, clock: options.clock });
  }

  update(update: SyncUpdate): void {
    const { key, kind, resource } = update;
    switch (kind) {
      case "ClusterInformation":
        if (key.name === "default") this.#lock(resource?.spec.datastoreReady === false);
        return;
      case "Service":
        put(this.#services, keyOf({ namespace: key.namespace ?? "", name: key.name }), resource);
        this.#touch({ namespace: key.namespace ?? "", name: key.name });
        return;
      case "Namespace":
        put(this.#namespaces, key.name, resource === undefined ? undefined : (resource.metadata.labels ?? {}));
        // Pools may select it now.
        for (const one of this.#waiting.values()) if (one.namespace === key.name) this.#touch(one);
        return;
      case "IPPool": {
        const pool = resource === undefined ? undefined : poolOf(resource);
        const before = this.#pools.get(key.name);
        put(this.#pools, key.name, pool);
        if ([before, pool].some((one) => one !== undefined && isForLoadBalancers(one))) this.#touchAll();
        return;
      }
      case "IPAMBlock": {
        const held = resource === undefined ? [] : holdingsIn(resource);
        const concerned: ServiceName[] = [...(this.#holdings.get(key.name) ?? []), ...held];
        // What is given back may be what somebody waits for.
        if (concerned.length > 0) concerned.push(...this.#waiting.values());
        for (const one of concerned) this.#touch(one);
        put(this.#holdings, key.name, held.length === 0 ? undefined : held);
        return;
      }
      default:
        return;
    }
  }

  /** Everything has been told: from now on it acts. */
  start(): void {
    if (this.#loop !== undefined) return;
    const { clock, log, passGapMs = PASS_GAP_MS } = this.#options;
    let comparedAt = clock.monotonic();
    this.#loop = new DirtyLoop({
      clock,
      run: (signal) => {
        if (clock.monotonic() - comparedAt >= COMPARE_MS) this.#everything = true;
        if (this.#everything) comparedAt = clock.monotonic();
        return this.#pass(signal);
      },
      minGapMs: passGapMs,
      maxGapMs: COMPARE_MS,
      onError: (error, retryMs) => log.warning("load_balancer.pass_failed", { error, retryMs }),
    });
    this.#loop.mark();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop?.[Symbol.asyncDispose]();
  }

  #lock(locked: boolean): void {
    if (this.#locked && !locked) this.#touchAll();
    this.#locked = locked;
  }

  #touch(service: ServiceName): void {
    this.#dirty.set(keyOf(service), { namespace: service.namespace, name: service.name });
    this.#loop?.mark();
  }

  #touchAll(): void {
    this.#everything = true;
    this.#loop?.mark();
  }

  /** One that fails does not hold up the others; all that failed are tried again. */
  async #pass(signal: AbortSignal): Promise<void> {
    if (this.#locked) return;
    if (!this.#upgraded) await this.#ipam.upgradeHost(OWNER.name);
    this.#upgraded = true;
    const failures: unknown[] = [];
    for (const name of this.#takeDirty()) {
      if (signal.aborted) return;
      try {
        await this.#settle(name);
      } catch (error) {
        failures.push(error);
        this.#dirty.set(keyOf(name), name);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  #takeDirty(): ServiceName[] {
    const names = new Map(this.#dirty);
    this.#dirty.clear();
    if (this.#everything) {
      for (const { metadata } of this.#services.values()) {
        const name = { namespace: metadata.namespace ?? "", name: metadata.name };
        names.set(keyOf(name), name);
      }
      for (const held of this.#holdings.values()) for (const one of held) names.set(keyOf(one), one);
      this.#everything = false;
    }
    return [...names.values()].filter((name) => this.#concerns(name));
  }

  /** Most services are no business of ours, and hold nothing. */
  #concerns(name: ServiceName): boolean {
    const service = this.#services.get(keyOf(name));
    if (service !== undefined && isManaged(service, this.#options.mode)) return true;
    return this.#heldBy(name).length > 0;
  }

  /** Handles under which the service, or one of its name before it, has addresses. */
  #heldBy({ name, namespace }: ServiceName): string[] {
    const held = [...this.#holdings.values()].flat();
    return [...new Set(held.flatMap((one) => (one.name === name && one.namespace === namespace ? [one.handle] : [])))];
  }

  async #settle(name: ServiceName): Promise<void> {
    const { client, log, mode } = this.#options;
    const service = await find(client, name);
    const handle = service === undefined ? undefined : loadBalancerHandle(service);
    const key = keyOf(name);
    this.#waiting.delete(key);
    for (const other of this.#heldBy(name).filter((one) => one !== handle)) {
      const released = await this.#ipam.releaseByHandle(other);
      if (released.length > 0)
        log.info("load_balancer.released", {
          service: key,
          addresses: texts(released),
          because: "the service is gone",
        });
    }
    if (service === undefined || handle === undefined) return;
    const pools = [...this.#pools.values()];
    const held = await this.#ipam.addressesOf(handle);
    const planned = plan({ service, held, pools, mode });
    if ("refused" in planned) {
      log.warning("load_balancer.not_understood", { service: key, because: planned.refused });
      return;
    }
    if (planned.release.length > 0) {
      await this.#ipam.releaseAddresses(planned.release.map((address) => ({ address, handle })));
      log.info("load_balancer.released", {
        service: key,
        addresses: texts(planned.release),
        because: "the service does not ask for them any more",
      });
    }
    const assigned = pools.some(isForLoadBalancers) ? await this.#assign(service, handle, planned) : [];
    put(this.#waiting, key, assigned.length < planned.exact.length + planned.automatic.length ? name : undefined);
    const now = [...planned.keep, ...assigned].toSorted((a, b) => inOrderOf(service, a, b));
    await this.#tellStatus(service, ingressFor(service, { held: now, released: planned.release, pools }));
  }

  async #assign(service: Service, handle: string, { automatic, exact }: Plan): Promise<IpAddress[]> {
    const { clock, log } = this.#options;
    const { name, namespace = "" } = service.metadata;
    const attributes: Attributes = {
      service: name,
      namespace,
      type: service.spec?.type ?? USE,
      timestamp: new Date(clock.now()).toISOString(),
    };
    const assigned: IpAddress[] = [];
    const failed = (what: string, error: unknown): void =>
      log.warning("load_balancer.not_assigned", {
        service: `${namespace}/${name}`,
        wanted: what,
        because: errorText(error),
      });
    for (const address of exact) {
      const request = { address, owner: OWNER, handle, attributes, use: USE, maxPerHandle: 1 } as const;
      try {
        await this.#ipam.assignAddress(request);
        assigned.push(address);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        failed(formatAddress(address), error);
      }
    }
    for (const { family, pools } of automatic) {
      const namespaceLabels = this.#namespaces.get(namespace) ?? {};
      const request = {
        family,
        count: 1,
        handle,
        attributes,
        use: USE,
        pools,
        namespaceLabels,
        maxPerHandle: 1,
      } as const;
      const { assigned: got, error } = await this.#ipam.autoAssign(OWNER, request);
      assigned.push(...got.map(({ address }) => address));
      if (error === undefined) continue;
      if (!isRefusal(error)) throw error;
      failed(`an IPv${family} address`, error);
    }
    if (assigned.length > 0)
      log.info("load_balancer.assigned", { service: `${namespace}/${name}`, addresses: texts(assigned) });
    return assigned;
  }

  /** Of a service that is no load balancer any more the API server clears the status itself. */
  async #tellStatus(service: Service, ingress: readonly { readonly ip: string }[] | undefined): Promise<void> {
    if (ingress === undefined || service.spec?.type !== "LoadBalancer") return;
    const { name, namespace = "", uid } = service.metadata;
    try {
      const change = { metadata: { uid }, status: { loadBalancer: { ingress: [...ingress] } } };
      await this.#options.client.patch("Service", { namespace, name }, change, { status: true });
    } catch (error) {
      // Gone, or another one by now: that one is looked at by itself.
      if (!hasCode(error, "NOT_FOUND") && !hasCode(error, "CONFLICT")) throw error;
    }
  }
}

/** There is no such address to be had; asking again soon does not help, a change of pools, services or addresses does. */
const isRefusal = (error: unknown): boolean =>
  ["ADDRESS_TAKEN", "ADDRESS_OUTSIDE_POOLS", "NO_QUALIFIED_POOL", "POOL_EXHAUSTED"].some((code) =>
    hasCode(error, code as "ADDRESS_TAKEN"),
  );

/** Addresses of load balancers: those of the virtual owner, and those borrowed elsewhere. */
function holdingsIn({ spec }: IPAMBlock): Holding[] {
  const ours = parseOwner(spec.affinity)?.type === "virtual";
  const found = new Map<string, Holding>();
  for (const ordinal of spec.allocations.keys()) {
    const attribute = attributeOf(spec, ordinal);
    const handle = attribute === undefined ? undefined : handleOf(attribute);
    const { namespace, service, type } = attribute?.secondary ?? {};
    if (handle === undefined || namespace === undefined || service === undefined) continue;
    if (ours || type === USE) found.set(handle, { handle, namespace, name: service });
  }
  return [...found.values()];
}

async function find(client: DatastoreClient, key: ServiceName): Promise<Service | undefined> {
  try {
    return await client.get("Service", key);
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined;
    throw error;
  }
}

/** The service's first family first. */
function inOrderOf({ spec }: Service, a: IpAddress, b: IpAddress): number {
  if (a.family === b.family) return compareAddresses(a, b);
  const first = spec?.ipFamilies?.[0] === "IPv6" ? 6 : 4;
  return a.family === first ? -1 : 1;
}

const keyOf = ({ name, namespace }: ServiceName): string => `${namespace}/${name}`;
const texts = (addresses: readonly IpAddress[]): string => addresses.map(formatAddress).join(", ");

function put<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
