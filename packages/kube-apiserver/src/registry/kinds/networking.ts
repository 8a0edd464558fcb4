/** NetworkPolicy, Ingress and IngressClass. Source: Kubernetes API reference, networking.k8s.io/v1. */
import { containsPrefix, tryParsePrefix } from "@calico-ts/net";
import {
  forbidden,
  indexPath,
  invalid,
  isObject,
  type JsonObject,
  notSupported,
  required,
  sameJson,
} from "@calico-ts/schema";
import { asList, asObject, asObjects, asText, asTexts, defaultField, ensureObject } from "../../meta/object.ts";
import { validateLabelSelector } from "../names.ts";
import type { Errors, Strategy } from "../resource.ts";
import { portNameProblem, portProblem, PROTOCOLS } from "./ports.ts";

const CIDR_PROBLEM = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

export const networkPolicyStrategy: Strategy = {
  generation: true,
  defaults(policy) {
    const spec = ensureObject(policy, "spec");
    for (const direction of ["ingress", "egress"]) {
      for (const rule of asObjects(spec[direction])) {
        for (const port of asObjects(rule["ports"])) defaultField(port, "protocol", "TCP");
      }
    }
    if (asList(spec["policyTypes"]).length === 0) {
      spec["policyTypes"] = asList(spec["egress"]).length === 0 ? ["Ingress"] : ["Ingress", "Egress"];
    }
    ensureObject(spec, "podSelector");
  },
  validate(policy, errors) {
    const spec = asObject(policy["spec"]);
    validateLabelSelector(spec["podSelector"], "spec.podSelector", errors);
    validateRules(spec["ingress"], "spec.ingress", "from", errors);
    validateRules(spec["egress"], "spec.egress", "to", errors);
    const types = asTexts(spec["policyTypes"]);
    if (types.length > 2) errors.push(invalid("spec.policyTypes", types, "may not specify more than two policyTypes"));
    else {
      types.forEach((type, index) => {
        if (type !== "Ingress" && type !== "Egress") {
          errors.push(notSupported(indexPath("spec.policyTypes", index), type, ["Egress", "Ingress"]));
        }
      });
    }
  },
};

function validateRules(rules: unknown, path: string, peers: "from" | "to", errors: Errors): void {
  asObjects(rules).forEach((rule, index) => {
    const at = indexPath(path, index);
    asObjects(rule["ports"]).forEach((port, number) =>
      validatePolicyPort(port, indexPath(`${at}.ports`, number), errors),
    );
    asObjects(rule[peers]).forEach((peer, number) => validatePeer(peer, indexPath(`${at}.${peers}`, number), errors));
  });
}

function validatePolicyPort(entry: JsonObject, at: string, errors: Errors): void {
  const { port, endPort } = entry as { port?: unknown; endPort?: unknown };
  const protocol = asText(entry["protocol"]);
  if (!PROTOCOLS.includes(protocol)) errors.push(notSupported(`${at}.protocol`, protocol, PROTOCOLS));
  if (typeof port === "number") {
    const problem = portProblem(port);
    if (problem !== undefined) errors.push(invalid(`${at}.port`, port, problem));
    if (typeof endPort === "number") {
      if (endPort < port) errors.push(invalid(`${at}.endPort`, port, "must be greater than or equal to `port`"));
      const endProblem = portProblem(endPort);
      if (endProblem !== undefined) errors.push(invalid(`${at}.endPort`, endPort, endProblem));
    }
    return;
  }
  if (typeof endPort === "number") {
    const why =
      port === undefined
        ? "may not be specified when `port` is not specified"
        : "may not be specified when `port` is non-numeric";
    errors.push(invalid(`${at}.endPort`, endPort, why));
  }
  const problem = typeof port === "string" ? portNameProblem(port) : undefined;
  if (problem !== undefined) errors.push(invalid(`${at}.port`, port, problem));
}

function validatePeer(peer: JsonObject, at: string, errors: Errors): void {
  const { podSelector, namespaceSelector, ipBlock } = peer as {
    podSelector?: unknown;
    namespaceSelector?: unknown;
    ipBlock?: unknown;
  };
  validateLabelSelector(podSelector, `${at}.podSelector`, errors);
  validateLabelSelector(namespaceSelector, `${at}.namespaceSelector`, errors);
  if (isObject(ipBlock)) validateIpBlock(ipBlock, `${at}.ipBlock`, errors);
  const selectors = podSelector !== undefined || namespaceSelector !== undefined;
  if (!selectors && ipBlock === undefined) errors.push(required(at, "must specify a peer"));
  else if (selectors && ipBlock !== undefined)
    errors.push(forbidden(at, "may not specify both ipBlock and another peer"));
}

function validateIpBlock(block: JsonObject, at: string, errors: Errors): void {
  const cidr = asText(block["cidr"]);
  if (cidr === "") {
    errors.push(required(`${at}.cidr`));
    return;
  }
  const outer = cidr.includes("/") ? tryParsePrefix(cidr, "mask") : undefined;
  if (outer === undefined) {
    errors.push(invalid(`${at}.cidr`, cidr, CIDR_PROBLEM));
    return;
  }
  asTexts(block["except"]).forEach((text, index) => {
    const where = indexPath(`${at}.except`, index);
    const inner = text.includes("/") ? tryParsePrefix(text, "mask") : undefined;
    if (inner === undefined) errors.push(invalid(where, text, CIDR_PROBLEM));
    else if (!containsPrefix(outer, inner) || inner.length <= outer.length) {
      errors.push(invalid(where, text, "must be a strict subset of `cidr`"));
    }
  });
}

const PATH_TYPES = ["Exact", "ImplementationSpecific", "Prefix"];

export const ingressStrategy: Strategy = {
  generation: true,
  prepareCreate(ingress) {
    ingress["status"] = { loadBalancer: {} };
  },
  defaults(ingress) {
    ensureObject(ensureObject(ingress, "status"), "loadBalancer");
  },
  validate(ingress, errors) {
    const spec = asObject(ingress["spec"]);
    if (asList(spec["rules"]).length === 0 && spec["defaultBackend"] === undefined) {
      errors.push(invalid("spec", {}, "either `defaultBackend` or `rules` must be specified"));
    }
    asObjects(spec["rules"]).forEach((rule, index) => {
      const at = `${indexPath("spec.rules", index)}.http.paths`;
      if (rule["http"] !== undefined && asList(asObject(rule["http"])["paths"]).length === 0) errors.push(required(at));
      asObjects(asObject(rule["http"])["paths"]).forEach((entry, number) => {
        const where = indexPath(at, number);
        const type = asText(entry["pathType"]);
        const path = asText(entry["path"]);
        if (type === "") errors.push(required(`${where}.pathType`, "pathType must be specified"));
        else if (!PATH_TYPES.includes(type)) errors.push(notSupported(`${where}.pathType`, type, PATH_TYPES));
        else if (type !== "ImplementationSpecific" && !path.startsWith("/")) {
          errors.push(invalid(`${where}.path`, path, "must be an absolute path"));
        }
        const service = asObject(entry["backend"])["service"];
        const resource = asObject(entry["backend"])["resource"];
        if (service === undefined && resource === undefined)
          errors.push(required(`${where}.backend`, "resource or service backend is required"));
      });
    });
  },
};

export const ingressClassStrategy: Strategy = {
  generation: true,
  validate(object, errors) {
    if (asText(asObject(object["spec"])["controller"]) === "") errors.push(required("spec.controller"));
  },
  validateUpdate(object, old, errors) {
    const controller = asObject(object["spec"])["controller"];
    if (!sameJson(controller, asObject(old["spec"])["controller"]))
      errors.push(invalid("spec.controller", controller, "field is immutable"));
  },
};
