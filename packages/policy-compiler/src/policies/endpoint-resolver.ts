/**
 * Joins an endpoint of this node with the tiers and policies that apply to it, in order.
 *
 * A tier counts for a direction when at least one of its policies applies to the endpoint in that direction. A policy may
 * name a tier that does not exist: such tiers come after the others and end with a deny. Policies with doNotTrack and
 * preDNAT are for host endpoints only, and staged ones only leave word where a tier has no others. A pod that is a BGP peer says so.
 */
import type { EndpointTier, HostEndpoint, WorkloadEndpoint, WorkloadEndpointId } from "@calico-ts/dataplane-api";
import type { PodPeers } from "../bgp/pod-peers.ts";
import type { LocalEndpoint, PolicyFacts, TierFacts } from "../intake/facts.ts";
import type { ActivePolicies } from "./active-policies.ts";
import { comparePolicies, compareTiers } from "./policy-order.ts";

export interface EndpointSink {
  workload(id: WorkloadEndpointId, endpoint: WorkloadEndpoint | undefined): void;
  host(name: string, endpoint: HostEndpoint | undefined): void;
}

/** What is joined with an endpoint. */
export interface EndpointKnowledge {
  readonly policies: ActivePolicies;
  readonly podPeers: PodPeers;
}

interface Entry {
  readonly local: LocalEndpoint;
  readonly profiles: readonly string[];
}

export class EndpointResolver {
  readonly #endpoints = new Map<string, Entry>();
  readonly #tiers = new Map<string, TierFacts>();
  /** With what the endpoint was before, for those that are gone. */
  readonly #dirty = new Map<string, LocalEndpoint | undefined>();

  setEndpoint(id: string, local: LocalEndpoint | undefined, profiles: readonly string[]): void {
    if (local === undefined && !this.#endpoints.has(id)) return;
    this.#dirty.set(id, this.#endpoints.get(id)?.local ?? this.#dirty.get(id));
    if (local === undefined) this.#endpoints.delete(id);
    else this.#endpoints.set(id, { local, profiles });
  }

  setTier(name: string, facts: TierFacts | undefined): void {
    if (facts === undefined) this.#tiers.delete(name);
    else this.#tiers.set(name, facts);
    for (const id of this.#endpoints.keys()) this.policiesChanged(id);
  }

  policiesChanged(id: string): void {
    if (!this.#dirty.has(id)) this.#dirty.set(id, this.#endpoints.get(id)?.local);
  }

  flush(known: EndpointKnowledge, sink: EndpointSink): void {
    for (const [id, before] of this.#dirty) {
      const entry = this.#endpoints.get(id);
      if (entry !== undefined) this.#emit(entry, sink, known.policies.policiesOf(id), known.podPeers.peerOf(id));
      else if (before?.kind === "workload") sink.workload(before.id, undefined);
      else if (before?.kind === "host") sink.host(before.name, undefined);
    }
    this.#dirty.clear();
  }

  #emit(
    { local, profiles }: Entry,
    sink: EndpointSink,
    policies: readonly PolicyFacts[],
    bgpPeer: string | undefined,
  ): void {
    const normal = policies.filter((policy) => !policy.untracked && !policy.preDnat);
    if (local.kind === "workload") {
      const peering = bgpPeer === undefined ? {} : { bgpPeer };
      sink.workload(local.id, { ...local.endpoint, ...peering, tiers: this.#arrange(normal), profiles });
      return;
    }
    sink.host(local.name, {
      ...local.endpoint,
      tiers: this.#arrange(normal),
      untrackedTiers: this.#arrange(policies.filter((policy) => policy.untracked && !policy.staged)),
      preDnatTiers: this.#arrange(policies.filter((policy) => policy.preDnat && !policy.staged)),
      forwardTiers: this.#arrange(normal.filter((policy) => policy.applyOnForward)),
      profiles,
    });
  }

  #arrange(policies: readonly PolicyFacts[]): EndpointTier[] {
    const byTier = new Map<string, PolicyFacts[]>();
    for (const policy of policies.toSorted(comparePolicies)) {
      const list = byTier.get(policy.tier);
      if (list === undefined) byTier.set(policy.tier, [policy]);
      else list.push(policy);
    }
    return Array.from(byTier.keys(), (name) => ({ name, facts: this.#tiers.get(name) }))
      .toSorted(compareTiers)
      .map(({ name, facts }) => {
        const ingress = (byTier.get(name) ?? []).filter((policy) => policy.appliesIngress);
        const egress = (byTier.get(name) ?? []).filter((policy) => policy.appliesEgress);
        const stagedOnly = Object.entries({ ingress, egress }).flatMap(([direction, list]) =>
          list.length > 0 && list.every((policy) => policy.staged) ? [direction as "ingress" | "egress"] : [],
        );
        return {
          name,
          defaultAction: facts?.defaultAction ?? "deny",
          ingress: enforced(ingress),
          egress: enforced(egress),
          ...(stagedOnly.length === 0 ? {} : { stagedOnly }),
        };
      })
      .filter((tier) => tier.ingress.length + tier.egress.length + (tier.stagedOnly?.length ?? 0) > 0);
  }
}

const enforced = (policies: readonly PolicyFacts[]): EndpointTier["ingress"] =>
  policies.filter((policy) => !policy.staged).map((policy) => policy.id);
