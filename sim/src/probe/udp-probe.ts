/** One UDP probe: ask the stub, ask once more when nothing came back, believe the answer. */
import { createSocket } from "node:dgram";
import type { IpAddress } from "@calico-ts/net";
import { formatAddress } from "@calico-ts/net";
import { parseGreeting, STUB_REQUEST } from "../stub-protocol.ts";
import { deadline } from "./deadline.ts";
import type { Finding } from "./probe-request.ts";
import { errnoName, verdictOfErrno } from "./socket-error.ts";

const RESEND_AFTER_MS = 400;
export const UDP_TIMEOUT_MS = 1_000;

/** `fd` is a bound UDP socket; it is closed here. */
export function probeUdp(fd: number, address: IpAddress, port: number): Promise<Finding> {
  const startedAt = performance.now();
  return new Promise((resolve) => {
    const socket = createSocket(address.family === 4 ? "udp4" : "udp6");
    const timers = new DisposableStack();
    let finished = false;
    const finish = (verdict: Finding["verdict"], answer: Pick<Finding, "detail" | "answeredBy">): void => {
      if (finished) return;
      finished = true;
      timers.dispose();
      socket.close();
      resolve({ verdict, latencyMs: performance.now() - startedAt, ...answer });
    };
    const fail = (error: unknown): void => {
      const { verdict, detail } = verdictOfErrno(errnoName(error));
      finish(verdict, { detail });
    };
    const send = (): void => {
      if (finished) return;
      socket.send(STUB_REQUEST, (error) => {
        if (error !== null) fail(error);
      });
    };
    const begin = (): void => {
      send();
      timers.use(deadline(RESEND_AFTER_MS, send));
      timers.use(
        deadline(UDP_TIMEOUT_MS, () =>
          finish("denied", { detail: `no answer within ${UDP_TIMEOUT_MS} ms: dropped on the way` }),
        ),
      );
    };
    socket.on("error", fail);
    socket.on("message", (message) => finish("allowed", readAnswer(message.toString("utf8"))));
    // Connected, so that an ICMP error about our datagram comes back as an error of this socket.
    socket.bind({ fd, exclusive: true }, () =>
      socket.connect(port, formatAddress(address), (error?: Error | null) => (error ? fail(error) : begin())),
    );
  });
}

function readAnswer(text: string): Pick<Finding, "detail" | "answeredBy"> {
  const greeting = parseGreeting(text.trim());
  if (greeting === undefined) return { detail: "answered; the other side is no stub" };
  return { detail: `answered by ${greeting.pod} on ${greeting.node}`, answeredBy: greeting.pod };
}
