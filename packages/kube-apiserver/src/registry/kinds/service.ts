/**
 * Services: defaults, checks, and the allocation of cluster IPs and node ports.
 *
 * What is taken is read from the stored services each time, so there is no allocator state to leak or repair. Addresses
 * are tried from a point that the service's own name decides: stable enough to be friendly, spread enough to be quick.
 */
import { addressAt, formatAddress, type Prefix, prefixSize, tryParseAddress } from "@calico-ts/net";
import { duplicate, indexPath, invalid, type JsonObject, notSupported, required, sameJson } from "@calico-ts/schema";
import { sha1Hex } from "@calico-ts/std";
import { internalError, invalidError } from "../../meta/api-error.ts";
import {
  asNumber,
  asObject,
  asObjects,
  asText,
  asTexts,
  defaultField,
  ensureObject,
  type KubeObject,
} from "../../meta/object.ts";
import type { Store } from "../../storage/store.ts";
import { label1035Problem, labelProblem } from "../names.ts";
import type { Errors, Strategy } from "../resource.ts";
import { portProblem, PROTOCOLS } from "./ports.ts";

export interface ServiceNetwork {
  /** Cluster IP ranges, the primary family first. */
  readonly ranges: readonly Prefix[];
  readonly nodePorts: { readonly first: number; readonly last: number };
}

const TYPES = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const FAMILY_POLICIES = ["PreferDualStack", "RequireDualStack", "SingleStack"];

export function createServiceStrategy(network: ServiceNetwork): Strategy {
  return {
    nameRule: "label1035",
    defaults: defaultService,
    prepareCreate(service, context) {
      service["status"] = { loadBalancer: {} };
      allocate(service, undefined, network, context.store);
    },
    prepareUpdate(service, old, context) {
      const spec = asObject(service["spec"]);
      const oldSpec = asObject(old["spec"]);
      if (context.subresource === undefined && spec["type"] !== "ExternalName") {
        // Clients that do not know the allocated fields send them empty; that keeps what there is.
        for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"])
          defaultField(spec, field, oldSpec[field]);
        if (spec["clusterIP"] === "") spec["clusterIP"] = oldSpec["clusterIP"];
        keepNodePorts(spec, oldSpec);
      }
      if (context.subresource === undefined) {
        dropDependents(spec, oldSpec);
        if (spec["type"] !== "LoadBalancer") service["status"] = { ...asObject(service["status"]), loadBalancer: {} };
      }
      const kept = spec["type"] !== "ExternalName" && oldSpec["type"] !== "ExternalName";
      if (kept && asText(oldSpec["clusterIP"]) !== "" && spec["clusterIP"] !== oldSpec["clusterIP"]) {
        throw invalidService(service, [
          invalid("spec.clusterIPs[0]", asTexts(spec["clusterIPs"]), "may not change once set"),
        ]);
      }
      allocate(service, old, network, context.store);
    },
    validate: (service, errors) => validateService(service, errors),
  };
}

function defaultService(service: KubeObject): void {
  const spec = ensureObject(service, "spec");
  defaultField(spec, "type", "ClusterIP");
  defaultField(spec, "sessionAffinity", "None");
  if (spec["sessionAffinity"] === "ClientIP") {
    defaultField(ensureObject(ensureObject(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds", 10_800);
  }
  for (const port of asObjects(spec["ports"])) {
    defaultField(port, "protocol", "TCP");
    if (port["targetPort"] === undefined || port["targetPort"] === 0 || port["targetPort"] === "")
      port["targetPort"] = port["port"];
  }
  const type = spec["type"];
  if (isExternal(spec)) defaultField(spec, "externalTrafficPolicy", "Cluster");
  if (type === "LoadBalancer") defaultField(spec, "allocateLoadBalancerNodePorts", true);
  if (type !== "ExternalName") defaultField(spec, "internalTrafficPolicy", "Cluster");
  ensureObject(ensureObject(service, "status"), "loadBalancer");
}

const isLoadBalancer = (spec: JsonObject): boolean => spec["type"] === "LoadBalancer";
const isExternal = (spec: JsonObject): boolean =>
  spec["type"] === "NodePort" ||
  isLoadBalancer(spec) ||
  (spec["type"] === "ClusterIP" && asTexts(spec["externalIPs"]).length > 0);

/** Fields that only some services may have, and which. */
const DEPENDENT: Readonly<Record<string, (spec: JsonObject) => boolean>> = {
  externalTrafficPolicy: isExternal,
  allocateLoadBalancerNodePorts: isLoadBalancer,
  loadBalancerClass: isLoadBalancer,
  healthCheckNodePort: (spec) => isLoadBalancer(spec) && spec["externalTrafficPolicy"] === "Local",
};

/** A change of type takes along what depended on the type, unless the client changed that too: then it is for validation to judge. */
function dropDependents(spec: JsonObject, old: JsonObject): void {
  for (const [field, mayHave] of Object.entries(DEPENDENT)) {
    if (mayHave(old) && !mayHave(spec) && sameJson(spec[field], old[field])) delete spec[field];
  }
}

function keepNodePorts(spec: JsonObject, old: JsonObject): void {
  if (spec["type"] !== "NodePort" && spec["type"] !== "LoadBalancer") return;
  for (const port of asObjects(spec["ports"])) {
    const before = asObjects(old["ports"]).find(
      (other) => other["port"] === port["port"] && other["protocol"] === port["protocol"],
    );
    if (before !== undefined) defaultField(port, "nodePort", before["nodePort"]);
  }
}

function allocate(service: KubeObject, old: KubeObject | undefined, network: ServiceNetwork, store: Store): void {
  const spec = ensureObject(service, "spec");
  const type = asText(spec["type"]);
  if (type === "ExternalName") {
    for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]) delete spec[field];
    return;
  }
  chooseFamilies(spec, network);
  const taken = takenBy(store, service);
  if (spec["clusterIP"] === "None") spec["clusterIPs"] = ["None"];
  else allocateAddresses(service, spec, network, taken.addresses);
  if (type === "NodePort" || (type === "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] !== false)) {
    allocateNodePorts(service, spec, network, taken.nodePorts);
  } else if (old !== undefined) {
    for (const port of asObjects(spec["ports"])) delete port["nodePort"];
  }
}

function chooseFamilies(spec: JsonObject, network: ServiceNetwork): void {
  const served = network.ranges.map((range) => `IPv${range.family}`);
  const given = asTexts(spec["clusterIPs"]).length > 0 ? asTexts(spec["clusterIPs"]) : [asText(spec["clusterIP"])];
  const fromAddresses = given.flatMap((text) => {
    const address = tryParseAddress(text);
    return address === undefined ? [] : [`IPv${address.family}`];
  });
  const wanted = asTexts(spec["ipFamilies"]);
  const policy =
    asText(spec["ipFamilyPolicy"]) ||
    (wanted.length === 2 || fromAddresses.length === 2 ? "RequireDualStack" : "SingleStack");
  const first = wanted[0] ?? fromAddresses[0] ?? served[0] ?? "IPv4";
  const families = [first, ...wanted.slice(1), ...fromAddresses.slice(1)];
  if (policy !== "SingleStack" && families.length === 1) families.push(...served.filter((family) => family !== first));
  spec["ipFamilies"] = [...new Set(policy === "SingleStack" ? families.slice(0, 1) : families)];
  spec["ipFamilyPolicy"] = policy;
}

interface Taken {
  readonly addresses: ReadonlySet<string>;
  readonly nodePorts: Set<string>;
}

function takenBy(store: Store, service: KubeObject): Taken {
  const addresses = new Set<string>();
  const nodePorts = new Set<string>();
  for (const { object } of store.collection("/services").values()) {
    if (object.metadata.name === service.metadata.name && object.metadata.namespace === service.metadata.namespace)
      continue;
    const spec = asObject(object["spec"]);
    for (const address of asTexts(spec["clusterIPs"])) addresses.add(address);
    for (const port of asObjects(spec["ports"])) {
      if (typeof port["nodePort"] === "number") nodePorts.add(`${asText(port["protocol"])}/${port["nodePort"]}`);
    }
  }
  return { addresses, nodePorts };
}

function allocateAddresses(
  service: KubeObject,
  spec: JsonObject,
  network: ServiceNetwork,
  taken: ReadonlySet<string>,
): void {
  const given = asTexts(spec["clusterIPs"]);
  const single = asText(spec["clusterIP"]);
  const wanted = given.length > 0 ? given : single === "" ? [] : [single];
  const addresses = asTexts(spec["ipFamilies"]).map((family, index) => {
    const asked = wanted[index];
    const range = network.ranges.find((candidate) => `IPv${candidate.family}` === family);
    const at = indexPath("spec.clusterIPs", index);
    if (range === undefined) {
      throw invalidService(service, [
        invalid(indexPath("spec.ipFamilies", index), family, "not configured on this cluster"),
      ]);
    }
    if (asked === undefined || asked === "") return freeAddress(service, range, taken);
    const address = tryParseAddress(asked);
    if (address === undefined) {
      throw invalidService(service, [
        invalid(at, wanted, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
      ]);
    }
    const text = formatAddress(address);
    const offset = address.value - range.value;
    if (address.family !== range.family || offset < 0n || offset >= prefixSize(range)) {
      throw invalidService(service, [
        invalid(
          at,
          wanted,
          `failed to allocate IP ${text}: the provided IP (${text}) is not in the valid range. The range of valid IPs is ${formatAddress(range)}/${range.length}`,
        ),
      ]);
    }
    if (taken.has(text))
      throw invalidService(service, [
        invalid(at, wanted, `failed to allocate IP ${text}: provided IP is already allocated`),
      ]);
    return text;
  });
  spec["clusterIPs"] = addresses;
  spec["clusterIP"] = addresses[0] ?? "";
}

function freeAddress(service: KubeObject, range: Prefix, taken: ReadonlySet<string>): string {
  const seed = BigInt(
    `0x${sha1Hex(`${asText(service.metadata.namespace)}/${asText(service.metadata.name)}`).slice(0, 12)}`,
  );
  // The first address is the API server's; IPv4 ranges also keep the network and broadcast addresses out.
  const usable = prefixSize(range) - (range.family === 4 ? 3n : 2n);
  for (let step = 0n; step < usable && step < 65_536n; step++) {
    const text = formatAddress(addressAt(range, 2n + ((seed + step) % usable)));
    if (!taken.has(text)) return text;
  }
  throw internalError("failed to allocate a serviceIP: range is full");
}

function allocateNodePorts(service: KubeObject, spec: JsonObject, network: ServiceNetwork, taken: Set<string>): void {
  const { first, last } = network.nodePorts;
  const seed = Number.parseInt(
    sha1Hex(`${asText(service.metadata.namespace)}/${asText(service.metadata.name)}`).slice(0, 8),
    16,
  );
  asObjects(spec["ports"]).forEach((port, index) => {
    const at = `${indexPath("spec.ports", index)}.nodePort`;
    const protocol = asText(port["protocol"]);
    const asked = asNumber(port["nodePort"]) ?? 0;
    if (asked !== 0) {
      if (asked < first || asked > last) {
        throw invalidService(service, [
          invalid(at, asked, `provided port is not in the valid range. The range of valid ports is ${first}-${last}`),
        ]);
      }
      if (taken.has(`${protocol}/${asked}`))
        throw invalidService(service, [invalid(at, asked, "provided port is already allocated")]);
      taken.add(`${protocol}/${asked}`);
      return;
    }
    const count = last - first + 1;
    for (let step = 0; step < count; step++) {
      const candidate = first + ((seed + index + step) % count);
      if (taken.has(`${protocol}/${candidate}`)) continue;
      taken.add(`${protocol}/${candidate}`);
      port["nodePort"] = candidate;
      return;
    }
    throw internalError("failed to allocate a nodePort: range is full");
  });
}

const invalidService = (service: KubeObject, errors: Errors): Error =>
  invalidError({ group: "", kind: "Service" }, asText(service.metadata.name), errors);

function validateService(service: KubeObject, errors: Errors): void {
  const spec = asObject(service["spec"]);
  const type = asText(spec["type"]);
  const ports = asObjects(spec["ports"]);
  if (!TYPES.includes(type)) errors.push(notSupported("spec.type", type, TYPES));
  if (type === "ExternalName") {
    if (asText(spec["externalName"]) === "") errors.push(required("spec.externalName"));
  } else if (ports.length === 0 && spec["clusterIP"] !== "None") errors.push(required("spec.ports"));
  if (type !== "ClusterIP" && spec["clusterIP"] === "None") {
    errors.push(invalid("spec.clusterIPs[0]", "None", `may not be set to 'None' for ${type} services`));
  }
  const names = new Set<string>();
  const seen = new Set<string>();
  ports.forEach((port, index) => {
    const at = indexPath("spec.ports", index);
    validateServicePort(port, at, { names, seen, needName: ports.length > 1 }, errors);
  });
  const affinity = asText(spec["sessionAffinity"]);
  if (affinity !== "None" && affinity !== "ClientIP")
    errors.push(notSupported("spec.sessionAffinity", affinity, ["ClientIP", "None"]));
  const policy = asText(spec["ipFamilyPolicy"]);
  if (policy !== "" && !FAMILY_POLICIES.includes(policy))
    errors.push(notSupported("spec.ipFamilyPolicy", policy, FAMILY_POLICIES));
  for (const field of ["internalTrafficPolicy", "externalTrafficPolicy"]) {
    const value = asText(spec[field]);
    if (value !== "" && value !== "Cluster" && value !== "Local")
      errors.push(notSupported(`spec.${field}`, value, ["Cluster", "Local"]));
  }
  if (
    type === "ClusterIP" &&
    asText(spec["externalTrafficPolicy"]) !== "" &&
    asTexts(spec["externalIPs"]).length === 0
  ) {
    errors.push(
      invalid(
        "spec.externalTrafficPolicy",
        spec["externalTrafficPolicy"],
        "may only be set for externally-accessible services",
      ),
    );
  }
  asTexts(spec["externalIPs"]).forEach((text, index) => {
    if (tryParseAddress(text) === undefined) {
      errors.push(
        invalid(
          indexPath("spec.externalIPs", index),
          text,
          "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
      );
    }
  });
}

interface PortsSoFar {
  readonly names: Set<string>;
  readonly seen: Set<string>;
  readonly needName: boolean;
}

function validateServicePort(port: JsonObject, at: string, so: PortsSoFar, errors: Errors): void {
  const name = asText(port["name"]);
  const problem = name === "" ? undefined : labelProblem(name);
  if (name === "" && so.needName) errors.push(required(`${at}.name`));
  else if (problem !== undefined) errors.push(invalid(`${at}.name`, name, problem));
  else if (name !== "" && so.names.has(name)) errors.push(duplicate(`${at}.name`, name));
  so.names.add(name);
  const numberProblem = portProblem(port["port"]);
  if (numberProblem !== undefined) errors.push(invalid(`${at}.port`, port["port"] ?? 0, numberProblem));
  const protocol = asText(port["protocol"]);
  if (!PROTOCOLS.includes(protocol)) errors.push(notSupported(`${at}.protocol`, protocol, PROTOCOLS));
  const target = port["targetPort"];
  if (typeof target === "number") {
    const targetProblem = portProblem(target);
    if (targetProblem !== undefined) errors.push(invalid(`${at}.targetPort`, target, targetProblem));
  } else if (
    typeof target === "string" &&
    label1035Problem(target) !== undefined &&
    labelProblem(target) !== undefined
  ) {
    errors.push(
      invalid(`${at}.targetPort`, target, "must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)"),
    );
  }
  const key = `${protocol}/${String(port["port"])}`;
  if (so.seen.has(key)) errors.push(duplicate(at, { port: port["port"], protocol }));
  so.seen.add(key);
}

/** The well-known service of the API server takes the first address of the range. */
export const kubernetesServiceAddress = (range: Prefix): string => formatAddress(addressAt(range, 1));

export const endpointsStrategy: Strategy = {
  defaults(object) {
    for (const subset of asObjects(object["subsets"]))
      for (const port of asObjects(subset["ports"])) defaultField(port, "protocol", "TCP");
  },
};

const ADDRESS_TYPES = ["FQDN", "IPv4", "IPv6"];

export const endpointSliceStrategy: Strategy = {
  generation: true,
  defaults(object) {
    for (const port of asObjects(object["ports"])) {
      defaultField(port, "name", "");
      defaultField(port, "protocol", "TCP");
    }
    object["endpoints"] ??= [];
  },
  validate(object, errors) {
    const type = asText(object["addressType"]);
    if (type === "") errors.push(required("addressType"));
    else if (!ADDRESS_TYPES.includes(type)) errors.push(notSupported("addressType", type, ADDRESS_TYPES));
    asObjects(object["endpoints"]).forEach((endpoint, index) => {
      const at = indexPath("endpoints", index);
      const addresses = asTexts(endpoint["addresses"]);
      if (addresses.length === 0) errors.push(required(`${at}.addresses`, "must contain at least 1 address"));
      addresses.forEach((text, number) => {
        if (type !== "FQDN" && `IPv${tryParseAddress(text)?.family ?? 0}` !== type) {
          errors.push(invalid(indexPath(`${at}.addresses`, number), text, `must be a valid ${type} address`));
        }
      });
    });
  },
  validateUpdate(object, old, errors) {
    if (!sameJson(object["addressType"], old["addressType"]))
      errors.push(invalid("addressType", object["addressType"], "field is immutable"));
  },
};
