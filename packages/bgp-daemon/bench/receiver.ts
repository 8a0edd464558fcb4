/** A daemon that only receives, as a process of its own so that its memory can be read: `node bench/receiver.ts NETNS ROUTES`. Prints one line of JSON when done. */
import { readFileSync } from "node:fs";
import { openKernel } from "@calico-ts/linux";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { BgpDaemon } from "../src/daemon.ts";

const [netns = "", count = "0"] = process.argv.slice(2);
using kernel = openKernel({ netns });
const address = parseAddress("192.0.2.2");
using daemon = new BgpDaemon(
  {
    speaker: {
      as: 65001,
      routerId: 1,
      peers: [{ name: "sender", address, remoteAs: 65002, families: ["ipv4-unicast"], passive: true }],
    },
    listen: [{ address: parseAddress("0.0.0.0"), port: 179 }],
    reach: new Map(),
    routes: [],
    notProgrammed: [parsePrefix("0.0.0.0/0")],
    routeMetric: 1024,
  },
  { kernel, log: silentLogger, clock: systemClock, netns },
);
daemon.start();
process.stdout.write("ready\n");
let first = 0;
const inTable = (): number => daemon.speaker.routing.tables.get("ipv4-unicast")?.size ?? 0;
for (let routes = inTable(); routes < Number(count); routes = inTable()) {
  if (first === 0 && routes > 0) first = performance.now();
  await systemClock.sleep(2);
}
const seconds = (performance.now() - first) / 1000;
const peak = /VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
const { user, system } = process.cpuUsage();
process.stdout.write(
  `${JSON.stringify({ seconds, rssMb: Math.round(process.memoryUsage().rss / 1e6), peakMb: Math.round(Number(peak) / 1000), cpuSeconds: (user + system) / 1e6 })}\n`,
);
