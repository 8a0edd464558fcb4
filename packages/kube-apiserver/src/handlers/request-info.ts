/** What a URL asks for: group, version, resource, namespace, name, subresource, verb. */
import type { Attributes } from "../auth/authorize.ts";
import { parseFieldSelector } from "../selectors/field-selector.ts";

export interface ResourceRequest {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly subresource: string | undefined;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  /** A list, watch or deletion of many that can only be about this one (`fieldSelector=metadata.name=x`): a role that names it allows it. */
  readonly selectedName: string | undefined;
  readonly verb: string;
}

export type RequestInfo =
  | ({ readonly kind: "resource" } & ResourceRequest)
  | { readonly kind: "path"; readonly path: string; readonly verb: string };

const VERBS: { readonly [method: string]: string } = {
  POST: "create",
  PUT: "update",
  PATCH: "patch",
  DELETE: "delete",
  GET: "get",
  HEAD: "get",
};

export function parseRequest(method: string, path: string, query: URLSearchParams): RequestInfo {
  const verb = VERBS[method] ?? method.toLowerCase();
  const parts = decodeParts(path);
  if (parts === undefined) return { kind: "path", path, verb };
  let rest: readonly string[];
  let group = "";
  let version: string;
  if (parts[0] === "api" && parts.length >= 3) {
    version = parts[1] ?? "";
    rest = parts.slice(2);
  } else if (parts[0] === "apis" && parts.length >= 4) {
    group = parts[1] ?? "";
    version = parts[2] ?? "";
    rest = parts.slice(3);
  } else return { kind: "path", path, verb };
  let watching = query.get("watch") === "true" || query.get("watch") === "1";
  if (rest[0] === "watch" && rest.length > 1) {
    watching = true;
    rest = rest.slice(1);
  }
  let namespace: string | undefined;
  // `namespaces/x` and its subresources are the namespace itself; `namespaces/x/pods` is something in it.
  if (rest[0] === "namespaces" && rest.length > 2 && !(rest.length === 3 && NAMESPACE_PARTS.has(rest[2] ?? ""))) {
    namespace = rest[1];
    rest = rest.slice(2);
  }
  const [resource = "", name, subresource, ...more] = rest;
  if (more.length > 0 && subresource !== "proxy") return { kind: "path", path, verb };
  return {
    kind: "resource",
    group,
    version,
    resource,
    subresource,
    namespace,
    name,
    selectedName: name === undefined && verb !== "create" ? onlyName(query.get("fieldSelector") ?? "") : undefined,
    verb: finalVerb(verb, name, watching),
  };
}

/** A selector that does not parse is refused later; it allows nothing. */
function onlyName(fieldSelector: string): string | undefined {
  try {
    const requirement = parseFieldSelector(fieldSelector).find((one) => one.field === "metadata.name" && one.equal);
    return requirement?.value;
  } catch {
    return undefined;
  }
}

const NAMESPACE_PARTS = new Set(["status", "finalize"]);

function finalVerb(verb: string, name: string | undefined, watching: boolean): string {
  if (verb === "get") return watching ? "watch" : name === undefined ? "list" : "get";
  return verb === "delete" && name === undefined ? "deletecollection" : verb;
}

function decodeParts(path: string): string[] | undefined {
  try {
    return path
      .split("/")
      .filter((part) => part !== "")
      .map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

export function attributesOf(info: RequestInfo): Attributes {
  if (info.kind === "path") return { kind: "path", verb: info.verb, path: info.path };
  const ownNamespace = info.resource === "namespaces" && info.group === "" ? info.name : undefined;
  return {
    kind: "resource",
    verb: info.verb,
    group: info.group,
    version: info.version,
    resource: info.resource,
    subresource: info.subresource ?? "",
    namespace: info.namespace ?? ownNamespace ?? "",
    name: info.name ?? info.selectedName ?? "",
  };
}
