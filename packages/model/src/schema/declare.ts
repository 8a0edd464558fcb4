/** How a kind is declared: names, scope, columns and its schema in one place. */
import type { TSchema } from "typebox";
import type { JsonSchema } from "@calico-ts/schema";
import type { CelRule, TypeOf } from "./builders.ts";
import type { ObjectMeta } from "./meta.ts";

export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly jsonPath: string;
  readonly description?: string;
  readonly priority?: number;
}

/** `crd`: we ship its CRD. `builtin`: the API server has it. `derived`: stored only where there is no Kubernetes. */
export type Storage = "crd" | "builtin" | "derived";

export interface KindInfo {
  readonly kind: string;
  /** "" for the core group. */
  readonly group: string;
  readonly version: string;
  /** `group/version`, or the version alone in the core group. */
  readonly apiVersion: string;
  readonly plural: string;
  readonly singular: string;
  readonly listKind: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  /** True when `status` is a subresource. */
  readonly hasStatus: boolean;
  readonly storage: Storage;
  readonly description: string;
  /** The whole object: apiVersion, kind, metadata, spec, status. */
  readonly schema: JsonSchema;
  /** JSON paths that field selectors accept besides metadata.name and metadata.namespace. */
  readonly selectableFields: readonly string[];
  readonly printerColumns: readonly PrinterColumn[];
}

/** A stored object of a kind. */
export interface StoredObject<ApiVersion extends string, Kind extends string> {
  readonly apiVersion: ApiVersion;
  readonly kind: Kind;
  readonly metadata: ObjectMeta;
}

export const CALICO_GROUP = "projectcalico.org";
export const CALICO_API_VERSION = "projectcalico.org/v3";
export type CalicoApiVersion = typeof CALICO_API_VERSION;

/** The object type of a Calico kind with a spec and perhaps a status. */
export type CalicoResource<Kind extends string, Spec extends TSchema> = StoredObject<CalicoApiVersion, Kind> & {
  readonly spec: TypeOf<Spec>;
};
export type CalicoResourceWithStatus<
  Kind extends string,
  Spec extends TSchema,
  Status extends TSchema,
> = CalicoResource<Kind, Spec> & { readonly status?: TypeOf<Status> };

interface Declaration {
  readonly kind: string;
  readonly plural: string;
  readonly description: string;
  readonly shortNames?: readonly string[];
  readonly namespaced?: boolean;
  readonly storage?: Storage;
  readonly selectableFields?: readonly string[];
  readonly printerColumns?: readonly PrinterColumn[];
}

interface CalicoDeclaration extends Declaration {
  readonly spec: TSchema;
  readonly status?: TSchema;
  /** Rules over the whole object (name and spec together). */
  readonly rules?: readonly CelRule[];
}

/** A kind of group projectcalico.org/v3. */
export function calicoKind(declaration: CalicoDeclaration): KindInfo {
  const { spec, status, rules = [] } = declaration;
  const schema = {
    type: "object",
    description: declaration.description,
    properties: { ...IDENTITY, ...jsonOf(status === undefined ? { spec } : { spec, status }) },
    required: ["metadata", "spec"],
    ...(rules.length === 0 ? {} : { "x-kubernetes-validations": rules }),
  };
  return describe(declaration, { group: CALICO_GROUP, version: "v3", hasStatus: status !== undefined, schema });
}

interface KubernetesDeclaration extends Declaration {
  readonly group: string;
  readonly version: string;
  readonly hasStatus?: boolean;
  /** Top-level fields besides apiVersion, kind and metadata. */
  readonly fields: Readonly<Record<string, TSchema>>;
  readonly required?: readonly string[];
}

/** A kind that belongs to Kubernetes. Unless `storage` says otherwise the API server has it. */
export function kubernetesKind(declaration: KubernetesDeclaration): KindInfo {
  const { group, version, hasStatus = false, fields, required = [] } = declaration;
  const open = declaration.storage === "crd" ? {} : { "x-kubernetes-preserve-unknown-fields": true };
  const schema = {
    type: "object",
    description: declaration.description,
    properties: { ...IDENTITY, ...jsonOf(fields) },
    required: ["metadata", ...required],
    ...open,
  };
  return describe({ storage: "builtin", ...declaration }, { group, version, hasStatus, schema });
}

const IDENTITY: Readonly<Record<string, JsonSchema>> = {
  apiVersion: { type: "string", description: "Group and version of this object's schema." },
  kind: { type: "string", description: "The kind of object." },
  metadata: { type: "object" },
};

/** TypeBox schemas are structural schemas: what TypeBox adds for itself is not enumerable. */
const jsonOf = (fields: Readonly<Record<string, TSchema>>): Readonly<Record<string, JsonSchema>> => fields;

function describe(
  declaration: Declaration,
  facts: Pick<KindInfo, "group" | "version" | "hasStatus" | "schema">,
): KindInfo {
  const { kind, plural, description } = declaration;
  return {
    kind,
    ...facts,
    apiVersion: facts.group === "" ? facts.version : `${facts.group}/${facts.version}`,
    plural,
    singular: kind.toLowerCase(),
    listKind: `${kind}List`,
    shortNames: declaration.shortNames ?? [],
    namespaced: declaration.namespaced ?? false,
    storage: declaration.storage ?? "crd",
    description,
    selectableFields: declaration.selectableFields ?? [],
    printerColumns: declaration.printerColumns ?? [],
  };
}

export const column = (
  name: string,
  type: PrinterColumn["type"],
  jsonPath: string,
  description?: string,
): PrinterColumn => ({ name, type, jsonPath, ...(description === undefined ? {} : { description }) });
