/**
 * RBAC: does a role bound to this user allow this request? Rules only add up; what no rule allows is denied.
 *
 * The rules of a user are collected from the stored bindings and roles once and kept until one of those
 * changes. Members of system:masters may do everything, as upstream. Source: Kubernetes documentation, "RBAC".
 */
import { asObject, asObjects, asText, asTexts, type KubeObject, objectKey } from "../meta/object.ts";
import type { User } from "../registry/resource.ts";
import type { Store } from "../storage/store.ts";
import { isMaster } from "./authenticate.ts";

export type Attributes =
  | {
      readonly kind: "resource";
      readonly verb: string;
      readonly group: string;
      readonly version?: string;
      readonly resource: string;
      readonly subresource: string;
      readonly namespace: string;
      readonly name: string;
    }
  | { readonly kind: "path"; readonly verb: string; readonly path: string };

export interface PolicyRule {
  readonly verbs: readonly string[];
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames: readonly string[];
  readonly nonResourceURLs: readonly string[];
}

export interface Decision {
  readonly allowed: boolean;
  readonly reason: string;
}

interface UserRules {
  readonly cluster: readonly PolicyRule[];
  readonly byNamespace: Map<string, readonly PolicyRule[]>;
}

const RBAC = "rbac.authorization.k8s.io";
const MAX_USERS = 1000;

export class Authorizer {
  readonly #store: Store;
  readonly #cache = new Map<string, UserRules>();

  constructor(store: Store) {
    this.#store = store;
    store.listen((collection) => {
      if (collection.startsWith(`${RBAC}/`)) this.#cache.clear();
    });
  }

  authorize(user: User, attributes: Attributes): Decision {
    if (isMaster(user)) return { allowed: true, reason: "" };
    const rules = this.#rulesOf(user);
    if (rules.cluster.some((rule) => ruleAllows(rule, attributes)))
      return { allowed: true, reason: "RBAC: allowed by ClusterRoleBinding" };
    if (attributes.kind === "resource" && attributes.namespace !== "") {
      const local = this.#namespaceRules(user, rules, attributes.namespace);
      if (local.some((rule) => ruleAllows(rule, attributes))) {
        return {
          allowed: true,
          reason: `RBAC: allowed by RoleBinding in namespace ${JSON.stringify(attributes.namespace)}`,
        };
      }
    }
    return { allowed: false, reason: "" };
  }

  /** All rules that hold for a user in a namespace, for SelfSubjectRulesReview and escalation checks. */
  rules(user: User, namespace: string): readonly PolicyRule[] {
    if (isMaster(user)) return [EVERYTHING, EVERY_PATH];
    const rules = this.#rulesOf(user);
    return [...rules.cluster, ...(namespace === "" ? [] : this.#namespaceRules(user, rules, namespace))];
  }

  /** The rules a binding would grant, or an empty list when its role does not exist. */
  referencedRules(binding: KubeObject): readonly PolicyRule[] {
    return this.#roleRules(asObject(binding["roleRef"]), binding.metadata.namespace ?? "");
  }

  /** True when every combination the rules allow is one the user is allowed already. */
  covers(user: User, namespace: string, wanted: readonly PolicyRule[]): boolean {
    const owned = this.rules(user, namespace);
    return wanted.every((rule) => breakDown(rule).every((atom) => owned.some((own) => coversAtom(own, atom))));
  }

  #rulesOf(user: User): UserRules {
    const id = JSON.stringify([user.name, user.groups]);
    const cached = this.#cache.get(id);
    if (cached !== undefined) return cached;
    const cluster: PolicyRule[] = [];
    for (const { object } of this.#store.collection(`${RBAC}/clusterrolebindings`).values()) {
      if (binds(object, user)) cluster.push(...this.#roleRules(asObject(object["roleRef"]), ""));
    }
    const rules: UserRules = { cluster, byNamespace: new Map() };
    if (this.#cache.size > MAX_USERS) this.#cache.clear();
    this.#cache.set(id, rules);
    return rules;
  }

  #namespaceRules(user: User, rules: UserRules, namespace: string): readonly PolicyRule[] {
    const cached = rules.byNamespace.get(namespace);
    if (cached !== undefined) return cached;
    const local: PolicyRule[] = [];
    for (const { object } of this.#store.collection(`${RBAC}/rolebindings`).list(namespace)) {
      if (binds(object, user)) local.push(...this.#roleRules(asObject(object["roleRef"]), namespace));
    }
    rules.byNamespace.set(namespace, local);
    return local;
  }

  #roleRules(reference: { readonly [name: string]: unknown }, namespace: string): readonly PolicyRule[] {
    const name = asText(reference["name"]);
    const stored =
      reference["kind"] === "ClusterRole"
        ? this.#store.collection(`${RBAC}/clusterroles`).get(name)
        : this.#store.collection(`${RBAC}/roles`).get(objectKey(namespace, name));
    return stored === undefined ? [] : policyRules(stored.object);
  }
}

export function policyRules(role: KubeObject): PolicyRule[] {
  return asObjects(role["rules"]).map((rule) => ({
    verbs: asTexts(rule["verbs"]),
    apiGroups: asTexts(rule["apiGroups"]),
    resources: asTexts(rule["resources"]),
    resourceNames: asTexts(rule["resourceNames"]),
    nonResourceURLs: asTexts(rule["nonResourceURLs"]),
  }));
}

const EVERYTHING: PolicyRule = {
  verbs: ["*"],
  apiGroups: ["*"],
  resources: ["*"],
  resourceNames: [],
  nonResourceURLs: [],
};
const EVERY_PATH: PolicyRule = {
  verbs: ["*"],
  apiGroups: [],
  resources: [],
  resourceNames: [],
  nonResourceURLs: ["*"],
};

function binds(binding: KubeObject, user: User): boolean {
  return asObjects(binding["subjects"]).some((subject) => {
    const name = asText(subject["name"]);
    switch (subject["kind"]) {
      case "User":
        return name === user.name;
      case "Group":
        return user.groups.includes(name);
      case "ServiceAccount": {
        const namespace = asText(subject["namespace"]) || (binding.metadata.namespace ?? "");
        return user.name === `system:serviceaccount:${namespace}:${name}`;
      }
      default:
        return false;
    }
  });
}

const has = (list: readonly string[], item: string): boolean => list.includes("*") || list.includes(item);

function ruleAllows(rule: PolicyRule, attributes: Attributes): boolean {
  if (!has(rule.verbs, attributes.verb)) return false;
  if (attributes.kind === "path") {
    return rule.nonResourceURLs.some(
      (url) => url === attributes.path || (url.endsWith("*") && attributes.path.startsWith(url.slice(0, -1))),
    );
  }
  if (!has(rule.apiGroups, attributes.group)) return false;
  const resource =
    attributes.subresource === "" ? attributes.resource : `${attributes.resource}/${attributes.subresource}`;
  const resourceOk =
    has(rule.resources, resource) ||
    (attributes.subresource !== "" && rule.resources.includes(`*/${attributes.subresource}`));
  return resourceOk && (rule.resourceNames.length === 0 || rule.resourceNames.includes(attributes.name));
}

interface Atom {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly name: string;
  readonly url: string;
}

function breakDown(rule: PolicyRule): Atom[] {
  const atoms: Atom[] = [];
  for (const verb of rule.verbs) {
    for (const url of rule.nonResourceURLs) atoms.push({ verb, group: "", resource: "", name: "", url });
    for (const group of rule.apiGroups) {
      for (const resource of rule.resources) {
        const names = rule.resourceNames.length === 0 ? [""] : rule.resourceNames;
        for (const name of names) atoms.push({ verb, group, resource, name, url: "" });
      }
    }
  }
  return atoms;
}

function coversAtom(own: PolicyRule, atom: Atom): boolean {
  if (!has(own.verbs, atom.verb)) return false;
  if (atom.url !== "") {
    return own.nonResourceURLs.some(
      (url) => url === atom.url || (url.endsWith("*") && atom.url.startsWith(url.slice(0, -1))),
    );
  }
  return (
    has(own.apiGroups, atom.group) &&
    has(own.resources, atom.resource) &&
    (own.resourceNames.length === 0 || (atom.name !== "" && own.resourceNames.includes(atom.name)))
  );
}
