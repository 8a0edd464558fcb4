/**
 * A deleted CustomResourceDefinition takes its objects with it: creating one adds a finalizer that holds the definition until
 * they are gone. Aggregated cluster roles get the rules of the roles their selectors match.
 */
import { labelSelectorOf, matchesLabels, sameJson } from "@calico-ts/schema";
import type { ApiCore } from "../core.ts";
import { ApiError } from "../meta/api-error.ts";
import { asList, asObject, asObjects } from "../meta/object.ts";
import { deleteObject } from "../objects/delete.ts";
import { updateObject } from "../objects/update.ts";
import { internalRequest } from "../objects/write-request.ts";
import { DEFINITIONS } from "../registry/registry.ts";
import { createQueue } from "./controller.ts";

export const CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io";
const ROLES = "rbac.authorization.k8s.io/clusterroles";

export function startDefinitionController(core: ApiCore): Disposable {
  const queue = createQueue(core, (name) => cleanUp(core, name));
  const stop = core.store.listen((collection, event) => {
    const { metadata } = event.current.object;
    if (collection === DEFINITIONS) {
      if (
        event.type !== "DELETED" &&
        (metadata.deletionTimestamp !== undefined || metadata.finalizers?.includes(CLEANUP_FINALIZER) !== true)
      ) {
        queue.add(metadata.name ?? "");
      }
    } else if (event.type === "DELETED") {
      const definition = core.store.collection(DEFINITIONS).get(definitionName(collection));
      if (definition?.object.metadata.deletionTimestamp !== undefined) queue.add(definition.key);
    }
  });
  return disposable(stop, queue);
}

/** `group/plural` of a collection is `plural.group` of its definition. */
const definitionName = (collection: string): string => collection.split("/").toReversed().join(".");

async function cleanUp(core: ApiCore, name: string): Promise<void> {
  const definition = core.store.collection(DEFINITIONS).get(name)?.object;
  const definitions = core.registry.storedIn(DEFINITIONS);
  if (definition === undefined || definitions === undefined) return;
  const request = internalRequest(core, definitions, undefined);
  const finalizers = definition.metadata.finalizers ?? [];
  if (definition.metadata.deletionTimestamp === undefined) {
    if (finalizers.includes(CLEANUP_FINALIZER)) return;
    await updateObject(request, name, {
      retry: true,
      produce(current) {
        current.metadata.finalizers = [...new Set([...(current.metadata.finalizers ?? []), CLEANUP_FINALIZER])];
        return current;
      },
    }).catch(ignoreMissing);
    return;
  }
  const collection = core.registry.collectionOf(definition);
  const resource = core.registry.storedIn(collection);
  for (const stored of resource === undefined ? [] : core.store.collection(collection).list(undefined)) {
    const { namespace, name: objectName = "", deletionTimestamp } = stored.object.metadata;
    if (resource !== undefined && deletionTimestamp === undefined) {
      await deleteObject(internalRequest(core, resource, namespace), objectName, { propagation: "Background" }).catch(
        ignoreMissing,
      );
    }
  }
  if (core.store.collection(collection).size > 0) return;
  await updateObject(request, name, {
    retry: true,
    produce(current) {
      current.metadata.finalizers = (current.metadata.finalizers ?? []).filter(
        (finalizer) => finalizer !== CLEANUP_FINALIZER,
      );
      return current;
    },
  }).catch(ignoreMissing);
}

export function startAggregationController(core: ApiCore): Disposable {
  const queue = createQueue(core, (name) => aggregate(core, name));
  const stop = core.store.listen((collection) => {
    if (collection !== ROLES) return;
    for (const { object } of core.store.collection(ROLES).values()) {
      if (object["aggregationRule"] !== undefined) queue.add(object.metadata.name ?? "");
    }
  });
  return disposable(stop, queue);
}

export async function aggregate(core: ApiCore, name: string): Promise<void> {
  const role = core.store.collection(ROLES).get(name)?.object;
  const resource = core.registry.storedIn(ROLES);
  if (role === undefined || resource === undefined || role["aggregationRule"] === undefined) return;
  const selectors = asObjects(asObject(role["aggregationRule"])["clusterRoleSelectors"]).map(
    (selector) => labelSelectorOf(selector) ?? [],
  );
  const rules: unknown[] = [];
  for (const { object } of core.store.collection(ROLES).list(undefined)) {
    if (object.metadata.name === name || !selectors.some((selector) => matchesLabels(selector, object.metadata.labels)))
      continue;
    for (const rule of asList(object["rules"])) if (!rules.some((known) => sameJson(known, rule))) rules.push(rule);
  }
  if (sameJson(rules, asList(role["rules"]))) return;
  await updateObject(internalRequest(core, resource, undefined), name, {
    retry: true,
    produce(current) {
      current["rules"] = structuredClone(rules);
      return current;
    },
  }).catch(ignoreMissing);
}

function disposable(stop: () => void, queue: Disposable): Disposable {
  return {
    [Symbol.dispose]() {
      stop();
      queue[Symbol.dispose]();
    },
  };
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof ApiError && error.status.code === 404)) throw error;
}
