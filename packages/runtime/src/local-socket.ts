/** Unix sockets of a program on its own host. */
import { connect, type Server } from "node:net";
import { CalicoError } from "@calico-ts/std";

/** Resolves once `server` listens at `path`. @throws CalicoError UNAVAILABLE */
export function listenAt(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => reject(new CalicoError("UNAVAILABLE", `cannot listen on ${path}`, { cause })));
    server.listen(path, () => resolve());
  });
}

/** Whether somebody accepts connections at `path`; a file that a dead process left does not. */
export function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const finish = (there: boolean): void => {
      socket.destroy();
      resolve(there);
    };
    socket.once("connect", () => finish(true));
    socket.once("error", () => finish(false));
  });
}
