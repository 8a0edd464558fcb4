/**
 * A dataplane that only checks its caller: every message must refer to what exists, nothing is added twice with the same
 * content, nothing unknown or still referred to is removed, phases come in order. What it has received so far is `state()`.
 */
import type { DataplaneMessage, EndpointTier, Rule } from "@calico-ts/dataplane-api";
import { FLUSH_PHASES, policyIdText, workloadIdText } from "@calico-ts/dataplane-api";

type Of<K extends DataplaneMessage["kind"]> = Extract<DataplaneMessage, { kind: K }>;

export class CheckingSink {
  readonly errors: string[] = [];
  inSync = false;
  config: Readonly<Record<string, string>> | undefined;
  readonly sets = new Map<string, { type: string; members: Set<string> }>();
  readonly policies = new Map<string, Of<"policy-update">>();
  readonly profiles = new Map<string, Of<"profile-update">>();
  readonly workloads = new Map<string, Of<"workload-endpoint-update">>();
  readonly hosts = new Map<string, Of<"host-endpoint-update">>();
  readonly rest = new Map<string, DataplaneMessage>();
  readonly log: DataplaneMessage[] = [];
  #phase = 0;

  /** Call between flushes: phases start over. */
  nextFlush(): void {
    this.#phase = 0;
  }

  readonly receive = (message: DataplaneMessage): void => {
    this.log.push(message);
    const phase = FLUSH_PHASES.findIndex(({ kinds }) => kinds.includes(message.kind));
    if (phase < this.#phase) this.#fail(`${message.kind} after phase ${this.#phase}`);
    this.#phase = phase;
    this.#apply(message);
  };

  /** Everything that exists, as plain data with stable order. */
  state(): unknown {
    const sorted = <V>(map: Map<string, V>): [string, V][] => [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      inSync: this.inSync,
      config: this.config,
      sets: sorted(this.sets).map(([id, { type, members }]) => [id, type, [...members].toSorted()]),
      policies: sorted(this.policies),
      profiles: sorted(this.profiles),
      workloads: sorted(this.workloads),
      hosts: sorted(this.hosts),
      rest: sorted(this.rest),
    };
  }

  #fail(text: string): void {
    this.errors.push(text);
  }

  #apply(message: DataplaneMessage): void {
    switch (message.kind) {
      case "in-sync":
        if (this.inSync) this.#fail("in-sync twice");
        this.inSync = true;
        return;
      case "config-update":
        if (JSON.stringify(this.config) === JSON.stringify(message.config))
          this.#fail("config-update without a change");
        this.config = message.config;
        return;
      case "ip-set-update":
      case "ip-set-delta":
      case "ip-set-remove":
        return this.#applySet(message);
      case "policy-update":
        this.#checkRules([...message.policy.ingress, ...message.policy.egress], policyIdText(message.id));
        return this.#put(this.policies, policyIdText(message.id), message);
      case "policy-remove":
        this.#checkUnused(policyIdText(message.id), "policy");
        return this.#remove(this.policies, policyIdText(message.id), message.kind);
      case "profile-update":
        this.#checkRules([...message.profile.ingress, ...message.profile.egress], message.name);
        return this.#put(this.profiles, message.name, message);
      case "profile-remove":
        this.#checkUnused(message.name, "profile");
        return this.#remove(this.profiles, message.name, message.kind);
      default:
        return this.#applyEndpoint(message);
    }
  }

  #applyEndpoint(message: DataplaneMessage): void {
    switch (message.kind) {
      case "workload-endpoint-update":
        this.#checkTiers(message.endpoint.tiers);
        this.#checkProfiles(message.endpoint.profiles);
        return this.#put(this.workloads, workloadIdText(message.id), message);
      case "workload-endpoint-remove":
        return this.#remove(this.workloads, workloadIdText(message.id), message.kind);
      case "host-endpoint-update": {
        const { endpoint } = message;
        const lists = [endpoint.tiers, endpoint.untrackedTiers, endpoint.preDnatTiers, endpoint.forwardTiers];
        for (const tiers of lists) this.#checkTiers(tiers);
        this.#checkProfiles(endpoint.profiles);
        return this.#put(this.hosts, message.name, message);
      }
      case "host-endpoint-remove":
        return this.#remove(this.hosts, message.name, message.kind);
      default:
        return this.#applyRest(message);
    }
  }

  #applyRest(message: DataplaneMessage): void {
    const id = restId(message);
    if (message.kind.endsWith("-remove")) this.#remove(this.rest, id, message.kind);
    else this.#put(this.rest, id, message);
  }

  #applySet(message: Of<"ip-set-update"> | Of<"ip-set-delta"> | Of<"ip-set-remove">): void {
    const set = this.sets.get(message.id);
    if (message.kind === "ip-set-update") {
      if (set !== undefined) this.#fail(`set ${message.id} added twice`);
      const members = new Set(message.members);
      if (members.size !== message.members.length) this.#fail(`set ${message.id} has a member twice`);
      this.sets.set(message.id, { type: message.type, members });
      return;
    }
    if (set === undefined) return this.#fail(`${message.kind} of unknown set ${message.id}`);
    if (message.kind === "ip-set-remove") {
      const user = [...this.policies.values(), ...this.profiles.values()].find((other) =>
        JSON.stringify(other).includes(JSON.stringify(message.id)),
      );
      if (user !== undefined) this.#fail(`set ${message.id} removed while ${user.kind} refers to it`);
      this.sets.delete(message.id);
      return;
    }
    if (message.added.length + message.removed.length === 0) this.#fail(`empty delta for ${message.id}`);
    for (const member of message.added) {
      if (set.members.has(member)) this.#fail(`${member} added twice to ${message.id}`);
      set.members.add(member);
    }
    for (const member of message.removed) {
      if (!set.members.delete(member)) this.#fail(`${member} removed from ${message.id} and not in it`);
    }
  }

  #put<M extends DataplaneMessage>(map: Map<string, M>, id: string, message: M): void {
    if (JSON.stringify(map.get(id)) === JSON.stringify(message)) this.#fail(`${message.kind} ${id} without a change`);
    map.set(id, message);
  }

  #remove(map: Map<string, unknown>, id: string, kind: string): void {
    if (!map.delete(id)) this.#fail(`${kind} of unknown ${id}`);
  }

  #checkRules(rules: readonly Rule[], owner: string): void {
    for (const { match } of rules) {
      for (const [field, value] of Object.entries(match)) {
        if (!field.endsWith("Sets") || !Array.isArray(value)) continue;
        for (const id of value)
          if (!this.sets.has(String(id))) this.#fail(`${owner} refers to unknown set ${String(id)}`);
      }
    }
  }

  #checkTiers(tiers: readonly EndpointTier[]): void {
    for (const tier of tiers) {
      for (const id of [...tier.ingress, ...tier.egress]) {
        if (!this.policies.has(policyIdText(id))) this.#fail(`endpoint refers to unknown policy ${policyIdText(id)}`);
      }
    }
  }

  #checkProfiles(profiles: readonly string[]): void {
    for (const name of profiles) if (!this.profiles.has(name)) this.#fail(`endpoint refers to unknown profile ${name}`);
  }

  #checkUnused(id: string, what: "policy" | "profile"): void {
    for (const [name, { endpoint }] of [...this.workloads, ...this.hosts]) {
      const used =
        what === "profile" ? endpoint.profiles.includes(id) : allPolicies(endpoint).some((p) => policyIdText(p) === id);
      if (used) this.#fail(`${what} ${id} removed while ${name} refers to it`);
    }
  }
}

function allPolicies(endpoint: Of<"workload-endpoint-update">["endpoint"] | Of<"host-endpoint-update">["endpoint"]) {
  const lists =
    "untrackedTiers" in endpoint
      ? [endpoint.tiers, endpoint.untrackedTiers, endpoint.preDnatTiers, endpoint.forwardTiers]
      : [endpoint.tiers];
  return lists.flat().flatMap((tier) => [...tier.ingress, ...tier.egress]);
}

function restId(message: DataplaneMessage): string {
  switch (message.kind) {
    case "route-update":
      return `route ${message.route.destination}`;
    case "route-remove":
      return `route ${message.destination}`;
    case "vtep-update":
      return `vtep ${message.vtep.node} ${message.vtep.family}`;
    case "vtep-remove":
      return `vtep ${message.node} ${message.family}`;
    case "host-update":
    case "host-remove":
      return `host ${message.node}`;
    case "pool-update":
    case "pool-remove":
      return `pool ${message.id}`;
    case "bgp-settings-update":
    case "bgp-settings-remove":
      return "bgp settings";
    default:
      return message.kind;
  }
}
