/** The cluster as it is now, from whoever can list resources. */
import type { KindMap, KindName } from "@calico-ts/model";
import { CalicoError } from "@calico-ts/std";
import { EXPLAIN_KINDS } from "./explain.ts";
import type { SourcedResource } from "./manifest-world.ts";
import { completeWorld } from "./manifest-world.ts";

/** A datastore client is one. */
export interface ResourceLister {
  list<K extends KindName>(kind: K): Promise<{ readonly items: readonly KindMap[K][] }>;
}

/** A kind the cluster does not have is a kind without resources. */
export async function listWorld(client: ResourceLister): Promise<SourcedResource[]> {
  const lists = await Promise.all(
    EXPLAIN_KINDS.map(async (kind): Promise<SourcedResource[]> => {
      try {
        const { items } = await client.list(kind);
        return items.map((resource) => ({ kind, resource }));
      } catch (error) {
        if (isUnknownKind(error) || (kind === "Profile" && isForbidden(error))) return [];
        throw error;
      }
    }),
  );
  return completeWorld(lists.flat(), { imagine: false });
}

/** Kubernetes stores no profiles, and a server may say that one must not list them before it says that there are none. */
const isForbidden = (error: unknown): boolean => error instanceof CalicoError && error.detail["httpStatus"] === 403;

/** Told from a server that is away for a moment, which has the same code. */
const isUnknownKind = (error: unknown): boolean => error instanceof CalicoError && error.detail["httpStatus"] === 404;
