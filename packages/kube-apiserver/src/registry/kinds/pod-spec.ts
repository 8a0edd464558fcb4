/**
 * Defaults and checks of a pod's spec, shared by pods and by the templates of every workload kind.
 * Source: Kubernetes API reference, PodSpec and Container.
 */
import {
  duplicate,
  forbidden,
  indexPath,
  invalid,
  isObject,
  type JsonObject,
  notFound,
  notSupported,
  required,
} from "@calico-ts/schema";
import { asList, asNumber, asObject, asObjects, asText, defaultField, ensureObject } from "../../meta/object.ts";
import { labelProblem, subdomainProblem } from "../names.ts";
import type { Errors } from "../resource.ts";
import { portNameProblem, portProblem, PROTOCOLS } from "./ports.ts";

const CONTAINER_LISTS = ["initContainers", "containers", "ephemeralContainers"] as const;

export function defaultPodSpec(spec: JsonObject): void {
  defaultField(spec, "restartPolicy", "Always");
  defaultField(spec, "dnsPolicy", "ClusterFirst");
  defaultField(spec, "terminationGracePeriodSeconds", 30);
  defaultField(spec, "schedulerName", "default-scheduler");
  ensureObject(spec, "securityContext");
  const account = asText(spec["serviceAccountName"]) || asText(spec["serviceAccount"]);
  if (account !== "") {
    spec["serviceAccountName"] = account;
    spec["serviceAccount"] = account;
  }
  for (const list of CONTAINER_LISTS) {
    for (const container of asObjects(spec[list])) defaultContainer(container, spec["hostNetwork"] === true);
  }
  for (const volume of asObjects(spec["volumes"])) defaultVolume(volume);
}

function defaultContainer(container: JsonObject, hostNetwork: boolean): void {
  defaultField(container, "terminationMessagePath", "/dev/termination-log");
  defaultField(container, "terminationMessagePolicy", "File");
  defaultField(container, "imagePullPolicy", usesLatest(asText(container["image"])) ? "Always" : "IfNotPresent");
  const resources = ensureObject(container, "resources");
  const limits = asObject(resources["limits"]);
  for (const name of Object.keys(limits)) defaultField(ensureObject(resources, "requests"), name, limits[name]);
  for (const port of asObjects(container["ports"])) {
    defaultField(port, "protocol", "TCP");
    if (hostNetwork) defaultField(port, "hostPort", port["containerPort"]);
  }
  for (const probe of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (isObject(container[probe])) defaultProbe(container[probe]);
  }
  for (const variable of asObjects(container["env"])) {
    const field = asObject(variable["valueFrom"])["fieldRef"];
    if (isObject(field)) defaultField(field, "apiVersion", "v1");
  }
}

/** An image without tag and digest, or with the tag latest. */
function usesLatest(image: string): boolean {
  if (image.includes("@")) return false;
  const tag = /:([^:/]+)$/.exec(image)?.[1];
  return tag === undefined || tag === "latest";
}

function defaultProbe(probe: JsonObject): void {
  defaultField(probe, "timeoutSeconds", 1);
  defaultField(probe, "periodSeconds", 10);
  defaultField(probe, "successThreshold", 1);
  defaultField(probe, "failureThreshold", 3);
  if (isObject(probe["httpGet"])) {
    defaultField(probe["httpGet"], "path", "/");
    defaultField(probe["httpGet"], "scheme", "HTTP");
  }
  if (isObject(probe["grpc"])) defaultField(probe["grpc"], "service", "");
}

function defaultVolume(volume: JsonObject): void {
  if (Object.keys(volume).length <= 1) volume["emptyDir"] = {};
  for (const kind of ["configMap", "secret", "downwardAPI", "projected"]) {
    if (isObject(volume[kind])) defaultField(volume[kind], "defaultMode", 420);
  }
  if (isObject(volume["hostPath"])) defaultField(volume["hostPath"], "type", "");
  for (const source of asObjects(asObject(volume["projected"])["sources"])) {
    if (isObject(source["serviceAccountToken"])) defaultField(source["serviceAccountToken"], "expirationSeconds", 3600);
    for (const item of asObjects(asObject(source["downwardAPI"])["items"])) defaultFieldRef(item);
  }
  for (const item of asObjects(asObject(volume["downwardAPI"])["items"])) defaultFieldRef(item);
}

function defaultFieldRef(item: JsonObject): void {
  if (isObject(item["fieldRef"])) defaultField(item["fieldRef"], "apiVersion", "v1");
}

const RESTART_POLICIES = ["Always", "OnFailure", "Never"];
const DNS_POLICIES = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

export function validatePodSpec(spec: JsonObject, path: string, errors: Errors): void {
  const volumes = validateVolumes(spec, path, errors);
  if (asObjects(spec["containers"]).length === 0) errors.push(required(`${path}.containers`));
  const names = new Set<string>();
  for (const list of CONTAINER_LISTS) {
    asObjects(spec[list]).forEach((container, index) => {
      const at = indexPath(`${path}.${list}`, index);
      const name = asText(container["name"]);
      if (names.has(name)) errors.push(duplicate(`${at}.name`, name));
      names.add(name);
      validateContainer(container, at, volumes, errors);
    });
  }
  const restart = asText(spec["restartPolicy"]);
  if (!RESTART_POLICIES.includes(restart))
    errors.push(notSupported(`${path}.restartPolicy`, restart, RESTART_POLICIES));
  const dns = asText(spec["dnsPolicy"]);
  if (!DNS_POLICIES.includes(dns)) errors.push(notSupported(`${path}.dnsPolicy`, dns, DNS_POLICIES));
  const grace = asNumber(spec["terminationGracePeriodSeconds"]);
  if (grace !== undefined && grace < 0) {
    errors.push(invalid(`${path}.terminationGracePeriodSeconds`, grace, "must be greater than or equal to 0"));
  }
  for (const [field, check] of [
    ["nodeName", subdomainProblem],
    ["serviceAccountName", subdomainProblem],
    ["hostname", labelProblem],
  ] as const) {
    const text = asText(spec[field]);
    const problem = text === "" ? undefined : check(text);
    if (problem !== undefined) errors.push(invalid(`${path}.${field}`, text, problem));
  }
}

function validateVolumes(spec: JsonObject, path: string, errors: Errors): ReadonlySet<string> {
  const names = new Set<string>();
  asObjects(spec["volumes"]).forEach((volume, index) => {
    const at = indexPath(`${path}.volumes`, index);
    const name = asText(volume["name"]);
    const problem = name === "" ? undefined : labelProblem(name);
    if (name === "") errors.push(required(`${at}.name`));
    else if (problem !== undefined) errors.push(invalid(`${at}.name`, name, problem));
    else if (names.has(name)) errors.push(duplicate(`${at}.name`, name));
    if (Object.keys(volume).filter((key) => key !== "name").length > 1) {
      errors.push(forbidden(at, "may not specify more than 1 volume type"));
    }
    names.add(name);
  });
  return names;
}

function validateContainer(container: JsonObject, path: string, volumes: ReadonlySet<string>, errors: Errors): void {
  const name = asText(container["name"]);
  const problem = name === "" ? undefined : labelProblem(name);
  if (name === "") errors.push(required(`${path}.name`));
  else if (problem !== undefined) errors.push(invalid(`${path}.name`, name, problem));
  if (asText(container["image"]).trim() === "") errors.push(required(`${path}.image`));
  validateContainerPorts(container, path, errors);
  asObjects(container["env"]).forEach((variable, index) => {
    if (asText(variable["name"]) === "") errors.push(required(`${indexPath(`${path}.env`, index)}.name`));
    if (asText(variable["value"]) !== "" && isObject(variable["valueFrom"])) {
      errors.push(
        invalid(`${indexPath(`${path}.env`, index)}.valueFrom`, "", "may not be specified when `value` is not empty"),
      );
    }
  });
  const mountPaths = new Set<string>();
  asObjects(container["volumeMounts"]).forEach((mount, index) => {
    const at = indexPath(`${path}.volumeMounts`, index);
    const volume = asText(mount["name"]);
    const mountPath = asText(mount["mountPath"]);
    if (!volumes.has(volume)) errors.push(notFound(`${at}.name`, volume));
    if (mountPath === "") errors.push(required(`${at}.mountPath`));
    else if (mountPaths.has(mountPath)) errors.push(invalid(`${at}.mountPath`, mountPath, "must be unique"));
    mountPaths.add(mountPath);
  });
}

function validateContainerPorts(container: JsonObject, path: string, errors: Errors): void {
  const names = new Set<string>();
  asObjects(container["ports"]).forEach((port, index) => {
    const at = indexPath(`${path}.ports`, index);
    const name = asText(port["name"]);
    if (name !== "") {
      const problem = portNameProblem(name);
      if (problem !== undefined) errors.push(invalid(`${at}.name`, name, problem));
      else if (names.has(name)) errors.push(duplicate(`${at}.name`, name));
      names.add(name);
    }
    if (port["containerPort"] === undefined || port["containerPort"] === 0)
      errors.push(required(`${at}.containerPort`));
    else {
      const problem = portProblem(port["containerPort"]);
      if (problem !== undefined) errors.push(invalid(`${at}.containerPort`, port["containerPort"], problem));
    }
    const host = port["hostPort"];
    const hostProblem = host === undefined || host === 0 ? undefined : portProblem(host);
    if (hostProblem !== undefined) errors.push(invalid(`${at}.hostPort`, host, hostProblem));
    const protocol = asText(port["protocol"]);
    if (!PROTOCOLS.includes(protocol)) errors.push(notSupported(`${at}.protocol`, protocol, PROTOCOLS));
  });
}

/** Guaranteed, Burstable or BestEffort, from the requests and limits of the containers. */
export function qosClass(spec: JsonObject): string {
  let any = false;
  let guaranteed = true;
  for (const container of [...asList(spec["containers"]), ...asList(spec["initContainers"])]) {
    const { limits, requests } = asObject(asObject(container)["resources"]) as { limits?: unknown; requests?: unknown };
    for (const name of ["cpu", "memory"]) {
      const limit = asObject(limits)[name];
      const request = asObject(requests)[name];
      if (limit !== undefined || request !== undefined) any = true;
      if (limit === undefined || (request !== undefined && request !== limit)) guaranteed = false;
    }
  }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}
