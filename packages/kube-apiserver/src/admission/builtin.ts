/**
 * The built-in mutations: NamespaceLifecycle, ServiceAccount, DefaultTolerationSeconds, Priority, DefaultIngressClass and
 * DefaultStorageClass are what upstream enables by default and a network needs; of these the last two are left out, since nothing here
 * acts on them.
 */
import { sha1Hex } from "@calico-ts/std";
import type { AdmissionRequest, ApiCore } from "../core.ts";
import { ApiError, forbiddenError, notFoundError } from "../meta/api-error.ts";
import { asObject, asObjects, asText, defaultField, type KubeObject, objectKey } from "../meta/object.ts";
import type { JsonObject } from "@calico-ts/schema";

const TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_SECONDS = 3607;

/** @throws ApiError 404 or 403 when the namespace cannot take a new object. */
export function checkNamespace(core: ApiCore, request: AdmissionRequest): void {
  if (request.operation !== "CREATE" || !request.resource.namespaced || request.namespace === undefined) return;
  const namespace = core.store.collection("/namespaces").get(request.namespace)?.object;
  if (namespace === undefined) throw notFoundError({ group: "", plural: "namespaces" }, request.namespace);
  if (namespace.metadata.deletionTimestamp === undefined) return;
  const why = `unable to create new content in namespace ${request.namespace} because it is being terminated`;
  const { status } = forbiddenError(request.resource, request.name, why);
  throw new ApiError(403, "Forbidden", status.message ?? why, {
    ...status.details,
    causes: [
      {
        reason: "NamespaceTerminating",
        message: `namespace ${request.namespace} is being terminated`,
        field: "metadata.namespace",
      },
    ],
  });
}

export function mutateBuiltin(core: ApiCore, request: AdmissionRequest): void {
  const { object, resource, operation } = request;
  if (
    object === undefined ||
    operation !== "CREATE" ||
    request.subresource !== undefined ||
    resource.collection !== "/pods"
  )
    return;
  injectServiceAccount(core, request, object);
  injectTolerations(object);
  injectPriority(core, request, object);
}

function injectServiceAccount(core: ApiCore, request: AdmissionRequest, pod: KubeObject): void {
  if (pod.metadata.annotations?.["kubernetes.io/config.mirror"] !== undefined) return;
  const spec = asObject(pod["spec"]);
  defaultField(spec, "serviceAccountName", "default");
  if (spec["serviceAccountName"] === "") spec["serviceAccountName"] = "default";
  const name = asText(spec["serviceAccountName"]);
  spec["serviceAccount"] = name;
  const account = core.store.collection("/serviceaccounts").get(objectKey(request.namespace, name))?.object;
  if (account === undefined) {
    throw forbiddenError(
      request.resource,
      request.name,
      `error looking up service account ${request.namespace ?? ""}/${name}: serviceaccount ${JSON.stringify(name)} not found`,
    );
  }
  if (spec["imagePullSecrets"] === undefined && account["imagePullSecrets"] !== undefined) {
    spec["imagePullSecrets"] = structuredClone(account["imagePullSecrets"]);
  }
  const mount = spec["automountServiceAccountToken"] ?? account["automountServiceAccountToken"] ?? true;
  if (mount !== true) return;
  const containers = [...asObjects(spec["initContainers"]), ...asObjects(spec["containers"])];
  const bare = containers.filter(
    (container) => !asObjects(container["volumeMounts"]).some((entry) => entry["mountPath"] === TOKEN_PATH),
  );
  if (bare.length === 0) return;
  const volumes = asObjects(spec["volumes"]);
  const existing = volumes.find((volume) => asText(volume["name"]).startsWith("kube-api-access-"));
  // Named after the pod, so that a repeated request (dry run, webhook reinvocation) makes the same object.
  const volume =
    existing ?? tokenVolume(`kube-api-access-${sha1Hex(`${request.namespace ?? ""}/${request.name}`).slice(0, 5)}`);
  if (existing === undefined) spec["volumes"] = [...volumes, volume];
  for (const container of bare) {
    container["volumeMounts"] = [
      ...asObjects(container["volumeMounts"]),
      { name: volume["name"], readOnly: true, mountPath: TOKEN_PATH },
    ];
  }
}

function tokenVolume(name: string): JsonObject {
  return {
    name,
    projected: {
      sources: [
        { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: "token" } },
        { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
        {
          downwardAPI: {
            items: [{ path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } }],
          },
        },
      ],
      defaultMode: 420,
    },
  };
}

function injectTolerations(pod: KubeObject): void {
  const spec = asObject(pod["spec"]);
  const tolerations = asObjects(spec["tolerations"]);
  for (const condition of ["not-ready", "unreachable"]) {
    const key = `node.kubernetes.io/${condition}`;
    const covered = tolerations.some(
      (toleration) =>
        (toleration["key"] === key || asText(toleration["key"]) === "") &&
        (toleration["effect"] === "NoExecute" || asText(toleration["effect"]) === ""),
    );
    if (!covered) tolerations.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 });
  }
  spec["tolerations"] = tolerations;
}

const SYSTEM_PRIORITIES: { readonly [name: string]: number } = {
  "system-node-critical": 2_000_001_000,
  "system-cluster-critical": 2_000_000_000,
};

function injectPriority(core: ApiCore, request: AdmissionRequest, pod: KubeObject): void {
  const spec = asObject(pod["spec"]);
  const classes = core.store.collection("scheduling.k8s.io/priorityclasses");
  let name = asText(spec["priorityClassName"]);
  let chosen: KubeObject | undefined;
  if (name === "") {
    chosen = [...classes.values()].map((stored) => stored.object).find((object) => object["globalDefault"] === true);
    name = chosen?.metadata.name ?? "";
    if (name !== "") spec["priorityClassName"] = name;
  } else {
    chosen = classes.get(name)?.object;
    if (chosen === undefined && SYSTEM_PRIORITIES[name] === undefined) {
      throw forbiddenError(request.resource, request.name, `no PriorityClass with name ${name} was found`);
    }
  }
  spec["priority"] = chosen?.["value"] ?? SYSTEM_PRIORITIES[name] ?? 0;
  defaultField(spec, "preemptionPolicy", chosen?.["preemptionPolicy"] ?? "PreemptLowerPriority");
}
