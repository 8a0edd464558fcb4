/**
 * Dataplane messages in, backend-neutral chains and sets out, with the difference since the last time.
 *
 * Receiving is cheap: it stores and marks. `take` renders what is marked. What is rendered depends on the messages'
 * latest state only, never on their order, as long as the compiler's flush order holds (referents first); what is referred
 * to and missing becomes a deny (a chain that drops), never a hole.
 */
import type {
  ActivePolicy,
  BgpSettings,
  DataplaneMessage,
  HostEndpoint,
  PolicyId,
  Pool,
  Profile,
  Vtep,
  WorkloadEndpoint,
} from "@calico-ts/dataplane-api";
import { policyIdText, workloadIdText } from "@calico-ts/dataplane-api";
import type { Family, Prefix } from "@calico-ts/net";
import { addressBits, formatPrefix, tryParsePrefix } from "@calico-ts/net";
import { MultiMap, RefCounts, sha256Base64Url } from "@calico-ts/std";
import { ChainStore } from "./chain-store.ts";
import { EgressDscp } from "./egress-dscp.ts";
import { FloatingIps } from "./floating-ips.ts";
import { IpSets } from "./ip-sets.ts";
import { renderHostChains } from "./host-chains.ts";
import type { HostInterfaces } from "./host-endpoints.ts";
import { HostEndpoints } from "./host-endpoints.ts";
import { CHAINS, SETS } from "./names.ts";
import type { ChainForm } from "./policy-chains.ts";
import { renderPolicyChains, renderProfileChains, standInChains } from "./policy-chains.ts";
import { maximalPrefixes } from "./prefixes.ts";
import type { ExpansionContext } from "./rule-expansion.ts";
import { setIds } from "./rule-expansion.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import { rulesetConfig } from "./ruleset-config.ts";
import { serviceLoopChains } from "./service-loop.ts";
import type { SetDifference } from "./set-store.ts";
import { SetStore } from "./set-store.ts";
import { renderStatic, renderStaticSets } from "./static-chains.ts";
import { TrafficLimits } from "./traffic-limits.ts";
import type { Chain, KeyPart, KeyType, SetElement } from "./values.ts";
import { walkedTiers } from "./walk.ts";
import { policyOwner, profileOwner, WalkStore } from "./walk-store.ts";
import { isEntangled } from "./entangled.ts";
import { type Move, WorkloadDispatch } from "./workload-dispatch.ts";

const FAMILIES = [4, 6] as const;
const STATIC = "static";

interface PolicyRecord {
  readonly id: PolicyId;
  readonly policy: ActivePolicy;
}

export interface RulesetDifference {
  /** undefined: gone. */
  readonly chains: ReadonlyMap<string, Chain | undefined>;
  readonly sets: readonly SetDifference[];
  /** Interfaces whose group changes from one to another. */
  readonly moves: readonly Move[];
  /** Sets change in a way that is somebody else's business than the moving endpoint's: its packets could tell what came first. */
  readonly entangled: boolean;
}

/** An IP set with more members than `maxIpsetSize` allows. */
export interface OversizedSet {
  readonly id: string;
  readonly members: number;
  readonly limit: number;
  /** Policies and profiles whose rules ask it. */
  readonly users: readonly string[];
}

export class RulesetCompiler {
  readonly #chains = new ChainStore();
  readonly #sets = new SetStore();
  readonly #ipSets = new IpSets(this.#sets, (id) => this.#markUsers(id));
  readonly #policies = new Map<string, PolicyRecord>();
  readonly #profiles = new Map<string, Profile>();
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
  readonly #pools = new Map<string, Pool>();
  readonly #hosts = new Map<string, readonly string[]>();
  readonly #vteps = new Map<string, Vtep>();
  #bgp: BgpSettings | undefined;
  #config: RulesetConfig = rulesetConfig({});

  /** Endpoints by interface: two may claim one for a moment; the lowest id has it. */
  readonly #byInterface = new MultiMap<string, string>();
  /** Interface → the walks its endpoint uses. */
  readonly #installed = new Map<string, readonly string[]>();
  readonly #dispatch = new WorkloadDispatch(this.#sets);
  /** Of each interface: what its sources were made from, and their elements. */
  readonly #sourceTexts = new Map<string, string>();
  readonly #sourceKeys = new Map<string, readonly (readonly [set: string, key: string])[]>();
  readonly #walks = new WalkStore(this.#chains, (owner) => this.#dirtyOwners.add(owner));
  readonly #hostEndpoints = new HostEndpoints(this.#sets, this.#walks);
  readonly #limits = new TrafficLimits(this.#chains, this.#sets);
  readonly #dscp = new EgressDscp(this.#chains, this.#sets);
  readonly #floatingIps = new FloatingIps(this.#chains, this.#sets);
  /** IP set id → owners whose rules name it; owner → the inline sets and IP sets it uses. */
  readonly #setUsers = new MultiMap<string, string>();
  readonly #ownerSets = new Map<string, { readonly ids: readonly string[]; readonly inline: readonly string[] }>();
  readonly #inlineUsers = new RefCounts<string>();

  readonly #dirtyOwners = new Set<string>();
  readonly #dirtyInterfaces = new Set<string>();
  #dirtyConfig = true;
  #dirtyStatic = true;

  constructor() {
    for (const declaration of renderStaticSets()) this.#sets.declare(declaration);
  }

  receive(message: DataplaneMessage): void {
    switch (message.kind) {
      case "config-update":
        this.#config = rulesetConfig(message.config);
        this.#dirtyConfig = true;
        return;
      case "ip-set-update":
        return this.#ipSets.update(message.id, message.type, message.members);
      case "ip-set-delta":
        return this.#ipSets.delta(message.id, message.added, message.removed);
      case "ip-set-remove":
        return this.#ipSets.remove(message.id);
      case "policy-update":
        this.#policies.set(policyIdText(message.id), { id: message.id, policy: message.policy });
        this.#dirtyOwners.add(policyOwner(policyIdText(message.id)));
        return;
      case "policy-remove":
        this.#policies.delete(policyIdText(message.id));
        this.#dirtyOwners.add(policyOwner(policyIdText(message.id)));
        return;
      case "profile-update":
        this.#profiles.set(message.name, message.profile);
        this.#dirtyOwners.add(profileOwner(message.name));
        return;
      case "profile-remove":
        this.#profiles.delete(message.name);
        this.#dirtyOwners.add(profileOwner(message.name));
        return;
      case "workload-endpoint-update":
        return this.#setEndpoint(workloadIdText(message.id), message.endpoint);
      case "workload-endpoint-remove":
        return this.#setEndpoint(workloadIdText(message.id), undefined);
      case "host-endpoint-update":
        return this.#setHostEndpoint(message.name, message.endpoint);
      case "host-endpoint-remove":
        return this.#setHostEndpoint(message.name, undefined);
      default:
        this.#receiveAddresses(message);
    }
  }

  /** The node's interfaces other than pods', with their addresses: host endpoints are found by them. */
  setHostInterfaces(interfaces: HostInterfaces): void {
    this.#hostEndpoints.setInterfaces(interfaces);
  }

  oversized(): readonly OversizedSet[] {
    const limit = this.#config.maxSetSize;
    return Array.from(this.#ipSets.over(limit), ({ id, members }) => {
      const asks = ({ ingress, egress }: Pick<ActivePolicy, "ingress" | "egress">): boolean =>
        usedSets([...ingress, ...egress]).includes(id);
      const policies = [...this.#policies].filter(([, { policy }]) => asks(policy)).map(([name]) => name);
      const profiles = [...this.#profiles].filter(([, profile]) => asks(profile)).map(([name]) => `Profile/${name}`);
      return { id, members, limit, users: [...policies, ...profiles].toSorted() };
    });
  }

  /** What a set holds now. */
  elements(set: string): readonly SetElement[] {
    return this.#sets.elements(set);
  }

  /** The link group that each endpoint's interface shall have. */
  get groups(): ReadonlyMap<string, number> {
    return this.#dispatch.groups;
  }

  take(): RulesetDifference {
    if (this.#dirtyConfig) {
      for (const id of this.#policies.keys()) this.#dirtyOwners.add(policyOwner(id));
      for (const name of this.#profiles.keys()) this.#dirtyOwners.add(profileOwner(name));
      for (const owner of this.#walks.owners()) this.#dirtyOwners.add(owner);
      for (const name of this.#byInterface.keys()) this.#dirtyInterfaces.add(name);
      this.#walks.renderAll(this.#config);
      this.#hostEndpoints.configChanged();
    }
    const owned = new Map<string, ReadonlySet<string>>();
    for (const name of this.#dirtyInterfaces) owned.set(name, this.#renderInterface(name));
    const moves = this.#dispatch.settle();
    this.#limits.settle();
    this.#dscp.settle();
    this.#floatingIps.settle(this.#config.floatingIps);
    if (this.#hostEndpoints.settle(this.#config)) this.#dirtyStatic = true;
    for (const owner of this.#dirtyOwners) this.#renderOwner(owner);
    if (this.#dirtyStatic || this.#dirtyConfig) this.#renderStatic();
    this.#dirtyInterfaces.clear();
    this.#dirtyOwners.clear();
    this.#dirtyConfig = false;
    this.#dirtyStatic = false;
    const sets = this.#sets.take();
    return { chains: this.#chains.take(), sets, moves, entangled: isEntangled(sets, moves, owned) };
  }

  #receiveAddresses(message: DataplaneMessage): void {
    switch (message.kind) {
      case "pool-update":
        this.#pools.set(message.id, message.pool);
        break;
      case "pool-remove":
        this.#pools.delete(message.id);
        break;
      case "host-update":
        this.#hosts.set(
          message.node,
          [message.addresses.ipv4, message.addresses.ipv6].flatMap((text) => text ?? []),
        );
        break;
      case "host-remove":
        this.#hosts.delete(message.node);
        break;
      case "vtep-update":
        this.#vteps.set(`${message.vtep.node}/${message.vtep.family}`, message.vtep);
        break;
      case "vtep-remove":
        this.#vteps.delete(`${message.node}/${message.family}`);
        break;
      case "bgp-settings-update":
        this.#bgp = message.settings;
        break;
      case "bgp-settings-remove":
        this.#bgp = undefined;
        break;
      default:
        return;
    }
    this.#dirtyStatic = true;
  }

  #setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#endpoints.get(id);
    if (before !== undefined) {
      this.#byInterface.delete(before.interfaceName, id);
      this.#dirtyInterfaces.add(before.interfaceName);
    }
    if (endpoint === undefined) {
      this.#endpoints.delete(id);
      return;
    }
    this.#endpoints.set(id, endpoint);
    this.#byInterface.add(endpoint.interfaceName, id);
    this.#dirtyInterfaces.add(endpoint.interfaceName);
  }

  #markUsers(setId: string): void {
    for (const owner of this.#setUsers.get(setId)) this.#dirtyOwners.add(owner);
  }

  // ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Returns the prefixes that it had and has. */
  #renderInterface(name: string): ReadonlySet<string> {
    const [id] = [...this.#byInterface.get(name)].toSorted();
    const endpoint = id === undefined ? undefined : this.#endpoints.get(id);
    const before = this.#installed.get(name) ?? [];
    // New references first: a walk that stays in use must not go and come back.
    if (endpoint === undefined || id === undefined) {
      this.#installed.delete(name);
      this.#dispatch.set(name, undefined);
    } else {
      this.#installed.set(name, this.#install(name, id, endpoint));
    }
    for (const walk of before) this.#walks.release(walk);
    const had = this.#sourceKeys.get(name) ?? [];
    this.#installSources(name, endpoint);
    this.#installBgpPeer(name, endpoint?.bgpPeer !== undefined);
    const owned = [...had, ...(this.#sourceKeys.get(name) ?? [])].map(([, key]) => addressOfKey(key));
    this.#limits.set(name, id ?? "", endpoint);
    this.#dscp.set(`workload ${name}`, endpoint?.dscp, endpoint?.addresses ?? []);
    this.#floatingIps.set(name, endpoint?.floatingAddresses ?? []);
    return new Set(owned);
  }

  #setHostEndpoint(name: string, endpoint: HostEndpoint | undefined): void {
    this.#hostEndpoints.set(name, endpoint);
    this.#dscp.set(`host ${name}`, endpoint?.dscp, endpoint?.expectedAddresses ?? []);
  }

  #install(name: string, id: string, endpoint: WorkloadEndpoint): string[] {
    const comment = id.slice(0, 100);
    if (!endpoint.active) {
      this.#dispatch.set(name, { from: CHAINS.workloadDown, to: CHAINS.workloadDown, comment });
      return [];
    }
    const { profiles } = endpoint;
    const tiers = walkedTiers(endpoint.tiers, this.#config);
    const from = this.#walks.use({ form: "workload", direction: "egress", tiers, profiles }, this.#config);
    const to = this.#walks.use({ form: "workload", direction: "ingress", tiers, profiles }, this.#config);
    this.#dispatch.set(name, { from, to, comment });
    return [from, to];
  }

  #installSources(name: string, endpoint: WorkloadEndpoint | undefined): void {
    const spoofed = this.#config.spoofingAllowed ? (endpoint?.allowedSourcePrefixes ?? []) : [];
    const texts = [...(endpoint?.addresses ?? []), ...spoofed];
    const said = texts.join(" ");
    if (this.#sourceTexts.get(name) === said) return;
    for (const [set, key] of this.#sourceKeys.get(name) ?? []) this.#sets.delete(set, key);
    this.#sourceKeys.delete(name);
    this.#sourceTexts.delete(name);
    if (endpoint === undefined) return;
    this.#sourceTexts.set(name, said);
    const prefixes = maximalPrefixes(texts.flatMap((text) => tryParsePrefix(text, "mask") ?? []));
    const keys = prefixes.map((prefix): readonly [string, string] => {
      const single = prefix.length === addressBits(prefix.family);
      const set = single ? SETS.workloadSources(prefix.family) : SETS.workloadSourceNets(prefix.family);
      const key = `${name} ${formatPrefix(prefix)}`;
      this.#sets.put(set, key, { key: [name, prefix] });
      return [set, key];
    });
    this.#sourceKeys.set(name, keys);
  }

  /** The set is there while it has members. */
  #installBgpPeer(name: string, isPeer: boolean): void {
    const set = SETS.workloadBgpPeers;
    const before = this.#sets.has(set);
    if (isPeer) {
      this.#sets.declare({ name: set, key: ["interface"], ranges: false });
      this.#sets.put(set, name, { key: [name] });
    } else {
      this.#sets.delete(set, name);
      if (this.#sets.size(set) === 0) this.#sets.undeclare(set);
    }
    if (before !== this.#sets.has(set)) this.#dirtyStatic = true;
  }

  // ── policies and profiles ─────────────────────────────────────────────────────────────────────────────────────────

  #renderOwner(owner: string): void {
    const before = this.#ownerSets.get(owner);
    const [kind, name] = splitOwner(owner);
    const record = kind === "policy" ? this.#policies.get(name) : undefined;
    const profile = kind === "profile" ? this.#profiles.get(name) : undefined;
    const inline: string[] = [];
    const context = this.#context(inline);
    const forms = this.#walks.variants(owner).map((variant): ChainForm => ({ config: this.#config, variant }));
    let chains: readonly Chain[] = [];
    let ids: readonly string[] = [];
    if (record !== undefined) {
      chains = forms.flatMap((form) => renderPolicyChains(record.id, record.policy, context, form));
      ids = usedSets([...record.policy.ingress, ...record.policy.egress]);
    } else if (profile !== undefined) {
      chains = forms.flatMap((form) => renderProfileChains(name, profile, context, form));
      ids = usedSets([...profile.ingress, ...profile.egress]);
    } else {
      const chainName = this.#walks.chainNames(owner);
      if (chainName !== undefined) chains = forms.flatMap((form) => standInChains(chainName, form));
    }
    this.#chains.put(owner, chains);
    for (const id of before?.ids ?? []) this.#setUsers.delete(id, owner);
    for (const id of ids) this.#setUsers.add(id, owner);
    for (const set of before?.inline ?? []) if (this.#inlineUsers.release(set)) this.#sets.undeclare(set);
    if (ids.length + inline.length > 0) this.#ownerSets.set(owner, { ids, inline });
    else this.#ownerSets.delete(owner);
  }

  #context(inline: string[]): ExpansionContext {
    return {
      setParts: (id) => this.#ipSets.parts(id),
      inlineSet: (key, elements) => {
        const name = this.#declareInline(key, elements);
        inline.push(name);
        return name;
      },
    };
  }

  #declareInline(key: KeyType, elements: readonly (readonly KeyPart[])[]): string {
    const keyed = new Map<string, SetElement>(elements.map((parts) => [partsText(parts), { key: parts }]));
    const name = `inline/${key}/${sha256Base64Url(JSON.stringify([...keyed.keys()].toSorted())).slice(0, 22)}`;
    if (this.#inlineUsers.add(name)) {
      this.#sets.declare({ name, key: [key], ranges: true });
      this.#sets.replaceAll(name, keyed);
    }
    return name;
  }

  // ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #renderStatic(): void {
    const pools = [...this.#pools.values()];
    const inUse = {
      vxlan: pools.some((pool) => pool.vxlan !== "never"),
      ipip: pools.some((pool) => pool.ipip !== "never"),
      bgpPeers: this.#sets.has(SETS.workloadBgpPeers),
    };
    this.#chains.put(STATIC, [
      ...renderStatic(this.#config, inUse),
      ...renderHostChains(this.#config, this.#hostEndpoints, inUse),
      ...serviceLoopChains(this.#config, this.#bgp?.servicePrefixes ?? []),
    ]);
    const external = this.#config.externalNodes;
    const hosts = parseAll([...this.#hosts.values()].flat());
    const vteps = parseAll(Array.from(this.#vteps.values(), (vtep) => vtep.nodeAddress));
    const networkPools = pools.filter((pool) => pool.loadBalancersOnly !== true);
    const natPools = pools.filter((pool) => pool.natOutgoing);
    for (const family of FAMILIES) {
      this.#fill(SETS.allPools(family), family, parseAll(networkPools.map((pool) => pool.cidr)));
      this.#fill(SETS.masqueradePools(family), family, parseAll(natPools.map((pool) => pool.cidr)));
      this.#fill(SETS.allHosts(family), family, [...hosts, ...external]);
      this.#fill(SETS.vxlanHosts(family), family, [...vteps, ...external]);
    }
  }

  #fill(set: string, family: Family, prefixes: readonly Prefix[]): void {
    const own = maximalPrefixes(prefixes.filter((prefix) => prefix.family === family));
    this.#sets.replaceAll(set, new Map(own.map((prefix) => [formatPrefix(prefix), { key: [prefix] }])));
  }
}

const parseAll = (texts: readonly string[]): Prefix[] => texts.flatMap((text) => tryParsePrefix(text, "mask") ?? []);

const usedSets = (rules: ActivePolicy["ingress"]): string[] => [
  ...new Set(rules.flatMap((rule) => setIds(rule.match))),
];

/** Of the key of a source: `<interface> <prefix>`. */
const addressOfKey = (key: string): string => key.slice(key.indexOf(" ") + 1);

function splitOwner(owner: string): [string, string] {
  const at = owner.indexOf(" ");
  return [owner.slice(0, at), owner.slice(at + 1)];
}

function partsText(parts: readonly KeyPart[]): string {
  return parts
    .map((part) => {
      if (typeof part !== "object") return String(part);
      return "first" in part ? `${part.first}-${part.last}` : formatPrefix(part);
    })
    .join(" ");
}
