/** Asks one admission webhook over HTTPS (admission.k8s.io/v1 AdmissionReview) and reads its answer. */
import { randomUUID } from "node:crypto";
import { request as httpsRequest } from "node:https";
import { isObject, type JsonObject } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import type { AdmissionRequest, ApiCore } from "../core.ts";
import { asNumber, asObject, asText, asTexts, objectKey } from "../meta/object.ts";

export interface Verdict {
  readonly allowed: boolean;
  readonly status: JsonObject;
  /** RFC 6902 operations. */
  readonly patch: readonly unknown[] | undefined;
  readonly warnings: readonly string[];
}

interface Target {
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly serverName: string;
  readonly ca: string | undefined;
}

const MAX_ANSWER = 16 * 1024 * 1024;

/** @throws CalicoError UNAVAILABLE, TIMEOUT or BAD_INPUT */
export async function callWebhook(core: ApiCore, webhook: JsonObject, request: AdmissionRequest): Promise<Verdict> {
  const target = targetOf(core, asObject(webhook["clientConfig"]));
  const uid = randomUUID();
  const body = JSON.stringify({
    kind: "AdmissionReview",
    apiVersion: "admission.k8s.io/v1",
    request: reviewOf(request, uid),
  });
  const timeoutMs = (asNumber(webhook["timeoutSeconds"]) ?? 10) * 1000;
  const answer = await post(target, body, timeoutMs);
  const review: unknown = parseJson(answer);
  const response = asObject(asObject(review)["response"]);
  if (response["uid"] !== uid)
    throw new CalicoError(
      "BAD_INPUT",
      `expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(response["uid"])}`,
    );
  const encoded = asText(response["patch"]);
  const patch: unknown = encoded === "" ? undefined : parseJson(Buffer.from(encoded, "base64").toString("utf8"));
  if (patch !== undefined && (!Array.isArray(patch) || response["patchType"] !== "JSONPatch")) {
    throw new CalicoError("BAD_INPUT", "webhook response's patch must be a JSONPatch");
  }
  return {
    allowed: response["allowed"] === true,
    status: asObject(response["status"]),
    patch: Array.isArray(patch) ? (patch as unknown[]) : undefined,
    warnings: asTexts(response["warnings"]),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new CalicoError("BAD_INPUT", "the webhook's answer is not JSON", { cause: error });
  }
}

function targetOf(core: ApiCore, client: JsonObject): Target {
  const bundle = asText(client["caBundle"]);
  const ca = bundle === "" ? undefined : Buffer.from(bundle, "base64").toString("utf8");
  const service = client["service"];
  if (isObject(service)) {
    const name = asText(service["name"]);
    const namespace = asText(service["namespace"]);
    const stored = core.store.collection("/services").get(objectKey(namespace, name))?.object;
    const host = asText(asObject(stored?.["spec"])["clusterIP"]);
    if (host === "" || host === "None")
      throw new CalicoError("UNAVAILABLE", `service ${JSON.stringify(name)} not found`);
    const port = asNumber(service["port"]) ?? 443;
    const path = asText(service["path"]) || "/";
    const serverName = `${name}.${namespace}.svc`;
    return { url: `https://${serverName}:${port}${path}`, host, port, path, serverName, ca };
  }
  const text = asText(client["url"]);
  if (!URL.canParse(text))
    throw new CalicoError("BAD_INPUT", `the webhook's url is malformed: ${JSON.stringify(text)}`);
  const url = new URL(text);
  const host = url.hostname.replaceAll(/^\[|\]$/g, "");
  return {
    url: text,
    host,
    port: url.port === "" ? 443 : Number(url.port),
    path: `${url.pathname}${url.search}`,
    serverName: host,
    ca,
  };
}

function reviewOf(request: AdmissionRequest, uid: string): JsonObject {
  const { resource } = request;
  const kind = { group: resource.group, version: resource.version, kind: resource.kind };
  const target = { group: resource.group, version: resource.version, resource: resource.plural };
  const sub =
    request.subresource === undefined
      ? {}
      : { subResource: request.subresource, requestSubResource: request.subresource };
  return {
    uid,
    kind,
    resource: target,
    requestKind: kind,
    requestResource: target,
    ...sub,
    name: request.name,
    ...(request.namespace === undefined ? {} : { namespace: request.namespace }),
    operation: request.operation,
    userInfo: {
      username: request.user.name,
      uid: request.user.uid ?? "",
      groups: request.user.groups,
      extra: request.user.extra ?? {},
    },
    object: request.object ?? null,
    oldObject: request.oldObject ?? null,
    dryRun: request.dryRun,
    options: {
      kind: `${request.operation[0] ?? ""}${request.operation.slice(1).toLowerCase()}Options`,
      apiVersion: "meta.k8s.io/v1",
    },
  };
}

function post(target: Target, body: string, timeoutMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const failed = (error: Error): void =>
    reject(new CalicoError("UNAVAILABLE", `Post "${target.url}": ${error.message}`, { cause: error }));
  const isName = !/^[\d.]+$|:/.test(target.serverName);
  const outgoing = httpsRequest({
    method: "POST",
    host: target.host,
    port: target.port,
    path: target.path,
    ...(isName ? { servername: target.serverName } : {}),
    ...(target.ca === undefined ? {} : { ca: target.ca }),
    agent: false,
    headers: {
      "content-type": "application/json",
      accept: "application/json",
      "content-length": Buffer.byteLength(body),
      "user-agent": "kube-apiserver-admission",
    },
    signal: AbortSignal.timeout(timeoutMs),
  });
  outgoing.on("error", (error) =>
    error.name === "TimeoutError" || error.name === "AbortError"
      ? reject(new CalicoError("TIMEOUT", `Post "${target.url}": context deadline exceeded`, { cause: error }))
      : failed(error),
  );
  outgoing.on("response", (response) => {
    const chunks: Buffer[] = [];
    let size = 0;
    response.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_ANSWER) outgoing.destroy(new CalicoError("BAD_INPUT", "the answer is too large"));
      else chunks.push(chunk);
    });
    response.on("error", failed);
    response.on("end", () => {
      const code = response.statusCode ?? 0;
      if (code >= 200 && code < 300) resolve(Buffer.concat(chunks).toString("utf8"));
      else failed(new CalicoError("UNAVAILABLE", `the webhook answered ${code}`));
    });
  });
  outgoing.end(body);
  return promise;
}
