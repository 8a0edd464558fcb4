/**
 * From an HTTP request to its handler: authenticate, parse, authorize, route. Every refusal is a Status object.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { errorText } from "@calico-ts/std";
import { ANONYMOUS } from "../auth/authenticate.ts";
import type { ApiCore } from "../core.ts";
import { ApiError, forbiddenError, methodNotAllowed, pathNotFound } from "../meta/api-error.ts";
import { asObject, asText } from "../meta/object.ts";
import { sendOpenApi } from "../openapi/documents.ts";
import type { ResourceInfo, User } from "../registry/resource.ts";
import { handleDiscovery } from "./discovery.ts";
import { Exchange } from "./exchange.ts";
import { impersonate } from "./impersonate.ts";
import { handleGet, handleList } from "./read.ts";
import { attributesOf, parseRequest, type RequestInfo, type ResourceRequest } from "./request-info.ts";
import { handleReview } from "./reviews.ts";
import { bindPod, handleSubresource } from "./subresources.ts";
import { handleWatch } from "./watch.ts";
import { handleCreate, handleDelete, handleDeleteCollection, handlePatch, handleUpdate } from "./write.ts";

export async function handleRequest(core: ApiCore, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { path, query } = splitTarget(request.url ?? "/");
  const info = parseRequest(request.method ?? "GET", path, query);
  let user: User = ANONYMOUS;
  let exchange = new Exchange(core, { request, response }, { user, info, query });
  try {
    user = impersonate(core, request, await core.authenticator.authenticate(request));
    exchange = new Exchange(core, { request, response }, { user, info, query });
    authorize(core, user, info);
    await dispatch(exchange, info);
  } catch (error) {
    if (response.destroyed) return;
    exchange.sendError(error instanceof ApiError ? error : asInternal(error));
  }
}

const asInternal = (error: unknown): ApiError =>
  new ApiError(500, "InternalError", `Internal error occurred: ${errorText(error)}`);

function splitTarget(url: string): { readonly path: string; readonly query: URLSearchParams } {
  const mark = url.indexOf("?");
  return mark < 0
    ? { path: url, query: new URLSearchParams() }
    : { path: url.slice(0, mark), query: new URLSearchParams(url.slice(mark + 1)) };
}

/** @throws ApiError 403 */
function authorize(core: ApiCore, user: User, info: RequestInfo): void {
  const attributes = attributesOf(info);
  if (core.authorizer.authorize(user, attributes).allowed) return;
  if (attributes.kind === "path") {
    throw new ApiError(
      403,
      "Forbidden",
      `forbidden: User ${JSON.stringify(user.name)} cannot ${attributes.verb} path ${JSON.stringify(attributes.path)}`,
      {},
    );
  }
  const { verb, group, resource, subresource, namespace, name } = attributes;
  const target = subresource === "" ? resource : `${resource}/${subresource}`;
  const scope =
    namespace === "" || (resource === "namespaces" && group === "")
      ? "at the cluster scope"
      : `in the namespace ${JSON.stringify(namespace)}`;
  throw forbiddenError(
    { group, plural: resource },
    name,
    `User ${JSON.stringify(user.name)} cannot ${verb} resource ${JSON.stringify(target)} in API group ${JSON.stringify(group)} ${scope}`,
  );
}

async function dispatch(exchange: Exchange, info: RequestInfo): Promise<void> {
  if (info.kind === "path") {
    handlePath(exchange, info.path);
    return;
  }
  const { registry } = exchange.core;
  const resource = registry.find(info.group, info.version, info.resource);
  if (resource === undefined) {
    await handleUnstored(exchange, info);
    return;
  }
  await handleResource(exchange, resource, info);
}

async function handleUnstored(exchange: Exchange, info: ResourceRequest): Promise<void> {
  const review = exchange.core.registry.review(info.group, info.version, info.resource);
  if (review === undefined) throw pathNotFound();
  if (info.verb !== "create" || info.name !== undefined) throw methodNotAllowed(review, info.verb);
  if (review.kind === "Binding") {
    const pods = exchange.core.registry.find("", "v1", "pods");
    if (pods === undefined) throw pathNotFound();
    const body = await exchange.readValue();
    const name = asText(asObject(asObject(body)["metadata"])["name"]);
    await bindPod(exchange, { resource: pods, namespace: info.namespace, name, subresource: "binding" }, body);
    return;
  }
  await handleReview(exchange, review, info.namespace);
}

async function handleResource(exchange: Exchange, resource: ResourceInfo, info: ResourceRequest): Promise<void> {
  const { namespace, name, subresource, verb } = info;
  if (resource.namespaced ? name !== undefined && namespace === undefined : namespace !== undefined)
    throw pathNotFound();
  if (name === undefined) {
    switch (verb) {
      case "list":
        return handleList(exchange, resource, namespace);
      case "watch":
        return handleWatch(exchange, resource, namespace);
      case "create":
        return await handleCreate(exchange, resource, namespace);
      case "deletecollection":
        return await handleDeleteCollection(exchange, resource, namespace);
      default:
        throw methodNotAllowed(resource, verb);
    }
  }
  if (subresource !== undefined)
    return await handleSubresource(exchange, { resource, namespace, name, subresource }, verb);
  switch (verb) {
    case "get":
      return handleGet(exchange, resource, namespace, name);
    case "watch":
      exchange.query.append("fieldSelector", `metadata.name=${name}`);
      return handleWatch(exchange, resource, namespace);
    case "update":
      return await handleUpdate(exchange, { resource, namespace, name, subresource: undefined });
    case "patch":
      return await handlePatch(exchange, { resource, namespace, name, subresource: undefined });
    case "delete":
      return await handleDelete(exchange, resource, namespace, name);
    default:
      throw methodNotAllowed(resource, verb);
  }
}

function handlePath(exchange: Exchange, path: string): void {
  const { core, query } = exchange;
  const clean = path.length > 1 ? path.replace(/\/+$/, "") : path;
  const health = /^\/(healthz|livez|readyz)(\/.*)?$/.exec(clean);
  if (health !== null) {
    exchange.sendText(200, query.has("verbose") ? `[+]ping ok\n[+]etcd ok\n${health[1] ?? ""} check passed\n` : "ok");
    return;
  }
  if (clean === "/version") {
    exchange.sendJson(200, JSON.stringify(versionInfo(core.version)));
    return;
  }
  if (clean.startsWith("/openapi/")) {
    sendOpenApi(exchange, clean);
    return;
  }
  if (clean === "/") {
    exchange.sendJson(
      200,
      JSON.stringify({
        paths: ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"],
      }),
    );
    return;
  }
  if (!handleDiscovery(exchange, clean)) throw pathNotFound();
}

function versionInfo(version: string): object {
  const [, major = "1", minor = "0"] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  return {
    major,
    minor,
    gitVersion: version,
    gitCommit: "",
    gitTreeState: "clean",
    buildDate: "1970-01-01T00:00:00Z",
    goVersion: "go1.23.0",
    compiler: "gc",
    platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
  };
}
