/**
 * Evaluates `x-kubernetes-validations` rules.
 *
 * Programs are compiled once per text and kept. Values reach CEL as CEL sees them in Kubernetes: integers become
 * ints (bigint here), date-times timestamps, property names that are CEL keywords are escaped (`__in__`). A transition
 * rule (one that mentions oldSelf) runs only when there is an old value to compare with, unless `optionalOldSelf`
 * is set; then oldSelf is an optional. Items of `map` lists are matched with their old selves by key, those of other
 * lists are not matched at all.
 */
import { EvaluationError, Optional } from "@marcbachmann/cel-js";
import { createEnvironment } from "./cel-library.ts";
import { isDateTime } from "./formats.ts";
import type { FieldError, FieldErrorType } from "./field-error.ts";
import { listKey } from "./list-key.ts";
import {
  fieldPath,
  indexPath,
  isObject,
  type JsonObject,
  type JsonSchema,
  keyPath,
  sameJson,
  type ValidationRule,
} from "./schema.ts";

export type CelOutcome =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly message: string };

/** An expression ready to run. Building one never throws: a broken text is reported by `error`. */
export interface CelProgram {
  readonly error: string | undefined;
  evaluate(variables: { readonly [name: string]: unknown }): CelOutcome;
}

type Dialect = "plain" | "optionalOldSelf";

const programs: { readonly [D in Dialect]: Map<string, CelProgram> } = { plain: new Map(), optionalOldSelf: new Map() };
const environments = new Map<Dialect, ReturnType<typeof createEnvironment>>();

/** In the dialect `optionalOldSelf` the variable oldSelf is an optional; the type checker has to know. */
export function compileCel(expression: string, dialect: Dialect = "plain"): CelProgram {
  const cache = programs[dialect];
  const known = cache.get(expression);
  if (known !== undefined) return known;
  if (cache.size > 10_000) cache.clear();
  const program = build(expression, dialect);
  cache.set(expression, program);
  return program;
}

function environmentOf(dialect: Dialect): ReturnType<typeof createEnvironment> {
  let environment = environments.get(dialect);
  if (environment === undefined) {
    environment = createEnvironment();
    if (dialect === "optionalOldSelf") environment.registerVariable("oldSelf", "optional<dyn>");
    environments.set(dialect, environment);
  }
  return environment;
}

function build(expression: string, dialect: Dialect): CelProgram {
  const environment = environmentOf(dialect);
  try {
    const run = environment.parse(expression);
    return {
      error: undefined,
      evaluate(variables) {
        try {
          return { ok: true, value: run(variables) as unknown };
        } catch (error) {
          const message =
            error instanceof EvaluationError ? error.summary : error instanceof Error ? error.message : String(error);
          return { ok: false, message };
        }
      },
    };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    return { error: message, evaluate: () => ({ ok: false, message }) };
  }
}

export interface RuleTarget {
  readonly value: unknown;
  readonly oldValue: unknown;
  readonly path: string;
  readonly errors: FieldError[];
}

/** Runs the rules of a schema and of everything below it. */
export function validateRules(schema: JsonSchema, target: RuleTarget): void {
  if (!hasRules(schema)) return;
  const { value, oldValue, path, errors } = target;
  if (value === null || value === undefined) return;
  const rules = schema["x-kubernetes-validations"];
  if (rules !== undefined && rules.length > 0) runRules(schema, rules, target);
  if (Array.isArray(value)) {
    const items = schema.items;
    if (items === undefined || !hasRules(items)) return;
    const old = oldItems(schema, oldValue);
    value.forEach((item: unknown, index) => {
      validateRules(items, { value: item, oldValue: old(item), path: indexPath(path, index), errors });
    });
    return;
  }
  if (!isObject(value)) return;
  const old = isObject(oldValue) ? oldValue : {};
  for (const name of Object.keys(value)) {
    const property =
      schema.properties !== undefined && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
    if (property !== undefined) {
      validateRules(property, { value: value[name], oldValue: old[name], path: fieldPath(path, name), errors });
    } else if (isObject(schema.additionalProperties)) {
      validateRules(schema.additionalProperties, {
        value: value[name],
        oldValue: old[name],
        path: keyPath(path, name),
        errors,
      });
    }
  }
}

function oldItems(schema: JsonSchema, oldValue: unknown): (item: unknown) => unknown {
  const keys = schema["x-kubernetes-list-map-keys"] ?? [];
  if (schema["x-kubernetes-list-type"] !== "map" || !Array.isArray(oldValue)) return () => undefined;
  return (item) => oldValue.find((candidate) => sameJson(listKey(candidate, keys), listKey(item, keys)));
}

function runRules(schema: JsonSchema, rules: readonly ValidationRule[], target: RuleTarget): void {
  const self = toCel(schema, target.value);
  const oldSelf =
    target.oldValue === undefined || target.oldValue === null ? undefined : toCel(schema, target.oldValue);
  for (const rule of rules) {
    const variables: { self: unknown; oldSelf?: unknown } = { self };
    if (rule.optionalOldSelf === true)
      variables.oldSelf = oldSelf === undefined ? Optional.none() : Optional.of(oldSelf);
    else if (/\boldSelf\b/.test(rule.rule)) {
      if (oldSelf === undefined) continue;
      variables.oldSelf = oldSelf;
    }
    const outcome = compileCel(rule.rule, dialectOf(rule)).evaluate(variables);
    if (outcome.ok && outcome.value === true) continue;
    const why = outcome.ok
      ? ruleMessage(rule, variables)
      : `${ruleMessage(rule, variables)} evaluating rule: ${outcome.message}`;
    target.errors.push(ruleError(schema, rule, target, why));
  }
}

const dialectOf = (rule: ValidationRule): Dialect => (rule.optionalOldSelf === true ? "optionalOldSelf" : "plain");

function ruleMessage(rule: ValidationRule, variables: { readonly [name: string]: unknown }): string {
  if (rule.messageExpression !== undefined && rule.messageExpression !== "") {
    const outcome = compileCel(rule.messageExpression, dialectOf(rule)).evaluate(variables);
    if (
      outcome.ok &&
      typeof outcome.value === "string" &&
      outcome.value.trim() !== "" &&
      !outcome.value.includes("\n")
    ) {
      return outcome.value.trim();
    }
  }
  if (rule.message !== undefined && rule.message !== "") return rule.message.trim();
  return `failed rule: ${rule.rule.trim()}`;
}

const REASONS: { readonly [reason: string]: FieldErrorType } = {
  FieldValueInvalid: "Invalid",
  FieldValueForbidden: "Forbidden",
  FieldValueRequired: "Required",
  FieldValueDuplicate: "Duplicate",
};

function ruleError(schema: JsonSchema, rule: ValidationRule, target: RuleTarget, message: string): FieldError {
  const relative = (rule.fieldPath ?? "").replace(/^\./, "").replaceAll(/\['([^']*)'\]/g, "[$1]");
  const path =
    relative === ""
      ? target.path
      : relative.startsWith("[")
        ? `${target.path}${relative}`
        : fieldPath(target.path, relative);
  const type = REASONS[rule.reason ?? ""] ?? "Invalid";
  const value = isObject(target.value)
    ? "object"
    : Array.isArray(target.value)
      ? "array"
      : (schema.type ?? typeof target.value);
  return { path, type, value, message };
}

const withRules = new WeakMap<JsonSchema, boolean>();

function hasRules(schema: JsonSchema): boolean {
  const known = withRules.get(schema);
  if (known !== undefined) return known;
  withRules.set(schema, false);
  const own = (schema["x-kubernetes-validations"]?.length ?? 0) > 0;
  const children = [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties];
  const answer = own || children.some((child) => isObject(child) && hasRules(child));
  withRules.set(schema, answer);
  return answer;
}

const KEYWORDS = new Set(
  "true false null in as break const continue else for function if import let loop package namespace return var void while".split(
    " ",
  ),
);

/** A field name as CEL rules spell it. */
function celName(name: string): string {
  if (KEYWORDS.has(name)) return `__${name}__`;
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !name.includes("__")) return name;
  return name
    .replaceAll("__", "__underscores__")
    .replaceAll(".", "__dot__")
    .replaceAll("-", "__dash__")
    .replaceAll("/", "__slash__");
}

/** A JSON value as CEL sees it under a schema. Without a schema whole numbers become ints. */
export function toCel(schema: JsonSchema | undefined, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => toCel(schema?.items, item));
  if (isObject(value)) {
    const out: JsonObject = {};
    const additional = isObject(schema?.additionalProperties) ? (schema.additionalProperties as JsonSchema) : undefined;
    for (const name of Object.keys(value)) {
      if (value[name] === undefined || name === "__proto__") continue;
      const property =
        schema?.properties !== undefined && Object.hasOwn(schema.properties, name)
          ? schema.properties[name]
          : undefined;
      out[property === undefined ? name : celName(name)] = toCel(property ?? additional, value[name]);
    }
    return out;
  }
  if (typeof value === "number") return schema?.type === "number" || !Number.isInteger(value) ? value : BigInt(value);
  if (typeof value === "string" && schema?.format === "date-time" && isDateTime(value)) return new Date(value);
  return value;
}
