import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { explainPrefix, type PeerConfig, showBestRoutes, showPeers } from "@calico-ts/bgp";
import { createNamespace, deleteNamespace, type Kernel, openKernel } from "@calico-ts/linux";
import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BgpDaemon, type DaemonConfig } from "../src/daemon.ts";
import { Bird } from "./bird.ts";

const names = { ours: `ct-${process.pid}-bgp`, bird: `ct-${process.pid}-bird` };
const paths = { ours: `/run/netns/${names.ours}`, bird: `/run/netns/${names.bird}` };
let kernel: Kernel;

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });

beforeAll(() => {
  createNamespace(names.ours);
  createNamespace(names.bird);
  ip("link", "add", "eth0", "netns", names.ours, "type", "veth", "peer", "name", "eth0", "netns", names.bird);
  for (const [name, last] of [
    [names.ours, 1],
    [names.bird, 2],
  ] as const) {
    ip("-n", name, "addr", "add", `192.0.2.${last}/24`, "dev", "eth0");
    ip("-n", name, "addr", "add", `2001:db8::${last}/64`, "dev", "eth0", "nodad");
    ip("-n", name, "link", "set", "eth0", "up");
    ip("-n", name, "link", "set", "lo", "up");
  }
  kernel = openKernel({ netns: paths.ours });
});

afterAll(() => {
  kernel[Symbol.dispose]();
  deleteNamespace(names.ours);
  deleteNamespace(names.bird);
});

/** What to print when something never happens. */
let witness = (): string => "";

async function eventually(what: string, holds: () => boolean, timeoutMs = 20_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`never happened: ${what}\n${witness()}`);
    await sleep(50);
  }
}

const birdConfig = (bgp: string): string => `
log stderr all;
router id 192.0.2.2;
protocol device {}
protocol static s4 { ipv4; route 10.1.0.0/16 blackhole { bgp_community.add((65002,7)); bgp_large_community.add((65002,1,2)); }; route 10.2.0.0/16 blackhole; }
protocol static s6 { ipv6; route 2001:db8:1::/48 blackhole; }
protocol bgp calico {
  local 192.0.2.2 as 4200000002;
  neighbor 192.0.2.1 as 4200000001;
  connect delay time 1;
  connect retry time 2;
  error wait time 1,2;
  graceful restart on;
  long lived graceful restart off;
  ${bgp}
}
`;
const CHANNELS = `
  ipv4 { import all; export where source = RTS_STATIC; add paths on; };
  ipv6 { import all; export where source = RTS_STATIC; next hop address 2001:db8::2; };
`;

function configOf(change: Partial<PeerConfig> = {}, more: Partial<DaemonConfig> = {}): DaemonConfig {
  const peer: PeerConfig = {
    name: "bird",
    address: parseAddress("192.0.2.2"),
    remoteAs: 4_200_000_002,
    families: ["ipv4-unicast", "ipv6-unicast"],
    nextHopSelf: { ipv6: parseAddress("2001:db8::1") },
    gracefulRestart: { restartSeconds: 60 },
    addPath: { receive: true, send: true },
    timers: { connectRetrySeconds: 1, idleHoldMinSeconds: 1, idleHoldMaxSeconds: 2 },
    ...change,
  };
  return {
    speaker: { as: 4_200_000_001, routerId: 0xc0000201, peers: [peer] },
    listen: [{ address: parseAddress("0.0.0.0"), port: 179 }],
    reach: new Map([["bird", { address: peer.address, port: 179, sourceAddress: parseAddress("192.0.2.1") }]]),
    routes: [
      {
        prefix: parsePrefix("172.16.0.0/26"),
        attributes: { communities: [(64512 << 16) >>> 0], largeCommunities: [{ global: 1, local1: 2, local2: 3 }] },
      },
      { prefix: parsePrefix("fd00:1::/64"), attributes: {} },
    ],
    notProgrammed: [],
    routeMetric: 1024,
    ...more,
  };
}

function startDaemon(config: DaemonConfig): BgpDaemon {
  const daemon = new BgpDaemon(config, { kernel, log: silentLogger, clock: systemClock, netns: paths.ours });
  daemon.start();
  return daemon;
}

const ourRoutes = (): string[] =>
  kernel.routes
    .list({ protocol: 12 })
    .map((route) => formatPrefix(route.destination))
    .toSorted();
const isUp = (daemon: BgpDaemon): boolean => showPeers(daemon.speaker)[0]?.state === "Established";
const learned = (daemon: BgpDaemon): number =>
  showBestRoutes(daemon.speaker, "ipv4-unicast").filter((route) => route.peer === "bird").length;

describe("with BIRD 2", () => {
  test("sessions, both families, communities, four-octet AS, additional paths, kernel routes, refresh, restarts of both", async () => {
    using bird = new Bird(paths.bird, birdConfig(CHANNELS));
    const first = startDaemon(configOf());
    witness = () =>
      `${JSON.stringify(showPeers(first.speaker), undefined, 1)}\n${bird.ask("show", "protocols", "all", "calico")}\n${bird.ask("show", "route")}`;
    try {
      await eventually("the session is up and routes are here", () => isUp(first) && learned(first) === 2);
      expect(explainPrefix(first.speaker, parsePrefix("10.1.0.0/16"))?.routes[0]).toMatchObject({
        attributes: {
          asPath: [{ kind: "sequence", ases: [4_200_000_002] }],
          communities: [((65002 << 16) | 7) >>> 0],
          largeCommunities: [{ global: 65002, local1: 1, local2: 2 }],
        },
        pathId: expect.any(Number) as number,
      });
      await eventually(
        "the kernel has them",
        () => ourRoutes().join(" ") === "10.1.0.0/16 10.2.0.0/16 2001:db8:1::/48",
      );
      expect(ip("-n", names.ours, "route", "show", "10.1.0.0/16")).toContain(
        "via 192.0.2.2 dev eth0 proto bird metric 1024",
      );

      await eventually("BIRD has ours", () =>
        bird.ask("show", "route", "all", "172.16.0.0/26").includes("BGP.as_path: 4200000001"),
      );
      const told = bird.ask("show", "route", "all", "172.16.0.0/26");
      expect(told).toContain("BGP.next_hop: 192.0.2.1");
      expect(told).toContain("BGP.community: (64512,0)");
      expect(told).toContain("BGP.large_community: (1, 2, 3)");
      expect(bird.ask("show", "route", "all", "fd00:1::/64")).toContain("BGP.next_hop: 2001:db8::1");
      const neighbour = bird.ask("show", "protocols", "all", "calico");
      expect(neighbour).toContain("4-octet AS numbers");
      expect(neighbour).toContain("ADD-PATH");
      expect(neighbour).toMatch(/Import updates:\s+1 /);

      bird.ask("reload", "in", "calico");
      bird.ask("reload", "out", "calico");
      await sleep(300);
      expect([isUp(first), learned(first)]).toEqual([true, 2]);

      await bird.kill();
      await eventually("the session is down", () => !isUp(first));
      expect(learned(first)).toBe(2);
      expect(ourRoutes()).toHaveLength(3);
      bird.start(true);
      await eventually(
        "BIRD is back and nothing is stale",
        () => isUp(first) && showBestRoutes(first.speaker, "ipv4-unicast").every((route) => !route.stale),
      );
      expect(ourRoutes()).toHaveLength(3);
    } finally {
      first[Symbol.dispose]();
    }
    // The daemon is gone; both sides go on forwarding.
    expect(ourRoutes()).toHaveLength(3);
    await sleep(300);
    expect(bird.ask("show", "route", "172.16.0.0/26")).toContain("172.16.0.0/26");
    using second = startDaemon(configOf());
    await eventually(
      "the next daemon has converged",
      () => isUp(second) && learned(second) === 2 && !second.speaker.routing.deferring,
    );
    expect(ourRoutes()).toHaveLength(3);
    second.configure(configOf({ shutdown: "maintenance" }));
    await eventually("the kernel routes are gone", () => ourRoutes().length === 0);
    await eventually("BIRD forgot ours", () => !bird.ask("show", "route", "172.16.0.0/26").includes("172.16.0.0/26"));
    expect(bird.ask("show", "protocols", "all", "calico")).toMatch(/maintenance|Hard reset|Administrative/i);
  }, 90_000);

  test("a wrong AS is named", async () => {
    using bird = new Bird(paths.bird, birdConfig(CHANNELS));
    using daemon = startDaemon(configOf({ remoteAs: 64999 }));
    await eventually("somebody refuses", () => showPeers(daemon.speaker)[0]?.cause?.includes("Bad Peer AS") === true);
    expect(bird.ask("show", "protocols", "calico")).not.toContain("Established");
  });
});
