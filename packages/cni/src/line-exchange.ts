/**
 * One line out, everything back until the other side ends, over a Unix socket: with Bun's sockets in the executable, with Node's where the
 * sources run on Node (tests).
 *
 * The executable starts once per pod, and most of its time is loading code: `node:net` and the streams behind it cost Bun 10 ms of its 18,
 * its own sockets nothing that can be measured. So is everything else here chosen: see `standard-streams.ts`.
 */
import type { Socket } from "node:net";

export interface ExchangeOptions {
  readonly path: string;
  readonly line: string;
  readonly timeoutMs: number;
}

/** A system error's `code` tells why there was no exchange; this one: silence. */
export class ExchangeTimeout extends Error {}

/** @throws Error with the system's `code`; ExchangeTimeout */
export function exchangeLine(options: ExchangeOptions): Promise<string> {
  return bun === undefined ? overNode(options) : overBun(bun, options);
}

/** What is used of Bun, which has types of its own that would replace Node's. */
interface BunSockets {
  connect(options: { unix: string; socket: BunHandlers }): Promise<unknown>;
}
interface BunSocket {
  /** How many bytes were taken; the rest when `drain` says so. */
  write(bytes: Uint8Array): number;
  end(): void;
}
interface BunHandlers {
  open(socket: BunSocket): void;
  drain(socket: BunSocket): void;
  data(socket: BunSocket, bytes: Uint8Array): void;
  end(socket: BunSocket): void;
  close(socket: BunSocket): void;
  error(socket: BunSocket, error: Error): void;
}

const bun = (globalThis as { readonly Bun?: BunSockets }).Bun;

async function overBun(sockets: BunSockets, { path, line, timeoutMs }: ExchangeOptions): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new ExchangeTimeout()), timeoutMs);
  const decoder = new TextDecoder();
  let rest: Uint8Array = new TextEncoder().encode(line);
  let answer = "";
  const send = (socket: BunSocket): void => {
    if (rest.length > 0) rest = rest.subarray(Math.max(0, socket.write(rest)));
  };
  try {
    await sockets.connect({
      unix: path,
      socket: {
        open: send,
        drain: send,
        data: (_socket, bytes) => {
          answer += decoder.decode(bytes, { stream: true });
        },
        end: (socket) => socket.end(),
        close: () => resolve(answer),
        error: (_socket, error) => reject(error),
      },
    });
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

async function overNode({ path, line, timeoutMs }: ExchangeOptions): Promise<string> {
  const { connect } = await import("node:net");
  let socket: Socket | undefined;
  try {
    return await new Promise((resolve, reject) => {
      let answer = "";
      socket = connect({ path });
      socket.setTimeout(timeoutMs, () => reject(new ExchangeTimeout()));
      socket.setEncoding("utf8");
      socket.on("connect", () => socket?.write(line));
      socket.on("data", (chunk: string) => (answer += chunk));
      socket.on("error", reject);
      socket.on("end", () => resolve(answer));
    });
  } finally {
    socket?.destroy();
  }
}
