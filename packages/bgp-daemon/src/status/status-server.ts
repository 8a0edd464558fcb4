/**
 * `<host root>/var/run/calico/bgp.sock`, root only: one JSON line in (`StatusRequest` of `@calico-ts/bgp`), one JSON line out, then close:
 * `echo '{"command":"peers"}' | socat - UNIX-CONNECT:/var/run/calico/bgp.sock`.
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import type { RoutedFamily, StatusCommand, StatusReply, StatusRequest, StatusResults } from "@calico-ts/bgp";
import { isServed, listenAt, type Logger } from "@calico-ts/runtime";
import { CalicoError, errorText } from "@calico-ts/std";

export interface StatusServerOptions {
  readonly path: string;
  readonly source: { answer(request: StatusRequest): StatusResults[StatusCommand] };
  readonly log: Logger;
}

const LONGEST_REQUEST = 64 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;

/** Listens until disposed. @throws CalicoError ALREADY_EXISTS when another daemon answers on the path, UNAVAILABLE */
export async function openStatusServer(options: StatusServerOptions): Promise<AsyncDisposable> {
  const { path } = options;
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  if (await isServed(path)) {
    throw new CalicoError(
      "ALREADY_EXISTS",
      `another BGP daemon is serving ${path}: is calico-node running twice here?`,
    );
  }
  rmSync(path, { force: true }); // of a process that was killed
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    serve(socket, options);
  });
  await listenAt(server, path);
  chmodSync(path, 0o600);
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function serve(socket: Socket, { log, source }: StatusServerOptions): void {
  let text = "";
  let taken = false;
  socket.setEncoding("utf8");
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  const take = (line: string): void => {
    taken = true;
    const reply = replyTo(line, source);
    if (!reply.ok && reply.error.code === "INTERNAL") log.error("bgp.status.failed", { error: reply.error.message });
    socket.end(`${JSON.stringify(reply)}\n`);
  };
  socket.on("data", (chunk: string) => {
    if (taken) return;
    text += chunk;
    const end = text.indexOf("\n");
    if (end >= 0) take(text.slice(0, end));
    else if (text.length > LONGEST_REQUEST) take("");
  });
  socket.on("end", () => {
    if (!taken) take(text);
  });
}

export function replyTo(line: string, source: StatusServerOptions["source"]): StatusReply {
  try {
    return { ok: true, result: source.answer(parseRequest(line)) };
  } catch (error) {
    const code = error instanceof CalicoError ? error.code : "INTERNAL";
    return { ok: false, error: { code, message: errorText(error) } };
  }
}

const COMMANDS: readonly StatusCommand[] = [
  "status",
  "peers",
  "routes",
  "received",
  "advertised",
  "explain",
  "readiness",
];

/** @throws CalicoError BAD_INPUT */
function parseRequest(line: string): StatusRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new CalicoError("BAD_INPUT", "the request is not one line of JSON");
  }
  const fields: Readonly<Record<string, unknown>> = typeof value === "object" && value !== null ? { ...value } : {};
  const word = (name: string): string => {
    const found = fields[name];
    if (typeof found !== "string") throw new CalicoError("BAD_INPUT", `"${name}" must be text`);
    return found;
  };
  const command = COMMANDS.find((one) => one === fields["command"]);
  const { family } = fields;
  const routed: { readonly family?: RoutedFamily } =
    family === "ipv4-unicast" || family === "ipv6-unicast" ? { family } : {};
  switch (command) {
    case undefined:
      throw new CalicoError("BAD_INPUT", `"command" must be one of ${COMMANDS.join(", ")}`);
    case "status":
    case "peers":
      return { command };
    case "routes":
      return { command, ...routed };
    case "received":
    case "advertised":
      return { command, peer: word("peer"), ...routed };
    case "explain":
      return { command, destination: word("destination") };
    case "readiness":
      if (family !== 4 && family !== 6) throw new CalicoError("BAD_INPUT", `"family" must be 4 or 6`);
      return { command, family, strict: fields["strict"] === true };
  }
}
