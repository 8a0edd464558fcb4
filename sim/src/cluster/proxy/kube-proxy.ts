/**
 * The kube-proxy stand-in of one node: Services and EndpointSlices from the shared informers, rules in the node's namespace.
 *
 * Changes are gathered for a moment and applied as one transaction per family. After a refusal the table is built anew from nothing, which
 * also repairs whatever somebody else did to it. Nothing is programmed before both informers have synced.
 */
import { type Kernel, openKernel } from "@calico-ts/linux";
import type { Family, IpAddress } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import type { InformerSource } from "../kube/informer.ts";
import { pause } from "../kube/informer.ts";
import { type EndpointSlice, keyOf } from "../kube/objects.ts";
import { SERVICE_NAME } from "../controllers/endpoint-slice.ts";
import { serviceFronts } from "./backends.ts";
import { type Contribution, contribution, EMPTY, proxyTable, tableSkeleton, updateCommands } from "./rules.ts";

export interface KubeProxyDeps {
  readonly informers: InformerSource;
  readonly log: Logger;
}

export interface ProxyNode {
  readonly name: string;
  readonly netns: string;
}

const GATHER_MS = 20;
/**
 * A transaction costs a millisecond on every node, and a rollout changes endpoints many times a second. So each one takes a credit; without
 * credit it waits for the next, which comes every CREDIT_MS. A single change after a quiet time is applied at once.
 */
const CREDIT_MS = 500;
const MAX_CREDIT = 5;
const RETRY_MS = 1_000;
const UDP = 17;
const BY_SERVICE = "service";
const FAMILIES: readonly Family[] = [4, 6];

interface FamilyState {
  readonly family: Family;
  /** What the kernel has, by service key. Undefined: unknown, build anew. */
  applied: Map<string, Contribution> | undefined;
  /** A node without services of a family has no table of it either. */
  hasTable: boolean;
}

export class KubeProxy {
  readonly #deps: KubeProxyDeps;
  readonly #node: ProxyNode;
  readonly #kernel: Kernel;
  readonly #dirty = new Set<string>();
  readonly #life = new AbortController();
  readonly #states: readonly FamilyState[] = FAMILIES.map((family) => ({
    family,
    applied: undefined,
    hasTable: false,
  }));
  readonly #unsubscribe: (() => void)[] = [];
  readonly #loop: Promise<void>;
  #wake = Promise.withResolvers<void>();
  #waiting = false;

  constructor(deps: KubeProxyDeps, node: ProxyNode) {
    this.#deps = deps;
    this.#node = node;
    this.#kernel = openKernel({ netns: node.netns });
    const services = deps.informers.of("Service");
    const slices = deps.informers.of("EndpointSlice");
    slices.addIndex(BY_SERVICE, serviceEntry);
    this.#unsubscribe.push(
      services.onChange(({ key }) => this.#mark(key)),
      slices.onChange(({ before, after }) => {
        for (const slice of [before, after])
          if (slice !== undefined) for (const key of serviceEntry(slice)) this.#mark(key);
      }),
    );
    this.#loop = this.#run();
  }

  /** Leaves the rules in place, as kube-proxy does. */
  async stop(): Promise<void> {
    for (const stop of this.#unsubscribe) stop();
    this.#life.abort();
    this.#wake.resolve();
    await this.#loop;
    this.#kernel[Symbol.dispose]();
  }

  /** Everything heard so far is in the kernel. */
  get settled(): boolean {
    return this.#waiting && this.#dirty.size === 0;
  }

  #mark(key: string): void {
    this.#dirty.add(key);
    this.#wake.resolve();
  }

  async #run(): Promise<void> {
    const { informers, log } = this.#deps;
    const { signal } = this.#life;
    const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([Promise.all([informers.of("Service").synced, informers.of("EndpointSlice").synced]), stopped]);
    let credit = MAX_CREDIT;
    while (!signal.aborted) {
      const dirty = [...this.#dirty];
      this.#dirty.clear();
      this.#wake = Promise.withResolvers<void>();
      try {
        for (const state of this.#states) await this.#apply(state, dirty);
      } catch (error) {
        if (signal.aborted) return;
        log.warning("kube_proxy.not_applied", { node: this.#node.name, error });
        for (const state of this.#states) state.applied = undefined;
        await pause(RETRY_MS, signal);
        continue;
      }
      const appliedAt = performance.now();
      this.#waiting = true;
      await this.#wake.promise;
      this.#waiting = false;
      credit = Math.min(MAX_CREDIT, credit - 1 + (performance.now() - appliedAt) / CREDIT_MS);
      const waitMs = Math.max(GATHER_MS, (1 - credit) * CREDIT_MS);
      credit += waitMs / CREDIT_MS;
      await pause(waitMs, signal);
    }
  }

  async #apply(state: FamilyState, dirty: readonly string[]): Promise<void> {
    const { family } = state;
    const fresh = state.applied === undefined;
    const applied = state.applied ?? new Map<string, Contribution>();
    const keys = fresh ? [...this.#deps.informers.of("Service").keys()] : dirty;
    const changes = keys.map((key) => ({
      key,
      before: applied.get(key) ?? EMPTY,
      after: this.#contribution(key, family),
    }));
    const commands = updateCommands(family, changes);
    const wantsTable = commands.length > 0 || family === 4;
    const newTable = wantsTable && (fresh || !state.hasTable);
    const first = newTable
      ? tableSkeleton(family)
      : fresh
        ? [{ do: "delete-table", table: proxyTable(family), ifExists: true } as const]
        : [];
    await this.#kernel.nft.apply([...first, ...commands]);
    state.applied = applied;
    if (fresh || newTable) state.hasTable = wantsTable;
    for (const { key, after } of changes) {
      if (after.chains.size === 0 && after.elements.size === 0) applied.delete(key);
      else applied.set(key, after);
    }
    for (const { before, after } of changes) this.#forgetFlows(before, after);
  }

  #contribution(key: string, family: Family): Contribution {
    const service = this.#deps.informers.of("Service").get(key);
    if (service === undefined) return EMPTY;
    const slices = this.#deps.informers.of("EndpointSlice").byIndex(BY_SERVICE, key);
    return contribution(serviceFronts({ service, slices, node: this.#node.name, family }), family);
  }

  /** Flows to a backend that is gone, and flows that began before there was a backend. */
  #forgetFlows(before: Contribution, after: Contribution): void {
    const stale = new Map<string, IpAddress>();
    for (const [key, address] of before.udpBackends) if (!after.udpBackends.has(key)) stale.set(key, address);
    for (const [key, address] of after.udpFronts) if (!before.udpFronts.has(key)) stale.set(key, address);
    this.#kernel.conntrack.delete({ addresses: [...stale.values()], protocol: UDP });
  }
}

function serviceEntry(slice: EndpointSlice): readonly string[] {
  const service = slice.metadata.labels?.[SERVICE_NAME];
  if (service === undefined) return [];
  return [
    keyOf({
      metadata: {
        name: service,
        ...(slice.metadata.namespace === undefined ? {} : { namespace: slice.metadata.namespace }),
      },
    }),
  ];
}
