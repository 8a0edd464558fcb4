/**
 * GET: one object, or a list with selectors, limits and exact revisions.
 *
 * Lists are strings joined from the cached texts of their objects. A continued list reads the state at the revision
 * the first page had, from the history window; when that is too old the answer is 410 and the client starts over.
 */
import { ApiError, badRequest, expiredError, notFoundError, tooLargeResourceVersion } from "../meta/api-error.ts";
import { type KubeObject, objectKey } from "../meta/object.ts";
import type { ResourceInfo } from "../registry/resource.ts";
import { fieldMatcher, parseFieldSelector } from "../selectors/field-selector.ts";
import { type LabelRequirement, matchesLabels, parseLabelSelector } from "@calico-ts/schema";
import { errorText } from "@calico-ts/std";
import type { StoredObject } from "../storage/stored-object.ts";
import { columnDefinitions, type IncludeObject, partialMetadata, tableOf, tableRow } from "../tables/table.ts";
import type { Exchange } from "./exchange.ts";

export type Filter = ((object: KubeObject) => boolean) | undefined;

/** The label and field selectors of a request, as one predicate. @throws ApiError 400 */
export function requestFilter(resource: ResourceInfo, query: URLSearchParams): Filter {
  const labels = labelRequirements(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "");
  if (labels.length === 0 && fields.length === 0) return undefined;
  const { collection, apiVersion, kind } = resource;
  const matchesFields = fieldMatcher(fields, { collection, apiVersion, kind, selectable: resource.selectableFields });
  return (object) => matchesLabels(labels, object.metadata.labels) && matchesFields(object);
}

function labelRequirements(text: string): LabelRequirement[] {
  try {
    return parseLabelSelector(text);
  } catch (error) {
    throw badRequest(errorText(error));
  }
}

export function includeObject(query: URLSearchParams): IncludeObject {
  const value = query.get("includeObject") ?? "Metadata";
  if (value === "None" || value === "Metadata" || value === "Object" || value === "")
    return value === "" ? "Metadata" : value;
  throw badRequest(`unable to parse includeObject: ${value}`);
}

/** The object's text in the version the resource has. */
export function jsonOf(resource: ResourceInfo, stored: StoredObject): string {
  if (stored.object.apiVersion === resource.apiVersion) return stored.json;
  return JSON.stringify({ ...stored.object, apiVersion: resource.apiVersion });
}

export function handleGet(
  exchange: Exchange,
  resource: ResourceInfo,
  namespace: string | undefined,
  name: string,
): void {
  const { core, query } = exchange;
  checkNotFuture(exchange);
  const stored = core.store.collection(resource.collection).get(objectKey(namespace, name));
  if (stored === undefined) throw notFoundError(resource, name);
  sendObject(exchange, resource, stored, { code: 200, include: includeObject(query) });
}

export interface SendOptions {
  readonly code: number;
  readonly include?: IncludeObject;
}

export function sendObject(
  exchange: Exchange,
  resource: ResourceInfo,
  stored: StoredObject,
  { code, include = "Metadata" }: SendOptions,
): void {
  switch (exchange.shape) {
    case "table": {
      const row = tableRow(resource, stored.object, exchange.core.now(), include);
      const resourceVersion = stored.object.metadata.resourceVersion ?? "";
      exchange.sendJson(code, JSON.stringify(tableOf(columnDefinitions(resource), [row], { resourceVersion })));
      return;
    }
    case "metadata":
      exchange.sendJson(code, JSON.stringify(partialMetadata(stored.object)));
      return;
    case "object":
      exchange.sendJson(code, jsonOf(resource, stored));
  }
}

function checkNotFuture({ core, query }: Exchange): number | undefined {
  const text = query.get("resourceVersion") ?? "";
  if (text === "") return undefined;
  if (!/^\d+$/.test(text))
    throw badRequest(
      `resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  const revision = Number(text);
  if (revision > core.store.revision) throw tooLargeResourceVersion(text, String(core.store.revision));
  return revision;
}

interface Page {
  readonly items: readonly StoredObject[];
  readonly revision: number;
  readonly next: string | undefined;
  readonly remaining: number | undefined;
}

export function handleList(exchange: Exchange, resource: ResourceInfo, namespace: string | undefined): void {
  const page = readPage(exchange, resource, namespace);
  const { query, core } = exchange;
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.next === undefined ? {} : { continue: page.next }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  };
  switch (exchange.shape) {
    case "table": {
      const include = includeObject(query);
      const now = core.now();
      const rows = page.items.map((stored) => tableRow(resource, stored.object, now, include));
      exchange.sendJson(200, JSON.stringify(tableOf(columnDefinitions(resource), rows, metadata)));
      return;
    }
    case "metadata":
      exchange.sendJson(
        200,
        JSON.stringify({
          kind: "PartialObjectMetadataList",
          apiVersion: "meta.k8s.io/v1",
          metadata,
          items: page.items.map((stored) => partialMetadata(stored.object)),
        }),
      );
      return;
    case "object":
      exchange.sendJson(200, listText(resource, page.items, metadata));
  }
}

export function listText(resource: ResourceInfo, items: readonly StoredObject[], metadata: object): string {
  const head = `{"kind":${JSON.stringify(resource.listKind)},"apiVersion":${JSON.stringify(resource.apiVersion)},"metadata":${JSON.stringify(metadata)},"items":[`;
  // Items of built-in lists carry no kind and apiVersion upstream; those of custom resources do.
  const prefix = `{"kind":${JSON.stringify(resource.kind)},"apiVersion":${JSON.stringify(resource.apiVersion)},`;
  const bare = resource.structural === undefined;
  const texts = items.map((stored) => {
    const text = jsonOf(resource, stored);
    return bare && text.startsWith(prefix) ? `{${text.slice(prefix.length)}` : text;
  });
  return `${head}${texts.join(",")}]}`;
}

function readPage(exchange: Exchange, resource: ResourceInfo, namespace: string | undefined): Page {
  const { core, query } = exchange;
  const collection = core.store.collection(resource.collection);
  const filter = requestFilter(resource, query);
  const limit = parseLimit(query);
  const token = query.get("continue") ?? "";
  let start: string | undefined;
  let revision = core.store.revision;
  let all: readonly StoredObject[];
  if (token === "") {
    const asked = checkNotFuture(exchange);
    const match = query.get("resourceVersionMatch") ?? "";
    if (match !== "" && asked === undefined)
      throw badRequest("resourceVersionMatch is forbidden unless resourceVersion is provided");
    if (match !== "" && match !== "Exact" && match !== "NotOlderThan") {
      throw badRequest(
        `resourceVersionMatch: Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan", ""`,
      );
    }
    const exact = match === "Exact" || (match === "" && limit !== undefined && asked !== undefined && asked > 0);
    if (exact && asked !== undefined && asked > 0) revision = asked;
    const state = exact ? collection.listAt(revision, namespace) : collection.list(namespace);
    if (state === "expired") throw expiredError("The resourceVersion for the provided list is too old.");
    all = state;
  } else {
    const from = parseContinue(token);
    start = from.start;
    revision = from.revision;
    const state = collection.listAt(revision, namespace);
    if (state === "expired") {
      throw expiredError(
        "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
      );
    }
    all = state;
  }
  const from = start;
  const rest = from === undefined ? all : all.filter((stored) => stored.key > from);
  const matching = filter === undefined ? rest : rest.filter((stored) => filter(stored.object));
  if (limit === undefined || matching.length <= limit)
    return { items: matching, revision, next: undefined, remaining: undefined };
  const items = matching.slice(0, limit);
  const last = items.at(-1)?.key ?? "";
  return {
    items,
    revision,
    next: Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", rv: revision, start: last })).toString("base64url"),
    remaining: filter === undefined ? matching.length - limit : undefined,
  };
}

function parseLimit(query: URLSearchParams): number | undefined {
  const text = query.get("limit") ?? "";
  if (text === "") return undefined;
  const limit = Number(text);
  if (!Number.isInteger(limit)) throw badRequest(`limit: Invalid value: ${JSON.stringify(text)}`);
  return limit <= 0 ? undefined : limit;
}

function parseContinue(token: string): { readonly start: string; readonly revision: number } {
  try {
    const { rv, start } = JSON.parse(Buffer.from(token, "base64url").toString("utf8")) as {
      rv?: unknown;
      start?: unknown;
    };
    if (typeof rv === "number" && typeof start === "string") return { start, revision: rv };
  } catch {
    // Falls through to the one answer for every unreadable token.
  }
  throw new ApiError(400, "BadRequest", "continue key is not valid");
}
