/**
 * One watch as a stream of events over as many connections as it takes. The server ends a watch every few minutes on
 * purpose; networks break others. Either way it is opened again from the last revision heard, bookmarks included.
 *
 * A connection that breaks after it was open is resumed here. One that cannot be opened is the caller's to wait for
 * (UNAVAILABLE): the caller has the back-off and the health to report. EXPIRED always reaches the caller.
 */
import type { IncomingMessage } from "node:http";
import { type KindName, kinds } from "@calico-ts/model";
import type { Clock } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { WatchEvent, WatchOptions } from "../client.ts";
import type { ApiHttp } from "./http.ts";
import { collectionPath, withQuery } from "./paths.ts";
import { type StatusBody, statusError } from "./status-error.ts";

export interface WatchSource {
  readonly http: ApiHttp;
  readonly clock: Clock;
  readonly idleMs: number;
}

/** How long the server is asked to keep one connection: spread, so that many clients do not return at once. */
const SERVER_TIMEOUT_SECONDS = 300;
/** Least time between two connections of one watch. */
const REOPEN_MS = 250;

export async function* watchStream<T>(
  source: WatchSource,
  kind: KindName,
  options: WatchOptions,
): AsyncGenerator<WatchEvent<T>> {
  const { signal } = options;
  const what = `watch ${kinds[kind].plural}`;
  let { revision } = options;
  while (!signal.aborted) {
    const opened = source.clock.monotonic();
    try {
      const response = await source.http.open(
        { what, method: "GET", path: watchPath(kind, options, revision), signal },
        source.idleMs,
      );
      try {
        for await (const line of textLines(response)) {
          const event = parseEvent<T>(what, line);
          revision = event.revision;
          yield event;
        }
      } catch (error) {
        if (!isBroken(error)) throw error;
      } finally {
        response.destroy();
      }
      const early = REOPEN_MS - (source.clock.monotonic() - opened);
      if (early > 0) await source.clock.sleep(early, signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
  }
}

function watchPath(kind: KindName, options: WatchOptions, revision: string): string {
  return withQuery(collectionPath(kind, options.namespace), {
    watch: "1",
    allowWatchBookmarks: "true",
    resourceVersion: revision,
    timeoutSeconds: String(Math.round(SERVER_TIMEOUT_SECONDS * (1 + Math.random()))),
    labelSelector: options.labelSelector,
    fieldSelector: options.fieldSelector,
  });
}

/** A refusal inside the stream is the server's word; everything else that goes wrong while reading is the network's. */
const isBroken = (error: unknown): boolean => !(error instanceof CalicoError) || hasCode(error, "TIMEOUT");

interface RawEvent {
  readonly type: string;
  readonly object: { readonly metadata?: { readonly resourceVersion?: string } };
}

function parseEvent<T>(what: string, line: string): WatchEvent<T> {
  const event = readEvent(what, line);
  const revision = event.object.metadata?.resourceVersion ?? "";
  switch (event.type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED": {
      const type = event.type === "ADDED" ? "added" : event.type === "MODIFIED" ? "modified" : "deleted";
      return { type, resource: event.object as T, revision };
    }
    case "BOOKMARK":
      return { type: "bookmark", revision };
    case "ERROR": {
      const status = event.object as StatusBody;
      throw statusError(what, { status: status.code ?? 500 }, status);
    }
    default:
      throw new CalicoError("UNAVAILABLE", `${what}: the server sent an event of unknown type "${event.type}"`);
  }
}

function readEvent(what: string, line: string): RawEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new CalicoError("UNAVAILABLE", `${what}: the server sent a line that is not JSON`, { cause: error });
  }
  if (typeof value === "object" && value !== null && "type" in value && "object" in value) {
    const { type, object } = value;
    if (typeof type === "string" && typeof object === "object" && object !== null) return { type, object };
  }
  throw new CalicoError("UNAVAILABLE", `${what}: the server sent something that is no event`);
}

/** Lines of UTF-8 text, whatever pieces they arrive in. A last line without an end was cut off and is dropped. */
async function* textLines(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding("utf8");
  let rest = "";
  for await (const chunk of response) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") yield line;
  }
}
