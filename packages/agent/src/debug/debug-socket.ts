/**
 * `<host root>/var/run/calico/agent-debug.sock`, root only: whoever connects gets one JSON document (desired, observed,
 * difference of every driver, health, configuration, what the compiler skips and why) and the end of the connection:
 * `socat - UNIX-CONNECT:/var/run/calico/agent-debug.sock`. SIGUSR2 writes the same to the log's stream.
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { dirname } from "node:path";
import { CalicoError, errorText } from "@calico-ts/std";

export type DebugSource = () => Promise<unknown>;

/** @throws CalicoError UNAVAILABLE when the path cannot be listened on */
export async function openDebugSocket(path: string, source: DebugSource): Promise<AsyncDisposable> {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true }); // of a process that was killed
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    void debugText(source).then((text) => socket.end(text));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new CalicoError("UNAVAILABLE", `cannot listen on the debug socket ${path}`, { cause })),
    );
    server.listen(path, () => resolve());
  });
  chmodSync(path, 0o600);
  server.unref();
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())),
  };
}

/** The same on stdout, whenever the process gets the signal. */
export function dumpOnSignal(signal: NodeJS.Signals, source: DebugSource): Disposable {
  const onSignal = (): void => void debugText(source).then((text) => process.stdout.write(text));
  process.on(signal, onSignal);
  return { [Symbol.dispose]: () => void process.off(signal, onSignal) };
}

async function debugText(source: DebugSource): Promise<string> {
  try {
    return `${JSON.stringify(await source(), plain, 2)}\n`;
  } catch (error) {
    return `${JSON.stringify({ error: errorText(error) })}\n`;
  }
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof RegExp) return value.source;
  if (value instanceof Map) return Object.fromEntries(value as ReadonlyMap<string, unknown>);
  return value;
}
