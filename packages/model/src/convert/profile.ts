/**
 * Namespace and ServiceAccount → Profile. The namespace's profile allows everything (what no policy isolates is open) and
 * gives its labels to the pods under `pcns.`; the account's has no rules and gives labels under `pcsa.`.
 */
import { NAMESPACE_LABEL_PREFIX, SERVICE_ACCOUNT_LABEL_PREFIX } from "@calico-ts/selector";
import type { Namespace, ServiceAccount } from "../kubernetes/core.ts";
import type { Profile } from "../resources/policies.ts";
import { CALICO_API_VERSION } from "../schema/declare.ts";

export const NAMESPACE_PROFILE_PREFIX = "kns.";
export const SERVICE_ACCOUNT_PROFILE_PREFIX = "ksa.";
/** Built in: allows everything. Host endpoints that are made automatically have it. */
export const DEFAULT_ALLOW_PROFILE = "projectcalico-default-allow";
const NAME_LABEL = "projectcalico.org/name";

export const namespaceProfileName = (namespace: string): string => `${NAMESPACE_PROFILE_PREFIX}${namespace}`;
export const serviceAccountProfileName = (namespace: string, name: string): string =>
  `${SERVICE_ACCOUNT_PROFILE_PREFIX}${namespace}.${name}`;

export function profileFromNamespace(namespace: Namespace): Profile {
  const { name, labels = {} } = namespace.metadata;
  return {
    apiVersion: CALICO_API_VERSION,
    kind: "Profile",
    metadata: { name: namespaceProfileName(name) },
    spec: {
      ingress: [{ action: "Allow" }],
      egress: [{ action: "Allow" }],
      labelsToApply: prefixed({ ...labels, [NAME_LABEL]: name }, NAMESPACE_LABEL_PREFIX),
    },
  };
}

export function profileFromServiceAccount(account: ServiceAccount): Profile {
  const { name, namespace = "", labels = {} } = account.metadata;
  return {
    apiVersion: CALICO_API_VERSION,
    kind: "Profile",
    metadata: { name: serviceAccountProfileName(namespace, name) },
    spec: { labelsToApply: prefixed({ ...labels, [NAME_LABEL]: name }, SERVICE_ACCOUNT_LABEL_PREFIX) },
  };
}

/** The built-in profile that exists without being stored. */
export const defaultAllowProfile: Profile = {
  apiVersion: CALICO_API_VERSION,
  kind: "Profile",
  metadata: { name: DEFAULT_ALLOW_PROFILE },
  spec: { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }] },
};

const prefixed = (labels: Readonly<Record<string, string>>, prefix: string): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).map(([key, value]) => [prefix + key, value]));
