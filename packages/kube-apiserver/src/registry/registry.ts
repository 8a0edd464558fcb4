/**
 * Every resource the server serves, by group, version and plural; and what discovery says about them.
 *
 * Custom resources come and go with their definitions: the registry listens to the store and is therefore current
 * in the very write that established a definition. `generation` counts changes, for caches of discovery and OpenAPI.
 */
import type { KubeObject } from "../meta/object.ts";
import { asObject, asText } from "../meta/object.ts";
import type { Store } from "../storage/store.ts";
import { customResources } from "./custom.ts";
import { collectionId, type ResourceInfo } from "./resource.ts";

export const DEFINITIONS = "apiextensions.k8s.io/customresourcedefinitions";

export class Registry {
  readonly #builtin = new Map<string, ResourceInfo>();
  readonly #reviews = new Map<string, ResourceInfo>();
  readonly #custom = new Map<string, readonly ResourceInfo[]>();
  #index: Map<string, ResourceInfo> | undefined;
  #generation = 0;

  constructor(builtin: readonly ResourceInfo[], reviews: readonly ResourceInfo[], store: Store) {
    for (const resource of builtin) this.#builtin.set(resourceId(resource), resource);
    for (const resource of reviews) this.#reviews.set(resourceId(resource), resource);
    store.listen((collection, event) => {
      if (collection !== DEFINITIONS) return;
      const name = event.current.object.metadata.name ?? "";
      if (event.type === "DELETED") this.#custom.delete(name);
      else this.#custom.set(name, customResources(event.current.object));
      this.#index = undefined;
      this.#generation++;
    });
  }

  get generation(): number {
    return this.#generation;
  }

  find(group: string, version: string, plural: string): ResourceInfo | undefined {
    return this.#all().get(`${group}/${version}/${plural}`);
  }

  review(group: string, version: string, plural: string): ResourceInfo | undefined {
    return this.#reviews.get(`${group}/${version}/${plural}`);
  }

  /** The resource of a kind, as owner references and webhooks name it. */
  findKind(apiVersion: string, kind: string): ResourceInfo | undefined {
    return this.resources().find((resource) => resource.apiVersion === apiVersion && resource.kind === kind);
  }

  /** One resource per collection: the version objects are stored in. */
  stored(): ResourceInfo[] {
    const byCollection = new Map<string, ResourceInfo>();
    for (const resource of this.resources()) {
      if (resource.storageVersion || !byCollection.has(resource.collection))
        byCollection.set(resource.collection, resource);
    }
    return [...byCollection.values()];
  }

  storedIn(collection: string): ResourceInfo | undefined {
    const all = this.resources().filter((resource) => resource.collection === collection);
    return all.find((resource) => resource.storageVersion) ?? all[0];
  }

  resources(): ResourceInfo[] {
    return [...this.#all().values()];
  }

  reviews(): ResourceInfo[] {
    return [...this.#reviews.values()];
  }

  /** Group → versions, preferred first; the core group is "". */
  groups(): Map<string, string[]> {
    const groups = new Map<string, string[]>();
    for (const { group, version } of [...this.resources(), ...this.reviews()]) {
      const versions = groups.get(group) ?? [];
      if (!versions.includes(version)) versions.push(version);
      groups.set(group, versions);
    }
    for (const [group, versions] of groups) groups.set(group, versions.toSorted(byVersion));
    return groups;
  }

  /** Resources of the definition, served or not, for the controller that empties it. */
  collectionOf(definition: KubeObject): string {
    const spec = asObject(definition["spec"]);
    return collectionId(asText(spec["group"]), asText(asObject(spec["names"])["plural"]));
  }

  #all(): Map<string, ResourceInfo> {
    if (this.#index === undefined) {
      this.#index = new Map(this.#builtin);
      for (const resources of this.#custom.values())
        for (const resource of resources) this.#index.set(resourceId(resource), resource);
    }
    return this.#index;
  }
}

const resourceId = (resource: ResourceInfo): string => `${resource.group}/${resource.version}/${resource.plural}`;

/** Kubernetes version priority: GA before beta before alpha, higher numbers first. */
function byVersion(a: string, b: string): number {
  const rank = (text: string): readonly [number, number, number] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(text);
    if (match === null) return [0, 0, 0];
    const stage = match[2] === undefined ? 3 : match[2] === "beta" ? 2 : 1;
    return [stage, Number(match[1]), Number(match[3] ?? 0)];
  };
  const [left, right] = [rank(a), rank(b)];
  return right[0] - left[0] || right[1] - left[1] || right[2] - left[2] || (a < b ? -1 : 1);
}
