/**
 * `npm run capture -w packages/bgp-daemon`, as root: talks to BIRD, FRR and GoBGP and writes what they said, message by message, to packages/bgp/test/goldens with the
 * version of the program and the configuration that led to it. Run it when a router's version changes; the goldens test says what has become of the frames.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ConnectionOf, showPeers } from "@calico-ts/bgp";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { BgpDaemon } from "../src/daemon.ts";
import { Lab } from "./lab.ts";
import { configOf, OUR_AS, type Ours, ROUTER_AS, route } from "./ours.ts";
import type { NeighbourSpec, Router, RouterName, RouterSpec } from "./routers/router.ts";
import { until } from "./routers/router.ts";
import { BEGIN } from "./scene.ts";

interface Setting {
  readonly name: string;
  readonly why: string;
  readonly routers: readonly RouterName[];
  readonly spec: Partial<RouterSpec> & Pick<RouterSpec, "neighbours">;
  readonly ours: Ours;
  /** Station 3, a second neighbour of the router, which has gone by the end. */
  readonly client?: Ours;
}

const ALL: readonly RouterName[] = ["BIRD", "FRR", "GoBGP"];
const neighbour: NeighbourSpec = {
  address: "192.0.2.1",
  localAddress: "192.0.2.2",
  as: OUR_AS,
  families: ["ipv4", "ipv6"],
  nextHop6: "2001:db8::2",
};
const originate: RouterSpec["originate"] = [
  {
    prefix: "10.1.0.0/16",
    communities: ["65002:7", "65002:3"],
    routeTargets: ["65002:9"],
    largeCommunities: ["65002:1:2"],
  },
  { prefix: "10.2.3.128/25" },
  { prefix: "0.0.0.0/0" },
  { prefix: "2001:db8:1::/48", communities: ["65002:7"] },
  { prefix: "2001:db8:2:3::/64" },
];
/** Told to the router, to hear what it makes of it for another peer or another time. */
const ourRoutes: Ours["routes"] = [
  route("172.16.1.0/24", {
    communities: [0xfc000005],
    extendedCommunities: ["0002fc0000000009"],
    largeCommunities: [{ global: OUR_AS, local1: 2, local2: 3 }],
  }),
  route("fd00:1::/64", {
    med: 50,
    unknown: [{ code: 200, transitive: true, partial: true, value: Uint8Array.of(1, 2, 3) }],
  }),
];

const clientRoutes = [route("10.3.0.0/16"), route("2001:db8:3::/48")];

const SETTINGS: readonly Setting[] = [
  {
    name: "everything",
    why: "an external session with all capabilities on, additional paths in both directions",
    routers: ALL,
    spec: { originate, neighbours: [{ ...neighbour, gracefulRestart: true, addPath: true }] },
    ours: {
      peers: [{ to: "192.0.2.2", gracefulRestart: { restartSeconds: 60 }, addPath: { receive: true, send: true } }],
      routes: ourRoutes,
    },
  },
  {
    name: "plain",
    why: "an external session without additional paths and graceful restart, over IPv6",
    routers: ALL,
    spec: { originate, neighbours: [{ ...neighbour, address: "2001:db8::1", localAddress: "2001:db8::2" }] },
    ours: { peers: [{ to: "2001:db8::2" }], routes: ourRoutes },
  },
  {
    name: "reflected",
    why: "an internal session with a reflector that has a client in station 3",
    routers: ALL,
    spec: {
      as: OUR_AS,
      clusterId: "192.0.2.222",
      originate,
      neighbours: [
        { ...neighbour, reflectorClient: true },
        { ...neighbour, address: "192.0.2.3", reflectorClient: true },
      ],
    },
    ours: { peers: [{ to: "192.0.2.2", remoteAs: OUR_AS }] },
    client: { peers: [{ to: "192.0.2.2", remoteAs: OUR_AS }], routes: clientRoutes },
  },
  {
    name: "two-octet",
    why: "a speaker without four-octet AS numbers: AS_TRANS and AS4_PATH",
    routers: ["BIRD"],
    spec: {
      as: 65_002,
      originate,
      neighbours: [
        { ...neighbour, fourOctetAs: false, as: 64_999 },
        { ...neighbour, address: "192.0.2.3" },
      ],
    },
    ours: { as: 64_999, peers: [{ to: "192.0.2.2", remoteAs: 65_002 }] },
    client: { peers: [{ to: "192.0.2.2", remoteAs: 65_002 }], routes: clientRoutes },
  },
  {
    name: "link-local",
    why: "a session between link-local addresses: how each writes a next hop that has no global address beside it, or has one",
    routers: ALL,
    spec: {
      originate: originate.filter(({ prefix }) => prefix.includes(":")),
      neighbours: [{ address: "fe80::1", localAddress: "fe80::2", as: OUR_AS, families: ["ipv6"], interface: "eth0" }],
    },
    ours: { peers: [{ to: "fe80::2", families: ["ipv6-unicast"], nextHopSelf: {}, way: { interface: "eth0" } }] },
  },
];

/** Messages out of a stream of bytes. */
class Recorder {
  readonly frames: Uint8Array[] = [];
  #rest = new Uint8Array(0);

  take(bytes: Uint8Array): void {
    let left = Uint8Array.from([...this.#rest, ...bytes]);
    while (left.length >= 19) {
      const length = ((left[16] ?? 0) << 8) | (left[17] ?? 0);
      if (left.length < length) break;
      this.frames.push(left.slice(0, length));
      left = left.slice(length);
    }
    this.#rest = left;
  }
}

const TYPES = ["", "open", "update", "notification", "keepalive", "route-refresh"];

async function capture(lab: Lab, setting: Setting, name: RouterName): Promise<void> {
  const station = lab.station(1);
  const recorders: Recorder[] = [];
  const bySide = new Map<string, Recorder>();
  const daemonAt = (n: number, ours: Ours): BgpDaemon =>
    new BgpDaemon(configOf(lab.station(n), ours), {
      kernel: lab.station(n).kernel,
      log: silentLogger,
      clock: systemClock,
      netns: lab.station(n).netns,
    });
  using ours = daemonAt(1, setting.ours);
  const { speaker } = ours;
  const [connected, receive] = [speaker.connected.bind(speaker), speaker.receive.bind(speaker)];
  speaker.connected = (of, ...rest) => {
    const recorder = new Recorder();
    recorders.push(recorder);
    bySide.set(of.side, recorder);
    return connected(of, ...rest);
  };
  speaker.receive = (of: ConnectionOf, bytes, now) => {
    bySide.get(of.side)?.take(bytes);
    return receive(of, bytes, now);
  };
  using router: Router = await BEGIN[name](lab.station(2).netns, {
    as: ROUTER_AS,
    routerId: "192.0.2.2",
    ...setting.spec,
  });
  const { client: clientSettings } = setting;
  using client = daemonAt(3, clientSettings ?? { peers: [] });
  if (clientSettings !== undefined) client.start();
  ours.start();
  const peer = setting.ours.peers[0]?.to ?? "";
  const told = (): boolean => {
    const status = showPeers(speaker)[0];
    return (
      status?.state === "Established" &&
      status.routes.every(({ received }) => received >= (clientSettings === undefined ? 2 : 3))
    );
  };
  await until(told, `${name} has told its routes`);
  await until(
    () => setting.ours.routes === undefined || router.routesTo("172.16.1.0/24").length > 0,
    `${name} has ours`,
  );
  router.refresh(setting.spec.neighbours[0]?.address ?? "");
  const [family = "ipv4-unicast"] = setting.ours.peers[0]?.families ?? [];
  await until(() => ours.refresh(peer, family), `${name} can be asked again`);
  await until(
    () => [...recorders].some(({ frames }) => frames.filter((frame) => frame[18] === 2).length > 3),
    "updates",
  );
  // What it withdraws, and how it says goodbye.
  if (clientSettings !== undefined) {
    client[Symbol.dispose]();
    await until(() => recorders.some(({ frames }) => frames.some(isWithdrawal)), `${name} withdraws`);
  }
  const negotiated = speaker.peers.get(peer)?.routing.session?.negotiated;
  // From another AS than it knows: it says goodbye to that.
  ours.configure(configOf(station, { ...setting.ours, as: 64_111 }));
  await until(() => recorders.some(({ frames }) => frames.some((frame) => frame[18] === 3)), `${name} refuses`);
  const seen = new Set<string>();
  const frames = recorders.flatMap((recorder) =>
    recorder.frames.flatMap((frame) => {
      const hex = Buffer.from(frame).toString("hex");
      if (seen.has(hex)) return [];
      seen.add(hex);
      return [{ type: TYPES[frame[18] ?? 0] ?? "", hex: hex.slice(32) }];
    }),
  );
  const golden = {
    program: name,
    version: router.version,
    setting: setting.name,
    why: setting.why,
    // What both OPENs agreed on, as the decoder of what follows them needs it.
    context: {
      fourOctetAs: negotiated?.fourOctetAs === true,
      internal: negotiated?.internal === true,
      addPath: [...(negotiated?.addPathReceive ?? [])],
    },
    configuration: router.configuration.split("\n").filter((line) => line.trim() !== ""),
    frames,
  };
  const folder = join(import.meta.dirname, "../../bgp/test/goldens");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name.toLowerCase()}-${setting.name}.json`);
  writeFileSync(file, `${JSON.stringify(golden, undefined, 2)}\n`);
  process.stdout.write(`${name} ${router.version}, ${setting.name}: ${frames.length} messages\n`);
}

const isWithdrawal = (frame: Uint8Array): boolean => frame[18] === 2 && ((frame[19] ?? 0) << 8) + (frame[20] ?? 0) > 0;

using lab = new Lab("goldens", 3);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    lab[Symbol.dispose]();
    process.exit(130);
  });
}
for (const setting of SETTINGS) for (const name of setting.routers) await capture(lab, setting, name);
