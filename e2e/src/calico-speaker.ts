/**
 * Our own BGP speaker as a router's (`sim/src/routers/own-speaker.ts` says how it is called): the daemon of `@calico-ts/bgp-daemon`
 * without a cluster, told what to do by a file.
 *
 *   calico-speaker run FOLDER      speaks as FOLDER/speaker.json says, until a signal
 *   calico-speaker status FOLDER   a JSON list of { address, state, cause } from the one that runs
 */
import { readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { showPeers } from "@calico-ts/bgp";
import type { DaemonConfig } from "@calico-ts/bgp-daemon";
import { BgpDaemon } from "@calico-ts/bgp-daemon";
import { openKernel } from "@calico-ts/linux";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { createLogger, runUntilSignal, systemClock } from "@calico-ts/runtime";
import type { SpeakerFile } from "@calico-ts/sim";
import { SPEAKER_FILE } from "@calico-ts/sim";

const BGP_PORT = 179;
const MAX_PATHS = 16;
const ROUTE_METRIC = 1024;
const RETRY_SECONDS = 1;

const [verb, folder = "."] = process.argv.slice(2);
const socket = join(folder, "speaker.sock");

if (verb === "run") process.exit(await run());
else if (verb === "status") process.stdout.write(`${await text(connect(socket))}\n`);
else {
  process.stderr.write("usage: calico-speaker run|status FOLDER\n");
  process.exitCode = 2;
}

function run(): Promise<number> {
  const log = createLogger({ component: "speaker", stream: process.stdout });
  const config = daemonConfig(JSON.parse(readFileSync(join(folder, SPEAKER_FILE), "utf8")) as SpeakerFile);
  return runUntilSignal(
    async (signal) => {
      using kernel = openKernel();
      using daemon = new BgpDaemon(config, { kernel, log, clock: systemClock });
      daemon.start();
      rmSync(socket, { force: true });
      const server = createServer((asker) => {
        const peers = showPeers(daemon.speaker).map(({ address, state, cause }) => ({ address, state, cause }));
        asker.on("error", () => undefined);
        asker.end(JSON.stringify(peers));
      });
      server.listen(socket);
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      server.close();
    },
    { log, graceMs: 1000 },
  );
}

function daemonConfig(file: SpeakerFile): DaemonConfig {
  const sessions = file.sessions.map((session, index) => ({
    ...session,
    peer: `s${index}`,
    at: parseAddress(session.remote),
  }));
  const families = [...new Set(sessions.map(({ at }) => at.family))];
  // Routes from outside the AS are told inside it with ourselves as the way, as the other speakers are set up to do.
  const border = sessions.some(({ remoteAs }) => remoteAs !== file.as);
  return {
    speaker: {
      as: file.as,
      routerId: Number(parseAddress(file.routerId).value),
      ...(file.clusterId !== undefined && { clusterId: Number(parseAddress(file.clusterId).value) }),
      maxPaths: MAX_PATHS,
      peers: sessions.map(({ peer, at, remoteAs, client }) => ({
        name: peer,
        address: at,
        remoteAs,
        families: [at.family === 4 ? "ipv4-unicast" : "ipv6-unicast"],
        reflectorClient: client,
        nextHop: border && remoteAs === file.as ? "self" : "auto",
        gracefulRestart: { restartSeconds: file.restartSeconds },
        timers: {
          connectRetrySeconds: RETRY_SECONDS,
          idleHoldMinSeconds: RETRY_SECONDS,
          idleHoldMaxSeconds: RETRY_SECONDS,
        },
      })),
    },
    listen: families.map((family) => ({ address: parseAddress(family === 4 ? "0.0.0.0" : "::"), port: BGP_PORT })),
    reach: new Map(
      sessions.map(({ peer, at, local, password }) => [
        peer,
        {
          address: at,
          port: BGP_PORT,
          sourceAddress: parseAddress(local),
          ...(password !== undefined && { password }),
        },
      ]),
    ),
    routes: file.originate.map((prefix) => ({ prefix: parsePrefix(prefix), attributes: {} })),
    notProgrammed: [],
    routeMetric: ROUTE_METRIC,
  };
}
