/**
 * The part of etcd's v3 API we speak, as gRPC methods over plain values. Field numbers are those of etcd's rpc.proto and
 * kv.proto (API version 3.4 and later). Bytes are Buffers; 64-bit integers are numbers (revisions stay far below 2^53).
 */
import type { MethodDefinition } from "@grpc/grpc-js";
import protobuf from "protobufjs/light.js";

export interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly createRevision: number;
  readonly modRevision: number;
}

export interface RangeRequest {
  readonly key: Buffer;
  readonly rangeEnd?: Buffer;
}

export interface RangeResponse {
  readonly kvs: readonly KeyValue[];
}

export interface Compare {
  readonly key: Buffer;
  readonly target: "MOD" | "CREATE";
  readonly modRevision?: number;
  readonly createRevision?: number;
}

export type RequestOp =
  | { readonly requestRange: RangeRequest }
  | { readonly requestPut: { readonly key: Buffer; readonly value: Buffer } }
  | { readonly requestDeleteRange: RangeRequest };

export interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

export interface TxnResponse {
  readonly header: { readonly revision: number };
  readonly succeeded: boolean;
  readonly responses: readonly { readonly responseRange: RangeResponse | null }[];
}

export interface WatchRequest {
  readonly createRequest: RangeRequest & {
    readonly startRevision: number;
    readonly progressNotify: boolean;
    readonly prevKv: boolean;
  };
}

export interface WatchResponse {
  readonly header: { readonly revision: number };
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: number;
  readonly cancelReason: string;
  readonly events: readonly {
    readonly type: "PUT" | "DELETE";
    readonly kv: KeyValue;
    /** null: its revision is compacted, or there was none. */
    readonly prevKv: KeyValue | null;
  }[];
}

type Fields = Readonly<Record<string, readonly [id: number, type: string, rule?: "repeated"]>>;

function message(fields: Fields, oneof?: readonly string[]): protobuf.IType {
  return {
    fields: Object.fromEntries(
      Object.entries(fields).map(([name, [id, type, rule]]) => [
        name,
        rule === undefined ? { id, type } : { id, type, rule },
      ]),
    ),
    ...(oneof === undefined ? {} : { oneofs: { which: { oneof: [...oneof] } } }),
  };
}

const root = protobuf.Root.fromJSON({
  nested: {
    ResponseHeader: message({ revision: [3, "int64"] }),
    KeyValue: message({
      key: [1, "bytes"],
      createRevision: [2, "int64"],
      modRevision: [3, "int64"],
      value: [5, "bytes"],
    }),
    EventType: { values: { PUT: 0, DELETE: 1 } },
    Event: message({ type: [1, "EventType"], kv: [2, "KeyValue"], prevKv: [3, "KeyValue"] }),
    RangeRequest: message({ key: [1, "bytes"], rangeEnd: [2, "bytes"] }),
    RangeResponse: message({ header: [1, "ResponseHeader"], kvs: [2, "KeyValue", "repeated"] }),
    PutRequest: message({ key: [1, "bytes"], value: [2, "bytes"] }),
    PutResponse: message({ header: [1, "ResponseHeader"] }),
    DeleteRangeRequest: message({ key: [1, "bytes"], rangeEnd: [2, "bytes"] }),
    DeleteRangeResponse: message({ deleted: [2, "int64"] }),
    RequestOp: message(
      {
        requestRange: [1, "RangeRequest"],
        requestPut: [2, "PutRequest"],
        requestDeleteRange: [3, "DeleteRangeRequest"],
      },
      ["requestRange", "requestPut", "requestDeleteRange"],
    ),
    ResponseOp: message(
      {
        responseRange: [1, "RangeResponse"],
        responsePut: [2, "PutResponse"],
        responseDeleteRange: [3, "DeleteRangeResponse"],
      },
      ["responseRange", "responsePut", "responseDeleteRange"],
    ),
    CompareTarget: { values: { VERSION: 0, CREATE: 1, MOD: 2, VALUE: 3 } },
    // The result field (1) is left at its default: equal.
    Compare: message(
      { target: [2, "CompareTarget"], key: [3, "bytes"], createRevision: [5, "int64"], modRevision: [6, "int64"] },
      ["createRevision", "modRevision"],
    ),
    TxnRequest: message({
      compare: [1, "Compare", "repeated"],
      success: [2, "RequestOp", "repeated"],
      failure: [3, "RequestOp", "repeated"],
    }),
    TxnResponse: message({
      header: [1, "ResponseHeader"],
      succeeded: [2, "bool"],
      responses: [3, "ResponseOp", "repeated"],
    }),
    CompactionRequest: message({ revision: [1, "int64"], physical: [2, "bool"] }),
    CompactionResponse: message({ header: [1, "ResponseHeader"] }),
    WatchCreateRequest: message({
      key: [1, "bytes"],
      rangeEnd: [2, "bytes"],
      startRevision: [3, "int64"],
      progressNotify: [4, "bool"],
      prevKv: [6, "bool"],
    }),
    WatchRequest: message({ createRequest: [1, "WatchCreateRequest"] }, ["createRequest"]),
    WatchResponse: message({
      header: [1, "ResponseHeader"],
      watchId: [2, "int64"],
      created: [3, "bool"],
      canceled: [4, "bool"],
      compactRevision: [5, "int64"],
      cancelReason: [6, "string"],
      events: [11, "Event", "repeated"],
    }),
    AuthenticateRequest: message({ name: [1, "string"], password: [2, "string"] }),
    AuthenticateResponse: message({ header: [1, "ResponseHeader"], token: [2, "string"] }),
  },
});

function method<Q extends object, R>(
  path: string,
  types: readonly [string, string],
  stream = false,
): MethodDefinition<Q, R> {
  const request = root.lookupType(types[0]);
  const response = root.lookupType(types[1]);
  return {
    path: `/etcdserverpb.${path}`,
    requestStream: stream,
    responseStream: stream,
    // fromObject: enum values are given by name.
    requestSerialize: (value) => Buffer.from(request.encode(request.fromObject(value)).finish()),
    requestDeserialize: (bytes) => request.toObject(request.decode(bytes)) as Q,
    responseSerialize: (value) => Buffer.from(response.encode(response.fromObject(value as object)).finish()),
    responseDeserialize: (bytes) =>
      response.toObject(response.decode(bytes), { longs: Number, enums: String, defaults: true }) as R,
  };
}

export const METHODS = {
  txn: method<TxnRequest, TxnResponse>("KV/Txn", ["TxnRequest", "TxnResponse"]),
  compact: method<{ readonly revision: number; readonly physical: boolean }, object>("KV/Compact", [
    "CompactionRequest",
    "CompactionResponse",
  ]),
  authenticate: method<{ readonly name: string; readonly password: string }, { readonly token: string }>(
    "Auth/Authenticate",
    ["AuthenticateRequest", "AuthenticateResponse"],
  ),
  watch: method<WatchRequest, WatchResponse>("Watch/Watch", ["WatchRequest", "WatchResponse"], true),
} as const;
