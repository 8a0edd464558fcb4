/**
 * Request bodies in Kubernetes' protobuf form, turned into the JSON form the rest of the server works on.
 *
 * Typed Go clients (newer `kubectl create …`, controllers) send nothing else. The envelope is `k8s\0` and a
 * `runtime.Unknown` with the kind and the object. Numbers of fields come from a table; types from the schemas. Go writes
 * zero values of plain fields on the wire, so empty texts are dropped, and zeros where Go has no pointer. Answers are JSON, which
 * every client accepts. Custom resources have no protobuf form; neither have definitions of them here.
 */
import { isObject, type JsonObject } from "@calico-ts/schema";
import { ApiError, badRequest } from "../meta/api-error.ts";
import { WIRE_FIELDS } from "./fields.ts";
import { typeSchema, type TypeSchema } from "../registry/type-table.ts";
import { readFields } from "./reader.ts";

const MAGIC = "k8s\0";

/** Plain (non-pointer) Go fields whose zero means "not given". */
const PLAIN_ZERO = new Set(
  "hostNetwork hostPID hostIPC stdin stdinOnce tty readOnly unschedulable paused publishNotReadyAddresses minReadySeconds hostPort nodePort generation observedGeneration initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold count disabled globalDefault".split(
    " ",
  ),
);

const OPTION_TYPES: { readonly [kind: string]: string } = { DeleteOptions: "V1DeleteOptions" };

/** @param findType the type of a kind, e.g. V1Pod. @throws ApiError 400, 415 */
export function decodeProtobuf(
  body: Uint8Array,
  findType: (apiVersion: string, kind: string) => string | undefined,
): JsonObject {
  if (Buffer.from(body.subarray(0, 4)).toString("latin1") !== MAGIC) {
    throw badRequest("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
  }
  let apiVersion = "";
  let kind = "";
  let raw: Uint8Array = new Uint8Array();
  for (const field of readFields(body.subarray(4))) {
    if (!(field.value instanceof Uint8Array)) continue;
    if (field.number === 1) {
      for (const meta of readFields(field.value)) {
        if (meta.value instanceof Uint8Array && meta.number === 1) apiVersion = text(meta.value);
        if (meta.value instanceof Uint8Array && meta.number === 2) kind = text(meta.value);
      }
    } else if (field.number === 2) raw = field.value;
  }
  const type = OPTION_TYPES[kind] ?? findType(apiVersion, kind);
  if (type === undefined || WIRE_FIELDS[type] === undefined) {
    throw new ApiError(
      415,
      "UnsupportedMediaType",
      "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
    );
  }
  return { apiVersion, kind, ...decodeMessage(raw, type, 0) };
}

const text = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");

interface Known {
  readonly name: string;
  readonly inline: { readonly [field: string]: number } | undefined;
}

const byNumber = new Map<string, Map<number, Known>>();

function fieldsOf(type: string): Map<number, Known> {
  let known = byNumber.get(type);
  if (known === undefined) {
    known = new Map();
    for (const [name, entry] of Object.entries(WIRE_FIELDS[type] ?? {})) {
      if (typeof entry === "number") known.set(entry, { name, inline: undefined });
      else known.set(Number(name.slice(1)), { name, inline: entry });
    }
    byNumber.set(type, known);
  }
  return known;
}

const MAX_DEPTH = 64;

function decodeMessage(bytes: Uint8Array, type: string, depth: number): JsonObject {
  if (depth > MAX_DEPTH) throw badRequest("the protobuf body is nested too deeply");
  const schema = typeSchema(type);
  const fields = fieldsOf(type);
  const out: JsonObject = {};
  for (const field of readFields(bytes)) {
    const known = fields.get(field.number);
    if (known === undefined) continue;
    if (known.inline === undefined) put(out, known.name, schema, [field.value, depth]);
    else if (field.value instanceof Uint8Array) {
      const names = new Map(Object.entries(known.inline).map(([name, number]) => [number, name]));
      for (const inner of readFields(field.value)) {
        const name = names.get(inner.number);
        if (name !== undefined) put(out, name, schema, [inner.value, depth]);
      }
    }
  }
  return out;
}

type Raw = readonly [value: bigint | Uint8Array, depth: number];

function put(out: JsonObject, name: string, owner: TypeSchema, [value, depth]: Raw): void {
  const schema = owner.properties?.[name];
  if (schema === undefined) return;
  if (schema.items !== undefined) {
    const list = Array.isArray(out[name]) ? out[name] : [];
    out[name] = list;
    if (value instanceof Uint8Array && isPacked(schema.items)) for (const number of packed(value)) list.push(number);
    else list.push(decodeValue(schema.items, value, depth));
    return;
  }
  if (isObject(schema.additionalProperties)) {
    const map = isObject(out[name]) ? out[name] : {};
    out[name] = map;
    if (value instanceof Uint8Array) putEntry(map, schema.additionalProperties, value, depth);
    return;
  }
  const decoded = decodeValue(schema, value, depth);
  const zero =
    decoded === "" || decoded === undefined || ((decoded === 0 || decoded === false) && PLAIN_ZERO.has(name));
  if (!zero || owner.required?.includes(name) === true) out[name] = decoded ?? null;
}

const isPacked = (schema: TypeSchema): boolean => schema.type === "integer" || schema.type === "boolean";

function packed(bytes: Uint8Array): number[] {
  const out: number[] = [];
  let value = 0n;
  let shift = 0n;
  for (const byte of bytes) {
    value |= BigInt(byte & 127) << shift;
    shift += 7n;
    if (byte < 128) {
      out.push(Number(BigInt.asIntN(64, value)));
      value = 0n;
      shift = 0n;
    }
  }
  return out;
}

function putEntry(map: JsonObject, schema: TypeSchema, bytes: Uint8Array, depth: number): void {
  let key = "";
  let value: unknown = schema.type === "array" ? [] : "";
  for (const field of readFields(bytes)) {
    if (field.number === 1 && field.value instanceof Uint8Array) key = text(field.value);
    if (field.number === 2)
      value = schema.items === undefined ? decodeValue(schema, field.value, depth) : stringList(field.value);
  }
  Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A list as a map's value is wrapped in a message with the items as field 1. */
function stringList(value: bigint | Uint8Array): string[] {
  const out: string[] = [];
  if (value instanceof Uint8Array) {
    for (const field of readFields(value))
      if (field.number === 1 && field.value instanceof Uint8Array) out.push(text(field.value));
  }
  return out;
}

function decodeValue(schema: TypeSchema, value: bigint | Uint8Array, depth: number): unknown {
  if (typeof value === "bigint") {
    if (schema.type === "boolean") return value !== 0n;
    if (schema.type === "number") return doubleOf(value);
    return Number(BigInt.asIntN(64, value));
  }
  if (schema["x-type"] !== undefined) return decodeMessage(value, schema["x-type"], depth + 1);
  if (schema.format === "date-time") return timeOf(value, schema["x-go-type"] === "v1.MicroTime");
  if (schema.format === "quantity") return firstText(value, 1);
  if (schema["x-kubernetes-int-or-string"] === true) return intOrString(value);
  if (schema.format === "byte") return Buffer.from(value).toString("base64");
  if (schema.type === "string") return text(value);
  return rawJson(value);
}

function doubleOf(bits: bigint): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

function numbers(bytes: Uint8Array): Map<number, bigint> {
  const found = new Map<number, bigint>();
  for (const field of readFields(bytes)) if (typeof field.value === "bigint") found.set(field.number, field.value);
  return found;
}

function timeOf(bytes: Uint8Array, micro: boolean): string | undefined {
  if (bytes.length === 0) return undefined;
  const found = numbers(bytes);
  const seconds = Number(BigInt.asIntN(64, found.get(1) ?? 0n));
  const nanos = Number(found.get(2) ?? 0n);
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw badRequest("the protobuf body has a time out of range");
  const base = date.toISOString().slice(0, 19);
  return micro ? `${base}.${String(Math.trunc(nanos / 1000)).padStart(6, "0")}Z` : `${base}Z`;
}

function firstText(bytes: Uint8Array, number: number): string {
  for (const field of readFields(bytes))
    if (field.number === number && field.value instanceof Uint8Array) return text(field.value);
  return "";
}

/** IntOrString: type 0 is a number (field 2), 1 is text (field 3). */
function intOrString(bytes: Uint8Array): string | number {
  const found = numbers(bytes);
  if ((found.get(1) ?? 0n) === 1n) return firstText(bytes, 3);
  return Number(BigInt.asIntN(64, found.get(2) ?? 0n));
}

/** RawExtension, FieldsV1: JSON text in field 1. */
function rawJson(bytes: Uint8Array): unknown {
  const raw = firstText(bytes, 1);
  if (raw === "") return undefined;
  try {
    return JSON.parse(raw) as unknown;
  } catch {
    throw badRequest("the protobuf body holds text that is not JSON where JSON is expected");
  }
}
