/** The plain kinds of core/v1 and their small rules: Namespace, Node, ConfigMap, Secret, volumes, PriorityClass, Lease, Event. */
import {
  cloneJson,
  forbidden,
  invalid,
  type JsonObject,
  notSupported,
  required,
  sameJson,
  tooLong,
} from "@calico-ts/schema";
import {
  asList,
  asObject,
  asObjects,
  asText,
  asTexts,
  defaultField,
  ensureObject,
  type KubeObject,
} from "../../meta/object.ts";
import type { Errors, Strategy } from "../resource.ts";

export const namespaceStrategy: Strategy = {
  nameRule: "label",
  defaults(namespace) {
    const labels = ensureObject(namespace.metadata, "labels");
    const name = namespace.metadata.name;
    if (name !== undefined) labels["kubernetes.io/metadata.name"] = name;
  },
  prepareCreate(namespace) {
    namespace["spec"] = { finalizers: ["kubernetes"] };
    namespace["status"] = { phase: "Active" };
  },
  prepareUpdate(namespace, old, context) {
    if (context.subresource !== "finalize") namespace["spec"] = cloneJson(old["spec"] ?? {});
    if (context.subresource !== "status") namespace["status"] = cloneJson(old["status"] ?? {});
  },
};

export const nodeStrategy: Strategy = {
  defaults(node) {
    ensureObject(node, "spec");
    ensureObject(node, "status");
    const spec = asObject(node["spec"]);
    const cidrs = asTexts(spec["podCIDRs"]);
    if (cidrs.length === 0 && asText(spec["podCIDR"]) !== "") spec["podCIDRs"] = [spec["podCIDR"]];
    if (cidrs[0] !== undefined) defaultField(spec, "podCIDR", cidrs[0]);
    const status = asObject(node["status"]);
    if (status["capacity"] !== undefined) defaultField(status, "allocatable", cloneJson(status["capacity"]));
  },
  validate(node, errors) {
    asObjects(asObject(node["spec"])["taints"]).forEach((taint, index) => {
      const effect = asText(taint["effect"]);
      const effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
      if (effect === "") errors.push(required(`metadata.taints[${index}].effect`));
      else if (!effects.includes(effect))
        errors.push(notSupported(`metadata.taints[${index}].effect`, effect, effects));
    });
  },
  validateUpdate(node, old, errors) {
    for (const field of ["podCIDR", "podCIDRs", "providerID"]) {
      const before = asObject(old["spec"])[field];
      if (before !== undefined && !sameJson(before, asObject(node["spec"])[field])) {
        errors.push(
          forbidden(
            "spec",
            `node updates may only change labels, taints, or capacity (or configSource, if the DynamicKubeletConfig feature gate is enabled)`,
          ),
        );
      }
    }
  },
};

const KEY = /^[-._a-zA-Z0-9]+$/;
const MAX_DATA = 1024 * 1024;

function validateKeys(data: unknown, path: string, errors: Errors): number {
  let size = 0;
  for (const [key, value] of Object.entries(asObject(data))) {
    if (!KEY.test(key) || key.length > 253 || key === "." || key === "..") {
      errors.push(
        invalid(
          `${path}[${key}]`,
          key,
          "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ),
      );
    }
    size += asText(value).length;
  }
  return size;
}

function validateImmutable(object: KubeObject, old: KubeObject, fields: readonly string[], errors: Errors): void {
  if (old["immutable"] !== true) return;
  if (object["immutable"] !== true) errors.push(forbidden("immutable", "field is immutable when `immutable` is set"));
  for (const field of fields) {
    if (!sameJson(object[field], old[field]))
      errors.push(forbidden(field, "field is immutable when `immutable` is set"));
  }
}

export const configMapStrategy: Strategy = {
  validate(object, errors) {
    const size =
      validateKeys(object["data"], "data", errors) + validateKeys(object["binaryData"], "binaryData", errors);
    if (size > MAX_DATA) errors.push(tooLong("", "", MAX_DATA));
  },
  validateUpdate: (object, old, errors) => validateImmutable(object, old, ["data", "binaryData"], errors),
};

export const secretStrategy: Strategy = {
  defaults(secret) {
    defaultField(secret, "type", "Opaque");
    const plain = asObject(secret["stringData"]);
    for (const key of Object.keys(plain))
      ensureObject(secret, "data")[key] = Buffer.from(asText(plain[key])).toString("base64");
    delete secret["stringData"];
  },
  validate(secret, errors) {
    if (validateKeys(secret["data"], "data", errors) > MAX_DATA * 1.4) errors.push(tooLong("data", "", MAX_DATA));
    const data = asObject(secret["data"]);
    if (secret["type"] === "kubernetes.io/tls") {
      for (const key of ["tls.crt", "tls.key"]) if (data[key] === undefined) errors.push(required(`data[${key}]`));
    }
    if (secret["type"] === "kubernetes.io/service-account-token") {
      const account = secret.metadata.annotations?.["kubernetes.io/service-account.name"];
      if (account === undefined || account === "")
        errors.push(required("metadata.annotations[kubernetes.io/service-account.name]"));
    }
  },
  validateUpdate(secret, old, errors) {
    if (secret["type"] !== old["type"]) errors.push(invalid("type", secret["type"], "field is immutable"));
    validateImmutable(secret, old, ["data"], errors);
  },
};

export const volumeStrategy: Strategy = {
  defaults(object) {
    const spec = ensureObject(object, "spec");
    defaultField(spec, "persistentVolumeReclaimPolicy", "Retain");
    defaultField(spec, "volumeMode", "Filesystem");
    defaultField(ensureObject(object, "status"), "phase", "Pending");
  },
};

export const claimStrategy: Strategy = {
  defaults(object) {
    defaultField(ensureObject(object, "spec"), "volumeMode", "Filesystem");
    defaultField(ensureObject(object, "status"), "phase", "Pending");
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    if (asList(spec["accessModes"]).length === 0)
      errors.push(required("spec.accessModes", "at least 1 access mode is required"));
    if (asObject(asObject(spec["resources"])["requests"])["storage"] === undefined)
      errors.push(required("spec.resources[storage]"));
  },
};

export const storageClassStrategy: Strategy = {
  defaults(object) {
    defaultField(object, "reclaimPolicy", "Delete");
    defaultField(object, "volumeBindingMode", "Immediate");
  },
  validate(object, errors) {
    if (asText(object["provisioner"]) === "") errors.push(required("provisioner"));
  },
};

export const priorityClassStrategy: Strategy = {
  generation: true,
  defaults(object) {
    defaultField(object, "value", 0);
    defaultField(object, "preemptionPolicy", "PreemptLowerPriority");
  },
  validate(object, errors) {
    const name = asText(object.metadata.name);
    if (name.startsWith("system-") && !["system-node-critical", "system-cluster-critical"].includes(name)) {
      errors.push(
        forbidden(
          "metadata.name",
          "priority class names with 'system-' prefix are reserved for system use only. error: only system-node-critical and system-cluster-critical are allowed",
        ),
      );
    }
  },
  validateUpdate(object, old, errors) {
    if (object["value"] !== old["value"]) errors.push(forbidden("value", "may not be changed in an update."));
  },
};

export const eventStrategy: Strategy = {
  validate(event, errors) {
    const involved = asObject(event["involvedObject"] ?? event["regarding"]);
    const namespace = asText(involved["namespace"]);
    const expected = namespace === "" ? "default" : namespace;
    if (expected !== event.metadata.namespace && asText(event["reportingController"]) === "" && namespace !== "") {
      errors.push(invalid("involvedObject.namespace", namespace, "does not match event.namespace"));
    }
  },
};

export const autoscalerStrategy: Strategy = {
  defaults(object) {
    defaultField(ensureObject(object, "spec"), "minReplicas", 1);
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]) as JsonObject & { minReplicas?: number; maxReplicas?: number };
    if ((spec.maxReplicas ?? 0) < 1)
      errors.push(invalid("spec.maxReplicas", spec.maxReplicas ?? 0, "must be greater than 0"));
    else if ((spec.maxReplicas ?? 0) < (spec.minReplicas ?? 1)) {
      errors.push(invalid("spec.maxReplicas", spec.maxReplicas, "must be greater than or equal to `minReplicas`"));
    }
  },
};
