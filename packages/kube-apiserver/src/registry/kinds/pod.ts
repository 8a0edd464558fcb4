/** Pods: phase and QoS at creation, which fields may change later, graceful deletion. */
import { cloneJson, forbidden, type JsonObject, sameJson } from "@calico-ts/schema";
import { asObject, asObjects, asText, defaultField, ensureObject, type KubeObject } from "../../meta/object.ts";
import type { Strategy } from "../resource.ts";
import { defaultPodSpec, qosClass, validatePodSpec } from "./pod-spec.ts";

export const podStrategy: Strategy = {
  generation: true,
  defaults(pod) {
    const spec = ensureObject(pod, "spec");
    defaultPodSpec(spec);
    defaultField(spec, "enableServiceLinks", true);
    defaultField(ensureObject(pod, "status"), "phase", "Pending");
  },
  prepareCreate(pod) {
    pod["status"] = { phase: "Pending", qosClass: qosClass(asObject(pod["spec"])) };
  },
  validate(pod, errors) {
    validatePodSpec(asObject(pod["spec"]), "spec", errors);
  },
  validateUpdate(pod, old, errors, context) {
    if (context.subresource !== undefined) return;
    if (!sameJson(frozenPart(pod), frozenPart(old))) {
      errors.push(
        forbidden(
          "spec",
          "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ),
      );
    }
  },
  gracePeriod(pod, asked) {
    const spec = asObject(pod["spec"]);
    const phase = asText(asObject(pod["status"])["phase"]);
    if (asText(spec["nodeName"]) === "" || phase === "Succeeded" || phase === "Failed") return 0;
    const own = spec["terminationGracePeriodSeconds"];
    return asked ?? (typeof own === "number" ? own : 30);
  },
};

function frozenPart(pod: KubeObject): JsonObject {
  const spec = cloneJson(asObject(pod["spec"]));
  for (const field of ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"])
    delete spec[field];
  for (const list of ["containers", "initContainers"])
    for (const container of asObjects(spec[list])) delete container["image"];
  return spec;
}
