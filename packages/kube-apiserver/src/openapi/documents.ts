/**
 * /openapi/v2 (JSON and protobuf) and /openapi/v3 (one document per group version), made when first asked for and kept until
 * the served resources change.
 */
import { createHash } from "node:crypto";
import type { JsonObject } from "@calico-ts/schema";
import type { Exchange } from "../handlers/exchange.ts";
import { pathNotFound } from "../meta/api-error.ts";
import type { Registry } from "../registry/registry.ts";
import { DefinitionSet } from "./definitions.ts";
import { resourcePaths } from "./paths.ts";
import { encodeSwagger } from "./protobuf.ts";

interface Cached {
  readonly generation: number;
  readonly documents: Map<string, Buffer>;
}

const caches = new WeakMap<Registry, Cached>();

const PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

export function sendOpenApi(exchange: Exchange, path: string): void {
  const { registry, version } = exchange.core;
  if (path === "/openapi/v2") {
    if (/proto-openapi\.spec\.v2[@.]v1\.0\+protobuf/.test(exchange.request.headers.accept ?? "")) {
      send(
        exchange,
        cached(registry, "v2 protobuf", () => encodeSwagger(swagger(registry, version))),
        PROTOBUF,
      );
    } else
      send(
        exchange,
        cached(registry, "v2", () => json(swagger(registry, version))),
        "application/json",
      );
    return;
  }
  if (path === "/openapi/v3") {
    exchange.sendJson(
      200,
      JSON.stringify({
        paths: Object.fromEntries(
          groupVersions(registry).map((name) => [
            name,
            { serverRelativeURL: `/openapi/v3/${name}?hash=${hashOf(registry, name)}` },
          ]),
        ),
      }),
    );
    return;
  }
  const name = path.slice("/openapi/v3/".length);
  if (!groupVersions(registry).includes(name)) throw pathNotFound();
  send(
    exchange,
    cached(registry, name, () => json(openApi3(registry, name, version))),
    "application/json",
  );
}

const json = (value: JsonObject): Buffer => Buffer.from(JSON.stringify(value));

function cached(registry: Registry, key: string, make: () => Buffer): Buffer {
  let cache = caches.get(registry);
  if (cache === undefined || cache.generation !== registry.generation) {
    cache = { generation: registry.generation, documents: new Map() };
    caches.set(registry, cache);
  }
  let bytes = cache.documents.get(key);
  if (bytes === undefined) {
    bytes = make();
    cache.documents.set(key, bytes);
  }
  return bytes;
}

function send(exchange: Exchange, bytes: Buffer, type: string): void {
  const tag = `"${createHash("sha1").update(bytes).digest("hex")}"`;
  exchange.response.setHeader("etag", tag);
  if (exchange.request.headers["if-none-match"] === tag) {
    exchange.sendBytes(304, Buffer.alloc(0), type);
    return;
  }
  exchange.sendBytes(200, bytes, type);
}

const rootOf = (group: string, version: string): string =>
  group === "" ? `api/${version}` : `apis/${group}/${version}`;

const groupVersions = (registry: Registry): string[] =>
  [...registry.groups()].flatMap(([group, versions]) => versions.map((version) => rootOf(group, version)));

const hashOf = (registry: Registry, name: string): string =>
  createHash("sha1")
    .update(name)
    .update(
      JSON.stringify(
        registry
          .resources()
          .filter((resource) => rootOf(resource.group, resource.version) === name)
          .map((resource) => resource.structural ?? resource.kind),
      ),
    )
    .digest("hex");

function swagger(registry: Registry, version: string): JsonObject {
  const set = new DefinitionSet({ prefix: "#/definitions/", v3: false });
  const paths: JsonObject = {};
  for (const resource of [...registry.resources(), ...registry.reviews()]) {
    const definition = set.addResource(resource);
    Object.assign(
      paths,
      resourcePaths(resource, definition, { v3: false, reference: (name) => ({ $ref: `#/definitions/${name}` }) }),
    );
  }
  return { swagger: "2.0", info: { title: "Kubernetes", version }, paths, definitions: set.definitions };
}

function openApi3(registry: Registry, name: string, version: string): JsonObject {
  const set = new DefinitionSet({ prefix: "#/components/schemas/", v3: true });
  const paths: JsonObject = {};
  for (const resource of [...registry.resources(), ...registry.reviews()]) {
    if (rootOf(resource.group, resource.version) !== name) continue;
    const definition = set.addResource(resource);
    Object.assign(
      paths,
      resourcePaths(resource, definition, {
        v3: true,
        reference: (target) => ({ $ref: `#/components/schemas/${target}` }),
      }),
    );
  }
  return { openapi: "3.0.0", info: { title: "Kubernetes", version }, paths, components: { schemas: set.definitions } };
}
