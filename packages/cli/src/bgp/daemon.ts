/** Asks the BGP daemon of this node over its status socket, and looks whether Calico runs here at all. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { StatusReply, StatusRequest, StatusResults } from "@calico-ts/bgp";
import { CalicoError, errorText } from "@calico-ts/std";

const TIMEOUT_MS = 10_000;

export interface BgpDaemonClient {
  /** @throws CalicoError UNAVAILABLE nobody answers; NO_PERMISSION; and what the daemon says */
  ask<R extends StatusRequest>(request: R): Promise<StatusResults[R["command"]]>;
  /** The agent of this node listens. */
  agentRuns(): Promise<boolean>;
}

/** `hostRoot`: "/" on a real host, a node's folder in the simulator. */
export function openBgpDaemon(hostRoot: string): BgpDaemonClient {
  const run = join(hostRoot, "var/run/calico");
  return {
    async ask<R extends StatusRequest>(request: R): Promise<StatusResults[R["command"]]> {
      const path = join(run, "bgp.sock");
      const text = await exchange(path, JSON.stringify(request)).catch((error: unknown) => {
        throw failureOf(error, path);
      });
      const reply = JSON.parse(text) as StatusReply<R["command"]>;
      if (!reply.ok) throw new CalicoError(reply.error.code, reply.error.message);
      return reply.result;
    },
    agentRuns: () =>
      exchange(join(run, "cni.sock"), undefined).then(
        () => true,
        () => false,
      ),
  };
}

function failureOf(error: unknown, path: string): CalicoError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EACCES" || code === "EPERM") {
    return new CalicoError("NO_PERMISSION", `${path}: only root may ask the BGP daemon: run this as root`);
  }
  const why =
    code === "ENOENT" || code === "ECONNREFUSED"
      ? "no BGP daemon runs on this node (CALICO_NETWORKING_BACKEND must be bird; the logs of calico-node say more)"
      : errorText(error);
  return new CalicoError("UNAVAILABLE", `${path}: ${why}`);
}

/** Without a line: resolves as soon as somebody listens. */
function exchange(path: string, line: string | undefined): Promise<string> {
  let socket: Socket | undefined;
  return new Promise<string>((resolve, reject) => {
    let answer = "";
    socket = connect({ path });
    socket.setTimeout(TIMEOUT_MS, () => reject(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    socket.setEncoding("utf8");
    socket.on("connect", () => {
      if (line === undefined) resolve("");
      else socket?.write(`${line}\n`);
    });
    socket.on("data", (chunk: string) => (answer += chunk));
    socket.on("error", reject);
    socket.on("end", () => resolve(answer));
  }).finally(() => socket?.destroy());
}
