/**
 * Validation failures as values, and their text. Types, words and the quoting of values are the API server's
 * (its `field.Error`): `spec.replicas: Invalid value: -1: must be greater than or equal to 0`.
 */
import { isObject } from "./schema.ts";

export type FieldErrorType =
  | "Required"
  | "Invalid"
  | "TypeInvalid"
  | "NotSupported"
  | "Duplicate"
  | "Forbidden"
  | "TooLong"
  | "TooMany"
  | "NotFound"
  | "InternalError";

export interface FieldError {
  readonly path: string;
  readonly type: FieldErrorType;
  readonly value: unknown;
  /** The words after the value; empty when the type says it all. */
  readonly message: string;
}

const TITLES: { readonly [K in FieldErrorType]: string } = {
  Required: "Required value",
  Invalid: "Invalid value",
  TypeInvalid: "Invalid value",
  NotSupported: "Unsupported value",
  Duplicate: "Duplicate value",
  Forbidden: "Forbidden",
  TooLong: "Too long",
  TooMany: "Too many",
  NotFound: "Not found",
  InternalError: "Internal error",
};

/** The error without its path: what a Status cause carries as its message. */
export function fieldErrorBody(error: FieldError): string {
  const title = TITLES[error.type];
  const silent =
    error.type === "Required" ||
    error.type === "Forbidden" ||
    error.type === "TooLong" ||
    error.type === "InternalError";
  const head = silent ? title : `${title}: ${quoteValue(error.value)}`;
  return error.message === "" ? head : `${head}: ${error.message}`;
}

/** One line: path, what is wrong, the value, why. */
export function fieldErrorText(error: FieldError): string {
  return `${error.path === "" ? "<nil>" : error.path}: ${fieldErrorBody(error)}`;
}

/** Several errors as the API server joins them: one plain, more in brackets. */
export function fieldErrorsText(errors: readonly FieldError[]): string {
  const texts = [...new Set(errors.map(fieldErrorText))];
  return texts.length === 1 ? (texts[0] ?? "") : `[${texts.join(", ")}]`;
}

/** `FieldValueInvalid` and so on: the reason of a Status cause. */
export const fieldErrorReason = (error: FieldError): string =>
  error.type === "InternalError" ? "InternalError" : `FieldValue${error.type}`;

export const required = (path: string, message = ""): FieldError => ({ path, type: "Required", value: "", message });
export const invalid = (path: string, value: unknown, message: string): FieldError => ({
  path,
  type: "Invalid",
  value,
  message,
});
export const forbidden = (path: string, message: string): FieldError => ({
  path,
  type: "Forbidden",
  value: "",
  message,
});
export const duplicate = (path: string, value: unknown): FieldError => ({
  path,
  type: "Duplicate",
  value,
  message: "",
});
export const notFound = (path: string, value: unknown): FieldError => ({ path, type: "NotFound", value, message: "" });
export const notSupported = (path: string, value: unknown, supported: readonly unknown[]): FieldError => ({
  path,
  type: "NotSupported",
  value,
  message: supported.length === 0 ? "" : `supported values: ${supported.map(quoteValue).join(", ")}`,
});
export const tooLong = (path: string, value: unknown, max: number): FieldError => ({
  path,
  type: "TooLong",
  value,
  message: `may not be more than ${max} bytes`,
});
export const tooMany = (path: string, count: number, max: number): FieldError => ({
  path,
  type: "TooMany",
  value: count,
  message: `must have at most ${max} items`,
});

/** Go's %q for text, %v for scalars, %#v for the rest. */
function quoteValue(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return `[]interface {}{${value.map(quoteValue).join(", ")}}`;
  if (isObject(value)) {
    const entries = Object.keys(value)
      .toSorted()
      .map((key) => `${JSON.stringify(key)}:${quoteValue(value[key])}`);
    return `map[string]interface {}{${entries.join(", ")}}`;
  }
  return typeof value === "number" || typeof value === "bigint" || typeof value === "boolean" ? String(value) : "";
}
