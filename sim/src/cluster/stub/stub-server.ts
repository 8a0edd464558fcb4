/**
 * The sockets that answer for a container: one per declared port, opened by the daemon inside the pod's namespace.
 *
 * TCP: the line `calico-probe` is answered with one JSON line, an HTTP/1 request with 200 and the same JSON (health paths too); anything
 * else (gRPC, TLS, a silent client) keeps a connection that was accepted and is closed after a while. UDP: any datagram is
 * answered. What the answer says is in stub-protocol.ts.
 *
 * There may be thousands of these in one process: a server is a handle and one small closure, and nothing is allocated per
 * connection beyond Node's socket. SCTP is not served: Node has no SCTP sockets.
 */
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { bindUdp, listenTcp } from "@calico-ts/linux";
import type { Family, IpAddress } from "@calico-ts/net";
import { formatGreeting, STUB_REQUEST } from "../../stub-protocol.ts";
import type { ConnectionLog } from "./connection-log.ts";

export interface StubPort {
  readonly netns: string;
  /** Those the pod has addresses of: one socket each. */
  readonly families: readonly Family[];
  readonly pod: string;
  readonly node: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
  readonly log: ConnectionLog;
}

export interface StubServer {
  close(): void;
}

const IDLE_MS = 10_000;
const MAX_REQUEST = 8 * 1024;
const KUBE_PROBE = /^user-agent: *kube-probe\//im;
const HTTP_METHOD = /^(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) /;

/** @throws CalicoError KERNEL, for example EADDRINUSE when two containers of a pod declare the same port. */
export async function openStub(stub: StubPort): Promise<StubServer> {
  const servers: StubServer[] = [];
  const close = (): void => {
    for (const server of servers) server.close();
  };
  try {
    for (const family of stub.families) {
      servers.push(await (stub.protocol === "TCP" ? openTcp(stub, family) : openUdp(stub, family)));
    }
  } catch (error) {
    close();
    throw error;
  }
  return { close };
}

const anyAddress = (family: Family): IpAddress => ({ family, value: 0n });

async function openTcp(stub: StubPort, family: Family): Promise<StubServer> {
  const { netns, port } = stub;
  const fd = listenTcp({ netns, address: anyAddress(family), port });
  const answer = `${formatGreeting(stub)}\n`;
  const sockets = new Set<Socket>();
  const server: Server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    serve(socket, stub, answer);
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ fd }, resolve);
  await promise;
  server.removeListener("error", reject);
  server.on("error", () => undefined); // accept failures (too many files) are the client's loss
  return {
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function serve(socket: Socket, stub: StubPort, answer: string): void {
  let text = "";
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.on("error", () => undefined);
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    const line = text.slice(0, Math.max(0, text.indexOf("\n"))).trimEnd();
    if (line === STUB_REQUEST) {
      note(socket, stub, "tcp");
      socket.end(answer);
      text = "";
    } else if (HTTP_METHOD.test(line)) {
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return tooLong(socket, text);
      // Probes would drown everything else.
      if (!KUBE_PROBE.test(text)) note(socket, stub, line);
      text = text.slice(end + 4);
      socket.end(httpAnswer(line, answer));
    } else tooLong(socket, text);
  });
}

function tooLong(socket: Socket, text: string): void {
  if (text.length > MAX_REQUEST) socket.destroy();
}

function httpAnswer(requestLine: string, body: string): string {
  const head = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
  return requestLine.startsWith("HEAD ") ? head : head + body;
}

function note(socket: Socket, stub: StubPort, what: string): void {
  const peer = socket.remoteAddress ?? "";
  stub.log.append(`${peer}:${socket.remotePort ?? 0} -> :${stub.port} ${what}`);
}

async function openUdp(stub: StubPort, family: Family): Promise<StubServer> {
  const { netns, port } = stub;
  const fd = bindUdp({ netns, address: anyAddress(family), port });
  const answer = Buffer.from(formatGreeting(stub));
  const socket: DatagramSocket = createSocket(family === 4 ? "udp4" : "udp6");
  socket.on("message", (_message, peer) => {
    stub.log.append(`${peer.address}:${peer.port} -> :${port} udp`);
    socket.send(answer, peer.port, peer.address, () => undefined);
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("error", reject);
  socket.bind({ fd }, resolve);
  await promise;
  socket.removeListener("error", reject);
  socket.on("error", () => undefined); // an unreachable peer must not end the stub
  return { close: () => socket.close() };
}
