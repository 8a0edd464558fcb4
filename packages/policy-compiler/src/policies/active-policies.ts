/**
 * Which policies apply to this node's endpoints, and which profiles they use: only those are sent, and only their rules'
 * IP sets are computed. Staged policies are matched only: they are not enforced, but flow logs tell of a tier that has no others.
 */
import type { ActivePolicy, PolicyId, Profile, Rule } from "@calico-ts/dataplane-api";
import { MATCH_ANYTHING, policyIdText } from "@calico-ts/dataplane-api";
import { MultiMap, RefCounts } from "@calico-ts/std";
import type { PolicyFacts, ProfileFacts, RuleFacts } from "../intake/facts.ts";
import type { MemberIndex } from "../ipsets/member-index.ts";
import { LabelIndex } from "../labels/label-index.ts";
import { scanRule } from "./rule-scanner.ts";

export interface ActivePolicySink {
  policyActive(id: PolicyId, policy: ActivePolicy): void;
  policyInactive(id: PolicyId): void;
  profileActive(name: string, profile: Profile): void;
  profileInactive(name: string): void;
}

export interface LocalLabels {
  readonly labels: ReadonlyMap<string, string>;
  readonly profiles: readonly string[];
}

/** Stands in for a profile that endpoints name and nobody has defined. */
const DENY_ALL: Rule = { action: "deny", index: 0, match: MATCH_ANYTHING };
const DENY_PROFILE: Profile = { ingress: [DENY_ALL], egress: [DENY_ALL] };

export class ActivePolicies {
  readonly #sets: MemberIndex;
  readonly #onEndpointChanged: (endpoint: string) => void;
  readonly #labels: LabelIndex;
  readonly #policies = new Map<string, PolicyFacts>();
  readonly #profiles = new Map<string, ProfileFacts>();
  readonly #profileUsers = new RefCounts<string>();
  readonly #profilesOf = new MultiMap<string, string>();
  readonly #setsOf = new Map<string, readonly string[]>();
  /** As the sink has them: one more endpoint that matches changes nothing about the policy itself. */
  readonly #active = new Map<string, PolicyFacts>();
  readonly #dirtyPolicies = new Map<string, PolicyId>();
  readonly #dirtyProfiles = new Set<string>();

  constructor(sets: MemberIndex, onEndpointChanged: (endpoint: string) => void) {
    this.#sets = sets;
    this.#onEndpointChanged = onEndpointChanged;
    this.#labels = new LabelIndex({
      matchStarted: (policy, endpoint) => this.#matchChanged(policy, endpoint),
      matchStopped: (policy, endpoint) => this.#matchChanged(policy, endpoint),
    });
  }

  /** Policies that apply to a local endpoint, staged ones included, in no particular order. */
  policiesOf(endpoint: string): PolicyFacts[] {
    return [...this.#labels.selectorsMatching(endpoint)].flatMap((id) => this.#policies.get(id) ?? []);
  }

  setPolicy(id: PolicyId, facts: PolicyFacts | undefined): void {
    const text = policyIdText(id);
    const known = this.#policies.has(text);
    if (facts === undefined && !known) return;
    this.#dirtyPolicies.set(text, id);
    for (const endpoint of this.#labels.itemsMatching(text)) this.#onEndpointChanged(endpoint);
    if (facts === undefined) {
      this.#policies.delete(text);
      this.#labels.deleteSelector(text);
    } else {
      this.#policies.set(text, facts);
      this.#labels.setSelector(text, facts.selector);
    }
  }

  setProfile(name: string, facts: ProfileFacts | undefined): void {
    if (facts === undefined) this.#profiles.delete(name);
    else this.#profiles.set(name, facts);
    this.#dirtyProfiles.add(name);
    this.#labels.setParentLabels(name, facts?.labels);
  }

  setEndpoint(id: string, endpoint: LocalLabels | undefined): void {
    const wanted = new Set(endpoint?.profiles);
    for (const profile of wanted) {
      if (this.#profilesOf.add(id, profile) && this.#profileUsers.add(profile)) this.#dirtyProfiles.add(profile);
    }
    for (const profile of this.#profilesOf.get(id)) {
      if (wanted.has(profile)) continue;
      this.#profilesOf.delete(id, profile);
      if (this.#profileUsers.release(profile)) this.#dirtyProfiles.add(profile);
    }
    if (endpoint === undefined) this.#labels.deleteItem(id);
    else this.#labels.setItem(id, { labels: endpoint.labels, parents: endpoint.profiles });
  }

  flush(sink: ActivePolicySink): void {
    for (const [text, id] of this.#dirtyPolicies) {
      const facts = this.#policies.get(text);
      const used = this.#labels.itemsMatching(text).size > 0 || facts?.neededEverywhere === true;
      const owner = `policy ${text}`;
      if (facts === undefined || facts.staged || !used) {
        this.#active.delete(text);
        this.#scan(owner, undefined);
        sink.policyInactive(id);
      } else if (this.#active.get(text) !== facts) {
        this.#active.set(text, facts);
        sink.policyActive(id, this.#activePolicy(owner, facts));
      }
    }
    for (const name of this.#dirtyProfiles) this.#flushProfile(name, sink);
    this.#dirtyPolicies.clear();
    this.#dirtyProfiles.clear();
  }

  #flushProfile(name: string, sink: ActivePolicySink): void {
    const facts = this.#profiles.get(name);
    const owner = `profile ${name}`;
    if (this.#profileUsers.count(name) === 0) {
      this.#scan(owner, undefined);
      sink.profileInactive(name);
    } else if (facts === undefined) {
      this.#scan(owner, undefined);
      sink.profileActive(name, DENY_PROFILE);
    } else {
      sink.profileActive(name, this.#scan(owner, facts));
    }
  }

  #activePolicy(owner: string, facts: PolicyFacts): ActivePolicy {
    const { ingress, egress } = this.#scan(owner, facts);
    return {
      tier: facts.tier,
      ...(facts.order === undefined ? {} : { order: facts.order }),
      ingress,
      egress,
      untracked: facts.untracked,
      preDnat: facts.preDnat,
      staged: false,
    };
  }

  /** Translates the rules and holds their sets until the owner is scanned again. */
  #scan(
    owner: string,
    rules: { readonly ingress: readonly RuleFacts[]; readonly egress: readonly RuleFacts[] } | undefined,
  ): {
    ingress: Rule[];
    egress: Rule[];
  } {
    const before = this.#setsOf.get(owner) ?? [];
    const used: string[] = [];
    const translate = (rule: RuleFacts): Rule =>
      scanRule(rule, (definition) => {
        const id = this.#sets.use(definition);
        used.push(id);
        return id;
      });
    const ingress = (rules?.ingress ?? []).map(translate);
    const egress = (rules?.egress ?? []).map(translate);
    if (used.length > 0) this.#setsOf.set(owner, used);
    else this.#setsOf.delete(owner);
    for (const id of before) this.#sets.release(id);
    return { ingress, egress };
  }

  #matchChanged(policy: string, endpoint: string): void {
    this.#onEndpointChanged(endpoint);
    const id = this.#policies.get(policy)?.id;
    if (id !== undefined) this.#dirtyPolicies.set(policy, id);
  }
}
