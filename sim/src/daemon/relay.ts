/**
 * A TCP relay from an address inside the fabric to a server on the host: how nodes reach an API server that is not ours.
 * Bytes only; TLS runs end to end.
 */
import type { Socket } from "node:net";
import { createConnection, createServer } from "node:net";
import { listenTcp } from "@calico-ts/linux";
import type { IpAddress } from "@calico-ts/net";

export interface RelayOptions {
  readonly netns: string;
  readonly address: IpAddress;
  readonly port: number;
  readonly to: { readonly host: string; readonly port: number };
}

export function startRelay(options: RelayOptions): Disposable {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (inside) => {
    const outside = createConnection({ ...options.to, allowHalfOpen: true });
    for (const socket of [inside, outside]) {
      open.add(socket);
      socket.setNoDelay(true);
      socket.on("close", () => {
        open.delete(socket);
        inside.destroy();
        outside.destroy();
      });
      socket.on("error", () => socket.destroy());
    }
    inside.pipe(outside);
    outside.pipe(inside);
  });
  server.listen({ fd: listenTcp({ netns: options.netns, address: options.address, port: options.port }) });
  return {
    [Symbol.dispose]: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
