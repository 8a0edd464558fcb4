/** v3 policies, enforced and staged, in the form of `policy-spec.ts`. Absent fields get their meaning here. */
import type {
  GlobalNetworkPolicy,
  NetworkPolicy,
  StagedGlobalNetworkPolicy,
  StagedNetworkPolicy,
} from "../resources/policies.ts";
import type { Rule } from "../resources/policy-rules.ts";
import type { ConvertedPolicy, Direction, PolicyRule } from "./policy-spec.ts";

type CalicoPolicy = GlobalNetworkPolicy | NetworkPolicy | StagedGlobalNetworkPolicy | StagedNetworkPolicy;
type CommonSpec = NetworkPolicy["spec"];

/** A staged policy that asks for a deletion has nothing to evaluate: undefined. */
export function policyFromCalico(policy: CalicoPolicy): ConvertedPolicy | undefined {
  const { kind, metadata } = policy;
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
  const spec: CalicoPolicy["spec"] = policy.spec ?? {};
  const staged = kind === "StagedGlobalNetworkPolicy" || kind === "StagedNetworkPolicy";
  if (staged && "stagedAction" in spec && spec.stagedAction === "Delete") return undefined;
  const clusterWide: GlobalNetworkPolicy["spec"] = kind.includes("Global") ? spec : {};
  return {
    kind,
    namespace: kind.includes("Global") ? "" : (metadata.namespace ?? ""),
    name: metadata.name,
    staged,
    spec: {
      tier: spec.tier ?? "default",
      ...(spec.order === undefined ? {} : { order: spec.order }),
      selector: spec.selector ?? "",
      ...(clusterWide.namespaceSelector === undefined ? {} : { namespaceSelector: clusterWide.namespaceSelector }),
      ...(spec.serviceAccountSelector === undefined ? {} : { serviceAccountSelector: spec.serviceAccountSelector }),
      types: policyTypes(spec),
      ingress: indexed(spec.ingress),
      egress: indexed(spec.egress),
      doNotTrack: clusterWide.doNotTrack ?? false,
      preDNAT: clusterWide.preDNAT ?? false,
      applyOnForward: clusterWide.applyOnForward ?? false,
      assumeNeededOnEveryNode: spec.performanceHints?.includes("AssumeNeededOnEveryNode") ?? false,
    },
    problems: [],
  };
}

/** Directions as written; else those with rules; else incoming, so that an empty policy isolates. */
export function policyTypes(spec: Pick<CommonSpec, "types" | "ingress" | "egress">): readonly Direction[] {
  const types = listOf<Direction>(spec.types, ["Ingress", "Egress"]);
  if (types.length > 0) return types;
  if (listOf(spec.egress, UNREADABLE).length === 0) return ["Ingress"];
  return listOf(spec.ingress, UNREADABLE).length === 0 ? ["Egress"] : ["Ingress", "Egress"];
}

const indexed = (rules: readonly Rule[] | undefined): PolicyRule[] =>
  listOf(rules, UNREADABLE).map((rule, index) => ({ ...rule, index }));

/** A rule without an action is one that nobody can read: it denies everything. */
const UNREADABLE = [{}] as unknown as readonly Rule[];

/** Stored objects may hold anything. `otherwise`: what stands for something that is no list; it must not be more permissive. */
function listOf<T>(value: readonly T[] | undefined, otherwise: readonly T[]): readonly T[] {
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- see above
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : otherwise;
}
