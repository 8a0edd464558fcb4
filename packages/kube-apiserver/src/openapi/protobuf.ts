/**
 * The Swagger 2 document as protobuf, in the message layout of `openapi.v2` (gnostic). kubectl before 1.27 asks for nothing
 * else. Only the parts our documents have are written; field numbers are those of the published .proto.
 */
import { isObject, type JsonObject } from "@calico-ts/schema";
import { asList, asObjects, asText, asTexts } from "../meta/object.ts";

/** A length-delimited writer: chunks are joined once at the end. */
class Message {
  readonly #chunks: Buffer[] = [];
  #length = 0;

  #push(bytes: Buffer): void {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
  }

  bytes(field: number, value: Buffer): this {
    this.#push(varint((field << 3) | 2));
    this.#push(varint(value.length));
    this.#push(value);
    return this;
  }

  text(field: number, value: string): this {
    return value === "" ? this : this.bytes(field, Buffer.from(value));
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.finish());
  }

  boolean(field: number, value: boolean): this {
    if (value) {
      this.#push(varint(field << 3));
      this.#push(varint(1));
    }
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.#chunks, this.#length);
  }
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest & 127) | 128);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

const anyValue = (value: unknown): Message => new Message().text(2, JSON.stringify(value));
const named = (name: string, value: Message): Message => new Message().text(1, name).message(2, value);

export function encodeSwagger(document: JsonObject): Buffer {
  const info = isObject(document["info"]) ? document["info"] : {};
  const paths = new Message();
  for (const [path, item] of Object.entries(isObject(document["paths"]) ? document["paths"] : {})) {
    if (isObject(item)) paths.message(2, named(path, encodePath(item)));
  }
  const definitions = new Message();
  for (const [name, schema] of Object.entries(isObject(document["definitions"]) ? document["definitions"] : {})) {
    if (isObject(schema)) definitions.message(1, named(name, encodeSchema(schema)));
  }
  return new Message()
    .text(1, asText(document["swagger"]))
    .message(2, new Message().text(1, asText(info["title"])).text(2, asText(info["version"])))
    .message(8, paths)
    .message(9, definitions)
    .finish();
}

const OPERATIONS: { readonly [method: string]: number } = { get: 2, put: 3, post: 4, delete: 5, patch: 8 };

function encodePath(item: JsonObject): Message {
  const out = new Message();
  for (const [method, field] of Object.entries(OPERATIONS)) {
    const operation = item[method];
    if (isObject(operation)) out.message(field, encodeOperation(operation));
  }
  for (const parameter of asObjects(item["parameters"])) out.message(9, encodeParameter(parameter));
  return out;
}

function encodeOperation(operation: JsonObject): Message {
  const out = new Message().text(5, asText(operation["operationId"]));
  for (const type of asTexts(operation["consumes"])) out.text(7, type);
  for (const parameter of asObjects(operation["parameters"])) out.message(8, encodeParameter(parameter));
  const responses = new Message();
  for (const [code, response] of Object.entries(isObject(operation["responses"]) ? operation["responses"] : {})) {
    if (!isObject(response)) continue;
    const body = new Message().text(1, asText(response["description"]));
    if (isObject(response["schema"])) body.message(2, new Message().message(1, encodeSchema(response["schema"])));
    responses.message(1, named(code, new Message().message(1, body)));
  }
  out.message(9, responses);
  encodeExtensions(operation, 13, out);
  return out;
}

/** ParametersItem → Parameter → NonBodyParameter → query (3) or path (4). */
function encodeParameter(parameter: JsonObject): Message {
  const inPath = parameter["in"] === "path";
  const inner = new Message()
    .boolean(1, parameter["required"] === true)
    .text(2, asText(parameter["in"]))
    .text(4, asText(parameter["name"]))
    .text(inPath ? 5 : 6, asText(parameter["type"]))
    .boolean(inPath ? 19 : 20, parameter["uniqueItems"] === true);
  const nonBody = new Message().message(inPath ? 4 : 3, inner);
  return new Message().message(1, new Message().message(2, nonBody));
}

function encodeSchema(schema: JsonObject): Message {
  const out = new Message()
    .text(1, asText(schema["$ref"]))
    .text(2, asText(schema["format"]))
    .text(4, asText(schema["description"]));
  for (const name of asTexts(schema["required"])) out.text(19, name);
  for (const value of asList(schema["enum"])) out.message(20, anyValue(value));
  if (isObject(schema["additionalProperties"]))
    out.message(21, new Message().message(1, encodeSchema(schema["additionalProperties"])));
  if (typeof schema["type"] === "string") out.message(22, new Message().text(1, schema["type"]));
  if (isObject(schema["items"])) out.message(23, new Message().message(1, encodeSchema(schema["items"])));
  if (isObject(schema["properties"])) {
    const properties = new Message();
    for (const [name, property] of Object.entries(schema["properties"])) {
      if (isObject(property)) properties.message(1, named(name, encodeSchema(property)));
    }
    out.message(25, properties);
  }
  encodeExtensions(schema, 31, out);
  return out;
}

function encodeExtensions(value: JsonObject, field: number, out: Message): void {
  for (const key of Object.keys(value)) if (key.startsWith("x-")) out.message(field, named(key, anyValue(value[key])));
}
