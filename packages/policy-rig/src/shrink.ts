/**
 * The smallest case that still goes wrong: fewer worlds, fewer resources, fewer fields. A step is kept when the same kind of thing goes
 * wrong after it, and when it has not turned a resource an API server accepts into one it refuses.
 */
import type { Case } from "./rig.ts";
import type { RigResource, World } from "./world.ts";
import { idOf, isRefused } from "./world.ts";

export interface ShrinkOptions {
  readonly fails: (candidate: Case) => Promise<boolean>;
  /** Milliseconds since some start. */
  readonly now: () => number;
  readonly budgetMs: number;
}

export async function shrinkCase(found: Case, options: ShrinkOptions): Promise<Case> {
  const deadline = options.now() + options.budgetMs;
  const shrinker = new Shrinker(found, (candidate) =>
    options.now() < deadline ? options.fails(candidate) : Promise.resolve(false),
  );
  while (options.now() < deadline && (await shrinker.round()));
  return shrinker.best;
}

class Shrinker {
  best: Case;
  readonly #fails: (candidate: Case) => Promise<boolean>;

  constructor(found: Case, fails: (candidate: Case) => Promise<boolean>) {
    this.best = found;
    this.#fails = fails;
  }

  /** False: nothing got smaller. */
  async round(): Promise<boolean> {
    const worlds = await this.#worlds();
    const packets = await this.#packets();
    const resources = await this.#resources();
    const fields = await this.#fields();
    return worlds || packets || resources || fields;
  }

  async #try(candidate: Case): Promise<boolean> {
    if (!(await this.#fails(candidate))) return false;
    this.best = candidate;
    return true;
  }

  async #worlds(): Promise<boolean> {
    let smaller = false;
    const { history } = this.best;
    for (const tail of [1, 2, 3]) {
      if (tail >= history.length) break;
      if (await this.#try({ ...this.best, history: history.slice(-tail) })) return true;
    }
    for (let at = this.best.history.length - 2; at >= 0; at--) {
      smaller = (await this.#try({ ...this.best, history: this.best.history.toSpliced(at, 1) })) || smaller;
    }
    return smaller;
  }

  async #packets(): Promise<boolean> {
    let smaller = false;
    for (let at = this.best.packets.length - 1; at >= 0; at--) {
      smaller = (await this.#try({ ...this.best, packets: this.best.packets.toSpliced(at, 1) })) || smaller;
    }
    return smaller;
  }

  /** Halves first, then quarters, down to single ones (Zeller's delta debugging). */
  async #resources(): Promise<boolean> {
    let smaller = false;
    for (let size = Math.ceil(this.#ids().length / 2); size >= 1; size = Math.floor(size / 2)) {
      for (let at = 0; at < this.#ids().length; ) {
        const gone = new Set(this.#ids().slice(at, at + size));
        const history = this.best.history.map((world) => world.filter((resource) => !gone.has(idOf(resource))));
        if (await this.#try({ ...this.best, history })) smaller = true;
        else at += size;
      }
    }
    return smaller;
  }

  #ids(): string[] {
    return [...new Set(this.best.history.flatMap((world) => world.map(idOf)))];
  }

  async #fields(): Promise<boolean> {
    let smaller = false;
    for (const id of this.#ids()) {
      for (const path of pathsOf(this.best.history, id)) {
        const history = withoutPath(this.best.history, id, path);
        if (history !== undefined && (await this.#try({ ...this.best, history }))) smaller = true;
      }
    }
    return smaller;
  }
}

type Path = readonly (string | number)[];

/** Everything that could be left out of any version of the resource: outer things first, the last of a list first. */
function pathsOf(history: readonly World[], id: string): Path[] {
  const versions = new Set(history.flatMap((world) => world.filter((resource) => idOf(resource) === id)));
  const paths = new Map<string, Path>();
  for (const version of versions) for (const path of pathsIn(version, [])) paths.set(JSON.stringify(path), path);
  return [...paths.values()].toSorted((a, b) => a.length - b.length);
}

const KEPT = new Set(["apiVersion", "kind", "metadata", "name", "namespace"]);

function pathsIn(value: unknown, at: Path): Path[] {
  if (Array.isArray(value)) {
    return value.flatMap((item, index) => [[...at, index], ...pathsIn(item, [...at, index])]).toReversed();
  }
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const path = [...at, key];
    const kept = (at.length === 0 || at[0] === "metadata") && KEPT.has(key);
    return kept ? pathsIn(item, path) : [path, ...pathsIn(item, path)];
  });
}

/** undefined: it would change nothing, or make a resource one that nobody could have stored. */
function withoutPath(history: readonly World[], id: string, path: Path): World[] | undefined {
  // Worlds that share a resource go on sharing it.
  const edited = new Map<RigResource, RigResource>();
  let changed = false;
  for (const resource of new Set(history.flat())) {
    if (idOf(resource) !== id) continue;
    const shorter = without(resource, path) as RigResource;
    if (shorter === resource) continue;
    if (isRefused(shorter) && !isRefused(resource)) return undefined;
    edited.set(resource, shorter);
    changed = true;
  }
  return changed ? history.map((world) => world.map((resource) => edited.get(resource) ?? resource)) : undefined;
}

function without(value: unknown, [key, ...rest]: Path): unknown {
  if (key === undefined) return value;
  if (Array.isArray(value)) {
    if (typeof key !== "number" || key >= value.length) return value;
    if (rest.length === 0) return value.toSpliced(key, 1);
    const inner = without(value[key], rest);
    return inner === value[key] ? value : value.toSpliced(key, 1, inner);
  }
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return value;
  const object = value as Readonly<Record<string, unknown>>;
  if (rest.length === 0) return Object.fromEntries(Object.entries(object).filter(([name]) => name !== String(key)));
  const inner = without(object[key], rest);
  return inner === object[key] ? value : { ...object, [key]: inner };
}
