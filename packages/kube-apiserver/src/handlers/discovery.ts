/** What the server serves: /api, /apis, group and version lists, and the aggregated form newer clients ask for. */
import type { JsonObject } from "@calico-ts/schema";
import { pathNotFound } from "../meta/api-error.ts";
import { apiVersionOf, type ResourceInfo } from "../registry/resource.ts";
import type { Exchange } from "./exchange.ts";

const READ_WRITE = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NAMESPACE_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"];

interface Sub {
  readonly verbs: readonly string[];
  readonly kind: string;
  readonly group?: string;
  readonly version?: string;
}

const SUBRESOURCES: { readonly [name: string]: Sub } = {
  scale: { verbs: ["get", "patch", "update"], kind: "Scale", group: "autoscaling", version: "v1" },
  binding: { verbs: ["create"], kind: "Binding" },
  eviction: { verbs: ["create"], kind: "Eviction", group: "policy", version: "v1" },
  token: { verbs: ["create"], kind: "TokenRequest", group: "authentication.k8s.io", version: "v1" },
  log: { verbs: ["get"], kind: "Pod" },
  finalize: { verbs: ["update"], kind: "Namespace" },
};
const PART: readonly string[] = ["get", "patch", "update"];

/** Answers discovery paths; false when the path is none. */
export function handleDiscovery(exchange: Exchange, path: string): boolean {
  const parts = path.split("/").filter((part) => part !== "");
  const accept = exchange.request.headers.accept ?? "";
  const aggregated = /;\s*as=APIGroupDiscoveryList/.test(accept)
    ? /v=v2(?!beta)/.test(accept)
      ? "v2"
      : "v2beta1"
    : undefined;
  if (parts[0] === "api" && parts.length === 1) {
    if (aggregated === undefined)
      send(exchange, {
        kind: "APIVersions",
        versions: ["v1"],
        serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress: serverAddress(exchange) }],
      });
    else sendAggregated(exchange, aggregated, [""]);
    return true;
  }
  if (parts[0] === "api" && parts.length === 2 && parts[1] === "v1") {
    send(exchange, resourceList(exchange, "", "v1"));
    return true;
  }
  if (parts[0] !== "apis") return false;
  const groups = exchange.core.registry.groups();
  const [, group, version] = parts;
  if (group === undefined) {
    const names = [...groups.keys()].filter((name) => name !== "").toSorted();
    if (aggregated === undefined)
      send(exchange, {
        kind: "APIGroupList",
        apiVersion: "v1",
        groups: names.map((name) => groupInfo(name, groups.get(name) ?? [])),
      });
    else sendAggregated(exchange, aggregated, names);
    return true;
  }
  const versions = groups.get(group);
  if (group === "" || versions === undefined) throw pathNotFound();
  if (version === undefined) {
    send(exchange, { kind: "APIGroup", apiVersion: "v1", ...groupInfo(group, versions) });
    return true;
  }
  if (parts.length > 3) return false;
  if (!versions.includes(version)) throw pathNotFound();
  send(exchange, resourceList(exchange, group, version));
  return true;
}

const send = (exchange: Exchange, value: JsonObject): void => exchange.sendJson(200, JSON.stringify(value));

const serverAddress = (exchange: Exchange): string => exchange.request.headers.host ?? "";

function groupInfo(name: string, versions: readonly string[]): JsonObject {
  const all = versions.map((version) => ({ groupVersion: apiVersionOf(name, version), version }));
  return { name, versions: all, preferredVersion: all[0] };
}

function served(
  exchange: Exchange,
  group: string,
  version: string,
): { readonly resource: ResourceInfo; readonly verbs: readonly string[] }[] {
  const { registry } = exchange.core;
  const matches = (resource: ResourceInfo): boolean => resource.group === group && resource.version === version;
  return [
    ...registry
      .resources()
      .filter(matches)
      .map((resource) => ({ resource, verbs: resource.collection === "/namespaces" ? NAMESPACE_VERBS : READ_WRITE })),
    ...registry
      .reviews()
      .filter(matches)
      .map((resource) => ({ resource, verbs: ["create"] })),
  ].toSorted((a, b) => (a.resource.plural < b.resource.plural ? -1 : 1));
}

function resourceList(exchange: Exchange, group: string, version: string): JsonObject {
  const resources = served(exchange, group, version).flatMap(({ resource, verbs }) => [
    {
      name: resource.plural,
      singularName: resource.singular,
      namespaced: resource.namespaced,
      kind: resource.kind,
      verbs,
      ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
      ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
      ...(verbs.length === 1 ? {} : { storageVersionHash: storageHash(resource) }),
    },
    ...resource.subresources.map((name) => {
      const sub = SUBRESOURCES[name] ?? { verbs: PART, kind: resource.kind };
      return {
        name: `${resource.plural}/${name}`,
        singularName: "",
        namespaced: resource.namespaced,
        ...(sub.group === undefined ? {} : { group: sub.group, version: sub.version }),
        kind: sub.kind,
        verbs: sub.verbs,
      };
    }),
  ]);
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersionOf(group, version), resources };
}

const storageHash = (resource: ResourceInfo): string =>
  Buffer.from(`${resource.collection}/${resource.version}`).toString("base64").slice(0, 11).concat("=");

function sendAggregated(exchange: Exchange, version: "v2" | "v2beta1", groups: readonly string[]): void {
  const all = exchange.core.registry.groups();
  const items = groups.map((group) => ({
    metadata: { ...(group === "" ? {} : { name: group }), creationTimestamp: null },
    versions: (all.get(group) ?? []).map((groupVersion) => ({
      version: groupVersion,
      freshness: "Current",
      resources: served(exchange, group, groupVersion).map(({ resource, verbs }) =>
        aggregatedResource(resource, verbs),
      ),
    })),
  }));
  const body = { kind: "APIGroupDiscoveryList", apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items };
  exchange.sendBytes(
    200,
    Buffer.from(JSON.stringify(body)),
    `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
  );
}

function aggregatedResource(resource: ResourceInfo, verbs: readonly string[]): JsonObject {
  const kindOf = (group: string, version: string, kind: string): JsonObject => ({ group, version, kind });
  const subresources = resource.subresources.map((name) => {
    const sub = SUBRESOURCES[name] ?? { verbs: PART, kind: resource.kind };
    return {
      subresource: name,
      responseKind: kindOf(sub.group ?? resource.group, sub.version ?? resource.version, sub.kind),
      verbs: sub.verbs,
    };
  });
  return {
    resource: resource.plural,
    responseKind: kindOf(resource.group, resource.version, resource.kind),
    scope: resource.namespaced ? "Namespaced" : "Cluster",
    singularResource: resource.singular,
    verbs,
    ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
    ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
    ...(subresources.length === 0 ? {} : { subresources }),
  };
}
