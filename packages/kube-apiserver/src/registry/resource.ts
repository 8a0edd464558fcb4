/**
 * What the server knows about one resource: its names, its schema, how it behaves on write. Built-in kinds and custom
 * resources are the same to everything above this file.
 */
import type { FieldError, JsonSchema } from "@calico-ts/schema";
import type { KubeObject } from "../meta/object.ts";
import type { Store } from "../storage/store.ts";
import type { TypeSchema } from "./type-table.ts";

export interface User {
  readonly name: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: { readonly [key: string]: readonly string[] };
}

/** What a strategy may look at and do while an object is written. */
export interface WriteContext {
  readonly store: Store;
  readonly user: User;
  readonly now: number;
  readonly dryRun: boolean;
  /** Set for writes to a subresource. */
  readonly subresource: string | undefined;
  /** Random lower-case text, for generated names. */
  suffix(length: number): string;
  /** Puts a Warning header on the answer. */
  warn(text: string): void;
}

export type Errors = FieldError[];

/** Behaviour of a kind. Each hook may change the object it is given; none may change `old`. */
export interface Strategy {
  /** Fills defaults; runs after every decoding, also of patched objects. Must give the same result twice. */
  readonly defaults?: (object: KubeObject) => void;
  /** Before validation of a new object: allocation, injected fields. */
  readonly prepareCreate?: (object: KubeObject, context: WriteContext) => void;
  readonly prepareUpdate?: (object: KubeObject, old: KubeObject, context: WriteContext) => void;
  readonly validate?: (object: KubeObject, errors: Errors, context: WriteContext) => void;
  readonly validateUpdate?: (object: KubeObject, old: KubeObject, errors: Errors, context: WriteContext) => void;
  /** How names are checked. Default: a DNS-1123 subdomain. */
  readonly nameRule?: NameRule;
  /** metadata.generation counts changes outside metadata and status. */
  readonly generation?: boolean;
  /** What a graceful delete waits, in seconds; 0 or absent deletes at once. */
  readonly gracePeriod?: (object: KubeObject, asked: number | undefined) => number;
  /** Foreground, Background or Orphan when the delete does not say. */
  readonly defaultPropagation?: "Background" | "Orphan";
}

export type NameRule = "subdomain" | "label" | "label1035" | "path";

export interface ScalePaths {
  readonly specReplicas: readonly string[];
  readonly statusReplicas: readonly string[];
  readonly labelSelector?: readonly string[];
}

export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly format?: string;
  readonly description?: string;
  /** 0 is always shown, higher ones with `-o wide`. */
  readonly priority?: number;
  readonly value: (object: KubeObject, now: number) => string | number | boolean | null;
}

export interface ResourceInfo {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly listKind: string;
  readonly plural: string;
  readonly singular: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly string[];
  /** Collection in the store. */
  readonly collection: string;
  readonly apiVersion: string;
  /** Built-in kinds: drives decoding, merging, OpenAPI. */
  readonly schema: TypeSchema;
  /** Custom resources: pruned, defaulted and validated with this. */
  readonly structural: JsonSchema | undefined;
  readonly strategy: Strategy;
  readonly columns: readonly Column[];
  readonly scale: ScalePaths | undefined;
  readonly selectableFields: readonly string[];
  readonly storageVersion: boolean;
}

export const collectionId = (group: string, plural: string): string => `${group}/${plural}`;
export const apiVersionOf = (group: string, version: string): string =>
  group === "" ? version : `${group}/${version}`;
