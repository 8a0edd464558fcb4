/**
 * Our daemon with BIRD 2, FRR and GoBGP, both directions, one table of scenarios for the three. What a router of Debian's cannot do is in `LACKS`, by name.
 *
 * Station 1 (and 3 and 4 where a scenario needs them) runs our daemon, station 2 the router.
 */
import { type BgpSpeaker, explainPrefix, showPeers } from "@calico-ts/bgp";
import { formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ip, Lab, Traffic } from "../testing/lab.ts";
import { configOf, counter, isUp, OUR_AS, type Ours, pathsTo, ROUTER_AS, route } from "../testing/ours.ts";
import { Scene } from "../testing/scene.ts";
import type { NeighbourSpec, RouteSeen, RouterName } from "../testing/routers/router.ts";

type Ability =
  | "programs the kernel"
  | "keeps its kernel routes when it comes back"
  | "enhanced route refresh"
  | "extended messages"
  | "asks for route refresh"
  | "marks what it reflects to non-clients";

/** Debian 12 has BIRD 2.0.12, FRR 8.4.4 and GoBGP 3.10.0. */
const LACKS: Readonly<Record<RouterName, Partial<Record<Ability, string>>>> = {
  BIRD: {},
  FRR: {
    "keeps its kernel routes when it comes back":
      "its zebra removes what nobody has told again before it has worked off what it was just told, so now and then a route is gone for some milliseconds (later releases queue the removal)",
  },
  GoBGP: {
    "programs the kernel":
      "needs FRR's zebra for that; static routes forward in its place, and ECMP on its side cannot be seen",
    "enhanced route refresh": "not implemented",
    "asks for route refresh": "keeps what it received and reads that again, it never asks",
    "marks what it reflects to non-clients":
      "sends clients' routes to other internal peers without ORIGINATOR_ID and CLUSTER_LIST (RFC 4456 section 8), so our reflector is its client",
    "extended messages": "not implemented",
  },
};

let lab: Lab;
beforeAll(() => {
  lab = new Lab("interop", 4);
});
afterAll(() => lab[Symbol.dispose]());
const kernelRoutes = (n: number): string[] =>
  lab
    .station(n)
    .kernel.routes.list({ protocol: 12 })
    .map((route) => formatPrefix(route.destination))
    .toSorted();

/** The neighbour specification of the router for station n. */
const neighbour = (n: number, more: Partial<NeighbourSpec> = {}): NeighbourSpec => ({
  address: lab.station(n).address,
  localAddress: lab.station(2).address,
  as: OUR_AS,
  families: ["ipv4", "ipv6"],
  nextHop6: lab.station(2).address6,
  ...more,
});

/** Next hops of a route in a station's kernel, as `ip` sees them. */
const hops = (n: number, prefix: string): string[] =>
  [...ip("-n", lab.station(n).name, "route", "show", prefix).matchAll(/via (\S+)/g)]
    .map(([, hop]) => hop ?? "")
    .toSorted();

describe.each(["BIRD", "FRR", "GoBGP"] as const)("with %s", (name) => {
  const can = (ability: Ability): boolean => LACKS[name][ability] === undefined;

  test("sessions, capabilities, both families, communities of three kinds, four-octet AS, refresh, kernel routes", async () => {
    using scene = new Scene(lab);
    const theirs = await scene.router(name, {
      neighbours: [neighbour(1, { gracefulRestart: true, addPath: true })],
      originate: [
        {
          prefix: "10.1.0.0/16",
          communities: ["65002:7", "65002:8"],
          routeTargets: ["65002:9"],
          largeCommunities: ["65002:1:2"],
        },
        { prefix: "2001:db8:1::/48", communities: ["65002:7"] },
      ],
    });
    const settings: Ours = {
      peers: [{ to: "192.0.2.2", gracefulRestart: { restartSeconds: 60 }, addPath: { receive: true, send: true } }],
      routes: [
        route("172.16.1.0/24", {
          communities: [(64512 << 16) >>> 0, ((64512 << 16) | 5) >>> 0],
          extendedCommunities: ["0002fc0000000009"],
          largeCommunities: [{ global: OUR_AS, local1: 2, local2: 3 }],
        }),
        route("fd00:1::/64"),
      ],
    };
    const ours = scene.daemon(1, settings);
    await scene.eventually(
      "routes of both families are here",
      () => pathsTo(ours.speaker, "10.1.0.0/16").length === 1 && pathsTo(ours.speaker, "2001:db8:1::/48").length === 1,
    );
    expect(explainPrefix(ours.speaker, parsePrefix("10.1.0.0/16"))?.routes[0]?.attributes).toMatchObject({
      asPath: [{ kind: "sequence", ases: [ROUTER_AS] }],
      nextHop: parseAddress("192.0.2.2"),
      communities: [((65002 << 16) | 7) >>> 0, ((65002 << 16) | 8) >>> 0],
      extendedCommunities: ["0002fdea00000009"],
      largeCommunities: [{ global: 65002, local1: 1, local2: 2 }],
    });
    const negotiated = ours.speaker.peers.get("192.0.2.2")?.routing.session?.negotiated;
    expect({
      families: negotiated?.families,
      fourOctetAs: negotiated?.fourOctetAs,
      routeRefresh: negotiated?.routeRefresh,
      addPath: [negotiated?.addPathReceive.size, negotiated?.addPathSend.size],
      restarts: negotiated?.restart?.families.size,
      enhancedRefresh: negotiated?.enhancedRefresh,
      extendedMessages: negotiated?.maxMessage === 65_535,
    }).toEqual({
      families: ["ipv4-unicast", "ipv6-unicast"],
      fourOctetAs: true,
      routeRefresh: true,
      addPath: [2, 2],
      restarts: 2,
      enhancedRefresh: can("enhanced route refresh"),
      extendedMessages: can("extended messages"),
    });
    await scene.eventually("the kernel has them", () => kernelRoutes(1).join(" ") === "10.1.0.0/16 2001:db8:1::/48");

    await scene.eventually(
      "the router has ours",
      () => theirs.routesTo("172.16.1.0/24").length === 1 && theirs.routesTo("fd00:1::/64").length === 1,
    );
    expect(theirs.isUp("192.0.2.1")).toBe(true);
    expect(theirs.routesTo("172.16.1.0/24")[0]).toMatchObject({
      neighbour: "192.0.2.1",
      asPath: String(OUR_AS),
      nextHop: "192.0.2.1",
      communities: ["64512:0", "64512:5"],
      routeTargets: ["64512:9"],
      largeCommunities: [`${OUR_AS}:2:3`],
    } satisfies Partial<RouteSeen>);
    expect(theirs.routesTo("fd00:1::/64")[0]).toMatchObject({ asPath: String(OUR_AS), nextHop: "2001:db8::1" });
    if (can("programs the kernel")) {
      await scene.eventually("its kernel has ours", () => hops(2, "172.16.1.0/24").join() === "192.0.2.1");
    }

    const counters = ours.speaker.peers.get("192.0.2.2")?.counters;
    const { updatesReceived = 0, updatesSent = 0, timesUp = 0 } = { ...counters };
    // Asked through the daemon's own clock and sockets: a refresh is an action like any other.
    ours.refresh("192.0.2.2", "ipv4-unicast");
    await scene.eventually(
      "the router tells its routes again",
      () => (counters?.updatesReceived ?? 0) > updatesReceived,
    );
    theirs.refresh("192.0.2.1");
    if (can("asks for route refresh"))
      await scene.eventually("we tell ours again", () => (counters?.updatesSent ?? 0) > updatesSent);
    await scene.eventually(
      "nothing was lost",
      () => pathsTo(ours.speaker, "10.1.0.0/16").length === 1 && theirs.routesTo("172.16.1.0/24").length === 1,
    );
    expect(counters?.timesUp).toBe(timesUp);

    const [peer] = settings.peers;
    ours.configure(
      configOf(lab.station(1), {
        ...settings,
        peers: peer === undefined ? [] : [{ ...peer, shutdown: "maintenance" }],
      }),
    );
    await scene.eventually("the kernel has none of its routes", () => kernelRoutes(1).length === 0);
    await scene.eventually("the router has none of ours", () => theirs.routesTo("172.16.1.0/24").length === 0);
  }, 240_000);

  test("TCP MD5 and TTL security over IPv6; a wrong password and a wrong AS are told from success", async () => {
    using scene = new Scene(lab);
    const session = { password: "s3cret", ttlSecurityHops: 1 };
    const theirs = await scene.router(name, {
      neighbours: [
        neighbour(1, { address: "2001:db8::1", localAddress: "2001:db8::2", families: ["ipv6"], ...session }),
      ],
      originate: [{ prefix: "2001:db8:1::/48" }],
    });
    const peer = { to: "2001:db8::2", families: ["ipv6-unicast"] as const };
    const before = counter(lab.station(2), "TCPMD5Failure");
    const ours = scene.daemon(1, { peers: [{ ...peer, way: { ...session, password: "guess" } }] });
    await scene.eventually(
      "the router's kernel drops what is signed with another password",
      () => counter(lab.station(2), "TCPMD5Failure") > before,
    );
    expect([isUp(ours, "2001:db8::2"), theirs.isUp("2001:db8::1")]).toEqual([false, false]);
    expect(showPeers(ours.speaker)[0]?.cause).toMatch(/no answer on TCP .* password/);
    ours.configure(configOf(lab.station(1), { peers: [{ ...peer, way: session }] }));
    await scene.eventually(
      "the right password is enough",
      () => pathsTo(ours.speaker, "2001:db8:1::/48").length === 1 && theirs.isUp("2001:db8::1"),
    );

    ours.configure(configOf(lab.station(1), { peers: [{ ...peer, way: session, remoteAs: 64_999 }] }));
    await scene.eventually(
      "a wrong AS is named",
      () => showPeers(ours.speaker)[0]?.cause?.includes("Bad Peer AS") === true,
    );
    ours.configure(configOf(lab.station(1), { peers: [{ ...peer, way: session }] }));
    await scene.eventually("the right one is enough", () => isUp(ours, "2001:db8::2"));
  }, 240_000);

  test("a session between link-local addresses: routes both ways", async () => {
    using scene = new Scene(lab);
    const [{ linkLocal: here }, { linkLocal: there }] = [lab.station(1), lab.station(2)];
    const theirs = await scene.router(name, {
      neighbours: [{ address: here, localAddress: there, as: OUR_AS, families: ["ipv6"], interface: "eth0" }],
      originate: [{ prefix: "2001:db8:5::/48" }],
    });
    const way = { interface: "eth0" };
    const ours = scene.daemon(1, {
      peers: [{ to: there, families: ["ipv6-unicast"], nextHopSelf: {}, way }],
      routes: [route("fd00:1::/64")],
    });
    await scene.eventually(
      "each has the other's route",
      () => pathsTo(ours.speaker, "2001:db8:5::/48").length === 1 && theirs.routesTo("fd00:1::/64").length > 0,
    );
    // FRR tells its global address beside the link-local one, the others do not.
    const way6 = name === "FRR" ? lab.station(2).address6 : there;
    const kernelRoute = (): string => ip("-6", "-n", lab.station(1).name, "route", "show", "2001:db8:5::/48");
    await scene.eventually("our kernel sends packets there", () => kernelRoute().includes(`via ${way6} dev eth0`));
  });

  test("additional paths and several next hops at once", async () => {
    using scene = new Scene(lab);
    // Stations 3 and 4 announce the same to station 1 and to the router, who tell each other both.
    const shared = "198.51.100.0/24";
    const theirs = await scene.router(name, {
      multipath: true,
      neighbours: [neighbour(1, { addPath: true }), neighbour(3, { as: 65_003 }), neighbour(4, { as: 65_004 })],
      originate: [{ prefix: "203.0.113.0/24" }],
    });
    const paths = { receive: true, send: true };
    const ours = scene.daemon(1, {
      peers: [
        { to: "192.0.2.2", addPath: paths },
        { to: "192.0.2.3", remoteAs: 65_003, passive: true },
        { to: "192.0.2.4", remoteAs: 65_004, passive: true },
      ],
    });
    for (const n of [3, 4]) {
      scene.daemon(n, {
        as: 65_000 + n,
        peers: [{ to: "192.0.2.1", remoteAs: OUR_AS }, { to: "192.0.2.2" }],
        // The router's own route too: a second way to it for station 1.
        routes: [route(shared), ...(n === 3 ? [route("203.0.113.0/24")] : [])],
      });
    }
    await scene.eventually(
      "we have it from both stations, and both from the router",
      () =>
        pathsTo(ours.speaker, shared).join(", ") ===
        `65003, 65004, ${ROUTER_AS} 65003, ${ROUTER_AS} 65004`.split(", ").toSorted().join(", "),
    );
    await scene.eventually("the router has both from us", () => {
      const fromUs = theirs.routesTo(shared).filter((one) => one.neighbour === "192.0.2.1");
      return (
        fromUs
          .map((one) => one.asPath)
          .toSorted()
          .join(", ") === `${OUR_AS} 65003, ${OUR_AS} 65004`
      );
    });
    await scene.eventually("our kernel has both next hops", () => hops(1, shared).join(" ") === "192.0.2.3 192.0.2.4");
    await scene.eventually(
      "one of them may be the router",
      () => hops(1, "203.0.113.0/24").join(" ") === "192.0.2.2 192.0.2.3",
    );
    if (can("programs the kernel")) {
      await scene.eventually(
        "its kernel has both next hops",
        () => hops(2, shared).join(" ") === "192.0.2.3 192.0.2.4",
      );
    }
  }, 240_000);

  test("reflectors in a chain, either one first", async () => {
    using scene = new Scene(lab);
    // Client 3 – our reflector 1 – the router, a reflector too – client 4.
    const internal = { as: OUR_AS, families: ["ipv4"] as const };
    const theirs = await scene.router(name, {
      as: OUR_AS,
      clusterId: "192.0.2.222",
      neighbours: [
        neighbour(1, { ...internal, reflectorClient: !can("marks what it reflects to non-clients") }),
        neighbour(4, { ...internal, reflectorClient: true }),
      ],
    });
    const peer = { remoteAs: OUR_AS, families: ["ipv4-unicast"] as const };
    scene.daemon(1, {
      clusterId: 0xc00002dd,
      peers: [
        { to: "192.0.2.2", ...peer },
        { to: "192.0.2.3", ...peer, reflectorClient: true },
      ],
    });
    const third = scene.daemon(3, { peers: [{ to: "192.0.2.1", ...peer }], routes: [route("10.3.0.0/16")] });
    const fourth = scene.daemon(4, { peers: [{ to: "192.0.2.2", ...peer }], routes: [route("10.4.0.0/16")] });
    const attributesOf = (speaker: BgpSpeaker, prefix: string): unknown =>
      explainPrefix(speaker, parsePrefix(prefix))?.routes[0]?.attributes;
    await scene.eventually(
      "both clients have each other's routes",
      () =>
        attributesOf(third.speaker, "10.4.0.0/16") !== undefined &&
        attributesOf(fourth.speaker, "10.3.0.0/16") !== undefined,
    );
    expect(attributesOf(fourth.speaker, "10.3.0.0/16")).toMatchObject({
      nextHop: parseAddress("192.0.2.3"),
      originatorId: 0xc0000203,
      clusterList: [0xc00002de, 0xc00002dd],
    });
    expect(attributesOf(third.speaker, "10.4.0.0/16")).toMatchObject({
      nextHop: parseAddress("192.0.2.4"),
      originatorId: 0xc0000204,
      clusterList: [0xc00002dd, 0xc00002de],
    });
    expect(theirs.routesTo("10.3.0.0/16")[0]).toMatchObject({
      originatorId: "192.0.2.3",
      clusterList: ["192.0.2.221"],
    });
  }, 240_000);

  test("either side is killed and comes back; not one packet is lost", async () => {
    using scene = new Scene(lab);
    const theirs = await scene.router(name, {
      neighbours: [neighbour(1, { gracefulRestart: true })],
      originate: [{ prefix: "172.16.2.0/24" }],
    });
    if (!can("programs the kernel")) {
      ip("-n", lab.station(2).name, "route", "add", "172.16.1.0/24", "via", "192.0.2.1");
      scene.later(() => ip("-n", lab.station(2).name, "route", "del", "172.16.1.0/24"));
    }
    const ours = scene.daemonProcess(1, {
      peers: [{ to: "192.0.2.2", gracefulRestart: { restartSeconds: 60 } }],
      routes: [route("172.16.1.0/24")],
    });
    const settled = (): boolean =>
      ours.said?.peers[0]?.state === "Established" &&
      !ours.said.deferring &&
      ours.said.peers[0].routes.every(({ stale }) => !stale);
    const hasRoutes = (): boolean =>
      kernelRoutes(1).includes("172.16.2.0/24") && theirs.routesTo("172.16.1.0/24").length === 1;
    await scene.eventually(
      "routes are in both kernels",
      () =>
        settled() &&
        hasRoutes() &&
        (!can("programs the kernel") || ip("-n", lab.station(2).name, "route").includes("172.16.1.0/24")),
    );
    const traffic = [new Traffic(lab.station(1), "172.16.2.1"), new Traffic(lab.station(2), "172.16.1.1")];
    const interrupted: Traffic[] = [];
    try {
      const answered = (): number[] => traffic.map((one) => one.answered);
      const flows = async (): Promise<void> => {
        const before = answered();
        await scene.eventually("traffic goes on", () => answered().every((now, at) => now > (before[at] ?? 0) + 20));
      };
      await flows();
      await theirs.kill();
      await scene.eventually("we notice", () => ours.said?.peers[0]?.state !== "Established");
      await flows();
      if (!can("keeps its kernel routes when it comes back")) {
        interrupted.push(...traffic.splice(1));
        await interrupted[0]?.stop();
      }
      await theirs.start(true);
      await scene.eventually("the session is back and nothing is stale", () => settled() && hasRoutes());
      await flows();
      if (interrupted.length > 0) {
        await scene.eventually("the route is back", () =>
          ip("-n", lab.station(2).name, "route").includes("172.16.1.0/24"),
        );
        traffic.push(new Traffic(lab.station(2), "172.16.1.1"));
      }
      await flows();

      await ours.kill();
      await scene.eventually("the router notices", () => !theirs.isUp("192.0.2.1"));
      expect(theirs.routesTo("172.16.1.0/24")).toHaveLength(1);
      await flows();
      ours.start();
      await scene.eventually("the daemon is back", () => settled() && hasRoutes());
      await flows();
    } finally {
      await Promise.all(traffic.map((one) => one.stop()));
    }
    expect([...traffic, ...interrupted].flatMap(({ lost }) => lost)).toEqual([]);
  }, 400_000);
});
