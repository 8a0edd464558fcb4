/**
 * `--bird-live` and `--bird-ready`: asks the BGP daemon over its status socket. Loads nothing but a socket, because probes run for ever: the shapes are those of
 * `@calico-ts/bgp` (types only), the judgement is the daemon's.
 */
import { statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { StatusCommand, StatusReply, StatusRequest, StatusResults } from "@calico-ts/bgp";
import { CalicoError, errorText } from "@calico-ts/std";

const TIMEOUT_MS = 4000;
/** For so long after calico-node's start every session counts (upstream's threshold). */
const JUST_STARTED_MS = 30_000;

export interface BgpProbe {
  readonly family: 4 | 6;
  readonly wants: "live" | "ready";
}

export interface BgpProbePlace {
  readonly hostRoot: string;
  /** Written by calico-node whenever it starts: its age is the age of calico-node. */
  readonly nodenameFile: string;
  /** Epoch milliseconds. */
  readonly now: number;
}

/** Resolves when the probe passes. @throws CalicoError UNAVAILABLE with the reason */
export async function checkBgp({ family, wants }: BgpProbe, place: BgpProbePlace): Promise<void> {
  const name = `bird${family === 6 ? "6" : ""}-${wants}`;
  const path = join(place.hostRoot, "var/run/calico/bgp.sock");
  const ask = async <R extends StatusRequest>(request: R): Promise<StatusResults[R["command"]]> => {
    let reply: StatusReply<R["command"]>;
    try {
      reply = JSON.parse(await exchange(path, JSON.stringify(request))) as StatusReply<R["command"]>;
    } catch (error) {
      throw new CalicoError("UNAVAILABLE", `${name}: the BGP daemon does not answer at ${path} (${errorText(error)})`);
    }
    if (!reply.ok) throw new CalicoError("UNAVAILABLE", `${name}: the BGP daemon says: ${reply.error.message}`);
    return reply.result;
  };
  if (wants === "live") {
    await ask({ command: "status" } satisfies { command: StatusCommand });
    return;
  }
  const { ready, detail } = await ask({ command: "readiness", family, strict: justStarted(place) });
  if (!ready) throw new CalicoError("UNAVAILABLE", `${name}: ${detail}`);
}

/** A file that is not there yet: calico-node has not got that far. */
function justStarted({ hostRoot, nodenameFile, now }: BgpProbePlace): boolean {
  try {
    return now - statSync(join(hostRoot, nodenameFile)).mtimeMs < JUST_STARTED_MS;
  } catch {
    return true;
  }
}

function exchange(path: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect({ path });
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`${line}\n`));
    socket.on("data", (chunk: string) => (answer += chunk));
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
  });
}
