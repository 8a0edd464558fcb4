/**
 * One TCP probe: connect, ask who is there, believe the answer.
 *
 * A completed handshake already means "allowed"; the greeting only adds who answered, so a real server that says something
 * else, or nothing, is fine. There is one socket per probe: the kernel repeats a lost SYN after one second, which is the
 * retry, and the connect timeout leaves room for exactly one.
 */
import { Socket } from "node:net";
import { parseGreeting, STUB_REQUEST } from "../stub-protocol.ts";
import { deadline } from "./deadline.ts";
import type { Finding } from "./probe-request.ts";
import { errnoName, verdictOfErrno } from "./socket-error.ts";

/** One SYN, its repetition after 1 s, and time for the answer to come back. */
export const TCP_CONNECT_TIMEOUT_MS = 1_300;
/** A stub shares its process with much else; the network has already answered by now. */
const GREETING_TIMEOUT_MS = 3_000;
const LONGEST_GREETING = 4_096;

/** `fd` is a non-blocking socket whose connect has been started; it is closed here. */
export function probeTcp(fd: number, connectTimeoutMs = TCP_CONNECT_TIMEOUT_MS): Promise<Finding> {
  const startedAt = performance.now();
  return new Promise((resolve) => {
    const socket = new Socket({ fd, readable: true, writable: true });
    let connectedMs: number | undefined;
    let text = "";
    let timer = deadline(connectTimeoutMs, () => {
      finish("denied", `no answer within ${connectTimeoutMs} ms: dropped on the way`);
    });
    const finish = (verdict: Finding["verdict"], detail: string, answeredBy?: string): void => {
      timer[Symbol.dispose]();
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      socket.destroy();
      const latencyMs = connectedMs ?? performance.now() - startedAt;
      resolve({ verdict, latencyMs, detail, ...(answeredBy === undefined ? {} : { answeredBy }) });
    };
    const judge = (): void => {
      const greeting = parseGreeting(text);
      if (greeting === undefined) finish("allowed", "connected; the other side is no stub");
      else finish("allowed", `answered by ${greeting.pod} on ${greeting.node}`, greeting.pod);
    };
    socket.write(`${STUB_REQUEST}\n`, (error) => {
      // The first write completes when the handshake has.
      if (error !== undefined && error !== null) return;
      connectedMs = performance.now() - startedAt;
      timer[Symbol.dispose]();
      timer = deadline(GREETING_TIMEOUT_MS, () => finish("allowed", "connected; the other side says nothing"));
    });
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("utf8");
      if (text.includes("\n") || text.length > LONGEST_GREETING) judge();
    });
    socket.on("end", judge);
    socket.on("error", (error) => {
      const found = verdictOfErrno(errnoName(error));
      if (connectedMs === undefined) finish(found.verdict, found.detail);
      else finish("allowed", `connected; then ${found.detail}`);
    });
  });
}
