/** Rules about policies of all scopes, and profiles. */
import type { FieldError } from "@calico-ts/schema";
import { forbidden, invalid } from "@calico-ts/schema";
import { policyFromStagedKubernetes } from "../convert/kubernetes-policy.ts";
import type { StagedKubernetesNetworkPolicy } from "../kubernetes/network-policy.ts";
import type {
  GlobalNetworkPolicy,
  NetworkPolicy,
  Profile,
  StagedGlobalNetworkPolicy,
  StagedNetworkPolicy,
} from "../resources/policies.ts";
import { filled, given, selectorErrors, when } from "./fields.ts";
import { isDnsLabel, labelErrors } from "./metadata.ts";
import { ruleListErrors } from "./policy-rules.ts";

type GlobalSpec = GlobalNetworkPolicy["spec"];

export const globalPolicyErrors = ({ spec }: GlobalNetworkPolicy): FieldError[] => specErrors(spec, true);
export const policyErrors = ({ spec }: NetworkPolicy): FieldError[] => specErrors(spec, false);

export const stagedGlobalPolicyErrors = ({ spec }: StagedGlobalNetworkPolicy): FieldError[] =>
  spec.stagedAction === "Delete" ? deletionErrors(spec) : specErrors(spec, true);

export const stagedPolicyErrors = ({ spec }: StagedNetworkPolicy): FieldError[] =>
  spec.stagedAction === "Delete" ? deletionErrors(spec) : specErrors(spec, false);

/** Upstream's kind takes what can be converted: Kubernetes' own rules are the API server's, for the enforced kind. */
export const stagedKubernetesPolicyErrors = (policy: StagedKubernetesNetworkPolicy): FieldError[] =>
  policy.spec.stagedAction === "Delete"
    ? deletionErrors(policy.spec)
    : (policyFromStagedKubernetes(policy)?.problems ?? []).map((problem) => invalid("spec", "object", problem));

export const profileErrors = ({ spec }: Profile): FieldError[] => [
  ...ruleListErrors(spec.ingress, "spec.ingress", { direction: "ingress", clusterWide: true }),
  ...ruleListErrors(spec.egress, "spec.egress", { direction: "egress", clusterWide: true }),
  ...given(spec.labelsToApply, (labels) => labelErrors(labels, "spec.labelsToApply")),
];

const tierErrors = ({ tier }: Pick<GlobalSpec, "tier">): FieldError[] =>
  filled(tier, (name) => when(!isDnsLabel(name), () => invalid("spec.tier", name, "not the name of a tier")));

function specErrors(spec: GlobalSpec, clusterWide: boolean): FieldError[] {
  return [
    ...tierErrors(spec),
    ...selectorErrors(spec.selector, "spec.selector"),
    ...selectorErrors(spec.namespaceSelector, "spec.namespaceSelector"),
    ...selectorErrors(spec.serviceAccountSelector, "spec.serviceAccountSelector"),
    ...ruleListErrors(spec.ingress, "spec.ingress", { direction: "ingress", clusterWide }),
    ...ruleListErrors(spec.egress, "spec.egress", { direction: "egress", clusterWide }),
  ];
}

/** A staged deletion names the policy to delete and its tier; anything else in it would be lost. */
function deletionErrors(spec: Readonly<Record<string, unknown>> & Pick<GlobalSpec, "tier">): FieldError[] {
  const extra = Object.entries(spec).filter(
    ([name, value]) => name !== "stagedAction" && name !== "tier" && !isZero(value),
  );
  return [
    ...tierErrors(spec),
    ...extra.map(([name]) => forbidden(`spec.${name}`, "a staged deletion has no fields but stagedAction and tier")),
  ];
}

function isZero(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value === "object" && value !== null) return Object.keys(value).length === 0;
  return value === undefined || value === null || value === "" || value === false;
}
