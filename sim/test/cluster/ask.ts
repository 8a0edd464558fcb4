/** Clients for kernel tests: they say who answered, or how it failed. */
import { createSocket } from "node:dgram";
import { Socket } from "node:net";
import { bindUdp, connectTcp } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";

export interface Target {
  readonly from: string;
  readonly to: string;
  readonly port: number;
}

const TIMEOUT_MS = 1_500;

/** What came back before the other side closed; or the error's code, or "timeout". */
export function askTcp({ from, to, port }: Target, request = "calico-probe\n"): Promise<string> {
  return new Promise((resolve) => {
    let fd: number;
    try {
      fd = connectTcp({ netns: from, address: parseAddress(to), port });
    } catch (error) {
      resolve(String((error as { detail?: { errnoName?: string } }).detail?.errnoName));
      return;
    }
    const socket = new Socket({ fd, readable: true, writable: true });
    let text = "";
    const finish = (result: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => finish("timeout"), TIMEOUT_MS);
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.on("end", () => finish(text));
    socket.on("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.write(request);
  });
}

/** One datagram from a fixed source port when given: the same flow to the connection tracker. */
export function askUdp({ from, to, port }: Target, sourcePort = 0): Promise<string> {
  const address = parseAddress(to);
  const fd = bindUdp({ netns: from, address: { family: address.family, value: 0n }, port: sourcePort });
  const socket = createSocket(address.family === 4 ? "udp4" : "udp6");
  return new Promise((resolve) => {
    const finish = (result: string): void => {
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(() => finish("timeout"), TIMEOUT_MS);
    socket.on("message", (message) => finish(message.toString()));
    socket.on("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.bind({ fd }, () => socket.send("hello", port, to));
  });
}

/** The pod's name in a stub's answer; the text itself when it is none. */
export function podIn(answer: string): string {
  try {
    return String((JSON.parse(answer) as { pod?: unknown }).pod);
  } catch {
    return answer;
  }
}
