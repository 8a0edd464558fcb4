/** What can be said of policies in a world: whom they select, and what is around them. Read as the oracle reads them. */
import type { SourcedResource } from "../explain/manifest-world.ts";
import { isOf, ofKind } from "../explain/manifest-world.ts";
import { stagedInForce } from "../explain/staged.ts";
import { calicoPolicy } from "../oracle/calico-rules.ts";
import { clusterPolicy, kubernetesPolicy } from "../oracle/kubernetes-rules.ts";
import type { Criterion, OraclePolicy, OracleRule } from "../oracle/oracle-policy.ts";
import { SelectorNumbers } from "../oracle/oracle-policy.ts";
import type { PacketView } from "../oracle/packet-view.ts";
import { Side } from "../oracle/packet-view.ts";
import type { Entity } from "../oracle/world.ts";
import { World } from "../oracle/world.ts";
import type { KindMap, KindName } from "@calico-ts/model";
import { prefixAddress } from "@calico-ts/net";
import type { Tier } from "../oracle/endpoint-walks.ts";
import { tiersOf } from "../oracle/endpoint-walks.ts";
import { onlyNamespaces, spreadPeers } from "./peers.ts";
import type { Report } from "./policy-checks.ts";
import { calicoSpec } from "./policy-checks.ts";
import type { ReadPolicy } from "./shadowed-policies.ts";
import { ShadowedPolicies } from "./shadowed-policies.ts";

const NO_ADDRESS = { family: 4, value: 0n } as const;
const DIRECTIONS = ["ingress", "egress"] as const;

export class WorldChecks {
  readonly #tiers: ReadonlyMap<string, Tier>;
  readonly #policies: ReadPolicy[] = [];
  readonly #staged: ReadPolicy[] = [];
  readonly #entities: readonly Entity[];
  readonly #sides: readonly Side[];
  readonly #shadowed: ShadowedPolicies;
  readonly #met = new Map<string, boolean>();
  readonly #resources: readonly SourcedResource[];
  readonly #isComplete: boolean;
  readonly #read: (item: SourcedResource) => OraclePolicy | undefined;

  /** `broken`: policies that nothing can be said about. `isComplete`: what is not there exists nowhere. */
  constructor(
    resources: readonly SourcedResource[],
    { broken, isComplete }: { readonly broken: ReadonlySet<SourcedResource>; readonly isComplete: boolean },
  ) {
    this.#resources = resources;
    this.#isComplete = isComplete;
    const world = new World({
      of: <K extends KindName>(kind: K): KindMap[K][] => ofKind(resources, kind).map(({ resource }) => resource),
    });
    this.#entities = [...world.entities.values()];
    this.#tiers = tiersOf(ofKind(resources, "Tier").map(({ resource }) => resource));
    const selectors = new SelectorNumbers();
    this.#read = (item) => readPolicy(item, { world, selectors });
    const endpoints = new Endpoints(this.#entities);
    for (const item of resources) {
      if (broken.has(item)) continue;
      const policy = this.#read(stagedInForce(item) ?? item);
      if (policy === undefined) continue;
      const list = item.kind.startsWith("Staged") ? this.#staged : this.#policies;
      list.push({ item, policy, selected: endpoints.of(policy) });
    }
    this.#shadowed = new ShadowedPolicies(this.#policies, this.#tiers);
    this.#sides = this.#entities.map((entity) => {
      const [net] = entity.nets;
      // A network set that somebody has yet to fill is selected all the same.
      if (net === undefined) return new Side(NO_ADDRESS, [entity], selectors);
      const address = prefixAddress(net);
      return new Side(address, world.owners(address), selectors);
    });
  }

  check(item: SourcedResource, report: Report): void {
    this.#checkTier(item, report);
    const isItem = (each: ReadPolicy): boolean => each.item === item;
    const read = this.#policies.find(isItem);
    const either = read ?? this.#staged.find(isItem);
    if (either !== undefined) {
      this.#checkSubject(either, report);
      this.#checkPeers(either, report);
    }
    if (read === undefined) return;
    this.#checkLogOnly(read, report);
    this.#shadowed.check(item, report);
  }

  #checkTier(item: SourcedResource, report: Report): void {
    const tier = calicoSpec(item)?.tier;
    if (tier !== undefined && !this.#tiers.has(tier)) {
      report("unknown-tier", "error", "spec.tier", {
        message: `there is no tier ${tier} in what was given; known: ${[...this.#tiers.keys()].join(", ")}`,
        fix: `Add a Tier ${tier}, correct the name, or give the linter the file that defines it.`,
      });
    }
    if (!isOf(item, "Tier") || item.imagined !== undefined) return;
    const { name } = item.resource.metadata;
    const members = this.#resources.filter((each) => calicoSpec(each)?.tier === name);
    if (members.length === 0 || members.some(({ kind }) => !kind.startsWith("Staged"))) return;
    report("staged-only-tier", "warning", "metadata.name", {
      message: `all ${members.length} policies of tier ${name} are staged: nothing in it is enforced`,
      fix: "Put one of them in force when the trial is over, or remove the tier.",
    });
  }

  #checkSubject(read: ReadPolicy, report: Report): void {
    // Without endpoints in the world nothing can be said.
    if (this.#entities.every(({ kind }) => kind === "network-set") || read.selected.size > 0) return;
    const path =
      read.policy.id.kind === "KubernetesNetworkPolicy"
        ? "spec.podSelector"
        : read.item.kind === "ClusterNetworkPolicy"
          ? "spec.subject"
          : "spec.selector";
    report("selector-matches-nothing", "warning", path, {
      message: `selects no endpoint here (${read.policy.subject})`,
      fix: "Compare the labels with those of the pods or host endpoints that are meant, and the namespace with theirs.",
    });
  }

  #checkPeers(read: ReadPolicy, report: Report): void {
    if (this.#sides.length === 0) return;
    const item = stagedInForce(read.item) ?? read.item;
    const spread = spreadPeers(item);
    const asked = spread?.item ?? item;
    const policy = spread === undefined ? read.policy : this.#read(asked);
    for (const direction of DIRECTIONS) {
      for (const rule of policy?.[direction] ?? []) {
        const dead = this.#deadSelector(rule, asked);
        if (dead === undefined) continue;
        const { index, at } = spread?.places[direction][rule.index] ?? { index: rule.index };
        const path = `spec.${direction}[${index}].${dead.field}${at === undefined ? "" : `[${at}]`}`;
        if (!this.#isComplete && this.#isElsewhere(asked, direction, { index: rule.index, field: dead.field })) {
          report("selector-matches-nothing", "note", path, {
            message: `${direction} rule ${index}: nothing was given that could be ${dead.wanted()}`,
            fix: "Give the linter what is in those namespaces too, or judge with --cluster.",
          });
          continue;
        }
        report("selector-matches-nothing", "warning", path, {
          message: `${direction} rule ${index}: nothing here is ${dead.wanted()}`,
          fix: "Compare the labels with those of the pods, host endpoints and network sets that are meant.",
        });
      }
    }
  }

  #deadSelector(rule: OracleRule, item: SourcedResource) {
    const bySelector = calicoSpec(item) === undefined ? ["from", "to"] : ["source.selector", "destination.selector"];
    // Peers that are not all selectors match addresses nobody here has.
    if (calicoSpec(item) === undefined && rule.needs === undefined) return undefined;
    return rule.criteria.find((criterion) => bySelector.includes(criterion.field) && !this.#isMet(criterion));
  }

  /** Of the namespaces that the rule is about there is nothing at all: kube-system, when an application's own files are judged. */
  #isElsewhere(
    item: SourcedResource,
    direction: "ingress" | "egress",
    { index, field }: { readonly index: number; readonly field: string },
  ): boolean {
    const rule = this.#read(onlyNamespaces(item))?.[direction]?.find((each) => each.index === index);
    return rule?.criteria.some((criterion) => criterion.field === field && !this.#isMet(criterion)) === true;
  }

  /** By somebody here. Equal words at equal fields mean the same. */
  #isMet(criterion: Criterion): boolean {
    const key = `${criterion.field} ${criterion.wanted()}`;
    const known = this.#met.get(key) ?? this.#sides.some((side) => criterion.test(packetOf(side)));
    this.#met.set(key, known);
    return known;
  }

  #checkLogOnly(read: ReadPolicy, report: Report): void {
    const { policy } = read;
    if (policy.use !== "normal" || this.#tiers.get(policy.tier)?.pass === true) return;
    for (const direction of DIRECTIONS) {
      const rules = policy[direction] ?? [];
      if (rules.length === 0 || rules.some(({ action }) => action !== "log")) continue;
      const others = this.#policies.filter(
        (each) =>
          each !== read &&
          each.policy.tier === policy.tier &&
          (each.policy[direction] ?? []).some(({ action }) => action === "allow" || action === "pass"),
      );
      const selected = [...read.selected];
      const alone = selected.filter((entity) => !others.some((each) => each.selected.has(entity)));
      if (selected.length > 0 ? alone.length === 0 : others.length > 0) continue;
      const [one] = alone.map(({ id }) => id).toSorted();
      const whom = one === undefined ? "" : `, for example of ${one}`;
      report("log-only", "error", `spec.${direction}`, {
        message: `the ${direction} rules only log, and no other policy of tier ${policy.tier} allows anything: all ${direction} traffic is denied${whom}`,
        fix: `Add a last rule with action ${policy.tier === "default" ? "Allow" : "Pass"}, or put the policy into a tier whose defaultAction is Pass.`,
      });
    }
  }
}

/** Pods and host endpoints. A policy of a namespace selects its pods, and host endpoints that carry its label. */
class Endpoints {
  readonly #all: readonly Entity[];
  readonly #byNamespace: ReadonlyMap<string | undefined, readonly Entity[]>;

  constructor(entities: readonly Entity[]) {
    this.#all = entities.filter(({ kind }) => kind !== "network-set");
    this.#byNamespace = Map.groupBy(this.#all, ({ namespace }) => namespace);
  }

  of(policy: OraclePolicy): ReadonlySet<Entity> {
    const { namespace } = policy.id;
    const among =
      namespace === ""
        ? this.#all
        : [...(this.#byNamespace.get(namespace) ?? []), ...(this.#byNamespace.get(undefined) ?? [])];
    return new Set(among.filter((entity) => policy.applies(entity)));
  }
}

/** Selector criteria look at sides only. */
const packetOf = (side: Side): PacketView => ({
  family: side.address.family,
  protocol: 6,
  sourcePort: undefined,
  destinationPort: undefined,
  icmp: undefined,
  source: side,
  destination: side,
});

function readPolicy(
  item: SourcedResource,
  context: { readonly world: World; readonly selectors: SelectorNumbers },
): OraclePolicy | undefined {
  if (isOf(item, "NetworkPolicy") || isOf(item, "GlobalNetworkPolicy")) return calicoPolicy(item.resource, context);
  if (isOf(item, "KubernetesNetworkPolicy")) return kubernetesPolicy(item.resource, context);
  return isOf(item, "ClusterNetworkPolicy") ? clusterPolicy(item.resource, context) : undefined;
}
