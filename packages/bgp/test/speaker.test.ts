import { parseAddress, parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PeerConfig, SpeakerConfig } from "../src/config.ts";
import { explainPrefix } from "../src/inspect/why-best.ts";
import type { Filter } from "../src/policy/filter.ts";
import { BgpSpeaker } from "../src/speaker.ts";
import type { Capability } from "../src/wire/capabilities.ts";
import { encodeMessage } from "../src/wire/message.ts";
import { encodeOpenBody } from "../src/wire/open.ts";
import { addressOf, Network, peerOf } from "./support/network.ts";

/** Speakers n0, n1, … of one AS, each with a route 192.168.<i>.0/24. */
function mesh(network: Network, count: number, change: Partial<PeerConfig> = {}): void {
  for (let i = 0; i < count; i++) {
    const peers = Array.from({ length: count }, (_, other) => peerOf(`n${other}`, other + 1, change)).filter(
      (_, other) => other !== i,
    );
    const speaker = network.add(`n${i}`, { as: 64512, routerId: i + 1, peers });
    speaker.originate(parsePrefix(`192.168.${i}.0/24`), {}, 0);
  }
}

const pathsTo = (network: Network, node: string, prefix: string): string[] =>
  (network.node(node).routes.get(prefix) ?? []).map((path) => `${path.peer ?? "local"}${path.stale ? " stale" : ""}`);

const eventsOf = (network: Network, node: string, kind: string): number =>
  network.node(node).events.filter(({ event }) => event.kind === kind).length;

const pair = (network: Network, a: Partial<PeerConfig> = {}, b: Partial<PeerConfig> = {}): void => {
  network.add("a", { as: 65001, routerId: 1, peers: [peerOf("b", 2, { remoteAs: 65002, ...a })] });
  network.add("b", { as: 65002, routerId: 2, peers: [peerOf("a", 1, { remoteAs: 65001, ...b })] });
};

/** A restarting speaker and its session with "b", who is nothing but bytes; it stands from 1000 ms on. */
function heardByHand(capabilities: readonly Capability[], change: Partial<SpeakerConfig> = {}): BgpSpeaker {
  const gracefulRestart = { restartSeconds: 60 };
  const peers = [peerOf("b", 2, { remoteAs: 65002, gracefulRestart })];
  const restarting = { deferralSeconds: 30 };
  const speaker = new BgpSpeaker({ as: 65001, routerId: 1, peers, restarting, ...change }, 0);
  const side = { peer: "b", side: "incoming" } as const;
  const all: Capability[] = [
    { kind: "multiprotocol", afi: 1, safi: 1 },
    { kind: "route-refresh" },
    { kind: "four-octet-as", as: 65002 },
    ...capabilities,
  ];
  const open = { version: 4 as const, as: 65002, holdSeconds: 0, identifier: 2, capabilities: all };
  speaker.start(0);
  speaker.connected(side, 0, addressOf(1));
  speaker.receive(side, encodeMessage("open", encodeOpenBody(open)), 0);
  speaker.receive(side, encodeMessage("keepalive"), 1000);
  return speaker;
}

describe("sessions", () => {
  test("a full mesh of 50 converges, with one connection per pair", () => {
    const network = new Network();
    mesh(network, 50);
    network.run(20_000);
    const sizes = [...network.nodes.values()].map(({ routes }) => routes.size);
    expect(sizes).toEqual(Array.from({ length: 50 }, () => 50));
    const down = [...network.nodes.values()].flatMap(({ speaker }) =>
      [...speaker.peers.values()].filter((peer) => peer.upSide === undefined),
    );
    expect(down).toEqual([]);
  });

  test("in any interleaving of two connections, one session comes up on both sides", () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat()), fc.integer({ min: 1, max: 80 }), (choices, portion) => {
        const network = new Network((count) => (choices.next().value ?? 0) % Math.max(count, 1));
        network.portion = portion;
        mesh(network, 3);
        network.run(40_000);
        for (const { routes } of network.nodes.values()) expect(routes.size).toBe(3);
      }),
      { numRuns: 60 },
    );
  });

  test("keepalives keep an idle session for an hour; silence ends it after the hold time", () => {
    const network = new Network();
    pair(network);
    network.run(3_600_000);
    expect(eventsOf(network, "a", "down")).toBe(0);
    network.cut("a", "b");
    network.run(3_600_000 + 91_000);
    const causes = ["a", "b"].flatMap((name) =>
      network.node(name).events.flatMap(({ event }) => (event.kind === "down" ? [event.end.cause] : [])),
    );
    expect(causes).toContain("hold-expired");
    expect(causes).toHaveLength(2);
  });

  test("a wrong AS is refused with the reason on both sides, again and again with longer pauses", () => {
    const network = new Network();
    pair(network, { remoteAs: 65009 });
    network.run(600_000);
    expect(network.node("a").speaker.peers.get("b")?.lastError?.end.detail).toContain("Bad Peer AS");
    expect(network.node("b").speaker.peers.get("a")?.lastError?.end.detail).toContain("Bad Peer AS");
    expect(network.node("a").events.length).toBeLessThan(100);
  });

  test("a shut-down peer is told why and stays down until it is started", () => {
    const network = new Network();
    pair(network);
    network.run(10_000);
    const { speaker } = network.node("a");
    const down = { ...speaker.config, peers: [peerOf("b", 2, { remoteAs: 65002, shutdown: "new switch" })] };
    network.do("a", speaker.configure(down, network.now));
    network.run(120_000);
    expect(network.node("b").speaker.peers.get("a")?.lastEnd?.end.detail).toContain("Connection Rejected");
    expect(network.node("b").speaker.peers.get("a")?.lastError?.end.detail).toContain("new switch");
    network.do("a", speaker.configure({ ...down, peers: [peerOf("b", 2, { remoteAs: 65002 })] }, network.now));
    network.run(240_000);
    expect(speaker.peers.get("b")?.upSide).toBeDefined();
  });

  test("a change of configuration drops the sessions it concerns and no others", () => {
    const network = new Network();
    mesh(network, 4);
    network.run(30_000);
    const { speaker } = network.node("n0");
    const { config } = speaker;
    const peers = config.peers.map((peer) => {
      if (peer.name === "n1") return { ...peer, timers: { holdSeconds: 30 } };
      return peer.name === "n2" ? { ...peer, importFilter: rejectAll } : peer;
    });
    network.do("n0", speaker.configure({ ...config, peers: peers.filter((peer) => peer.name !== "n3") }, network.now));
    network.run(90_000);
    expect(["n1", "n2", "n3"].map((name) => eventsOf(network, name, "down"))).toEqual([1, 0, 1]);
    expect([...network.node("n0").routes.keys()].toSorted()).toEqual(["192.168.0.0/24", "192.168.1.0/24"]);
    expect(() => speaker.configure({ ...config, routerId: 0 }, network.now)).toThrow("router id 0");
    expect(speaker.config.peers).toHaveLength(2);
  });

  test("a second connection does not disturb a standing session; one of a peer that restarts replaces it", () => {
    for (const gracefulRestart of [undefined, { restartSeconds: 60 }]) {
      const network = new Network();
      const change = gracefulRestart && { gracefulRestart };
      pair(network, change, change);
      network.run(5000);
      expect(network.node("a").speaker.admit("b", network.now)).toBeDefined();
      network.run(20_000);
      const { speaker } = network.node("a");
      const refusal = speaker.admit("b", network.now);
      expect(refusal === undefined).toBe(gracefulRestart !== undefined);
      if (refusal === undefined) network.do("a", speaker.connected({ peer: "b", side: "incoming" }, network.now));
      expect(speaker.peers.get("b")?.upSide === undefined).toBe(gracefulRestart !== undefined);
    }
  });

  test("whatever bytes arrive in whatever state, nothing is thrown and a session comes up again", () => {
    const junk = fc.array(fc.tuple(fc.constantFrom(1, 2, 3, 4, 5, 9), fc.uint8Array({ maxLength: 60 }), fc.boolean()), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(junk, fc.integer({ min: 0, max: 5 }), (messages, wait) => {
        const network = new Network();
        pair(network);
        network.run(wait);
        const { speaker } = network.node("a");
        for (const [type, body, framed] of messages) {
          const header = [...Array.from({ length: 16 }, () => 255), 0, 19 + body.length, type];
          const bytes = framed ? Uint8Array.of(...header, ...body) : body;
          for (const side of ["incoming", "outgoing"] as const)
            network.do("a", speaker.receive({ peer: "b", side }, bytes, network.now));
        }
        network.run(300_000);
        expect(speaker.peers.get("b")?.upSide).toBeDefined();
      }),
      { numRuns: 200 },
    );
  });

  test("more routes than allowed end the session, with bounded memory and a clear reason", () => {
    const network = new Network();
    pair(network, { prefixLimit: { routes: 10, action: "stop", restartAfterSeconds: 3600 } });
    for (let i = 0; i < 50; i++) network.node("b").speaker.originate(parsePrefix(`172.16.${i}.0/24`), {}, 0);
    network.run(60_000);
    expect(network.node("b").speaker.peers.get("a")?.lastError?.end.detail).toContain("Maximum Number of Prefixes");
    expect(network.node("a").routes.size).toBe(0);
    expect(eventsOf(network, "a", "prefix-limit")).toBe(1);
  });
});

const rejectAll: Filter = { name: "nothing", rules: [], otherwise: "reject" };

describe("routes", () => {
  test("external peers: the path grows, next hop is ourselves, LOCAL_PREF stays at home", () => {
    const network = new Network();
    pair(network);
    network.node("a").speaker.originate(parsePrefix("172.16.0.0/16"), { localPref: 500, med: 7 }, 0);
    network.run(10_000);
    const [path] = network.node("b").routes.get("172.16.0.0/16") ?? [];
    expect(path?.attributes).toEqual({
      origin: "igp",
      asPath: [{ kind: "sequence", ases: [65001] }],
      nextHop: addressOf(1),
      med: 7,
    });
  });

  test("non-transitive extended communities stay within the AS (RFC 4360)", () => {
    const network = new Network();
    network.add("a", {
      as: 65001,
      routerId: 1,
      peers: [peerOf("b", 2, { remoteAs: 65002 }), peerOf("c", 3, { remoteAs: 65001 })],
    });
    network.add("b", { as: 65002, routerId: 2, peers: [peerOf("a", 1, { remoteAs: 65001 })] });
    network.add("c", { as: 65001, routerId: 3, peers: [peerOf("a", 1, { remoteAs: 65001 })] });
    const extendedCommunities = ["0002fde900000007", "4004fde900000001"];
    network.node("a").speaker.originate(parsePrefix("172.16.0.0/16"), { extendedCommunities }, 0);
    network.run(10_000);
    const heardBy = (node: string): unknown => network.node(node).routes.get("172.16.0.0/16")?.[0]?.attributes;
    expect(heardBy("b")).toMatchObject({ extendedCommunities: ["0002fde900000007"] });
    expect(heardBy("c")).toMatchObject({ extendedCommunities });
  });

  test("through a chain of reflectors, with ORIGINATOR_ID and CLUSTER_LIST, and no loops", () => {
    const network = new Network();
    const client = { reflectorClient: true };
    network.add("c1", { as: 64512, routerId: 1, peers: [peerOf("r1", 11)] });
    network.add("c2", { as: 64512, routerId: 2, peers: [peerOf("r3", 13)] });
    network.add("r1", { as: 64512, routerId: 11, clusterId: 101, peers: [peerOf("c1", 1, client), peerOf("r2", 12)] });
    network.add("r2", {
      as: 64512,
      routerId: 12,
      clusterId: 102,
      peers: [peerOf("r1", 11, client), peerOf("r3", 13, client)],
    });
    network.add("r3", { as: 64512, routerId: 13, clusterId: 103, peers: [peerOf("r2", 12), peerOf("c2", 2, client)] });
    network.node("c1").speaker.originate(parsePrefix("172.16.1.0/24"), {}, 0);
    network.run(30_000);
    const [path] = network.node("c2").routes.get("172.16.1.0/24") ?? [];
    expect(path?.attributes).toMatchObject({ originatorId: 1, clusterList: [103, 102, 101], nextHop: addressOf(1) });
    network.node("c1").speaker.withdraw(parsePrefix("172.16.1.0/24"));
    network.run(40_000);
    expect([...network.nodes.values()].map(({ routes }) => routes.size)).toEqual([0, 0, 0, 0, 0]);
  });

  test("internal routes do not go to internal peers without reflection", () => {
    const network = new Network();
    network.add("a", { as: 64512, routerId: 1, peers: [peerOf("b", 2)] });
    network.add("b", { as: 64512, routerId: 2, peers: [peerOf("a", 1), peerOf("c", 3)] });
    network.add("c", { as: 64512, routerId: 3, peers: [peerOf("b", 2)] });
    network.node("a").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.run(10_000);
    expect([network.node("b").routes.size, network.node("c").routes.size]).toEqual([1, 0]);
  });

  test("IPv6 routes, IPv4 over IPv6 next hops, additional paths and large messages", () => {
    const network = new Network();
    const change: Partial<PeerConfig> = {
      families: ["ipv4-unicast", "ipv6-unicast"],
      extendedNextHop: true,
      addPath: { receive: true, send: true },
    };
    const six = (n: number): PeerConfig["address"] => parseAddress(`fd00::${n}`);
    network.add("a", {
      as: 65001,
      routerId: 1,
      peers: [peerOf("b", 2, { ...change, address: six(2), remoteAs: 65002 })],
    });
    network.add("b", {
      as: 65002,
      routerId: 2,
      peers: [peerOf("a", 1, { ...change, address: six(1), remoteAs: 65001 })],
    });
    for (let i = 0; i < 3000; i++)
      network.node("a").speaker.originate(parsePrefix(`10.${64 + (i >> 8)}.${i & 255}.0/24`), {}, 0);
    network.node("a").speaker.originate(parsePrefix("2001:db8::/32"), {}, 0);
    network.run(10_000);
    const { routes } = network.node("b");
    expect(routes.size).toBe(3001);
    expect(routes.get("10.64.0.0/24")?.[0]?.attributes.nextHop).toEqual(six(1));
    expect(routes.get("2001:db8::/32")?.[0]?.attributes.nextHop).toEqual(six(1));
  });

  test("additional paths carry all, multipath reports those as good as the best", () => {
    const network = new Network();
    const out = { remoteAs: 64512 };
    for (const n of [1, 2]) {
      network.add(`e${n}`, { as: 65000, routerId: n, peers: [peerOf("rr", 9, out)] });
      network.node(`e${n}`).speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    }
    const edge = { remoteAs: 65000 };
    const paths = { receive: true, send: true };
    const inside = peerOf("in", 3, { addPath: paths, nextHop: "keep", reflectorClient: true });
    network.add("rr", { as: 64512, routerId: 9, peers: [peerOf("e1", 1, edge), peerOf("e2", 2, edge), inside] });
    network.add("in", { as: 64512, routerId: 3, maxPaths: 4, peers: [peerOf("rr", 9, { addPath: paths })] });
    network.run(10_000);
    const nextHops = network
      .node("in")
      .routes.get("172.16.0.0/16")
      ?.map((path) => path.attributes.nextHop);
    expect(nextHops).toEqual([addressOf(1), addressOf(2)]);
    expect(pathsTo(network, "rr", "172.16.0.0/16")).toEqual(["e1"]);
    network.kill("e1");
    network.run(20_000);
    expect(network.node("in").routes.get("172.16.0.0/16")).toHaveLength(1);
  });

  test("a route goes to the new best's old audience and from the new best itself", () => {
    const network = new Network();
    mesh(network, 3, { reflectorClient: true });
    const shared = parsePrefix("172.16.0.0/16");
    network.node("n1").speaker.originate(shared, {}, 0);
    network.run(20_000);
    network.node("n2").speaker.originate(shared, { localPref: 200 }, 0);
    network.run(30_000);
    expect(["n0", "n1", "n2"].map((name) => pathsTo(network, name, "172.16.0.0/16")[0])).toEqual(["n2", "n2", "local"]);
    network.node("n2").speaker.withdraw(shared);
    network.run(40_000);
    expect(["n0", "n1", "n2"].map((name) => pathsTo(network, name, "172.16.0.0/16")[0])).toEqual(["n1", "local", "n1"]);
  });

  test("next hops that cannot be reached make routes ineligible, until they can", () => {
    const network = new Network();
    pair(network);
    network.node("a").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.node("b").speaker.setNextHopResolver(() => undefined);
    network.run(10_000);
    expect(network.node("b").routes.size).toBe(0);
    network.node("b").speaker.setNextHopResolver(() => 10);
    network.run(11_000);
    expect(network.node("b").routes.size).toBe(1);
  });

  test("a filter on the way in may ask through which interface the next hop leads, and is asked again when that changes", () => {
    const network = new Network();
    pair(network);
    network.node("a").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    const { routes, speaker } = network.node("b");
    const importFilter: Filter = {
      name: "in",
      rules: [{ action: "reject", match: { interface: "eth*" }, because: "not by wire" }],
      otherwise: "accept",
    };
    const through = (name: string | undefined, now: number): number => {
      speaker.setNextHopResolver(
        () => 0,
        () => name,
      );
      network.run(now);
      return routes.size;
    };
    const peers = speaker.config.peers.map((peer) => ({ ...peer, importFilter }));
    network.do("b", speaker.configure({ ...speaker.config, peers }, network.now));
    expect([through("eth0", 10_000), through("tunl0", 11_000), through("eth1", 12_000)]).toEqual([0, 1, 0]);
    expect(explainPrefix(speaker, parsePrefix("172.16.0.0/16"))?.routes).toMatchObject([
      { verdict: "rejected", reason: "filter not by wire", clauses: [{ rule: "not by wire", does: "rejects" }] },
    ]);
    expect(through(undefined, 13_000)).toBe(1);
  });

  test("filters change attributes, reject, and take effect without dropping the session", () => {
    const network = new Network();
    pair(network);
    for (const prefix of ["172.16.0.0/16", "172.17.0.0/16"])
      network.node("a").speaker.originate(parsePrefix(prefix), {}, 0);
    network.run(10_000);
    const { speaker } = network.node("a");
    const exportFilter: Filter = {
      name: "out",
      rules: [
        { action: "reject", match: { prefix: { operator: "in", prefix: parsePrefix("172.17.0.0/16") } } },
        {
          action: "accept",
          operations: [
            { do: "add-community", community: 65001 * 65536 + 1 },
            { do: "prepend-as-path", ases: [65001, 65001] },
          ],
        },
      ],
      otherwise: "reject",
    };
    network.do(
      "a",
      speaker.configure({ ...speaker.config, peers: [peerOf("b", 2, { remoteAs: 65002, exportFilter })] }, network.now),
    );
    network.run(20_000);
    expect([...network.node("b").routes.keys()]).toEqual(["172.16.0.0/16"]);
    expect(network.node("b").routes.get("172.16.0.0/16")?.[0]?.attributes).toMatchObject({
      communities: [65001 * 65536 + 1],
      asPath: [{ kind: "sequence", ases: [65001, 65001, 65001] }],
    });
    expect(eventsOf(network, "b", "down")).toBe(0);
  });

  test("an external peer without filters gives and gets nothing when RFC 8212 is asked for", () => {
    const network = new Network();
    pair(network, { requireFilters: true });
    for (const name of ["a", "b"])
      network.node(name).speaker.originate(parsePrefix(`172.${name === "a" ? 16 : 17}.0.0/16`), {}, 0);
    network.run(10_000);
    expect([network.node("a").routes.size, network.node("b").routes.size]).toEqual([1, 1]);
  });

  test("roles keep a customer from leaking one provider's routes to the other", () => {
    const network = new Network();
    network.add("p1", { as: 65001, routerId: 1, peers: [peerOf("c", 3, { remoteAs: 65003, role: "provider" })] });
    network.add("p2", { as: 65002, routerId: 2, peers: [peerOf("c", 3, { remoteAs: 65003, role: "provider" })] });
    const up: Partial<PeerConfig> = { role: "customer" };
    network.add("c", {
      as: 65003,
      routerId: 3,
      peers: [peerOf("p1", 1, { ...up, remoteAs: 65001 }), peerOf("p2", 2, { ...up, remoteAs: 65002 })],
    });
    network.node("p1").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.node("c").speaker.originate(parsePrefix("172.18.0.0/16"), {}, 0);
    network.run(20_000);
    expect([...network.node("p2").routes.keys()]).toEqual(["172.18.0.0/16"]);
  });
});

describe("restarts", () => {
  const gracefulRestart = { restartSeconds: 60 };

  test("routes of a peer that dies and comes back are kept meanwhile, and those it no longer has go with End-of-RIB", () => {
    const network = new Network();
    pair(network, { gracefulRestart }, { gracefulRestart });
    const config = network.node("b").speaker.config;
    for (const prefix of ["172.16.0.0/16", "172.17.0.0/16"])
      network.node("b").speaker.originate(parsePrefix(prefix), {}, 0);
    network.run(10_000);
    network.kill("b");
    network.run(20_000);
    expect(network.node("a").routes.size).toBe(2);
    network.add("b", { ...config, restarting: { deferralSeconds: 30 } });
    network.node("b").speaker.originate(parsePrefix("172.16.0.0/16"), {}, network.now);
    network.run(40_000);
    expect([...network.node("a").routes.keys()]).toEqual(["172.16.0.0/16"]);
    expect(eventsOf(network, "a", "stale-routes-dropped")).toBe(1);
  });

  test("who says that it restarts too is waited for while it tells something, and a few seconds more", () => {
    const speaker = heardByHand([
      {
        kind: "graceful-restart",
        restarted: true,
        notification: true,
        restartSeconds: 60,
        families: [{ afi: 1, safi: 1, forwardingPreserved: true }],
      },
    ]);
    const side = { peer: "b", side: "incoming" } as const;
    const defersAt = (now: number): boolean => {
      speaker.tick(now);
      return speaker.routing.deferring;
    };
    expect(defersAt(10_900)).toBe(true);
    expect(speaker.nextDeadline()).toBeLessThanOrEqual(11_000);
    const withdrawal = Uint8Array.of(0, 2, 8, 10, 0, 0);
    speaker.receive(side, encodeMessage("update", withdrawal), 10_900);
    expect([defersAt(11_000), defersAt(20_800), defersAt(20_900)]).toEqual([true, true, false]);
    expect(speaker.allHeard).toBe(false);
    speaker.receive(side, encodeMessage("update", Uint8Array.of(0, 0, 0, 0)), 21_000);
    expect(speaker.allHeard).toBe(true);
  });

  test("two that wait for each other both go on, but neither is taken to have told all before it has", () => {
    const network = new Network();
    const restarting = { deferralSeconds: 30 };
    const side = (n: number, other: string, otherN: number): SpeakerConfig => ({
      as: 65000 + n,
      routerId: n,
      peers: [peerOf(other, otherN, { remoteAs: 65000 + otherN, gracefulRestart })],
      restarting,
    });
    network.add("a", side(1, "b", 2));
    expect(network.node("a").speaker.allHeard).toBe(false);
    network.portion = 19;
    network.add("b", side(2, "a", 1));
    let whileRestarting = 0;
    const { speaker } = network.node("a");
    const receive = speaker.receive.bind(speaker);
    speaker.receive = (...args) => {
      const actions = receive(...args);
      if (speaker.peers.get("b")?.upSide !== undefined && !speaker.allHeard) whileRestarting++;
      return actions;
    };
    network.run(20_000);
    expect([speaker.allHeard, speaker.routing.deferring]).toEqual([true, false]);
    expect(whileRestarting).toBeGreaterThan(0);
  });

  test("a peer that stays away loses its routes when its time is over", () => {
    const network = new Network();
    pair(network, { gracefulRestart }, { gracefulRestart });
    network.node("b").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.run(10_000);
    network.kill("b");
    network.run(69_000);
    expect(network.node("a").routes.size).toBe(1);
    network.run(71_000);
    expect(network.node("a").routes.size).toBe(0);
  });

  test("with long-lived graceful restart they stay longer, as the last choice, marked", () => {
    const network = new Network();
    const both = { gracefulRestart: { restartSeconds: 10, longLivedSeconds: 100 } };
    pair(network, both, both);
    network.node("b").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.run(10_000);
    network.kill("b");
    network.run(60_000);
    expect(network.node("a").routes.get("172.16.0.0/16")?.[0]?.attributes.communities).toEqual([0xffff0006]);
    network.run(125_000);
    expect(network.node("a").routes.size).toBe(0);
  });

  test("a shutdown means it: routes go at once although graceful restart was agreed on", () => {
    const network = new Network();
    pair(network, { gracefulRestart }, { gracefulRestart });
    network.node("b").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.run(10_000);
    network.do("b", network.node("b").speaker.stop(network.now, { graceful: false, message: "bye" }));
    network.run(10_100);
    expect(network.node("a").routes.size).toBe(0);
    expect(network.node("a").speaker.peers.get("b")?.lastEnd?.end.detail).toContain(
      'Hard Reset: Cease: Administrative Shutdown ("bye")',
    );
  });

  test("what is not told again goes in the end although the refresh never ends", () => {
    const speaker = heardByHand([{ kind: "enhanced-route-refresh" }]);
    const side = { peer: "b", side: "incoming" } as const;
    const told = (third: number): Uint8Array =>
      Uint8Array.of(
        ...[0, 0, 0, 20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea, 0x40, 3, 4, 10, 0, 0, 2, 24, 10, 0, third],
      );
    const count = (now: number): number | undefined => {
      speaker.tick(now);
      return speaker.routing.tables.get("ipv4-unicast")?.size;
    };
    for (const third of [1, 2]) speaker.receive(side, encodeMessage("update", told(third)), 2000);
    expect(count(2000)).toBe(2);
    speaker.receive(side, encodeMessage("route-refresh", Uint8Array.of(0, 1, 1, 1)), 10_000);
    speaker.receive(side, encodeMessage("update", told(2)), 20_000);
    expect([count(369_000), speaker.nextDeadline()]).toEqual([2, 370_000]);
    expect([count(370_000), speaker.nextDeadline()]).toEqual([1, undefined]);
  });

  test("route refresh repairs what was lost, and what is not told again goes", () => {
    const network = new Network();
    pair(network);
    network.node("b").speaker.originate(parsePrefix("172.16.0.0/16"), {}, 0);
    network.run(10_000);
    const { asked, actions } = network.node("a").speaker.requestRefresh("b", "ipv4-unicast");
    expect(asked).toBe(true);
    network.do("a", actions);
    network.run(11_000);
    expect(pathsTo(network, "a", "172.16.0.0/16")).toEqual(["b"]);
  });

  test("a congested peer misses nothing in the end", () => {
    const network = new Network();
    pair(network);
    network.run(5000);
    const { speaker } = network.node("a");
    speaker.setCongested("b", true);
    for (let i = 0; i < 20; i++) speaker.originate(parsePrefix(`172.16.${i}.0/24`), {}, 0);
    network.run(6000);
    for (let i = 0; i < 10; i++) speaker.withdraw(parsePrefix(`172.16.${i}.0/24`));
    network.run(7000);
    expect(network.node("b").routes.size).toBe(0);
    speaker.setCongested("b", false);
    network.run(8000);
    expect(network.node("b").routes.size).toBe(10);
  });
});
