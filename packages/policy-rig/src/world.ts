/**
 * A world: resources as somebody would write them, one of a kind and name. They reach compiler and oracle as an API server would
 * hand them on, with defaults filled in. What validation refuses goes on as it is: stored objects may hold anything, and
 * compiler and oracle must agree about those too (they fail closed).
 */
import type { KindName } from "@calico-ts/model";
import { kindNameOf, kinds, prepare } from "@calico-ts/model";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import { CalicoError } from "@calico-ts/std";

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export interface RigResource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: JsonObject;
    readonly annotations?: object;
  };
  readonly [field: string]: unknown;
}

export type World = readonly RigResource[];

/** As `kind` of compiler updates: Kubernetes' NetworkPolicy has a name of its own there. */
export function kindOf(resource: RigResource): KindName {
  const kind = kindNameOf(resource);
  if (kind === undefined) {
    throw new CalicoError("BAD_INPUT", `unknown kind ${resource.apiVersion} ${resource.kind} in a world`);
  }
  return kind;
}

export function idOf(resource: RigResource): string {
  const { name, namespace } = resource.metadata;
  return `${kindOf(resource)} ${namespace === undefined ? name : `${namespace}/${name}`}`;
}

/** Of a kind by our name for it. */
export function resourceOf(kind: KindName, path: string, body: object, labels?: JsonObject): RigResource {
  const [first = "", second] = path.split("/");
  const metadata = {
    name: second ?? first,
    ...(second === undefined ? {} : { namespace: first }),
    ...(labels === undefined ? {} : { labels }),
  };
  return { apiVersion: kinds[kind].apiVersion, kind: kinds[kind].kind, metadata, ...body };
}

// Worlds of one history share most of their resources.
const prepared = new WeakMap<RigResource, CompilerUpdate>();
const refused = new WeakMap<RigResource, boolean>();

export function updateOf(resource: RigResource): CompilerUpdate {
  const known = prepared.get(resource);
  if (known !== undefined) return known;
  const kind = kindOf(resource);
  const outcome = prepare(kind, resource);
  const { name, namespace } = resource.metadata;
  const key = namespace === undefined ? { name } : { name, namespace };
  // The compiler's type cannot follow a kind that is a variable.
  const update = { kind, key, resource: outcome.ok ? outcome.resource : resource } as unknown as CompilerUpdate;
  prepared.set(resource, update);
  refused.set(resource, !outcome.ok);
  return update;
}

/** An API server would not have let it in. */
export function isRefused(resource: RigResource): boolean {
  updateOf(resource);
  return refused.get(resource) === true;
}

export const updatesOf = (world: World): CompilerUpdate[] => world.map(updateOf);

/** What turns one world into another. */
export function stepsBetween(from: World, to: World): CompilerUpdate[] {
  const before = new Map(from.map((resource) => [idOf(resource), resource]));
  const after = new Set(to.map(idOf));
  const set = to.filter((resource) => before.get(idOf(resource)) !== resource).map(updateOf);
  const gone = from
    .filter((resource) => !after.has(idOf(resource)))
    .map((resource): CompilerUpdate => ({ ...updateOf(resource), resource: undefined }));
  return [...set, ...gone];
}

/** The FelixConfiguration that counts, as text, which is what the oracle takes. */
export function configOf(world: World): Readonly<Record<string, string>> {
  const felix = world.find(
    (resource) => resource.kind === "FelixConfiguration" && resource.metadata.name === "default",
  );
  const spec = felix?.["spec"];
  if (typeof spec !== "object" || spec === null) return {};
  return Object.fromEntries(
    Object.entries(spec).map(([key, value]) => [
      key,
      // An empty list is one on purpose.
      Array.isArray(value) ? value.map(openPortText).join(",") || "none" : String(value),
    ]),
  );
}

/** `tcp:22`, `udp:10.0.0.0/8:53` */
function openPortText(value: { readonly protocol?: string; readonly net?: string; readonly port: number }): string {
  const net = value.net === undefined ? "" : `${value.net}:`;
  return `${(value.protocol ?? "tcp").toLowerCase()}:${net}${value.port}`;
}
