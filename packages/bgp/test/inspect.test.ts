import { parseAddress, parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { showPeers } from "../src/inspect/peers.ts";
import { showAdvertisedRoutes, showBestRoutes, showReceivedRoutes } from "../src/inspect/routes.ts";
import { explainAddress, explainPrefix } from "../src/inspect/why-best.ts";
import type { Filter } from "../src/policy/filter.ts";
import { BgpSpeaker } from "../src/speaker.ts";
import { addressOf, Network, peerOf } from "./support/network.ts";

/** In the middle a speaker with two external peers that both know 172.16.0.0/16, one of them also something we refuse. */
function world(): Network {
  const network = new Network();
  const refuse: Filter = {
    name: "in",
    rules: [
      {
        action: "reject",
        match: { prefix: { operator: "in", prefix: parsePrefix("172.20.0.0/16") } },
        because: "BGPFilter edge importV4[0]",
      },
    ],
    otherwise: "accept",
  };
  const mark: Filter = {
    name: "out",
    rules: [
      {
        action: "continue",
        operations: [{ do: "add-community", community: (65002 << 16) + 7 }],
        because: "prefixAdvertisements[0]",
      },
      { action: "accept", match: { source: "peer" }, because: "IPPool default" },
    ],
    otherwise: "reject",
  };
  const peers = [
    peerOf("left", 1, { remoteAs: 65001, exportFilter: mark }),
    peerOf("right", 3, { remoteAs: 65003, importFilter: refuse }),
    peerOf("gone", 4, { remoteAs: 65004 }),
  ];
  network.add("middle", { as: 65002, routerId: 2, peers });
  for (const [name, n] of [
    ["left", 1],
    ["right", 3],
  ] as const) {
    const speaker = network.add(name, {
      as: 65000 + n,
      routerId: n,
      peers: [peerOf("middle", 2, { remoteAs: 65002 })],
    });
    speaker.originate(
      parsePrefix("172.16.0.0/16"),
      n === 1 ? { asPath: [{ kind: "sequence", ases: [65009] }] } : {},
      0,
    );
  }
  network.node("right").speaker.originate(parsePrefix("172.20.1.0/24"), {}, 0);
  network.run(20_000);
  return network;
}

describe("seeing it", () => {
  const { speaker } = world().node("middle");

  test("why a route is best, what removed the others, and who was told", () => {
    expect(explainPrefix(speaker, parsePrefix("172.16.0.0/16"))).toMatchObject({
      best: { peer: "right" },
      steps: [{ step: "as-path-length", removed: [{ peer: "left" }] }],
      routes: [
        { peer: "right", clauses: [{ rule: "in: no rule matched", does: "accepts", changes: [] }] },
        { peer: "left", clauses: [] },
      ],
      told: [
        {
          peer: "left",
          attributes: { asPath: [{ ases: [65002, 65003] }] },
          clauses: [
            { rule: "prefixAdvertisements[0]", does: "goes on", changes: ["add community 65002:7"] },
            { rule: "IPPool default", does: "accepts", changes: [] },
          ],
        },
        { peer: "right", reason: "the best route came from this peer" },
        { peer: "gone", reason: "no session for this address family" },
      ],
    });
    expect(explainAddress(speaker, parseAddress("172.16.3.4"))?.prefix).toBe("172.16.0.0/16");
    expect(explainPrefix(speaker, parsePrefix("1.0.0.0/8"))).toBeUndefined();
    expect(explainAddress(speaker, parseAddress("1.0.0.1"))).toBeUndefined();
  });

  test("a refused route is shown with the rule that refused it", () => {
    expect(explainPrefix(speaker, parsePrefix("172.20.1.0/24"))).toMatchObject({
      best: undefined,
      routes: [
        {
          peer: "right",
          verdict: "rejected",
          reason: "filter BGPFilter edge importV4[0]",
          clauses: [{ rule: "BGPFilter edge importV4[0]", does: "rejects" }],
        },
      ],
    });
    // Nothing shorter has the address: the refused route is what there is to explain.
    expect(explainAddress(speaker, parseAddress("172.20.1.9"))).toMatchObject({ prefix: "172.20.1.0/24" });
    speaker.originate(parsePrefix("172.16.0.0/12"), {}, 30_000);
    speaker.tick(30_000);
    expect(explainAddress(speaker, parseAddress("172.20.1.9"))).toMatchObject({
      prefix: "172.16.0.0/12",
      passedOver: "172.20.1.0/24",
    });
    speaker.withdraw(parsePrefix("172.16.0.0/12"));
    speaker.tick(30_001);
    expect(
      showReceivedRoutes(speaker, "right", "ipv4-unicast").map(({ prefix, rejected }) => [prefix, rejected]),
    ).toEqual([
      ["172.16.0.0/16", undefined],
      ["172.20.1.0/24", "filter BGPFilter edge importV4[0]"],
    ]);
  });

  test("tables", () => {
    expect(showBestRoutes(speaker, "ipv4-unicast").map(({ prefix, peer }) => [prefix, peer])).toEqual([
      ["172.16.0.0/16", "right"],
    ]);
    expect(showAdvertisedRoutes(speaker, "left", "ipv4-unicast")).toHaveLength(1);
    expect(showAdvertisedRoutes(speaker, "right", "ipv4-unicast")).toEqual([]);
  });

  test("peers, with the likely cause when one is not up", () => {
    const [left, , gone] = showPeers(speaker);
    expect(left).toMatchObject({
      state: "Established",
      type: "external",
      routes: [{ family: "ipv4-unicast", received: 1 }],
      cause: undefined,
    });
    expect(gone?.cause).toBe("cannot connect to 10.0.0.4 (AS 65004): refused");
  });
});

test("a wrong AS is named on both sides with what to check", () => {
  const network = new Network();
  network.add("a", { as: 65001, routerId: 1, peers: [peerOf("b", 2, { remoteAs: 65009 })] });
  network.add("b", { as: 65002, routerId: 2, peers: [peerOf("a", 1, { remoteAs: 65001 })] });
  network.run(30_000);
  const causes = ["a", "b"].map((name) => showPeers(network.node(name).speaker)[0]?.cause);
  expect(causes[0]).toMatch(
    /^we refused 10\.0\.0\.2 \(AS 65009\): OPEN Message Error: Bad Peer AS: the peer says it is AS 65002, configured is AS 65009/,
  );
  expect(causes[1]).toMatch(
    /^10\.0\.0\.1 \(AS 65001\) ended the session: OPEN Message Error: Bad Peer AS; check the AS number/,
  );
});

test("a peer that hangs up before it says anything may not know us", () => {
  const speaker = new BgpSpeaker({ as: 65001, routerId: 1, peers: [peerOf("b", 2, { remoteAs: 65002 })] }, 0);
  const of = { peer: "b", side: "outgoing" } as const;
  speaker.start(0);
  speaker.connected(of, 0, addressOf(1));
  speaker.disconnected(of, "ECONNRESET", 0);
  expect(showPeers(speaker)[0]?.cause).toMatch(
    /^connection with 10\.0\.0\.2 \(AS 65002\) lost: ECONNRESET; our OPEN was not answered: .* no neighbour with our address/,
  );
});

test("how many routes a peer is told is what they are, whatever came and went, with and without additional paths", () => {
  const names = ["a", "b", "c"];
  const change = fc.record({ who: fc.constantFrom(...names), at: fc.nat(4), there: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), fc.boolean(), (changes, send) => {
      const network = new Network();
      for (const [index, name] of names.entries()) {
        const peers = names.flatMap((other, n) =>
          other === name ? [] : [peerOf(other, n + 1, { remoteAs: 65001 + n, addPath: { receive: send, send } })],
        );
        network.add(name, { as: 65001 + index, routerId: index + 1, peers });
      }
      network.run(3000);
      for (const { who, at, there } of changes) {
        const { speaker } = network.node(who);
        const prefix = parsePrefix(`172.16.${at}.0/24`);
        if (there) speaker.originate(prefix, {}, 0);
        else speaker.withdraw(prefix);
        network.run(network.now + 10);
      }
      for (const name of names) {
        const { speaker } = network.node(name);
        for (const { name: peer, routes } of showPeers(speaker)) {
          const told = showAdvertisedRoutes(speaker, peer, "ipv4-unicast").length;
          expect(routes.find(({ family }) => family === "ipv4-unicast")?.advertised).toBe(told);
        }
      }
    }),
    { numRuns: 50 },
  );
});

test("a peer that falls silent: what a changed password looks like is among the likely causes", () => {
  const network = new Network();
  const timers = { holdSeconds: 9 };
  network.add("a", { as: 65001, routerId: 1, peers: [peerOf("b", 2, { remoteAs: 65002, timers })] });
  network.add("b", { as: 65002, routerId: 2, peers: [peerOf("a", 1, { remoteAs: 65001, timers })] });
  const speakers = ["a", "b"].map((name) => network.node(name).speaker);
  const peers = () => speakers.flatMap(showPeers);
  network.run(5000);
  expect(peers().map(({ state }) => state)).toEqual(["Established", "Established"]);
  network.cut("a", "b");
  network.run(16_000);
  // The first to notice closes its connection, which is all the other one hears.
  expect(peers().map(({ cause }) => cause)).toContainEqual(
    expect.stringMatching(/fell silent for longer than the hold time: .* changed on one side only/),
  );
});
