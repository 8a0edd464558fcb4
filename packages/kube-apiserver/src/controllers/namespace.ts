/**
 * Namespaces: a new one gets its `default` service account and the `kube-root-ca.crt` config map; a terminating one is
 * emptied and then released from its `kubernetes` finalizer. Pods on nodes go gracefully, so emptying may take several
 * rounds: every deletion of something in the namespace starts another one.
 */
import { ApiError } from "../meta/api-error.ts";
import type { ApiCore } from "../core.ts";
import { asObject, asTexts, type KubeObject, objectKey, timestamp } from "../meta/object.ts";
import { createObject } from "../objects/create.ts";
import { decodeObject } from "../objects/decode.ts";
import { deleteObject } from "../objects/delete.ts";
import { updateObject } from "../objects/update.ts";
import { internalRequest } from "../objects/write-request.ts";
import { createQueue } from "./controller.ts";

/**
 * Between the request to delete a namespace and the first deletion of what is in it. Kubernetes waits five seconds; a shorter pause
 * serves the same callers: `kubectl delete -f` on a file that holds a namespace and its content finds the content still there.
 */
const EMPTYING_DELAY_MS = 1000;

const WATCHED = new Set(["/namespaces", "/serviceaccounts", "/configmaps"]);

export function startNamespaceController(core: ApiCore): Disposable {
  const queue = createQueue(core, (name) => reconcile(core, name, (uid) => terminating.get(uid)?.ripe === true));
  /** Terminating namespaces by uid, and whether their content may go now. */
  const terminating = new Map<string, { ripe: boolean }>();
  const ripen = (uid: string, name: string): void => {
    const state = { ripe: false };
    terminating.set(uid, state);
    setTimeout(() => {
      state.ripe = true;
      queue.add(name);
    }, EMPTYING_DELAY_MS).unref();
  };
  const stop = core.store.listen((collection, event) => {
    const { metadata } = event.current.object;
    const uid = metadata.uid ?? "";
    if (collection === "/namespaces") {
      const name = metadata.name ?? "";
      if (event.type === "DELETED") terminating.delete(uid);
      else if (metadata.deletionTimestamp === undefined || terminating.has(uid)) queue.add(name);
      else ripen(uid, name);
    } else if (metadata.namespace !== undefined && event.type === "DELETED") {
      const namespace = core.store.collection("/namespaces").get(metadata.namespace)?.object;
      if (namespace?.metadata.deletionTimestamp !== undefined || WATCHED.has(collection)) queue.add(metadata.namespace);
    }
  });
  return {
    [Symbol.dispose]() {
      stop();
      queue[Symbol.dispose]();
    },
  };
}

async function reconcile(core: ApiCore, name: string, mayEmpty: (uid: string) => boolean): Promise<void> {
  const namespace = core.store.collection("/namespaces").get(name)?.object;
  if (namespace === undefined) return;
  if (namespace.metadata.deletionTimestamp === undefined) await furnish(core, name);
  else if (mayEmpty(namespace.metadata.uid ?? "")) await empty(core, namespace);
}

/** What every namespace has. Also called directly for the first namespaces, before the server listens. */
export async function furnish(core: ApiCore, name: string): Promise<void> {
  await ensure(core, { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace: name } });
  await ensure(core, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: "kube-root-ca.crt",
      namespace: name,
      annotations: {
        "kubernetes.io/description":
          "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc.",
      },
    },
    data: { "ca.crt": core.authority.certificate },
  });
}

async function ensure(core: ApiCore, object: KubeObject): Promise<void> {
  const resource = core.registry.findKind(object.apiVersion, object.kind);
  if (resource === undefined) return;
  const { name = "", namespace } = object.metadata;
  if (core.store.collection(resource.collection).get(objectKey(namespace, name)) !== undefined) return;
  const request = internalRequest(core, resource, namespace);
  try {
    await createObject(request, decodeObject(request, object));
  } catch (error) {
    if (!(error instanceof ApiError && error.status.code === 409)) throw error;
  }
}

async function empty(core: ApiCore, namespace: KubeObject): Promise<void> {
  const name = namespace.metadata.name ?? "";
  let left = 0;
  for (const resource of core.registry.stored()) {
    if (!resource.namespaced) continue;
    const collection = core.store.collection(resource.collection);
    for (const stored of collection.list(name)) {
      const object = stored.object;
      if (object.metadata.deletionTimestamp === undefined) {
        await deleteObject(internalRequest(core, resource, name), object.metadata.name ?? "", {
          propagation: "Background",
        }).catch(ignoreMissing);
      }
    }
    left += collection.list(name).length;
  }
  const resource = core.registry.find("", "v1", "namespaces");
  if (resource === undefined) return;
  const request = { ...internalRequest(core, resource, undefined), subresource: left > 0 ? "status" : "finalize" };
  await updateObject(request, name, {
    retry: true,
    produce(current) {
      if (left === 0) {
        const finalizers = asTexts(asObject(current["spec"])["finalizers"]).filter(
          (finalizer) => finalizer !== "kubernetes",
        );
        current["spec"] = { ...asObject(current["spec"]), finalizers };
      } else
        current["status"] = {
          ...asObject(current["status"]),
          phase: "Terminating",
          conditions: [remaining(core, current, left)],
        };
      return current;
    },
  }).catch(ignoreMissing);
}

function remaining(core: ApiCore, namespace: KubeObject, left: number): object {
  const conditions = asObject(namespace["status"])["conditions"];
  const previous = asObject(Array.isArray(conditions) ? conditions[0] : undefined);
  return {
    type: "NamespaceContentRemaining",
    status: "True",
    lastTransitionTime: previous["lastTransitionTime"] ?? timestamp(core.now()),
    reason: "SomeResourcesRemain",
    message: `Some resources are remaining: ${left} objects`,
  };
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof ApiError && error.status.code === 404)) throw error;
}
