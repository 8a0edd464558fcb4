/** The daemon's end of the control socket. */
import { chmodSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { createServer } from "node:net";
import { CalicoError, errorText } from "@calico-ts/std";
import type { ControlAnswer, ControlRequest } from "./control-protocol.ts";

const LONGEST_REQUEST = 16 * 1024 * 1024;

export async function serveControl(
  path: string,
  handle: (request: ControlRequest) => Promise<unknown>,
): Promise<AsyncDisposable> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => socket.destroy());
    let text = "";
    const onData = (chunk: string): void => {
      text += chunk;
      const end = text.indexOf("\n");
      if (end < 0 && text.length > LONGEST_REQUEST) socket.destroy();
      if (end < 0) return;
      socket.off("data", onData);
      void answer(text.slice(0, end), handle).then((reply) => socket.end(`${JSON.stringify(reply)}\n`));
    };
    socket.setEncoding("utf8").on("data", onData);
  });
  rmSync(path, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(path, resolve);
  await promise;
  chmodSync(path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((done) => server.close(() => done()));
      for (const socket of open) socket.destroySoon();
      await closed;
    },
  };
}

async function answer(line: string, handle: (request: ControlRequest) => Promise<unknown>): Promise<ControlAnswer> {
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- both ends are this program, root on both sides
    const request = JSON.parse(line) as ControlRequest;
    return { ok: true, result: (await handle(request)) ?? null };
  } catch (error) {
    return { ok: false, code: error instanceof CalicoError ? error.code : "INTERNAL", message: errorText(error) };
  }
}
