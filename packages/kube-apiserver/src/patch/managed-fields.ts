/**
 * Who owns which fields (`metadata.managedFields`), for updates and for server-side apply.
 *
 * An update takes ownership of what it changed, by force; an apply owns exactly what its configuration says, and is
 * refused when it would change a field somebody else owns, unless forced. What an applier stops mentioning and nobody
 * else owns is removed. Source: Kubernetes documentation, "Server-Side Apply".
 */
import { isObject, type JsonObject, type JsonSchema } from "@calico-ts/schema";
import { ApiError } from "../meta/api-error.ts";
import { asObject, asObjects, asText, type KubeObject, type ManagedFieldsEntry, timestamp } from "../meta/object.ts";
import {
  childSchema,
  compareFields,
  type FieldSet,
  fieldsOf,
  fieldSetPaths,
  formatFieldSet,
  intersect,
  isAtomic,
  itemSteps,
  parseFieldSet,
  subtract,
  subtractTrees,
  union,
} from "./field-set.ts";

export interface Writer {
  readonly manager: string;
  readonly apiVersion: string;
  readonly subresource: string | undefined;
  /** The kind has a status subresource: writes to the object itself own nothing of it. */
  readonly statusApart?: boolean;
  readonly now: number;
}

interface Owner {
  readonly manager: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string | undefined;
  readonly set: FieldSet;
}

/** Fields nobody owns: identity and bookkeeping. */
const UNOWNED = [
  "name",
  "namespace",
  "uid",
  "creationTimestamp",
  "resourceVersion",
  "generation",
  "selfLink",
  "managedFields",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
];

function owned(object: KubeObject | undefined, withoutStatus = false): JsonObject | undefined {
  if (object === undefined) return undefined;
  const { apiVersion: _apiVersion, kind: _kind, metadata, ...rest } = object;
  if (withoutStatus) delete rest["status"];
  const kept: JsonObject = {};
  for (const name of Object.keys(metadata)) if (!UNOWNED.includes(name)) kept[name] = metadata[name];
  return Object.keys(kept).length === 0 ? rest : { metadata: kept, ...rest };
}

function readOwners(object: KubeObject | undefined): Owner[] {
  return asObjects(object?.metadata.managedFields).map((entry) => ({
    manager: asText(entry["manager"]),
    operation: entry["operation"] === "Apply" ? "Apply" : "Update",
    apiVersion: asText(entry["apiVersion"]),
    subresource: asText(entry["subresource"]),
    time: typeof entry["time"] === "string" ? entry["time"] : undefined,
    set: parseFieldSet(entry["fieldsV1"]),
  }));
}

function writeOwners(owners: readonly Owner[]): ManagedFieldsEntry[] {
  return owners
    .filter((owner) => !owner.set.isEmpty)
    .map((owner) => ({
      manager: owner.manager,
      operation: owner.operation,
      apiVersion: owner.apiVersion,
      ...(owner.time === undefined ? {} : { time: owner.time }),
      fieldsType: "FieldsV1",
      fieldsV1: formatFieldSet(owner.set),
      ...(owner.subresource === "" ? {} : { subresource: owner.subresource }),
    }));
}

const isWriter = (owner: Owner, writer: Writer, operation: Owner["operation"]): boolean =>
  owner.manager === writer.manager &&
  owner.operation === operation &&
  owner.subresource === (writer.subresource ?? "") &&
  (operation === "Apply" || owner.apiVersion === writer.apiVersion);

/** Records a create or an update in the object's managedFields. */
export function recordUpdate(
  schema: JsonSchema,
  before: KubeObject | undefined,
  after: KubeObject,
  writer: Writer,
): void {
  if (before !== undefined && Array.isArray(after.metadata.managedFields) && isReset(after.metadata.managedFields)) {
    delete after.metadata.managedFields;
    return;
  }
  const apart = writer.statusApart === true && writer.subresource !== "status";
  const { changed, removed } = compareFields(schema, owned(before, apart) ?? {}, owned(after, apart));
  // A client may rewrite the entries themselves, as kubectl does when it moves to server-side apply.
  const owners = readOwners((after.metadata.managedFields ?? []).length > 0 ? after : before);
  const result: Owner[] = [];
  let found = false;
  for (const owner of owners) {
    let set = subtractTrees(owner.set, removed);
    if (isWriter(owner, writer, "Update")) {
      found = true;
      const next = union(set, changed);
      const grew = !changed.isEmpty || !removed.isEmpty;
      result.push({ ...owner, set: next, time: grew ? timestamp(writer.now) : owner.time });
      continue;
    }
    set = subtract(set, changed);
    result.push({ ...owner, set });
  }
  if (!found && !changed.isEmpty) {
    result.push({
      manager: writer.manager,
      operation: "Update",
      apiVersion: writer.apiVersion,
      subresource: writer.subresource ?? "",
      time: timestamp(writer.now),
      set: changed,
    });
  }
  after.metadata.managedFields = writeOwners(result);
}

/** `managedFields: [{}]` asks to forget all ownership. */
const isReset = (entries: readonly unknown[]): boolean =>
  entries.length === 1 && Object.keys(asObject(entries[0])).length === 0;

export interface Applied {
  readonly object: KubeObject;
  /** Writes the new ownership into the finished object (after defaulting and admission). */
  readonly finish: (object: KubeObject) => void;
}

/** Merges an applied configuration into the live object. @throws ApiError 409 with the conflicts. */
export function applyConfiguration(
  schema: JsonSchema,
  live: KubeObject | undefined,
  config: KubeObject,
  writer: Writer & { readonly force: boolean },
): Applied {
  const apart = writer.statusApart === true && writer.subresource !== "status";
  if (apart) delete config["status"];
  const wanted = fieldsOf(schema, owned(config));
  const owners = readOwners(live);
  const mine = owners.find((owner) => isWriter(owner, writer, "Apply"));
  const others = owners.filter((owner) => owner !== mine);
  const base = live ?? { apiVersion: config.apiVersion, kind: config.kind, metadata: { ...config.metadata } };
  const merged = mergeValue(schema, base, config) as KubeObject;
  if (mine !== undefined) {
    const kept = others.reduce((set, owner) => union(set, owner.set), wanted);
    removeFields(schema, merged, subtract(mine.set, kept));
  }
  const { changed } = compareFields(schema, owned(live) ?? {}, owned(merged));
  const conflicts = others
    .map((owner) => ({ owner, set: intersect(changed, owner.set) }))
    .filter(({ set }) => !set.isEmpty);
  if (conflicts.length > 0 && !writer.force) {
    const allowed = writer.manager === "kubectl" ? lastApplied(schema, live) : undefined;
    const left = conflicts
      .map(({ owner, set }) => ({ owner, set: allowed === undefined ? set : subtract(set, allowed) }))
      .filter(({ set }) => !set.isEmpty);
    if (left.length > 0) throw conflictsError(left);
  }
  return {
    object: merged,
    finish: (object) => {
      const kept = others.map((owner) => {
        const conflict = conflicts.find((entry) => entry.owner === owner);
        return conflict === undefined ? owner : { ...owner, set: subtract(owner.set, conflict.set) };
      });
      const { removed } = compareFields(schema, owned(live) ?? {}, owned(object));
      const unchanged =
        mine !== undefined && JSON.stringify(formatFieldSet(mine.set)) === JSON.stringify(formatFieldSet(wanted));
      const entry: Owner = {
        manager: writer.manager,
        operation: "Apply",
        apiVersion: writer.apiVersion,
        subresource: writer.subresource ?? "",
        time: unchanged && changed.isEmpty ? mine.time : timestamp(writer.now),
        set: wanted,
      };
      const all =
        mine === undefined
          ? [...kept, entry]
          : owners.map((owner) => (owner === mine ? entry : (kept[others.indexOf(owner)] ?? owner)));
      object.metadata.managedFields = writeOwners(
        all.map((owner) => (owner === entry ? owner : { ...owner, set: subtractTrees(owner.set, removed) })),
      );
    },
  };
}

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** Fields a client-side `kubectl apply` set: its server-side successor may take them over without a conflict. */
function lastApplied(schema: JsonSchema, live: KubeObject | undefined): FieldSet | undefined {
  const text = live?.metadata.annotations?.[LAST_APPLIED];
  if (text === undefined) return undefined;
  try {
    const config: unknown = JSON.parse(text);
    return isObject(config) && isObject(config["metadata"]) ? fieldsOf(schema, owned(config as KubeObject)) : undefined;
  } catch {
    return undefined;
  }
}

function conflictsError(conflicts: readonly { readonly owner: Owner; readonly set: FieldSet }[]): ApiError {
  const causes = conflicts.flatMap(({ owner, set }) =>
    fieldSetPaths(set).map((field) => ({
      reason: "FieldManagerConflict",
      message: `conflict with ${JSON.stringify(owner.manager)}${owner.subresource === "" ? "" : ` with subresource ${JSON.stringify(owner.subresource)}`} using ${owner.apiVersion}`,
      field,
    })),
  );
  const byMessage = new Map<string, string[]>();
  for (const cause of causes) byMessage.set(cause.message, [...(byMessage.get(cause.message) ?? []), cause.field]);
  const text = [...byMessage].map(([message, fields]) =>
    fields.length === 1
      ? `${message}: ${fields[0] ?? ""}`
      : `${message.replace(/^conflict/, "conflicts")}:\n- ${fields.join("\n- ")}`,
  );
  const head =
    causes.length === 1 ? "Apply failed with 1 conflict: " : `Apply failed with ${causes.length} conflicts: `;
  return new ApiError(409, "Conflict", head + text.join("\n"), { causes });
}

/** Typed merge: maps by key, `map` lists by item identity, sets by value, everything else replaced. Nothing is shared. */
function mergeValue(schema: JsonSchema | undefined, live: unknown, config: unknown): unknown {
  if (isObject(config) && isObject(live) && !isAtomic(schema)) {
    const out: JsonObject = { ...live };
    for (const name of Object.keys(config)) {
      if (config[name] === undefined) continue;
      out[name] = mergeValue(childSchema(schema, name), live[name], config[name]);
    }
    return out;
  }
  if (Array.isArray(config) && Array.isArray(live)) {
    const wanted = itemSteps(schema, config);
    const present = itemSteps(schema, live);
    if (wanted !== undefined && present !== undefined) {
      const out: unknown[] = live.map((item: unknown, index) => {
        const at = wanted.indexOf(present[index] ?? "");
        return at < 0 ? item : mergeValue(schema?.items, item, config[at]);
      });
      wanted.forEach((step, index) => {
        if (!present.includes(step)) out.push(structuredClone(config[index]));
      });
      return out;
    }
  }
  return structuredClone(config);
}

/** Removes the marked paths, and containers that become empty because of it. */
function removeFields(schema: JsonSchema | undefined, value: unknown, set: FieldSet): void {
  if (isObject(value)) {
    for (const [step, child] of set.children) {
      const name = step.slice(2);
      if (!step.startsWith("f:") || value[name] === undefined) continue;
      const inner = value[name];
      if (child.marked && child.children.size === 0) {
        delete value[name];
        continue;
      }
      const copy = Array.isArray(inner) ? [...inner] : isObject(inner) ? { ...inner } : inner;
      value[name] = copy;
      removeFields(childSchema(schema, name), copy, child);
      if (Array.isArray(copy) ? copy.length === 0 : isObject(copy) && Object.keys(copy).length === 0)
        delete value[name];
    }
    return;
  }
  if (!Array.isArray(value)) return;
  const steps = itemSteps(schema, value) ?? [];
  for (let index = value.length - 1; index >= 0; index--) {
    const child = set.children.get(steps[index] ?? "");
    if (child === undefined) continue;
    if (child.marked) value.splice(index, 1);
    else {
      const item: unknown = isObject(value[index]) ? { ...value[index] } : value[index];
      value[index] = item;
      removeFields(schema?.items, item, child);
    }
  }
}
