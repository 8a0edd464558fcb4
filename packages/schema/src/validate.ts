/**
 * Checks a value against a structural schema: first the values themselves, then, when those are sound, the CEL rules.
 *
 * A walk over schema and value side by side; nothing is compiled except regular expressions and CEL programs, which are
 * kept. An object of ordinary size takes tens of microseconds. Patterns are RE2 upstream and ECMAScript here: a
 * pattern this engine cannot read matches everything, since refusing good objects would be worse.
 */
import { validateRules } from "./cel-rules.ts";
import type { FieldError } from "./field-error.ts";
import { duplicate, invalid, notSupported, required, tooLong, tooMany } from "./field-error.ts";
import { regularExpression } from "./pattern.ts";
import { matchesNumberFormat, matchesStringFormat } from "./formats.ts";
import { listKey } from "./list-key.ts";
import { fieldPath, indexPath, isObject, type JsonObject, type JsonSchema, sameJson } from "./schema.ts";

export interface ValidateOptions {
  /** False: values only. Default true. */
  readonly rules?: boolean;
  /** Where the value stands in its object; the default is the object itself. */
  readonly path?: string;
}

export function validate(
  schema: JsonSchema,
  value: unknown,
  oldValue?: unknown,
  options: ValidateOptions = {},
): FieldError[] {
  const errors: FieldError[] = [];
  const path = options.path ?? "";
  checkValue(schema, value, path, errors);
  if (errors.length === 0 && options.rules !== false) validateRules(schema, { value, oldValue, path, errors });
  return errors;
}

function checkValue(schema: JsonSchema, value: unknown, path: string, errors: FieldError[]): void {
  if (value === null && schema.nullable === true) return;
  if (!checkType(schema, value, path, errors)) return;
  if (schema.enum !== undefined && !schema.enum.some((allowed) => sameJson(allowed, value))) {
    errors.push(notSupported(path, value, schema.enum));
  }
  if (typeof value === "string") checkString(schema, value, path, errors);
  else if (typeof value === "number") checkNumber(schema, value, path, errors);
  else if (Array.isArray(value)) checkArray(schema, value, path, errors);
  else if (isObject(value)) checkObject(schema, value, path, errors);
  checkCombinations(schema, value, path, errors);
}

function checkType(schema: JsonSchema, value: unknown, path: string, errors: FieldError[]): boolean {
  if (schema["x-kubernetes-int-or-string"] === true) {
    if (typeof value === "string" || (typeof value === "number" && Number.isInteger(value))) return true;
    errors.push(wrongType(path, "integer,string", typeName(value)));
    return false;
  }
  const type = schema.type;
  if (type === undefined || type === "") return true;
  const actual = typeName(value);
  if (actual === type || (type === "number" && actual === "integer")) return true;
  errors.push(wrongType(path, type, actual));
  return false;
}

const wrongType = (path: string, expected: string, actual: string): FieldError => ({
  path,
  type: "TypeInvalid",
  value: actual,
  message: `${path} in body must be of type ${expected}: "${actual}"`,
});

function typeName(value: unknown): string {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

function checkString(schema: JsonSchema, value: string, path: string, errors: FieldError[]): void {
  const { minLength, maxLength, pattern, format } = schema;
  if (minLength !== undefined || maxLength !== undefined) {
    let length = value.length;
    if (/[\ud800-\udfff]/.test(value)) length = Array.from(value).length;
    if (maxLength !== undefined && length > maxLength) errors.push(tooLong(path, value, maxLength));
    if (minLength !== undefined && length < minLength) {
      errors.push(invalid(path, value, `${path} in body should be at least ${minLength} chars long`));
    }
  }
  if (pattern !== undefined && regularExpression(pattern)?.test(value) === false) {
    errors.push(invalid(path, value, `${path} in body should match '${pattern}'`));
  }
  if (format !== undefined && !matchesStringFormat(format, value)) {
    errors.push(invalid(path, value, `${path} in body must be of type ${format}: ${JSON.stringify(value)}`));
  }
}

function checkNumber(schema: JsonSchema, value: number, path: string, errors: FieldError[]): void {
  const { minimum, maximum, multipleOf, format } = schema;
  const complain = (text: string): void => void errors.push(invalid(path, value, `${path} in body ${text}`));
  if (minimum !== undefined) {
    if (schema.exclusiveMinimum === true && value <= minimum) complain(`should be greater than ${minimum}`);
    else if (value < minimum) complain(`should be greater than or equal to ${minimum}`);
  }
  if (maximum !== undefined) {
    if (schema.exclusiveMaximum === true && value >= maximum) complain(`should be less than ${maximum}`);
    else if (value > maximum) complain(`should be less than or equal to ${maximum}`);
  }
  if (multipleOf !== undefined && !Number.isInteger(value / multipleOf))
    complain(`should be a multiple of ${multipleOf}`);
  if (format !== undefined && !matchesNumberFormat(format, value)) complain(`must be of type ${format}: "${value}"`);
}

function checkArray(schema: JsonSchema, value: readonly unknown[], path: string, errors: FieldError[]): void {
  const { minItems, maxItems, items } = schema;
  if (minItems !== undefined && value.length < minItems) {
    errors.push(invalid(path, value.length, `${path} in body should have at least ${minItems} items`));
  }
  if (maxItems !== undefined && value.length > maxItems) errors.push(tooMany(path, value.length, maxItems));
  if (schema.uniqueItems === true && firstDuplicate(value.map(canonical)) >= 0) {
    errors.push(invalid(path, value, `${path} in body shouldn't contain duplicates`));
  }
  if (items !== undefined) {
    for (let index = 0; index < value.length; index++) checkValue(items, value[index], indexPath(path, index), errors);
  }
  const listType = schema["x-kubernetes-list-type"];
  if (listType === "set") reportDuplicates(value, value, path, errors);
  if (listType === "map") {
    const keys = schema["x-kubernetes-list-map-keys"] ?? [];
    reportDuplicates(
      value.map((item) => listKey(item, keys)),
      value,
      path,
      errors,
    );
  }
}

function reportDuplicates(
  keys: readonly unknown[],
  items: readonly unknown[],
  path: string,
  errors: FieldError[],
): void {
  const seen = new Set<string>();
  keys.forEach((key, index) => {
    const text = canonical(key);
    if (seen.has(text)) errors.push(duplicate(indexPath(path, index), keys === items ? items[index] : key));
    seen.add(text);
  });
}

function firstDuplicate(texts: readonly string[]): number {
  const seen = new Set<string>();
  return texts.findIndex((text) => seen.size === seen.add(text).size);
}

/** A text that is equal for equal JSON values. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (!isObject(value)) return JSON.stringify(value) ?? "null";
  return `{${Object.keys(value)
    .toSorted()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`)
    .join(",")}}`;
}

function checkObject(schema: JsonSchema, value: JsonObject, path: string, errors: FieldError[]): void {
  const { required: names, properties, additionalProperties: additional, minProperties, maxProperties } = schema;
  if (minProperties !== undefined || maxProperties !== undefined) {
    const count = Object.keys(value).length;
    if (minProperties !== undefined && count < minProperties) {
      errors.push(invalid(path, count, `${path} in body should have at least ${minProperties} properties`));
    }
    if (maxProperties !== undefined && count > maxProperties) errors.push(tooMany(path, count, maxProperties));
  }
  for (const name of names ?? []) {
    if (!Object.hasOwn(value, name) || value[name] === undefined) errors.push(required(fieldPath(path, name)));
  }
  for (const name of Object.keys(value)) {
    const child = value[name];
    if (child === undefined) continue;
    const property = properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (property !== undefined) checkValue(property, child, fieldPath(path, name), errors);
    else if (isObject(additional)) checkValue(additional, child, fieldPath(path, name), errors);
  }
}

function checkCombinations(schema: JsonSchema, value: unknown, path: string, errors: FieldError[]): void {
  const passes = (branch: JsonSchema): boolean => {
    const found: FieldError[] = [];
    checkValue(branch, value, path, found);
    return found.length === 0;
  };
  for (const branch of schema.allOf ?? []) checkValue(branch, value, path, errors);
  if (schema.anyOf !== undefined && !schema.anyOf.some(passes)) {
    errors.push(invalid(path, "", `"${path}" must validate at least one schema (anyOf)`));
  }
  if (schema.oneOf !== undefined) {
    const count = schema.oneOf.filter(passes).length;
    if (count !== 1) {
      const found = count === 0 ? "Found none valid" : `Found ${count} valid alternatives`;
      errors.push(invalid(path, "", `"${path}" must validate one and only one schema (oneOf). ${found}`));
    }
  }
  if (schema.not !== undefined && passes(schema.not)) {
    errors.push(invalid(path, "", `"${path}" must not validate the schema (not)`));
  }
}
