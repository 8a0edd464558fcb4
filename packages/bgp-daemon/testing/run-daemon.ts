/** `node run-daemon.ts FILE`: runs a daemon with a serialized configuration and says ten times a second how it is. */
import { readFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { deserialize } from "node:v8";
import { showPeers } from "@calico-ts/bgp";
import { openKernel } from "@calico-ts/linux";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { BgpDaemon, type DaemonConfig } from "../src/daemon.ts";
import type { DaemonSaid } from "./daemon-process.ts";

const REPORT_MS = 100;
const config = deserialize(readFileSync(process.argv[2] ?? "")) as DaemonConfig;
using kernel = openKernel();
using daemon = new BgpDaemon(config, { kernel, log: silentLogger, clock: systemClock });
daemon.start();
flushCompileCache(); // tests kill it, and the next one need not compile what this one has
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
let due = performance.now() + REPORT_MS;
while (!stop.signal.aborted) {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
  const now = performance.now();
  const { speaker } = daemon;
  const said: DaemonSaid = {
    peers:
      config.speaker.peers.length > 20
        ? []
        : showPeers(speaker).map(({ name, state, cause, routes }) => ({ name, state, cause, routes })),
    deferring: speaker.routing.deferring,
    working: speaker.routing.hasWork,
    sessionsUp: [...speaker.peers.values()].filter((peer) => peer.upSide !== undefined).length,
    destinations: Object.fromEntries([...speaker.routing.tables].map(([family, table]) => [family, table.size])),
    latestTimerMs: Math.max(0, now - due),
  };
  process.stdout.write(`${JSON.stringify(said)}\n`);
  due = now + REPORT_MS;
}
