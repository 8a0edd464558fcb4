/** What the daemon says of itself: readiness by upstream's rule, CalicoNodeStatus, metrics. */
import type { DaemonReport, PeerReport } from "@calico-ts/bgp";
import { type DatastoreClient, intercept, openMemory } from "@calico-ts/datastore";
import { silentLogger } from "@calico-ts/runtime";
import { FakeClock } from "@calico-ts/runtime/testing";
import { CalicoError } from "@calico-ts/std";
import { describe, expect, test, vi } from "vitest";
import { BgpMetrics } from "../telemetry/metrics.ts";
import { nodeStatus } from "./node-status.ts";
import { NodeStatusReporter } from "./node-status-reporter.ts";
import { readiness } from "./readiness.ts";
import { replyTo } from "./status-server.ts";

const DAEMON: DaemonReport = {
  node: "n1",
  version: "v1",
  startedAt: "2026-01-02T03:04:05.678Z",
  reconfiguredAt: "2026-01-02T03:04:06.000Z",
  as: 64512,
  routerId: "192.0.2.1",
  restarting: false,
  problems: [],
};
const peer = (address: string, change: Partial<PeerReport> = {}): PeerReport => ({
  name: `Mesh_${address.replaceAll(/[.:]/g, "_")}`,
  address,
  remoteAs: 64512,
  type: "internal",
  state: "Established",
  since: "2026-01-02T03:04:07.000Z",
  families: ["ipv4-unicast"],
  routes: [{ family: "ipv4-unicast", received: 2, advertised: 3, stale: false }],
  counters: { updatesReceived: 2, updatesSent: 1, messagesReceived: 5, messagesSent: 4, timesUp: 1 },
  holdSeconds: 90,
  cause: undefined,
  ...change,
});
const down = (address: string): PeerReport => peer(address, { state: "Active", cause: "refused" });

describe("readiness", () => {
  const judge = (peers: readonly PeerReport[], strict: boolean, daemon: Partial<DaemonReport> = {}) =>
    readiness({ daemon: { ...DAEMON, ...daemon }, peers, family: 4, strict });

  test("without peers of the family there is nothing to wait for", () => {
    expect(judge([], true)).toEqual({ ready: true, detail: "" });
    expect(judge([down("2001:db8::2")], true)).toEqual({ ready: true, detail: "" });
  });

  test("at first every session counts, later one is enough", () => {
    const peers = [peer("192.0.2.2"), down("192.0.2.3")];
    const detail = "192.0.2.3 (Mesh_192_0_2_3, AS 64512): Active, refused";
    expect(judge(peers, true)).toEqual({ ready: false, detail: `BGP not established with ${detail}` });
    expect(judge(peers, false)).toEqual({ ready: true, detail });
    expect(judge(peers.slice(1), false)).toEqual({ ready: false, detail: `BGP not established with ${detail}` });
  });

  test("a restart under way is waited for at first only", () => {
    expect(judge([peer("192.0.2.2")], true, { restarting: true }).detail).toContain("graceful restart in progress");
    expect(judge([peer("192.0.2.2")], false, { restarting: true }).ready).toBe(true);
  });

  test("without a configuration it says what is wrong with the one there is", () => {
    expect(judge([], false, { reconfiguredAt: undefined, problems: ["Node n1: no address"] })).toEqual({
      ready: false,
      detail: "BGP is not configured: Node n1: no address",
    });
  });
});

describe("CalicoNodeStatus", () => {
  const facts = {
    daemon: DAEMON,
    peers: [peer("192.0.2.2"), { ...down("192.0.2.9"), name: "Global_192_0_2_9" }, down("2001:db8::2")],
    routes: () => [
      { destination: "10.0.0.0/26", from: "static", used: true } as const,
      { destination: "10.0.0.5/32", interface: "cali123", from: "kernel", used: true } as const,
      { destination: "192.0.2.0/24", interface: "eth0", from: "direct", used: true } as const,
      {
        destination: "10.0.1.0/26",
        gateway: "192.0.2.2",
        interface: "eth0",
        from: { peer: "Mesh_192_0_2_2", address: "192.0.2.2" },
        used: false,
      },
    ],
  };

  test("has upstream's fields, and only the classes that were asked for", () => {
    const bird = {
      state: "Ready",
      version: "v1",
      routerID: "192.0.2.1",
      lastBootTime: "2026-01-02 03:04:05",
      lastReconfigurationTime: "2026-01-02 03:04:06",
    };
    expect(nodeStatus(["Agent"], facts)).toEqual({ agent: { birdV4: bird, birdV6: bird } });
    expect(nodeStatus(["BGP"], facts)).toEqual({
      bgp: {
        numberEstablishedV4: 1,
        numberNotEstablishedV4: 1,
        numberEstablishedV6: 0,
        numberNotEstablishedV6: 1,
        peersV4: [
          { peerIP: "192.0.2.2", type: "NodeMesh", state: "Established", since: "2026-01-02 03:04:07" },
          { peerIP: "192.0.2.9", type: "GlobalPeer", state: "Active", since: "2026-01-02 03:04:07" },
        ],
        peersV6: [{ peerIP: "2001:db8::2", type: "NodeMesh", state: "Active", since: "2026-01-02 03:04:07" }],
      },
    });
    expect(nodeStatus(["Routes"], facts)).toEqual({
      routes: {
        routesV4: [
          {
            type: "FIB",
            destination: "10.0.0.0/26",
            gateway: "N/A",
            interface: "blackhole",
            learnedFrom: { sourceType: "Static" },
          },
          {
            type: "FIB",
            destination: "10.0.0.5/32",
            gateway: "N/A",
            interface: "cali123",
            learnedFrom: { sourceType: "Kernel" },
          },
          {
            type: "FIB",
            destination: "192.0.2.0/24",
            gateway: "N/A",
            interface: "eth0",
            learnedFrom: { sourceType: "Direct" },
          },
          {
            type: "RIB",
            destination: "10.0.1.0/26",
            gateway: "192.0.2.2",
            interface: "eth0",
            learnedFrom: { sourceType: "NodeMesh", peerIP: "192.0.2.2" },
          },
        ],
        routesV6: [],
      },
    });
  });

  test("is written when something changed, as often as it asks, and not for other nodes", async () => {
    await using client = openMemory();
    const clock = new FakeClock();
    const create = (name: string, node: string, updatePeriodSeconds: number) =>
      client.create("CalicoNodeStatus", {
        apiVersion: "projectcalico.org/v3",
        kind: "CalicoNodeStatus",
        metadata: { name },
        spec: { node, classes: ["BGP"], updatePeriodSeconds },
      });
    const resources = [await create("mine", "n1", 10), await create("once", "n1", 0), await create("other", "n2", 10)];
    let peers = [peer("192.0.2.2")];
    await using reporter = new NodeStatusReporter({
      client,
      node: "n1",
      facts: () => ({ daemon: DAEMON, peers, routes: () => [] }),
      clock,
      log: silentLogger,
    });
    const read = async (name: string) => (await client.get("CalicoNodeStatus", { name })).status;
    reporter.follow(resources);
    await vi.waitFor(async () => {
      expect(await read("mine")).toMatchObject({ bgp: { numberEstablishedV4: 1 } });
      expect(await read("once")).toMatchObject({ bgp: { numberEstablishedV4: 1 } });
    });
    expect(await read("other")).toBeUndefined();
    const { lastUpdated, revision } = await lastReport(client);
    // Our own report comes back as a change of the resource, and nothing has changed: nothing is written.
    reporter.follow((await client.list("CalicoNodeStatus")).items);
    await clock.advance(10_000);
    await clock.advance(10_000);
    expect(await lastReport(client)).toEqual({ lastUpdated, revision });
    peers = [down("192.0.2.2")];
    await clock.advance(10_000);
    await vi.waitFor(async () => expect(await read("mine")).toMatchObject({ bgp: { numberEstablishedV4: 0 } }));
    expect(await read("once")).toMatchObject({ bgp: { numberEstablishedV4: 1 } });
  });

  test("a report that the datastore refused is made again a period later", async () => {
    await using memory = openMemory();
    let refusals = 0;
    const client = intercept(memory, {
      before: ({ verb }) => {
        if (verb !== "updateStatus" || refusals > 0) return;
        refusals++;
        throw new CalicoError("UNAVAILABLE", "not now");
      },
    });
    const clock = new FakeClock();
    const resource = await client.create("CalicoNodeStatus", {
      apiVersion: "projectcalico.org/v3",
      kind: "CalicoNodeStatus",
      metadata: { name: "mine" },
      spec: { node: "n1", classes: ["BGP"], updatePeriodSeconds: 10 },
    });
    await using reporter = new NodeStatusReporter({
      client,
      node: "n1",
      facts: () => ({ daemon: DAEMON, peers: [], routes: () => [] }),
      clock,
      log: silentLogger,
    });
    reporter.follow([resource]);
    await vi.waitFor(() => expect(refusals).toBe(1));
    expect((await lastReport(client)).lastUpdated).toBeUndefined();
    await clock.advance(10_000);
    await vi.waitFor(async () => expect((await lastReport(client)).lastUpdated).toBeDefined());
  });
});

async function lastReport(client: DatastoreClient) {
  const { metadata, status } = await client.get("CalicoNodeStatus", { name: "mine" });
  return { lastUpdated: status?.lastUpdated, revision: metadata.resourceVersion };
}

describe("metrics", () => {
  test("follow the peers: counted once, forgotten with the peer, begun again with a new one", async () => {
    let peers = [peer("192.0.2.2", { refused: { routes: 1, reason: "filter" } }), down("2001:db8::2")];
    const metrics = new BgpMetrics({
      daemon: () => ({ ...DAEMON, problems: ["one"] }),
      destinations: () => [
        ["ipv4-unicast", 7],
        ["ipv6-unicast", 0],
      ],
      peers: () => peers,
    });
    const lines = async (): Promise<string[]> => (await metrics.text()).split("\n");
    const labels = 'ip_version="IPv4",peer="Mesh_192_0_2_2",peer_ip="192.0.2.2"';
    await metrics.text();
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'bgp_peers{ip_version="IPv4",status="Established"} 1',
        'bgp_peers{ip_version="IPv6",status="Active"} 1',
        'bgp_destinations{ip_version="IPv4"} 7',
        "bgp_configuration_problems 1",
        `bgp_session_established{${labels}} 1`,
        `bgp_routes_imported{${labels}} 2`,
        `bgp_routes_advertised{${labels}} 3`,
        `bgp_routes_refused{${labels}} 1`,
        `bgp_route_updates_received{${labels}} 2`,
      ]),
    );
    const again = { ...peer("192.0.2.2").counters, updatesReceived: 1 };
    peers = [peer("192.0.2.2", { counters: again })];
    expect(await lines()).toContain(`bgp_route_updates_received{${labels}} 3`);
    peers = [];
    expect((await lines()).filter((line) => line.includes("192.0.2.2"))).toEqual([]);
  });
});

describe("the status socket", () => {
  const source = {
    answer: (): never => {
      throw new CalicoError("NOT_FOUND", "no such peer");
    },
  };

  test.each([
    ["not JSON", "the request is not one line of JSON"],
    ["[]", '"command" must be one of status, peers,'],
    ['{"command":"reset"}', '"command" must be one of'],
    ['{"command":"received"}', '"peer" must be text'],
    ['{"command":"readiness","family":5}', '"family" must be 4 or 6'],
    ["", "the request is not one line of JSON"],
  ])("refuses %s", (line, message) => {
    expect(replyTo(line, source)).toEqual({
      ok: false,
      error: { code: "BAD_INPUT", message: expect.stringContaining(message) as string },
    });
  });

  test("passes on what the daemon says", () => {
    expect(replyTo('{"command":"received","peer":"x"}', source)).toEqual({
      ok: false,
      error: { code: "NOT_FOUND", message: "no such peer" },
    });
  });
});
