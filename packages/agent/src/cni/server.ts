/**
 * The agent's CNI socket: one JSON line in, one JSON line out, then close. Root only: the socket is created in a folder of mode 0755 with
 * mode 0600 itself, and whoever may connect may make the node change its network.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, unlinkSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { basename, dirname, join } from "node:path";
import { isServed, listenAt, type Logger } from "@calico-ts/runtime";
import { CalicoError, errorText } from "@calico-ts/std";
import { CniFailure, INVALID_CONFIG, INVALID_ENVIRONMENT, TRY_AGAIN_LATER } from "./cni-failure.ts";
import { parseRequest } from "./request.ts";
import type { CniService } from "./service.ts";

export interface CniServerOptions {
  readonly path: string;
  readonly service: Pick<CniService, "handle">;
  readonly log: Logger;
}

/** A request is a network configuration and a few names; a runtime's prevResult may be large, this is larger. */
const LONGEST_REQUEST = 4 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;
/** Where the executables leave DELs that found no agent (packages/cni, deferred-delete.ts). */
const DEFERRED_FOLDER = "cni-deferred";

/** Listens until disposed. @throws CalicoError ALREADY_EXISTS when another agent answers on the path */
export async function openCniServer(options: CniServerOptions): Promise<AsyncDisposable> {
  const { path } = options;
  makeFolder(dirname(path));
  if (await isServed(path)) {
    throw new CalicoError(
      "ALREADY_EXISTS",
      `another agent is serving ${path}: is calico-node running twice on this node?`,
    );
  }
  removeOld(path);
  const closing = new AbortController();
  const server = createServer({ allowHalfOpen: true }, (socket) => serve(socket, options, closing.signal));
  await listenAt(server, path);
  chmodSync(path, 0o600);
  await performDeferred(options, closing.signal);
  return {
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw new CalicoError("UNAVAILABLE", `cannot make the folder of the CNI socket, ${folder}`, { cause });
  }
}

/** The socket of an agent that was killed. */
function removeOld(path: string): void {
  try {
    unlinkSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return;
    throw new CalicoError("UNAVAILABLE", `cannot replace the CNI socket ${path}`, { cause });
  }
}

function serve(socket: Socket, options: CniServerOptions, closing: AbortSignal): void {
  let text = "";
  let taken = false;
  socket.setEncoding("utf8");
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: string) => {
    if (taken) return;
    text += chunk;
    const end = text.indexOf("\n");
    if (end < 0 && text.length <= LONGEST_REQUEST) return;
    taken = true;
    socket.setTimeout(0);
    const gone = new AbortController();
    socket.once("close", () => gone.abort());
    void answer(end < 0 ? undefined : text.slice(0, end), options, AbortSignal.any([closing, gone.signal])).then(
      (reply) => socket.end(`${JSON.stringify(reply)}\n`),
    );
  });
  socket.on("end", () => {
    if (!taken) socket.destroy();
  });
}

type Reply =
  | { readonly ok: true; readonly result: object | undefined }
  | { readonly ok: false; readonly error: { readonly code: number; readonly msg: string; readonly details?: string } };

/** `line`: absent when there was no end to it. */
async function answer(
  line: string | undefined,
  { service, log }: CniServerOptions,
  signal: AbortSignal,
): Promise<Reply> {
  try {
    if (line === undefined) {
      throw new CniFailure(INVALID_CONFIG, `the network configuration is longer than ${LONGEST_REQUEST / 2 ** 20} MiB`);
    }
    return { ok: true, result: await service.handle(parseRequest(line), signal) };
  } catch (error) {
    const failure = error instanceof CniFailure ? error : new CniFailure(TRY_AGAIN_LATER, errorText(error));
    const level = failure.code === INVALID_ENVIRONMENT ? "warning" : "error";
    log[level]("cni.refused", { code: failure.code, error });
    return {
      ok: false,
      error: {
        code: failure.code,
        msg: failure.message,
        ...(failure.details !== undefined && { details: failure.details }),
      },
    };
  }
}

/**
 * DELs from while no agent ran. One that fails stays for the next start; one that cannot be read is reported and removed. All of them stand in
 * line before the first request that comes through the socket: behind an ADD of the same pod, which waits for an agent that has read the
 * datastore, a DEL would keep this agent from ever reading it.
 */
async function performDeferred(options: CniServerOptions, signal: AbortSignal): Promise<void> {
  const folder = join(dirname(options.path), DEFERRED_FOLDER);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  await Promise.all(names.map((name) => performOne(join(folder, name), options, signal)));
}

/** Takes its place in the service's line before it returns. */
async function performOne(file: string, { service, log }: CniServerOptions, signal: AbortSignal): Promise<void> {
  const name = basename(file);
  // Half written by an executable that was killed: its runtime knows of no success.
  if (!name.endsWith(".json")) return remove(file, log);
  try {
    await service.handle(parseRequest(readFileSync(file, "utf8")), signal);
    log.info("cni.deferred_delete_done", { file: name });
  } catch (error) {
    log.error("cni.deferred_delete_failed", { file: name, error });
    if (!(error instanceof CniFailure) || error.code === TRY_AGAIN_LATER) return;
  }
  remove(file, log);
}

/** One that cannot be removed is done once more at the next start, which changes nothing. */
function remove(file: string, log: Logger): void {
  try {
    rmSync(file, { force: true });
  } catch (error) {
    log.warning("cni.deferred_file_stays", { file, error });
  }
}
