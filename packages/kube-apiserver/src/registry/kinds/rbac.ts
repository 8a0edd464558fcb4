/** Roles and bindings (rbac.authorization.k8s.io/v1), and the defaults of admission webhook configurations. */
import { indexPath, invalid, notSupported, required, sameJson } from "@calico-ts/schema";
import { asList, asObject, asObjects, asText, defaultField, ensureObject, type KubeObject } from "../../meta/object.ts";
import type { Errors, Strategy } from "../resource.ts";

const GROUP = "rbac.authorization.k8s.io";

function validateRules(role: KubeObject, clusterRole: boolean, errors: Errors): void {
  asObjects(role["rules"]).forEach((rule, index) => {
    const at = indexPath("rules", index);
    if (asList(rule["verbs"]).length === 0)
      errors.push(required(`${at}.verbs`, "verbs must contain at least one value"));
    const urls = asList(rule["nonResourceURLs"]).length > 0;
    const resources = asList(rule["resources"]).length > 0 || asList(rule["apiGroups"]).length > 0;
    if (urls) {
      if (!clusterRole)
        errors.push(
          invalid(
            `${at}.nonResourceURLs`,
            rule["nonResourceURLs"],
            "namespaced rules cannot apply to non-resource URLs",
          ),
        );
      if (resources)
        errors.push(
          invalid(
            `${at}.nonResourceURLs`,
            rule["nonResourceURLs"],
            "rules cannot apply to both regular resources and non-resource URLs",
          ),
        );
      return;
    }
    if (asList(rule["apiGroups"]).length === 0)
      errors.push(required(`${at}.apiGroups`, "resource rules must supply at least one api group"));
    if (asList(rule["resources"]).length === 0)
      errors.push(required(`${at}.resources`, "resource rules must supply at least one resource"));
  });
}

export const roleStrategy: Strategy = {
  nameRule: "path",
  defaults(role) {
    role["rules"] ??= null;
  },
  validate: (role, errors) => validateRules(role, role.kind === "ClusterRole", errors),
};

const SUBJECT_KINDS = ["Group", "ServiceAccount", "User"];

export const bindingStrategy: Strategy = {
  nameRule: "path",
  defaults(binding) {
    defaultField(ensureObject(binding, "roleRef"), "apiGroup", GROUP);
    for (const subject of asObjects(binding["subjects"])) {
      if (subject["kind"] === "User" || subject["kind"] === "Group") defaultField(subject, "apiGroup", GROUP);
    }
  },
  validate(binding, errors) {
    const ref = asObject(binding["roleRef"]);
    const kinds = binding.kind === "ClusterRoleBinding" ? ["ClusterRole"] : ["ClusterRole", "Role"];
    if (ref["apiGroup"] !== GROUP) errors.push(notSupported("roleRef.apiGroup", ref["apiGroup"], [GROUP]));
    if (!kinds.includes(asText(ref["kind"]))) errors.push(notSupported("roleRef.kind", asText(ref["kind"]), kinds));
    if (asText(ref["name"]) === "") errors.push(required("roleRef.name"));
    asObjects(binding["subjects"]).forEach((subject, index) => {
      const at = indexPath("subjects", index);
      const kind = asText(subject["kind"]);
      if (asText(subject["name"]) === "") errors.push(required(`${at}.name`));
      if (!SUBJECT_KINDS.includes(kind)) errors.push(notSupported(`${at}.kind`, kind, SUBJECT_KINDS));
      if (kind === "ServiceAccount" && asText(subject["namespace"]) === "" && binding.kind === "ClusterRoleBinding") {
        errors.push(required(`${at}.namespace`));
      }
    });
  },
  validateUpdate(binding, old, errors) {
    if (!sameJson(binding["roleRef"], old["roleRef"]))
      errors.push(invalid("roleRef", binding["roleRef"], "cannot change roleRef"));
  },
};

export const webhookConfigurationStrategy: Strategy = {
  generation: true,
  defaults(configuration) {
    for (const webhook of asObjects(configuration["webhooks"])) {
      defaultField(webhook, "failurePolicy", "Fail");
      defaultField(webhook, "matchPolicy", "Equivalent");
      defaultField(webhook, "timeoutSeconds", 10);
      ensureObject(webhook, "namespaceSelector");
      ensureObject(webhook, "objectSelector");
      if (configuration.kind === "MutatingWebhookConfiguration") defaultField(webhook, "reinvocationPolicy", "Never");
      for (const rule of asObjects(webhook["rules"])) defaultField(rule, "scope", "*");
      const service = asObject(webhook["clientConfig"])["service"];
      if (service !== undefined) defaultField(asObject(service), "port", 443);
    }
  },
  validate(configuration, errors) {
    asObjects(configuration["webhooks"]).forEach((webhook, index) => {
      const at = indexPath("webhooks", index);
      const name = asText(webhook["name"]);
      if (name.split(".").length < 3)
        errors.push(invalid(`${at}.name`, name, "should be a domain with at least three segments separated by dots"));
      if (!["None", "NoneOnDryRun"].includes(asText(webhook["sideEffects"]))) {
        errors.push(notSupported(`${at}.sideEffects`, asText(webhook["sideEffects"]), ["None", "NoneOnDryRun"]));
      }
      const versions = asList(webhook["admissionReviewVersions"]);
      if (versions.length === 0)
        errors.push(required(`${at}.admissionReviewVersions`, "must specify one of v1, v1beta1"));
      else if (!versions.includes("v1"))
        errors.push(invalid(`${at}.admissionReviewVersions`, versions, "must include at least one of v1, v1beta1"));
      const client = asObject(webhook["clientConfig"]);
      if ((client["url"] === undefined) === (client["service"] === undefined)) {
        errors.push(required(`${at}.clientConfig`, "exactly one of url or service is required"));
      }
      const timeout = webhook["timeoutSeconds"];
      if (typeof timeout === "number" && (timeout < 1 || timeout > 30)) {
        errors.push(invalid(`${at}.timeoutSeconds`, timeout, "the timeout value must be between 1 and 30 seconds"));
      }
    });
  },
};
