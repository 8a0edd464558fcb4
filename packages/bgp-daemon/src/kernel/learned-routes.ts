/**
 * Routes of the node that others put into its kernel, for the speaker to tell: pods' routes above all. What BIRD's kernel and direct protocols took, we take:
 *
 *   - routes of the main table of any protocol but the kernel's own, redirects, and ours: of several metrics the smallest;
 *   - prefixes of addresses on interfaces that are up, except pods' interfaces (`cali*`), kube-proxy's (`kube-ipvs*`) and `ignoredInterfaces`.
 *
 * A route yields to any that a peer tells, unless it is a pod's route of elevated priority (a virtual machine has just come here), which yields to equal ones only;
 * prefixes of interfaces yield to nobody. The agent's blackholes are not taken: which blocks are ours the configuration says.
 */
import { isNobodys, matchesName, type OwnRouteFacts, prefixKey } from "@calico-ts/bgp";
import { type Prefix, prefixOf } from "@calico-ts/net";
import type { LinkAddress, Route } from "@calico-ts/netlink";
import { localPrefOf, MAX_METRIC } from "../priority.ts";
import { isAlive, type KernelView, prefixId, prefixOfId } from "./kernel-view.ts";
import type { LearnTerms } from "./terms.ts";

/** RTPROT_UNSPEC, RTPROT_REDIRECT, RTPROT_KERNEL (linux/rtnetlink.h). */
const NOT_TAKEN: ReadonlySet<number> = new Set([0, 1, 2]);
const AGENT = 80;
const TAKEN_TYPES: ReadonlySet<Route["type"]> = new Set(["unicast", "blackhole", "unreachable", "prohibit"]);
const WORKLOAD = "cali*";
const NEVER_DIRECT: readonly string[] = [WORKLOAD, "kube-ipvs*"];

export interface LearnedRoute {
  readonly prefix: Prefix;
  readonly localPref: number;
  readonly facts: OwnRouteFacts;
}

export class LearnedRoutes {
  readonly #view: KernelView;
  readonly #routes = new Map<string, LearnedRoute>();
  #direct = new Map<string, LearnedRoute>();
  #terms: LearnTerms | undefined;

  constructor(view: KernelView) {
    this.#view = view;
  }

  /** By `prefixId`. */
  get routes(): ReadonlyMap<string, LearnedRoute> {
    return this.#routes;
  }

  /** Other terms from now on: everything is looked at again. Returns the prefixes whose route changed. */
  configure(terms: LearnTerms | undefined, all: Iterable<string>): string[] {
    this.#terms = terms;
    return this.update({ prefixes: new Set([...all, ...this.#routes.keys()]), addresses: true });
  }

  /** Looks again at what has changed in the view. Returns the prefixes whose route changed. */
  update(changes: { readonly prefixes: ReadonlySet<string>; readonly addresses: boolean }): string[] {
    const prefixes = new Set(changes.prefixes);
    if (changes.addresses) {
      const before = this.#direct;
      this.#direct = this.#directRoutes();
      for (const id of [...before.keys(), ...this.#direct.keys()]) prefixes.add(id);
    }
    const changed: string[] = [];
    for (const id of prefixes) {
      const now = this.#direct.get(id) ?? this.#found(id);
      if (sameLearned(now, this.#routes.get(id))) continue;
      changed.push(id);
      if (now === undefined) this.#routes.delete(id);
      else this.#routes.set(id, now);
    }
    return changed;
  }

  #directRoutes(): Map<string, LearnedRoute> {
    const found = new Map<string, LearnedRoute>();
    const terms = this.#terms;
    if (terms === undefined) return found;
    const ignored = [...NEVER_DIRECT, ...terms.ignoredInterfaces];
    for (const address of this.#view.addresses) {
      const link = this.#view.link(address.link);
      const prefix = prefixOfAddress(address);
      if (link?.up !== true || address.scope !== 0 || !isRoutable(prefix)) continue;
      if (ignored.some((pattern) => matchesName(pattern, link.name))) continue;
      const localPref = localPrefOf(terms.priority[prefix.family]);
      found.set(prefixId(prefix), { prefix, localPref, facts: { found: true, interface: link.name } });
    }
    return found;
  }

  #found(id: string): LearnedRoute | undefined {
    const terms = this.#terms;
    const route = terms === undefined ? undefined : this.#view.routesTo(prefixOfId(id)).find(isTaken);
    if (route === undefined || terms === undefined) return undefined;
    const { destination, gateway, nextHops, link = nextHops?.[0]?.link } = route;
    const name = link === undefined ? undefined : this.#view.link(link)?.name;
    const normal = terms.priority[destination.family];
    const metric = Math.min(route.metric || normal, MAX_METRIC);
    const elevated = metric < normal && name !== undefined && matchesName(WORKLOAD, name);
    const leadsAway = gateway !== undefined || nextHops?.some((hop) => hop.gateway !== undefined) === true;
    return {
      prefix: destination,
      localPref: localPrefOf(metric),
      facts: {
        found: true,
        yields: elevated ? "equal" : "always",
        ...(name !== undefined && { interface: name }),
        ...(leadsAway && { gateway: true }),
      },
    };
  }
}

function isTaken(route: Route): boolean {
  const { destination, protocol, type } = route;
  if (NOT_TAKEN.has(protocol) || !TAKEN_TYPES.has(type) || !isAlive(route)) return false;
  return isRoutable(destination) && (protocol !== AGENT || type === "unicast");
}

/** What peers may not tell us we do not tell them. */
const isRoutable = (prefix: Prefix): boolean => !isNobodys(prefixKey(prefix));

const prefixOfAddress = ({ address, peer, prefixLength }: LinkAddress): Prefix =>
  prefixOf(peer ?? address, prefixLength);

function sameLearned(a: LearnedRoute | undefined, b: LearnedRoute | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const { facts, localPref } = a;
  return (
    localPref === b.localPref &&
    facts.interface === b.facts.interface &&
    facts.gateway === b.facts.gateway &&
    facts.yields === b.facts.yields
  );
}
