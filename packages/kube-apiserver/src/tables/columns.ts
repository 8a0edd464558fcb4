/** Printer columns of the built-in kinds after the name, as `kubectl get` and `-o wide` show them. */
import { formatQuantity, parseQuantity } from "@calico-ts/schema";
import { asList, asNumber, asObject, asObjects, asText, asTexts, type KubeObject, valueAt } from "../meta/object.ts";
import type { Column } from "../registry/resource.ts";
import { ageOf, firstThree, humanDuration, labelsText, orNone, selectorText } from "./format.ts";
import { podColumns } from "./pod-columns.ts";

type Value = Column["value"];

const text = (name: string, value: Value, priority = 0): Column => ({ name, type: "string", priority, value });
const count = (name: string, value: Value): Column => ({ name, type: "integer", value });
const at =
  (...path: readonly string[]): ((object: KubeObject) => string) =>
  (object) =>
    asText(valueAt(object, path));
const number =
  (...path: readonly string[]): ((object: KubeObject) => number) =>
  (object) =>
    asNumber(valueAt(object, path)) ?? 0;
const plain = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
const show =
  (...path: readonly string[]): Value =>
  (object) => {
    const value = valueAt(object, path);
    return value === undefined ? "<none>" : plain(value);
  };

const age = text("Age", (object, now) => ageOf(object.metadata.creationTimestamp, now));
const created = text("Created At", (object) => asText(object.metadata.creationTimestamp));

const podSpec = (object: KubeObject): unknown => valueAt(object, ["spec", "template", "spec"]);
const containers = text(
  "Containers",
  (object) =>
    asObjects(asObject(podSpec(object))["containers"])
      .map((c) => asText(c["name"]))
      .join(","),
  1,
);
const images = text(
  "Images",
  (object) =>
    asObjects(asObject(podSpec(object))["containers"])
      .map((c) => asText(c["image"]))
      .join(","),
  1,
);
const selector = text("Selector", (object) => selectorText(valueAt(object, ["spec", "selector"])), 1);
const size = (value: unknown): number => Object.keys(asObject(value)).length;

function servicePorts(service: KubeObject): string {
  const ports = asObjects(valueAt(service, ["spec", "ports"])).map((port) => {
    const node = asNumber(port["nodePort"]) ?? 0;
    return `${String(port["port"])}${node === 0 ? "" : `:${node}`}/${asText(port["protocol"])}`;
  });
  return orNone(ports.join(","));
}

function externalAddress(service: KubeObject): string {
  const spec = asObject(service["spec"]);
  const external = asTexts(spec["externalIPs"]);
  const ingress = asObjects(valueAt(service, ["status", "loadBalancer", "ingress"])).map(
    (item) => asText(item["ip"]) || asText(item["hostname"]),
  );
  switch (spec["type"]) {
    case "ExternalName":
      return asText(spec["externalName"]);
    case "LoadBalancer":
      return [...ingress, ...external].join(",") || "<pending>";
    default:
      return external.join(",") || "<none>";
  }
}

function nodeStatus(node: KubeObject): string {
  const ready = asObjects(valueAt(node, ["status", "conditions"])).find((condition) => condition["type"] === "Ready");
  const word = ready === undefined ? "Unknown" : ready["status"] === "True" ? "Ready" : "NotReady";
  return valueAt(node, ["spec", "unschedulable"]) === true ? `${word},SchedulingDisabled` : word;
}

function nodeRoles(node: KubeObject): string {
  const prefix = "node-role.kubernetes.io/";
  const roles = Object.entries(node.metadata.labels ?? {}).flatMap(([key, value]) => {
    if (key.startsWith(prefix)) return key.length > prefix.length ? [key.slice(prefix.length)] : [];
    return key === "kubernetes.io/role" && value !== "" ? [value] : [];
  });
  return orNone([...new Set(roles)].toSorted().join(","));
}

const nodeAddress =
  (type: string): Value =>
  (node) =>
    orNone(
      asText(
        asObjects(valueAt(node, ["status", "addresses"])).find((address) => address["type"] === type)?.["address"],
      ),
    );

function endpointsText(object: KubeObject): string {
  const list = asObjects(object["subsets"]).flatMap((subset) =>
    asObjects(subset["addresses"]).flatMap((address) => {
      const ports = asObjects(subset["ports"]);
      const ip = asText(address["ip"]);
      return ports.length === 0
        ? [ip]
        : ports.map((port) => `${ip.includes(":") ? `[${ip}]` : ip}:${String(port["port"])}`);
    }),
  );
  return firstThree(list);
}

function slicePorts(object: KubeObject): string {
  const ports = asObjects(object["ports"]).map((port) =>
    port["port"] === undefined ? "*" : String(port["port"] as number),
  );
  return ports.length === 0 ? "<unset>" : firstThree(ports);
}

function jobStatus(job: KubeObject): string {
  const conditions = asObjects(valueAt(job, ["status", "conditions"])).filter(
    (condition) => condition["status"] === "True",
  );
  const has = (type: string): boolean => conditions.some((condition) => condition["type"] === type);
  if (has("Complete")) return "Complete";
  if (has("Failed")) return "Failed";
  if (job.metadata.deletionTimestamp !== undefined) return "Terminating";
  if (has("Suspended")) return "Suspended";
  if (has("FailureTarget")) return "FailureTarget";
  return has("SuccessCriteriaMet") ? "SuccessCriteriaMet" : "Running";
}

function jobCompletions(job: KubeObject): string {
  const done = number("status", "succeeded")(job);
  const wanted = valueAt(job, ["spec", "completions"]);
  if (wanted !== undefined) return `${done}/${plain(wanted)}`;
  const parallel = number("spec", "parallelism")(job);
  return parallel > 1 ? `${done}/1 of ${parallel}` : `${done}/1`;
}

function jobDuration(job: KubeObject, now: number): string {
  const start = Date.parse(at("status", "startTime")(job));
  const end = Date.parse(at("status", "completionTime")(job));
  return Number.isNaN(start) ? "" : humanDuration((Number.isNaN(end) ? now : end) - start);
}

function eventObject(event: KubeObject): string {
  const involved = asObject(event["involvedObject"] ?? event["regarding"]);
  return `${asText(involved["kind"]).toLowerCase()}/${asText(involved["name"])}`;
}

const eventSeen: Value = (event, now) => {
  const series = asText(asObject(event["series"])["lastObservedTime"]);
  const when =
    series ||
    asText(event["lastTimestamp"]) ||
    asText(event["deprecatedLastTimestamp"]) ||
    asText(event["eventTime"]) ||
    asText(event.metadata.creationTimestamp);
  return ageOf(when, now);
};

const events: readonly Column[] = [
  text("Last Seen", eventSeen),
  text("Type", at("type")),
  text("Reason", at("reason")),
  text("Object", eventObject),
  text("Subobject", (event) => asText(asObject(event["involvedObject"] ?? event["regarding"])["fieldPath"]), 1),
  text(
    "Source",
    (event) =>
      asText(asObject(event["source"])["component"]) ||
      asText(event["reportingComponent"]) ||
      asText(event["reportingController"]),
    1,
  ),
  text("Message", (event) => asText(event["message"] ?? event["note"]).trim()),
  text(
    "First Seen",
    (event, now) => ageOf(event["firstTimestamp"] ?? event["eventTime"] ?? event.metadata.creationTimestamp, now),
    1,
  ),
  { name: "Count", type: "string", priority: 1, value: (event) => String(asNumber(event["count"]) ?? 1) },
  text("Name", (event) => asText(event.metadata.name), 1),
];

function policySelector(object: KubeObject): string {
  return selectorText(valueAt(object, ["spec", "podSelector"]));
}

function ingressHosts(ingress: KubeObject): string {
  const hosts = asObjects(valueAt(ingress, ["spec", "rules"])).map((rule) => asText(rule["host"]) || "*");
  return hosts.length === 0 ? "*" : firstThree(hosts);
}

const addresses = (object: KubeObject): string =>
  asObjects(valueAt(object, ["status", "loadBalancer", "ingress"]))
    .map((item) => asText(item["ip"]) || asText(item["hostname"]))
    .join(",");

function subjects(kind: string): Value {
  return (binding) =>
    asObjects(binding["subjects"])
      .filter((subject) => subject["kind"] === kind)
      .map((subject) =>
        kind === "ServiceAccount"
          ? `${asText(subject["namespace"])}/${asText(subject["name"])}`
          : asText(subject["name"]),
      )
      .join(", ");
}

const bindings: readonly Column[] = [
  text("Role", (binding) => `${at("roleRef", "kind")(binding)}/${at("roleRef", "name")(binding)}`),
  age,
  text("Users", subjects("User"), 1),
  text("Groups", subjects("Group"), 1),
  text("ServiceAccounts", subjects("ServiceAccount"), 1),
];

function quotaText(prefixed: boolean): Value {
  return (quota) => {
    const hard = asObject(valueAt(quota, ["status", "hard"]));
    const used = asObject(valueAt(quota, ["status", "used"]));
    return Object.keys(hard)
      .toSorted()
      .filter((name) => name.startsWith("limits.") === prefixed)
      .map((name) => `${name}: ${asText(used[name]) || "0"}/${asText(hard[name])}`)
      .join(", ");
  };
}

const modes: { readonly [mode: string]: string } = {
  ReadWriteOnce: "RWO",
  ReadOnlyMany: "ROX",
  ReadWriteMany: "RWX",
  ReadWriteOncePod: "RWOP",
};
const accessModes = (object: KubeObject): string =>
  asTexts(valueAt(object, ["spec", "accessModes"]))
    .map((mode) => modes[mode] ?? mode)
    .join(",");

const capacity =
  (...path: readonly string[]): Value =>
  (object) => {
    const quantity = parseQuantity(asText(valueAt(object, path)));
    return quantity === undefined ? "" : formatQuantity(quantity);
  };

const readyOf = (object: KubeObject): string =>
  `${number("status", "readyReplicas")(object)}/${number("spec", "replicas")(object)}`;
const replicaColumns: readonly Column[] = [
  count("Desired", number("spec", "replicas")),
  count("Current", number("status", "replicas")),
  count("Ready", number("status", "readyReplicas")),
  age,
  containers,
  images,
  selector,
];
const webhooks: readonly Column[] = [count("Webhooks", (object) => asList(object["webhooks"]).length), age];

export const COLUMNS: { readonly [collection: string]: readonly Column[] } = {
  "/pods": podColumns,
  "/services": [
    text("Type", at("spec", "type")),
    text("Cluster-IP", (service) => orNone(at("spec", "clusterIP")(service))),
    text("External-IP", externalAddress),
    text("Port(s)", servicePorts),
    age,
    text("Selector", (service) => labelsText(valueAt(service, ["spec", "selector"])), 1),
  ],
  "/namespaces": [text("Status", at("status", "phase")), age],
  "/nodes": [
    text("Status", nodeStatus),
    text("Roles", nodeRoles),
    age,
    text("Version", at("status", "nodeInfo", "kubeletVersion")),
    text("Internal-IP", nodeAddress("InternalIP"), 1),
    text("External-IP", nodeAddress("ExternalIP"), 1),
    text("OS-Image", (node) => at("status", "nodeInfo", "osImage")(node) || "<unknown>", 1),
    text("Kernel-Version", (node) => at("status", "nodeInfo", "kernelVersion")(node) || "<unknown>", 1),
    text("Container-Runtime", (node) => at("status", "nodeInfo", "containerRuntimeVersion")(node) || "<unknown>", 1),
  ],
  "/configmaps": [count("Data", (object) => size(object["data"]) + size(object["binaryData"])), age],
  "/secrets": [text("Type", at("type")), count("Data", (object) => size(object["data"])), age],
  "/serviceaccounts": [count("Secrets", (object) => asList(object["secrets"]).length), age],
  "/endpoints": [text("Endpoints", endpointsText), age],
  "/events": events,
  "events.k8s.io/events": events,
  "/replicationcontrollers": [
    ...replicaColumns.slice(0, -1),
    text("Selector", (object) => labelsText(valueAt(object, ["spec", "selector"])), 1),
  ],
  "/limitranges": [created],
  "/resourcequotas": [text("Request", quotaText(false)), text("Limit", quotaText(true)), age],
  "/persistentvolumes": [
    text("Capacity", capacity("spec", "capacity", "storage")),
    text("Access Modes", accessModes),
    text("Reclaim Policy", at("spec", "persistentVolumeReclaimPolicy")),
    text("Status", at("status", "phase")),
    text("Claim", (object) => {
      const claim = asObject(valueAt(object, ["spec", "claimRef"]));
      return claim["name"] === undefined ? "" : `${asText(claim["namespace"])}/${asText(claim["name"])}`;
    }),
    text("StorageClass", at("spec", "storageClassName")),
    text("VolumeAttributesClass", (object) => at("spec", "volumeAttributesClassName")(object) || "<unset>"),
    text("Reason", at("status", "reason")),
    age,
  ],
  "/persistentvolumeclaims": [
    text("Status", at("status", "phase")),
    text("Volume", at("spec", "volumeName")),
    text("Capacity", capacity("status", "capacity", "storage")),
    text("Access Modes", accessModes),
    text("StorageClass", at("spec", "storageClassName")),
    text("VolumeAttributesClass", (object) => at("spec", "volumeAttributesClassName")(object) || "<unset>"),
    age,
  ],
  "apps/deployments": [
    text("Ready", readyOf),
    count("Up-to-date", number("status", "updatedReplicas")),
    count("Available", number("status", "availableReplicas")),
    age,
    containers,
    images,
    selector,
  ],
  "apps/replicasets": replicaColumns,
  "apps/daemonsets": [
    count("Desired", number("status", "desiredNumberScheduled")),
    count("Current", number("status", "currentNumberScheduled")),
    count("Ready", number("status", "numberReady")),
    count("Up-to-date", number("status", "updatedNumberScheduled")),
    count("Available", number("status", "numberAvailable")),
    text("Node Selector", (object) => labelsText(asObject(podSpec(object))["nodeSelector"])),
    age,
    containers,
    images,
    selector,
  ],
  "apps/statefulsets": [text("Ready", readyOf), age, containers, images],
  "apps/controllerrevisions": [
    text("Controller", (object) => {
      const owner = asObjects(object.metadata.ownerReferences).find((reference) => reference["controller"] === true);
      return owner === undefined ? "<none>" : `${asText(owner["kind"]).toLowerCase()}.apps/${asText(owner["name"])}`;
    }),
    count("Revision", number("revision")),
    age,
  ],
  "batch/jobs": [
    text("Status", jobStatus),
    text("Completions", jobCompletions),
    text("Duration", jobDuration),
    age,
    containers,
    images,
    selector,
  ],
  "batch/cronjobs": [
    text("Schedule", at("spec", "schedule")),
    text("Timezone", show("spec", "timeZone")),
    {
      name: "Suspend",
      type: "boolean",
      value: (object) => (String(valueAt(object, ["spec", "suspend"]) === true) === "true" ? "True" : "False"),
    },
    count("Active", (object) => asList(valueAt(object, ["status", "active"])).length),
    text("Last Schedule", (object, now) => {
      const last = at("status", "lastScheduleTime")(object);
      return last === "" ? "<none>" : ageOf(last, now);
    }),
    age,
  ],
  "autoscaling/horizontalpodautoscalers": [
    text(
      "Reference",
      (object) => `${at("spec", "scaleTargetRef", "kind")(object)}/${at("spec", "scaleTargetRef", "name")(object)}`,
    ),
    text("Targets", () => "<unknown>"),
    text("MinPods", show("spec", "minReplicas")),
    count("MaxPods", number("spec", "maxReplicas")),
    count("Replicas", number("status", "currentReplicas")),
    age,
  ],
  "networking.k8s.io/networkpolicies": [text("Pod-Selector", policySelector), age],
  "networking.k8s.io/ingresses": [
    text("Class", show("spec", "ingressClassName")),
    text("Hosts", ingressHosts),
    text("Address", addresses),
    text("Ports", (object) => (asList(valueAt(object, ["spec", "tls"])).length > 0 ? "80, 443" : "80")),
    age,
  ],
  "networking.k8s.io/ingressclasses": [
    text("Controller", at("spec", "controller")),
    text("Parameters", (object) => {
      const parameters = asObject(valueAt(object, ["spec", "parameters"]));
      return parameters["name"] === undefined
        ? "<none>"
        : `${asText(parameters["kind"])}/${asText(parameters["name"])}`;
    }),
    age,
  ],
  "discovery.k8s.io/endpointslices": [
    text("AddressType", at("addressType")),
    text("Ports", slicePorts),
    text("Endpoints", (object) => {
      const list = asObjects(object["endpoints"]).flatMap((endpoint) => asTexts(endpoint["addresses"]));
      return list.length === 0 ? "<unset>" : firstThree(list);
    }),
    age,
  ],
  "policy/poddisruptionbudgets": [
    text("Min Available", (object) =>
      String((valueAt(object, ["spec", "minAvailable"]) as string | number | undefined) ?? "N/A"),
    ),
    text("Max Unavailable", (object) =>
      String((valueAt(object, ["spec", "maxUnavailable"]) as string | number | undefined) ?? "N/A"),
    ),
    count("Allowed Disruptions", number("status", "disruptionsAllowed")),
    age,
  ],
  "rbac.authorization.k8s.io/roles": [created],
  "rbac.authorization.k8s.io/clusterroles": [created],
  "rbac.authorization.k8s.io/rolebindings": bindings,
  "rbac.authorization.k8s.io/clusterrolebindings": bindings,
  "coordination.k8s.io/leases": [text("Holder", at("spec", "holderIdentity")), age],
  "scheduling.k8s.io/priorityclasses": [
    count("Value", number("value")),
    { name: "Global-Default", type: "boolean", value: (object) => object["globalDefault"] === true },
    age,
    text("PreemptionPolicy", at("preemptionPolicy")),
  ],
  "storage.k8s.io/storageclasses": [
    text("Provisioner", at("provisioner")),
    text("ReclaimPolicy", at("reclaimPolicy")),
    text("VolumeBindingMode", at("volumeBindingMode")),
    {
      name: "AllowVolumeExpansion",
      type: "string",
      value: (object) => String(object["allowVolumeExpansion"] === true),
    },
    age,
  ],
  "apiextensions.k8s.io/customresourcedefinitions": [created],
  "admissionregistration.k8s.io/mutatingwebhookconfigurations": webhooks,
  "admissionregistration.k8s.io/validatingwebhookconfigurations": webhooks,
};

export const DEFAULT_COLUMNS: readonly Column[] = [age];
