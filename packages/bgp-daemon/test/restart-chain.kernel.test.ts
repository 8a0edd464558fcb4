/**
 * A chain of three speakers on one LAN, of which the middle tells each end about the other. Its daemon is killed and comes back, twice: the first time while an FRR at the
 * end still says that it has restarted itself, the second time with an end that answers late. What the ends' kernels forward by must be there all the time, and not one
 * packet may be lost.
 */
import { formatPrefix } from "@calico-ts/net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DaemonProcess } from "../testing/daemon-process.ts";
import { Lab, type Station, Traffic } from "../testing/lab.ts";
import { route, ROUTER_AS } from "../testing/ours.ts";
import { BEGIN, Scene } from "../testing/scene.ts";
import type { NeighbourSpec, Router, RouterName } from "../testing/routers/router.ts";

let lab: Lab;
beforeAll(() => {
  lab = new Lab("chain", 3);
});
afterAll(() => lab[Symbol.dispose]());

const AS = [0, 4_200_000_001, ROUTER_AS, 4_200_000_003] as const;
const network = (n: number): string => `172.16.${n}.0/24`;

/** One speaker of the chain, of whatever make. */
interface Speaker {
  readonly pid: () => number;
  readonly isUpWith: (n: number) => boolean;
  readonly settled: () => boolean;
  readonly kill: () => Promise<void>;
  readonly start: () => Promise<void> | void;
}

function ours(scene: Scene, n: number, peers: readonly number[]): Speaker {
  const daemon: DaemonProcess = scene.daemonProcess(n, {
    as: AS[n] ?? 0,
    peers: peers.map((peer) => ({
      to: lab.station(peer).address,
      remoteAs: AS[peer] ?? 0,
      families: ["ipv4-unicast"],
      gracefulRestart: { restartSeconds: 60 },
    })),
    routes: [route(network(n))],
  });
  return {
    pid: () => daemon.pid,
    isUpWith: (other) =>
      daemon.said?.peers.find(({ name }) => name === lab.station(other).address)?.state === "Established",
    settled: () =>
      daemon.said?.deferring === false &&
      daemon.said.peers.every(
        ({ state, routes }) => state === "Established" && routes.every(({ stale, received }) => !stale && received > 0),
      ),
    kill: () => daemon.kill(),
    start: () => daemon.start(),
  };
}

async function theirs(
  scene: Scene,
  name: RouterName,
  { n, peers }: { n: number; peers: readonly number[] },
): Promise<Speaker> {
  const neighbours: NeighbourSpec[] = peers.map((peer) => ({
    address: lab.station(peer).address,
    localAddress: lab.station(n).address,
    as: AS[peer] ?? 0,
    families: ["ipv4"],
    gracefulRestart: true,
  }));
  const spec = { as: AS[n] ?? 0, routerId: lab.station(n).address, neighbours, originate: [{ prefix: network(n) }] };
  const router: Router = await BEGIN[name](lab.station(n).netns, spec);
  scene.later(() => router[Symbol.dispose]());
  return {
    pid: () => router.pid,
    isUpWith: (other) => router.isUp(lab.station(other).address),
    settled: () =>
      peers.every((peer) => router.isUp(lab.station(peer).address) && router.routesTo(network(peer)).length > 0),
    kill: () => router.kill(),
    start: () => router.start(true),
  };
}

/** What went, of the routes that the ends forward by. */
function losses({ kernel, name }: Station, prefix: string, into: string[]): Disposable {
  return kernel.watch(["route"], (event) => {
    if (event.kind !== "route" || !event.gone || formatPrefix(event.route.destination) !== prefix) return;
    into.push(`${new Date().toISOString()} ${name} lost ${prefix}`);
  });
}

/** BIRD's restart is tested with one neighbour (interop.kernel.test.ts): one that has stopped answering it does not wait for. */
const CHAINS = [
  { middle: "FRR", end: "ours" },
  { middle: "ours", end: "FRR" },
] as const;

describe.each(CHAINS)("$middle between ours and $end", ({ middle, end }) => {
  test("is killed and comes back, and again with a late neighbour; not one route goes, not one packet is lost", async () => {
    using scene = new Scene(lab);
    const begin = (n: number, name: RouterName | "ours", peers: readonly number[]): Speaker | Promise<Speaker> =>
      name === "ours" ? ours(scene, n, peers) : theirs(scene, name, { n, peers });
    const speakers = [await begin(1, "ours", [2]), await begin(2, middle, [1, 3]), await begin(3, end, [2])];
    const far = (): boolean => [1, 3].every((n) => hasRoute(n, network(4 - n)));
    await scene.eventually("the ends know each other", () => speakers.every((one) => one.settled()) && far());

    const lost: string[] = [];
    using _first = losses(lab.station(1), network(3), lost);
    using _last = losses(lab.station(3), network(1), lost);
    const traffic = [new Traffic(lab.station(1), "172.16.3.1"), new Traffic(lab.station(3), "172.16.1.1")];
    try {
      const flows = async (): Promise<void> => {
        const before = traffic.map((one) => one.answered);
        const goesOn = (): boolean => traffic.every((one, at) => one.answered > (before[at] ?? 0) + 20);
        await scene.eventually("traffic goes on", goesOn);
      };
      await flows();
      const [, killed, late] = speakers;
      for (const isLate of [false, true]) {
        await killed?.kill();
        await flows();
        const pid = late?.pid() ?? 0;
        if (isLate) process.kill(pid, "SIGSTOP");
        try {
          await killed?.start();
          if (isLate) await scene.eventually("one end is back", () => killed?.isUpWith(1) ?? false);
          for (let round = 0; round < 3; round++) await flows();
        } finally {
          if (isLate) process.kill(pid, "SIGCONT");
        }
        await scene.eventually("all is as before", () => speakers.every((one) => one.settled()) && far());
        await flows();
      }
    } finally {
      await Promise.all(traffic.map((one) => one.stop()));
    }
    const packets = traffic.map((one) =>
      `${one.lost.length} lost ${one.lost[0] ?? ""} ${one.lost.at(-1) ?? ""}`.trim(),
    );
    expect({ routes: lost, packets }).toEqual({ routes: [], packets: ["0 lost", "0 lost"] });
  }, 400_000);
});

const hasRoute = (n: number, prefix: string): boolean =>
  lab
    .station(n)
    .kernel.routes.list()
    .some(({ destination }) => formatPrefix(destination) === prefix);
