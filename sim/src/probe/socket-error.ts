/** What a socket's errno says about the network between two pods. */
import type { Verdict } from "./probe-request.ts";

export interface SocketVerdict {
  readonly verdict: Verdict;
  readonly detail: string;
}

/**
 * The kernel's own error codes: a refusal proves that packets travel both ways, so it is no denial but a missing listener.
 * EHOSTUNREACH also stands for the ICMP codes "administratively prohibited"; the errno alone cannot tell them from a host
 * that is gone, so it counts as an error and the detail says what to look at.
 */
export function verdictOfErrno(code: string | undefined): SocketVerdict {
  switch (code) {
    case "ECONNREFUSED":
      return { verdict: "error", detail: "refused: packets arrive, but nothing listens on that port" };
    case "ECONNRESET":
      return { verdict: "error", detail: "reset: the other side broke the connection off" };
    case "EACCES":
    case "EPERM":
      return { verdict: "denied", detail: "prohibited: the kernel of the source refused to send" };
    case "EHOSTUNREACH":
      return { verdict: "error", detail: "unreachable: no such host, or a router prohibits it" };
    case "ENETUNREACH":
      return { verdict: "error", detail: "unreachable: no route to that network" };
    case "EMFILE":
    case "ENFILE":
      return { verdict: "error", detail: "too many open sockets in the simulator; raise `ulimit -n`" };
    default:
      return { verdict: "error", detail: code ?? "unknown socket error" };
  }
}

/** The errno name of anything thrown or emitted by sockets, ours (detail.errnoName) and Node's (code). */
export function errnoName(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { detail, code } = error as { detail?: { errnoName?: unknown }; code?: unknown };
  if (typeof detail?.errnoName === "string") return detail.errnoName;
  return typeof code === "string" ? code : undefined;
}
