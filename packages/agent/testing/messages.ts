/** Dataplane messages for tests that need no compiler. */
import type { DataplaneMessage, Rule, RuleMatch, WorkloadEndpoint } from "@calico-ts/dataplane-api";
import { MATCH_ANYTHING } from "@calico-ts/dataplane-api";

export const allow = (match: Partial<RuleMatch> = {}): Rule => ({
  action: "allow",
  index: 0,
  match: { ...MATCH_ANYTHING, ...match },
});

export const PROFILE = "kns.default";

/** Lets everything in and out. */
export const openProfile: DataplaneMessage = {
  kind: "profile-update",
  name: PROFILE,
  profile: { ingress: [allow()], egress: [allow()] },
};

/** An endpoint with the open profile and no policy. */
export const workload = (
  interfaceName: string,
  address: string,
  changes: Partial<WorkloadEndpoint> = {},
): DataplaneMessage => ({
  kind: "workload-endpoint-update",
  id: { orchestrator: "k8s", workload: `default/${interfaceName}`, endpoint: "eth0" },
  endpoint: {
    active: true,
    interfaceName,
    addresses: [`${address}/32`],
    tiers: [],
    profiles: [PROFILE],
    allowedSourcePrefixes: [],
    ...changes,
  },
});

export const ipSet = (id: string, ...members: readonly string[]): DataplaneMessage => ({
  kind: "ip-set-update",
  id,
  type: "ip",
  members,
});

/** A Kubernetes policy in the default tier that lets members of a set in, and the endpoint it applies to. */
export const policyFor = (name: string, set: string): DataplaneMessage => ({
  kind: "policy-update",
  id: { kind: "KubernetesNetworkPolicy", namespace: "default", name },
  policy: {
    tier: "default",
    ingress: [allow({ sourceSets: [set] })],
    egress: [],
    untracked: false,
    preDnat: false,
    staged: false,
  },
});

export const tierWith = (name: string): WorkloadEndpoint["tiers"] => [
  {
    name: "default",
    defaultAction: "deny",
    ingress: [{ kind: "KubernetesNetworkPolicy", namespace: "default", name }],
    egress: [],
  },
];
