/** The command line's end of the control socket. */
import { createConnection } from "node:net";
import type { ErrorCode } from "@calico-ts/std";
import { CalicoError } from "@calico-ts/std";
import { runPaths } from "../run/run-folder.ts";
import type { ControlAnswer, ControlRequest, ControlResults } from "./control-protocol.ts";

/** @throws CalicoError UNAVAILABLE when the daemon does not answer; otherwise what the daemon threw. */
export async function askDaemon<Op extends ControlRequest["op"]>(
  run: string,
  request: Extract<ControlRequest, { op: Op }>,
): Promise<ControlResults[Op]> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = createConnection(runPaths(run).socket);
  const chunks: Buffer[] = [];
  socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("error", (cause: NodeJS.ErrnoException) => {
    if (cause.code === "EACCES")
      reject(new CalicoError("NO_PERMISSION", `run ${run}: only root may talk to its daemon`, { cause }));
    else reject(new CalicoError("UNAVAILABLE", `run ${run}: its daemon does not answer`, { cause }));
  });
  socket.on("close", () => resolve(Buffer.concat(chunks).toString("utf8")));
  const text = await promise;
  if (!text.endsWith("\n"))
    throw new CalicoError("UNAVAILABLE", `run ${run}: its daemon ended in the middle of an answer`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- both ends are this program
  const answer = JSON.parse(text) as ControlAnswer;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- codes come from CalicoError on the other side
  if (!answer.ok) throw new CalicoError(answer.code as ErrorCode, answer.message);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the protocol's table says so
  return answer.result as ControlResults[Op];
}
