/** Workload kinds: Deployment, ReplicaSet, DaemonSet, StatefulSet, ReplicationController, Job, CronJob, PodDisruptionBudget. */
import {
  invalid,
  isObject,
  type JsonObject,
  labelSelectorOf,
  matchesLabels,
  notSupported,
  required,
  sameJson,
} from "@calico-ts/schema";
import {
  asNumber,
  asObject,
  asObjects,
  asText,
  asTextMap,
  defaultField,
  ensureObject,
  type KubeObject,
} from "../../meta/object.ts";
import { validateLabels, validateLabelSelector } from "../names.ts";
import type { Errors, Strategy } from "../resource.ts";
import { defaultPodSpec, validatePodSpec } from "./pod-spec.ts";

function defaultTemplate(spec: JsonObject): void {
  const template = ensureObject(spec, "template");
  ensureObject(template, "metadata");
  defaultPodSpec(ensureObject(template, "spec"));
}

function validateTemplate(spec: JsonObject, errors: Errors, restartPolicies: readonly string[]): void {
  const template = asObject(spec["template"]);
  validateLabels(asObject(template["metadata"])["labels"], "spec.template.labels", errors);
  const podSpec = asObject(template["spec"]);
  validatePodSpec(podSpec, "spec.template.spec", errors);
  const restart = asText(podSpec["restartPolicy"]);
  if (!restartPolicies.includes(restart))
    errors.push(notSupported("spec.template.spec.restartPolicy", restart, restartPolicies));
}

function validateReplicas(spec: JsonObject, field: string, errors: Errors): void {
  const count = asNumber(spec[field]);
  if (count !== undefined && count < 0)
    errors.push(invalid(`spec.${field}`, count, "must be greater than or equal to 0"));
}

/** Selector present, sound, and matching the template's labels. */
function validateSelector(spec: JsonObject, errors: Errors): void {
  const selector = spec["selector"];
  const requirements = labelSelectorOf(selector);
  if (requirements === undefined) {
    errors.push(required("spec.selector"));
    return;
  }
  validateLabelSelector(selector, "spec.selector", errors);
  if (requirements.length === 0)
    errors.push(invalid("spec.selector", selector, "empty selector is invalid for deployment"));
  const labels = asObject(asObject(spec["template"])["metadata"])["labels"];
  if (!matchesLabels(requirements, asTextMap(labels))) {
    errors.push(invalid("spec.template.metadata.labels", labels ?? {}, "`selector` does not match template `labels`"));
  }
}

function immutable(object: KubeObject, old: KubeObject, fields: readonly string[], errors: Errors): void {
  for (const field of fields) {
    const now = asObject(object["spec"])[field];
    if (!sameJson(now, asObject(old["spec"])[field])) errors.push(invalid(`spec.${field}`, now, "field is immutable"));
  }
}

const clearStatus = (object: KubeObject): void => {
  object["status"] = {};
};

export const deploymentStrategy: Strategy = {
  generation: true,
  defaults(object) {
    const spec = ensureObject(object, "spec");
    defaultTemplate(spec);
    defaultField(spec, "replicas", 1);
    defaultField(spec, "revisionHistoryLimit", 10);
    defaultField(spec, "progressDeadlineSeconds", 600);
    const strategy = ensureObject(spec, "strategy");
    defaultField(strategy, "type", "RollingUpdate");
    if (strategy["type"] !== "RollingUpdate") return;
    const rolling = ensureObject(strategy, "rollingUpdate");
    defaultField(rolling, "maxUnavailable", "25%");
    defaultField(rolling, "maxSurge", "25%");
  },
  prepareCreate: clearStatus,
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    validateReplicas(spec, "replicas", errors);
    validateSelector(spec, errors);
    validateTemplate(spec, errors, ["Always"]);
    const type = asText(asObject(spec["strategy"])["type"]);
    if (type !== "RollingUpdate" && type !== "Recreate") {
      errors.push(notSupported("spec.strategy.type", type, ["Recreate", "RollingUpdate"]));
    } else if (type === "Recreate" && isObject(asObject(spec["strategy"])["rollingUpdate"])) {
      errors.push({
        path: "spec.strategy.rollingUpdate",
        type: "Forbidden",
        value: "",
        message: "may not be specified when strategy `type` is 'Recreate'",
      });
    }
  },
  validateUpdate: (object, old, errors) => immutable(object, old, ["selector"], errors),
};

export const replicaSetStrategy: Strategy = {
  generation: true,
  defaults(object) {
    const spec = ensureObject(object, "spec");
    if (isObject(spec["template"])) defaultTemplate(spec);
    defaultField(spec, "replicas", 1);
    defaultField(ensureObject(object, "status"), "replicas", 0);
  },
  prepareCreate(object) {
    object["status"] = { replicas: 0 };
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    validateReplicas(spec, "replicas", errors);
    validateSelector(spec, errors);
    validateTemplate(spec, errors, ["Always"]);
  },
  validateUpdate: (object, old, errors) => immutable(object, old, ["selector"], errors),
};

export const replicationControllerStrategy: Strategy = {
  generation: true,
  defaultPropagation: "Orphan",
  defaults(object) {
    const spec = ensureObject(object, "spec");
    defaultTemplate(spec);
    defaultField(spec, "replicas", 1);
    const labels = asObject(asObject(asObject(spec["template"])["metadata"])["labels"]);
    if (!isObject(spec["selector"]) && Object.keys(labels).length > 0) spec["selector"] = { ...labels };
    defaultField(ensureObject(object, "status"), "replicas", 0);
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    validateReplicas(spec, "replicas", errors);
    if (!isObject(spec["selector"])) errors.push(required("spec.selector"));
    validateTemplate(spec, errors, ["Always"]);
  },
};

export const daemonSetStrategy: Strategy = {
  generation: true,
  defaults(object) {
    const spec = ensureObject(object, "spec");
    defaultTemplate(spec);
    defaultField(spec, "revisionHistoryLimit", 10);
    const strategy = ensureObject(spec, "updateStrategy");
    defaultField(strategy, "type", "RollingUpdate");
    if (strategy["type"] === "RollingUpdate") {
      const rolling = ensureObject(strategy, "rollingUpdate");
      defaultField(rolling, "maxUnavailable", 1);
      defaultField(rolling, "maxSurge", 0);
    }
    const status = ensureObject(object, "status");
    for (const field of ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"]) {
      defaultField(status, field, 0);
    }
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    validateSelector(spec, errors);
    validateTemplate(spec, errors, ["Always"]);
  },
  validateUpdate: (object, old, errors) => immutable(object, old, ["selector"], errors),
};

export const statefulSetStrategy: Strategy = {
  generation: true,
  defaults(object) {
    const spec = ensureObject(object, "spec");
    defaultTemplate(spec);
    defaultField(spec, "replicas", 1);
    defaultField(spec, "revisionHistoryLimit", 10);
    defaultField(spec, "podManagementPolicy", "OrderedReady");
    const strategy = ensureObject(spec, "updateStrategy");
    defaultField(strategy, "type", "RollingUpdate");
    if (strategy["type"] === "RollingUpdate") defaultField(ensureObject(strategy, "rollingUpdate"), "partition", 0);
    const retention = ensureObject(spec, "persistentVolumeClaimRetentionPolicy");
    defaultField(retention, "whenDeleted", "Retain");
    defaultField(retention, "whenScaled", "Retain");
    const status = ensureObject(object, "status");
    defaultField(status, "replicas", 0);
    defaultField(status, "availableReplicas", 0);
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    validateReplicas(spec, "replicas", errors);
    validateSelector(spec, errors);
    validateTemplate(spec, errors, ["Always"]);
  },
  validateUpdate: (object, old, errors) =>
    immutable(object, old, ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"], errors),
};

function defaultJobSpec(spec: JsonObject): void {
  defaultTemplate(spec);
  if (spec["completions"] === undefined && spec["parallelism"] === undefined) {
    spec["completions"] = 1;
    spec["parallelism"] = 1;
  }
  defaultField(spec, "parallelism", 1);
  defaultField(spec, "backoffLimit", 6);
  defaultField(spec, "completionMode", "NonIndexed");
  defaultField(spec, "suspend", false);
  defaultField(spec, "podReplacementPolicy", "TerminatingOrFailed");
  if (spec["podFailurePolicy"] !== undefined) spec["podReplacementPolicy"] ??= "Failed";
}

export const jobStrategy: Strategy = {
  generation: true,
  defaultPropagation: "Orphan",
  defaults: (object) => defaultJobSpec(ensureObject(object, "spec")),
  prepareCreate(object) {
    object["status"] = {};
    const spec = asObject(object["spec"]);
    if (spec["manualSelector"] === true) return;
    const uid = asText(object.metadata.uid);
    const name = asText(object.metadata.name);
    const labels = ensureObject(ensureObject(asObject(spec["template"]), "metadata"), "labels");
    Object.assign(labels, {
      "batch.kubernetes.io/controller-uid": uid,
      "batch.kubernetes.io/job-name": name,
      "controller-uid": uid,
      "job-name": name,
    });
    spec["selector"] = { matchLabels: { "batch.kubernetes.io/controller-uid": uid } };
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    for (const field of ["parallelism", "completions", "backoffLimit"]) validateReplicas(spec, field, errors);
    validateTemplate(spec, errors, ["OnFailure", "Never"]);
  },
  validateUpdate: (object, old, errors) => immutable(object, old, ["selector", "completionMode", "template"], errors),
};

const CONCURRENCY = ["Allow", "Forbid", "Replace"];

export const cronJobStrategy: Strategy = {
  generation: true,
  defaults(object) {
    const spec = ensureObject(object, "spec");
    defaultField(spec, "concurrencyPolicy", "Allow");
    defaultField(spec, "suspend", false);
    defaultField(spec, "successfulJobsHistoryLimit", 3);
    defaultField(spec, "failedJobsHistoryLimit", 1);
    const template = ensureObject(spec, "jobTemplate");
    ensureObject(template, "metadata");
    defaultTemplate(ensureObject(template, "spec"));
  },
  prepareCreate: clearStatus,
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    const schedule = asText(spec["schedule"]);
    if (schedule === "") errors.push(required("spec.schedule"));
    else if (!/^@\w+( \S+)?$/.test(schedule) && schedule.trim().split(/\s+/).length !== 5) {
      errors.push(
        invalid(
          "spec.schedule",
          schedule,
          `expected exactly 5 fields, found ${schedule.trim().split(/\s+/).length}: [${schedule}]`,
        ),
      );
    }
    const policy = asText(spec["concurrencyPolicy"]);
    if (!CONCURRENCY.includes(policy)) errors.push(notSupported("spec.concurrencyPolicy", policy, CONCURRENCY));
  },
};

export const disruptionBudgetStrategy: Strategy = {
  generation: true,
  prepareCreate(object) {
    object["status"] = { disruptionsAllowed: 0, currentHealthy: 0, desiredHealthy: 0, expectedPods: 0 };
  },
  validate(object, errors) {
    const spec = asObject(object["spec"]);
    if (spec["minAvailable"] !== undefined && spec["maxUnavailable"] !== undefined) {
      errors.push(invalid("spec", "", "minAvailable and maxUnavailable cannot be both set"));
    }
    validateLabelSelector(spec["selector"], "spec.selector", errors);
  },
};

/** Names of the pods' volumes and so on are checked by the pod spec; a template list needs only labels. */
export const podTemplateStrategy: Strategy = {
  defaults(object) {
    if (asObjects([object["template"]]).length > 0)
      defaultPodSpec(ensureObject(ensureObject(object, "template"), "spec"));
  },
};
