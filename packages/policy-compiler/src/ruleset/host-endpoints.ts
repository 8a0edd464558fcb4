/**
 * Host endpoints: which one an interface has, and the walks its packets take in each form.
 *
 * An interface has the endpoint that names it; else one that names no interface and expects an address the interface has;
 * of several the one whose name sorts first. An endpoint named `*` has every interface that has no other, pods' included
 * where packets are forwarded or not yet translated, the loopback excepted: a node that cannot talk to itself helps nobody.
 */
import type { EndpointTier, HostEndpoint } from "@calico-ts/dataplane-api";
import type { RulesetConfig } from "./ruleset-config.ts";
import type { SetStore } from "./set-store.ts";
import type { Walk, WalkForm } from "./walk.ts";
import { isIdle, walkedTiers } from "./walk.ts";
import type { WalkStore } from "./walk-store.ts";

/** A form in a direction: one dispatch map each. */
export interface HostRoad {
  readonly map: string;
  readonly form: WalkForm;
  readonly direction: "ingress" | "egress";
  /** Only needed where a deny is a reject otherwise. */
  readonly variant?: "dropping";
}

const road = (form: WalkForm, direction: "ingress" | "egress"): HostRoad => ({
  map: `host-${form}-${direction === "ingress" ? "in" : "out"}-dispatch`,
  form,
  direction,
});

export const HOST_ROADS = {
  untrackedIn: road("untracked", "ingress"),
  untrackedOut: road("untracked", "egress"),
  preDnatIn: road("pre-dnat", "ingress"),
  normalIn: road("host", "ingress"),
  normalOut: road("host", "egress"),
  forwardIn: road("forward", "ingress"),
  forwardOut: road("forward", "egress"),
  rewrittenOut: { ...road("host", "egress"), map: "host-rewritten-out-dispatch", variant: "dropping" },
} as const satisfies Readonly<Record<string, HostRoad>>;

/** Interface name → its addresses, as text. */
export type HostInterfaces = ReadonlyMap<string, readonly string[]>;

export interface HostResolution {
  /** Interface → name of its endpoint. */
  readonly named: ReadonlyMap<string, string>;
  /** The endpoint of all others. */
  readonly wildcard: string | undefined;
}

export function resolveHostEndpoints(
  endpoints: ReadonlyMap<string, HostEndpoint>,
  interfaces: HostInterfaces,
): HostResolution {
  const names = [...endpoints.keys()].toSorted();
  const first = (test: (endpoint: HostEndpoint) => boolean): string | undefined =>
    names.find((name) => {
      const endpoint = endpoints.get(name);
      return endpoint !== undefined && test(endpoint);
    });
  const named = new Map<string, string>();
  for (const [name, addresses] of interfaces) {
    const found =
      first((endpoint) => endpoint.interfaceName === name) ??
      first(
        ({ interfaceName, expectedAddresses }) =>
          interfaceName === "" && expectedAddresses.some((address) => addresses.includes(address)),
      );
    if (found !== undefined) named.set(name, found);
  }
  return { named, wildcard: first((endpoint) => endpoint.interfaceName === "*") };
}

export class HostEndpoints {
  readonly #sets: SetStore;
  readonly #walks: WalkStore;
  readonly #endpoints = new Map<string, HostEndpoint>();
  #interfaces: HostInterfaces = new Map();
  #used: readonly string[] = [];
  #wildcards = new Map<string, string>();
  #dirty = false;

  constructor(sets: SetStore, walks: WalkStore) {
    this.#sets = sets;
    this.#walks = walks;
  }

  set(name: string, endpoint: HostEndpoint | undefined): void {
    if (endpoint === undefined) this.#endpoints.delete(name);
    else this.#endpoints.set(name, endpoint);
    this.#dirty = true;
  }

  setInterfaces(interfaces: HostInterfaces): void {
    this.#interfaces = interfaces;
    this.#dirty = true;
  }

  /** What roads there are depends on it. */
  configChanged(): void {
    this.#dirty = true;
  }

  /** Without one, hosts pay for nothing. */
  get exist(): boolean {
    return this.#endpoints.size > 0;
  }

  /** The walk of interfaces without an endpoint of their own; undefined: nothing is decided about them. */
  wildcardWalk(of: HostRoad): string | undefined {
    return this.#wildcards.get(of.map);
  }

  /** True when rules that do not belong to one interface have to be rendered again. */
  settle(config: RulesetConfig): boolean {
    if (!this.#dirty) return false;
    this.#dirty = false;
    const { named, wildcard } = resolveHostEndpoints(this.#endpoints, this.#interfaces);
    const before = this.#used;
    const used: string[] = [];
    this.#wildcards = new Map();
    for (const of of Object.values(HOST_ROADS)) {
      const needed = this.exist && isNeeded(of, config);
      if (needed) this.#sets.declare({ name: of.map, key: ["interface"], ranges: false, chains: true });
      const elements = new Map<string, { key: [string]; chain: string }>();
      if (!needed) {
        this.#sets.undeclare(of.map);
        continue;
      }
      for (const [name, endpoint] of named) {
        const chain = this.#use(endpoint, of, config, used);
        // Decided by nobody: the packet must not fall through to the wildcard.
        elements.set(name, { key: [name], chain: chain ?? NOTHING });
      }
      const other = wildcard === undefined ? undefined : this.#use(wildcard, of, config, used);
      if (other !== undefined) this.#wildcards.set(of.map, other);
      this.#sets.replaceAll(of.map, elements);
    }
    this.#used = used;
    // New references first: a walk that stays in use must not go and come back.
    for (const name of before) this.#walks.release(name);
    return true;
  }

  #use(name: string, of: HostRoad, config: RulesetConfig, used: string[]): string | undefined {
    const endpoint = this.#endpoints.get(name);
    if (endpoint === undefined) return undefined;
    const walk: Walk = {
      form: of.form,
      direction: of.direction,
      tiers: walkedTiers(tiersOf(endpoint, of.form), config),
      profiles: endpoint.profiles,
      ...(of.variant === undefined ? {} : { variant: of.variant }),
    };
    if (isIdle(walk)) return undefined;
    const chain = this.#walks.use(walk, config);
    used.push(chain);
    return chain;
  }
}

const isNeeded = ({ variant }: HostRoad, config: RulesetConfig): boolean =>
  variant === undefined || config.deny === "reject";

/** An empty chain. */
export const NOTHING = "host-nothing";

function tiersOf(endpoint: HostEndpoint, form: WalkForm): readonly EndpointTier[] {
  switch (form) {
    case "untracked":
      return endpoint.untrackedTiers;
    case "pre-dnat":
      return endpoint.preDnatTiers;
    case "forward":
      return endpoint.forwardTiers;
    default:
      return endpoint.tiers;
  }
}
