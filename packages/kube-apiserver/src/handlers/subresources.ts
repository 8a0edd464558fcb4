/** Subresources that are more than a part of the object: scale, binding, eviction, token, log, finalize, approval. */
import { formatLabelSelector, isObject, type JsonObject, labelSelectorOf, matchesLabels } from "@calico-ts/schema";
import {
  ApiError,
  badRequest,
  conflictError,
  forbiddenError,
  invalidError,
  methodNotAllowed,
  notFoundError,
  pathNotFound,
  successStatus,
} from "../meta/api-error.ts";
import {
  asNumber,
  asObject,
  asObjects,
  asText,
  asTexts,
  ensureObject,
  type KubeObject,
  objectKey,
  timestamp,
  valueAt,
} from "../meta/object.ts";
import { deleteObject, parseDeleteOptions } from "../objects/delete.ts";
import { updateObject } from "../objects/update.ts";
import { mergePatch, patchType } from "../patch/patch.ts";
import jsonPatch, { type Operation } from "fast-json-patch";
import type { ScalePaths } from "../registry/resource.ts";
import { DEFAULT_AUDIENCE } from "../auth/tokens.ts";
import type { Exchange } from "./exchange.ts";
import { handleLog } from "./log.ts";
import { handleGet } from "./read.ts";
import { handlePatch, handleUpdate, type Target, writeRequest } from "./write.ts";

type Handler = (exchange: Exchange, target: Target, verb: string) => Promise<void> | void;

const HANDLERS: { readonly [subresource: string]: Handler } = {
  status: part,
  approval: part,
  finalize: part,
  ephemeralcontainers: part,
  scale,
  binding,
  eviction,
  token,
  log: handleLog,
};

const UNSUPPORTED = new Set(["exec", "attach", "portforward", "proxy"]);

export async function handleSubresource(exchange: Exchange, target: Target, verb: string): Promise<void> {
  const name = target.subresource ?? "";
  const { resource } = target;
  if (
    UNSUPPORTED.has(name) &&
    (resource.collection === "/pods" || resource.collection === "/nodes" || resource.collection === "/services")
  ) {
    throw new ApiError(
      501,
      "NotImplemented",
      `${resource.plural}/${name} is not implemented by this API server; run the command with the simulator's exec instead`,
    );
  }
  const handler = resource.subresources.includes(name) ? HANDLERS[name] : undefined;
  if (handler === undefined) throw pathNotFound();
  await handler(exchange, target, verb);
}

async function part(exchange: Exchange, target: Target, verb: string): Promise<void> {
  switch (verb) {
    case "get":
      handleGet(exchange, target.resource, target.namespace, target.name);
      return;
    case "update":
      await handleUpdate(exchange, target);
      return;
    case "patch":
      await handlePatch(exchange, target);
      return;
    default:
      throw methodNotAllowed(target.resource, verb);
  }
}

function scaleOf(object: KubeObject, paths: ScalePaths): JsonObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = paths.labelSelector === undefined ? undefined : valueAt(object, paths.labelSelector);
  const flat =
    isObject(selector) && selector["matchLabels"] === undefined && selector["matchExpressions"] === undefined;
  const text =
    typeof selector === "string"
      ? selector
      : formatLabelSelector(labelSelectorOf(flat ? { matchLabels: selector } : selector) ?? []);
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), uid, resourceVersion, creationTimestamp },
    spec: { replicas: asNumber(valueAt(object, paths.specReplicas)) ?? 0 },
    status: {
      replicas: asNumber(valueAt(object, paths.statusReplicas)) ?? 0,
      ...(text === "" ? {} : { selector: text }),
    },
  };
}

async function scale(exchange: Exchange, target: Target, verb: string): Promise<void> {
  const { resource, namespace, name } = target;
  const paths = resource.scale;
  if (paths === undefined) throw pathNotFound();
  const stored = exchange.core.store.collection(resource.collection).get(objectKey(namespace, name));
  if (stored === undefined) throw notFoundError(resource, name);
  if (verb === "get") {
    exchange.sendJson(200, JSON.stringify(scaleOf(stored.object, paths)));
    return;
  }
  if (verb !== "update" && verb !== "patch") throw methodNotAllowed(resource, verb);
  const body = await exchange.readValue();
  const request = writeRequest(exchange, resource, namespace, "scale");
  const updated = await updateObject(request, name, {
    retry: true,
    produce(current) {
      const before = scaleOf(current, paths);
      const wanted = verb === "update" ? body : patchedScale(exchange, target, before, body);
      const version = asText(asObject(asObject(wanted)["metadata"])["resourceVersion"]);
      if (version !== "" && version !== current.metadata.resourceVersion) {
        throw conflictError(
          resource,
          name,
          "the object has been modified; please apply your changes to the latest version and try again",
        );
      }
      const replicas = asNumber(asObject(asObject(wanted)["spec"])["replicas"]) ?? 0;
      if (replicas < 0) {
        throw invalidError({ group: "autoscaling", kind: "Scale" }, name, [
          { path: "spec.replicas", type: "Invalid", value: replicas, message: "must be greater than or equal to 0" },
        ]);
      }
      let parent: JsonObject = current;
      for (const step of paths.specReplicas.slice(0, -1)) parent = ensureObject(parent, step);
      parent[paths.specReplicas.at(-1) ?? "replicas"] = replicas;
      return current;
    },
  });
  exchange.sendJson(200, JSON.stringify(scaleOf(updated.object, paths)));
}

function patchedScale(exchange: Exchange, target: Target, before: JsonObject, patch: unknown): unknown {
  const type = patchType(exchange.request.headers["content-type"], { ...target.resource, structural: undefined });
  if (type !== "json") return mergePatch(before, patch);
  if (!Array.isArray(patch)) throw badRequest("error decoding patch");
  try {
    return jsonPatch.applyPatch(before, patch as Operation[], true, false).newDocument;
  } catch (error) {
    throw new ApiError(
      422,
      "Invalid",
      `the server rejected our request due to an error in our request: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : ""}`,
      {},
    );
  }
}

async function binding(exchange: Exchange, target: Target, verb: string): Promise<void> {
  if (verb !== "create") throw methodNotAllowed(target.resource, verb);
  await bindPod(exchange, target, await exchange.readValue());
}

/** Puts a pod on a node: what the scheduler does. */
export async function bindPod(exchange: Exchange, target: Target, body: unknown): Promise<void> {
  const { resource, namespace, name } = target;
  const node = asText(asObject(asObject(body)["target"])["name"]);
  if (node === "")
    throw invalidError({ group: "", kind: "Binding" }, name, [
      { path: "target.name", type: "Required", value: "", message: "" },
    ]);
  await updateObject(writeRequest(exchange, resource, namespace, "binding"), name, {
    retry: true,
    produce(pod) {
      const spec = ensureObject(pod, "spec");
      if (asText(spec["nodeName"]) !== "") {
        throw conflictError(
          { group: "", plural: "pods/binding" },
          name,
          `pod ${name} is already assigned to node ${JSON.stringify(asText(spec["nodeName"]))}`,
        );
      }
      if (pod.metadata.deletionTimestamp !== undefined) {
        throw conflictError(
          { group: "", plural: "pods/binding" },
          name,
          `pod ${name} is being deleted, cannot be assigned to a host`,
        );
      }
      spec["nodeName"] = node;
      return pod;
    },
  });
  await updateObject(writeRequest(exchange, resource, namespace, "status"), name, {
    retry: true,
    produce(pod) {
      const status = ensureObject(pod, "status");
      const others = asObjects(status["conditions"]).filter((condition) => condition["type"] !== "PodScheduled");
      status["conditions"] = [
        ...others,
        {
          type: "PodScheduled",
          status: "True",
          lastProbeTime: null,
          lastTransitionTime: timestamp(exchange.core.now()),
        },
      ];
      return pod;
    },
  });
  exchange.sendStatus({ ...successStatus(), code: 201 });
}

async function eviction(exchange: Exchange, target: Target, verb: string): Promise<void> {
  if (verb !== "create") throw methodNotAllowed(target.resource, verb);
  const { core } = exchange;
  const { resource, namespace, name } = target;
  const body = asObject(await exchange.readValue());
  const pod = core.store.collection("/pods").get(objectKey(namespace, name))?.object;
  if (pod === undefined) throw notFoundError(resource, name);
  const phase = asText(asObject(pod["status"])["phase"]);
  const counts =
    phase !== "Succeeded" && phase !== "Failed" && phase !== "Pending" && pod.metadata.deletionTimestamp === undefined;
  for (const { object } of counts ? core.store.collection("policy/poddisruptionbudgets").list(namespace ?? "") : []) {
    const requirements = labelSelectorOf(asObject(object["spec"])["selector"]);
    if (requirements === undefined || !matchesLabels(requirements, pod.metadata.labels)) continue;
    if ((asNumber(asObject(object["status"])["disruptionsAllowed"]) ?? 0) > 0) continue;
    const budget = object.metadata.name ?? "";
    throw new ApiError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", {
      causes: [
        {
          reason: "DisruptionBudget",
          message: `The disruption budget ${budget} needs ${asNumber(asObject(object["status"])["desiredHealthy"]) ?? 0} healthy pods and has ${asNumber(asObject(object["status"])["currentHealthy"]) ?? 0} currently`,
        },
      ],
    });
  }
  await deleteObject(
    writeRequest(exchange, resource, namespace),
    name,
    parseDeleteOptions(body["deleteOptions"], new URLSearchParams()),
  );
  exchange.sendStatus({ ...successStatus(), code: 201 });
}

const MIN_EXPIRATION = 600;
const MAX_EXPIRATION = 2 ** 32;

async function token(exchange: Exchange, target: Target, verb: string): Promise<void> {
  const { resource, namespace = "", name } = target;
  if (verb !== "create") throw methodNotAllowed(resource, verb);
  const { core } = exchange;
  const body = asObject(await exchange.readValue());
  const spec = asObject(body["spec"]);
  const account = core.store.collection("/serviceaccounts").get(objectKey(namespace, name));
  if (account === undefined) throw notFoundError(resource, name);
  const seconds = asNumber(spec["expirationSeconds"]) ?? 3600;
  if (seconds < MIN_EXPIRATION || seconds > MAX_EXPIRATION) {
    const why =
      seconds < MIN_EXPIRATION
        ? "may not specify a duration less than 10 minutes"
        : "may not specify a duration larger than 2^32 seconds";
    throw invalidError({ group: "authentication.k8s.io", kind: "TokenRequest" }, "", [
      { path: "spec.expirationSeconds", type: "Invalid", value: seconds, message: why },
    ]);
  }
  const audiences = asTexts(spec["audiences"]);
  const bound = boundObject(exchange, namespace, asObject(spec["boundObjectRef"]));
  const issued = await core.tokens.issue({
    namespace,
    account: name,
    audiences,
    expirationSeconds: seconds,
    ...(bound === undefined ? {} : { bound }),
  });
  exchange.sendJson(
    201,
    JSON.stringify({
      kind: "TokenRequest",
      apiVersion: "authentication.k8s.io/v1",
      metadata: { name, namespace, creationTimestamp: timestamp(core.now()) },
      spec: {
        audiences: audiences.length === 0 ? [DEFAULT_AUDIENCE] : audiences,
        expirationSeconds: seconds,
        boundObjectRef: spec["boundObjectRef"] ?? null,
      },
      status: { token: issued.token, expirationTimestamp: timestamp(issued.expires) },
    }),
  );
}

function boundObject(
  exchange: Exchange,
  namespace: string,
  reference: JsonObject,
): { kind: string; name: string; uid: string } | undefined {
  const kind = asText(reference["kind"]);
  if (kind === "") return undefined;
  const name = asText(reference["name"]);
  if (kind !== "Pod" && kind !== "Secret")
    throw badRequest(`cannot bind token for serviceaccount to an object of type ${kind}`);
  const resource = { group: "", plural: kind === "Pod" ? "pods" : "secrets" };
  const object = exchange.core.store.collection(`/${resource.plural}`).get(objectKey(namespace, name))?.object;
  if (object === undefined) throw notFoundError(resource, name);
  const uid = object.metadata.uid ?? "";
  const asked = asText(reference["uid"]);
  if (asked !== "" && asked !== uid) {
    throw conflictError(
      resource,
      name,
      `the UID in the bound object reference (${asked}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  }
  if (kind === "Pod") checkPodAccount(exchange, object, name);
  return { kind, name, uid };
}

function checkPodAccount({ info }: Exchange, pod: KubeObject, name: string): void {
  const account = asText(asObject(pod["spec"])["serviceAccountName"]);
  const asked = info.kind === "resource" ? (info.name ?? "") : "";
  if (account !== asked) {
    throw forbiddenError(
      { group: "", plural: "serviceaccounts" },
      asked,
      `cannot bind token for serviceaccount ${JSON.stringify(asked)} to pod running with different serviceaccount name (pod ${name})`,
    );
  }
}
