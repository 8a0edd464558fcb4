/** `calico-bgp` as a process on three nodes of a cluster, under the role it has on a real one: from the datastore to routes that packets take. */
import { statSync } from "node:fs";
import { join } from "node:path";
import type { PeerReport } from "@calico-ts/bgp";
import type { BGPPeer } from "@calico-ts/model";
import { hasCode } from "@calico-ts/std";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { BgpCluster, type BgpNode } from "../testing/cluster.ts";
import { ip, Lab, Traffic } from "../testing/lab.ts";

const WAIT = { timeout: 120_000, interval: 50 };

let lab: Lab;
let cluster: BgpCluster;
let nodes: readonly [BgpNode, BgpNode, BgpNode];

beforeAll(async () => {
  lab = new Lab("process", 3);
  cluster = await BgpCluster.start(lab);
  nodes = [cluster.node(1), cluster.node(2), cluster.node(3)];
}, 120_000);

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  lab[Symbol.dispose]();
});

const learned = (node: BgpNode): string[] => node.kernelRoutes().filter((route) => route.includes(" via "));
const MESH = [
  ["172.16.2.0/26 via 192.0.2.2", "172.16.3.0/26 via 192.0.2.3"],
  ["172.16.1.0/26 via 192.0.2.1", "172.16.3.0/26 via 192.0.2.3"],
  ["172.16.1.0/26 via 192.0.2.1", "172.16.2.0/26 via 192.0.2.2"],
] as const;
/** Every session of the mesh stands, everybody has told all, and the kernels have the routes. */
async function meshIsWhole(): Promise<void> {
  try {
    await vi.waitFor(async () => {
      expect(nodes.map(learned)).toEqual(MESH);
      for (const node of nodes) {
        expect(await node.ask({ command: "readiness", family: 4, strict: true })).toEqual({ ready: true, detail: "" });
        const peers = (await node.peers()) ?? [];
        expect(peers.map(({ routes }) => routes.map(({ stale }) => stale))).toEqual([[false], [false]]);
      }
    }, WAIT);
  } catch (error) {
    throw new Error(nodes.map(({ output }) => output.slice(-2000)).join("\n---\n"), { cause: error });
  }
}

const peerOf = async (node: BgpNode, name: string): Promise<PeerReport | undefined> =>
  (await node.peers())?.find((peer) => peer.name === name);

const bgpPeer = (name: string, spec: BGPPeer["spec"]): BGPPeer => ({
  apiVersion: "projectcalico.org/v3",
  kind: "BGPPeer",
  metadata: { name },
  spec,
});

describe("calico-bgp", { timeout: 300_000 }, () => {
  test("does nothing while the datastore is not ready, then the mesh converges and packets get through", async () => {
    const [n1] = nodes;
    const information = await cluster.client.create("ClusterInformation", {
      apiVersion: "projectcalico.org/v3",
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec: { datastoreReady: false },
    });
    for (const node of nodes) node.start();
    await vi.waitFor(() => expect(n1.output).toContain("sync.in_sync"), WAIT);
    expect(await n1.ask({ command: "readiness", family: 4, strict: false })).toEqual({
      ready: false,
      detail: expect.stringContaining("BGP is not configured") as string,
    });
    expect(n1.kernelRoutes()).toEqual([]);
    await cluster.client.update("ClusterInformation", { ...information, spec: { datastoreReady: true } });
    await meshIsWhole();
    await vi.waitFor(
      async () =>
        expect(await n1.ask({ command: "readiness", family: 4, strict: true })).toMatchObject({ ready: true }),
      WAIT,
    );
    expect(await n1.ask({ command: "readiness", family: 6, strict: true })).toMatchObject({ ready: true });
    expect(await n1.ask({ command: "status" })).toMatchObject({
      node: "n1",
      as: 64512,
      routerId: "192.0.2.1",
      problems: [],
    });
    expect(await n1.ask({ command: "explain", destination: "172.16.3.1" })).toMatchObject({
      prefix: "172.16.3.0/26",
      kernel: ["via 192.0.2.3 dev eth0 proto 12 metric 1024"],
    });
    const traffic = new Traffic(n1.station, "172.16.3.1");
    await vi.waitFor(() => expect(traffic.answered).toBeGreaterThan(3), WAIT);
    await traffic.stop();
    expect(traffic.lost).toEqual([]);
  });

  test("the socket is root's, and a second daemon on the node refuses to start", async () => {
    const [n1] = nodes;
    expect(statSync(join(n1.hostRoot, "var/run/calico/bgp.sock")).mode & 0o777).toBe(0o600);
    const second = cluster.anotherProcess(1);
    second.start();
    expect(await second.exited()).toBe(1);
    expect(second.output).toContain("is calico-node running twice here?");
    expect(await n1.peers()).toHaveLength(2);
    await expect(n1.ask({ command: "received", peer: "nobody" })).rejects.toSatisfy((error) =>
      hasCode(error, "NOT_FOUND"),
    );
  });

  test("changes reach the sessions they concern and no other", async () => {
    const [n1, , n3] = nodes;
    const filter = await cluster.client.create("BGPFilter", {
      apiVersion: "projectcalico.org/v3",
      kind: "BGPFilter",
      metadata: { name: "no-n3" },
      spec: { importV4: [{ action: "Reject", cidr: "172.16.3.0/24", matchOperator: "In" }] },
    });
    const timesUp = (await peerOf(n1, "Mesh_192_0_2_2"))?.counters.timesUp;
    // An explicit peering takes the place of the mesh's session with n3, on n1 and n3.
    const peering = await cluster.client.create(
      "BGPPeer",
      bgpPeer("n3", { node: "n1", peerIP: "192.0.2.3", filters: ["no-n3"] }),
    );
    await vi.waitFor(async () => {
      expect(await peerOf(n1, "Node_192_0_2_3")).toMatchObject({ state: "Established", refused: { routes: 1 } });
      expect(learned(n1)).toEqual(["172.16.2.0/26 via 192.0.2.2"]);
      // n3 may hear of it later, and ends the mesh's session then: what is counted below begins after that.
      const toN1 = ((await n3.peers()) ?? []).filter(({ name }) => name.includes("192_0_2_1"));
      expect(toN1).toMatchObject([{ name: "Node_192_0_2_1", state: "Established" }]);
    }, WAIT);
    expect(await n1.ask({ command: "explain", destination: "172.16.3.0/26" })).toMatchObject({
      routes: [{ peer: "Node_192_0_2_3", verdict: "rejected", clauses: [{ does: "rejects" }] }],
      kernel: [],
    });
    expect(await peerOf(n1, "Mesh_192_0_2_2")).toMatchObject({ state: "Established", counters: { timesUp } });

    // A slip in the filter opens nothing: what it said before goes on, and the slip is named.
    const slip = {
      ...filter,
      spec: { importV4: [{ action: "Reject", cidr: "fd00::/64", matchOperator: "In" }] },
    } as const;
    const mended = await cluster.client.update("BGPFilter", slip);
    await vi.waitFor(async () => {
      const { problems } = await n1.ask({ command: "status" });
      expect(problems.join()).toContain("BGPFilter no-n3, spec.importV4[0].cidr");
    }, WAIT);
    expect(learned(n1)).toEqual(["172.16.2.0/26 via 192.0.2.2"]);
    await cluster.client.update("BGPFilter", { ...mended, spec: filter.spec });
    await vi.waitFor(async () => expect((await n1.ask({ command: "status" })).problems).toEqual([]), WAIT);

    // New policy on a session that stands is not a new session.
    const { counters } = (await peerOf(n1, "Node_192_0_2_3")) ?? {};
    await cluster.client.update("BGPPeer", { ...peering, spec: { ...peering.spec, filters: [] } });
    await vi.waitFor(() => expect(learned(n1)).toEqual(MESH[0]), WAIT);
    expect((await peerOf(n1, "Node_192_0_2_3"))?.counters.timesUp).toBe(counters?.timesUp);
    await cluster.client.delete("BGPPeer", { name: "n3" });
    await cluster.client.delete("BGPFilter", { name: "no-n3" });
    await vi.waitFor(async () => {
      expect(await peerOf(n1, "Mesh_192_0_2_3")).toMatchObject({ state: "Established" });
    }, WAIT);
    await meshIsWhole();
  });

  test("readiness names the peer, its state and the likely cause", async () => {
    const [n1] = nodes;
    const created = new Date().toISOString();
    // Nobody listens on the port; the speaker is another AS; nobody has the address.
    await cluster.client.create(
      "BGPPeer",
      bgpPeer("closed", { node: "n1", peerIP: "192.0.2.2:1790", asNumber: 65001 }),
    );
    await cluster.client.create("BGPPeer", bgpPeer("other-as", { node: "n1", peerIP: "192.0.2.3", asNumber: 65002 }));
    await cluster.client.create("BGPPeer", bgpPeer("absent", { node: "n1", peerIP: "192.0.2.99", asNumber: 65003 }));
    await vi.waitFor(async () => {
      const { ready, detail } = await n1.ask({ command: "readiness", family: 4, strict: true });
      expect(ready).toBe(false);
      expect(detail).toMatch(
        /192\.0\.2\.2 \(Node_192_0_2_2_port_1790, AS 65001\): \w+, cannot connect to 192\.0\.2\.2 [^;]*\(refused/,
      );
      expect(detail).toMatch(/192\.0\.2\.3 \(Node_192_0_2_3, AS 65002\): \w+, .*Bad Peer AS.*check the AS number/);
      expect(detail).toMatch(/192\.0\.2\.99 \(Node_192_0_2_99, AS 65003\): \w+, (no answer on TCP|cannot connect)/);
      // One session that stands is enough later on.
      expect(await n1.ask({ command: "readiness", family: 4, strict: false })).toMatchObject({ ready: true });
    }, WAIT);
    // A peer that never came up has been as it is since it was configured, not since the daemon began.
    expect((await peerOf(n1, "Node_192_0_2_99"))?.since).toSatisfy((since: string) => since >= created);
    for (const name of ["closed", "other-as", "absent"]) await cluster.client.delete("BGPPeer", { name });
    await meshIsWhole();
  });

  test("a password comes from a Secret; one that may not be read costs the sessions that need it, and is said", async () => {
    const [n1, n2] = nodes;
    const secret = await cluster.client.create("Secret", {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "bgp", namespace: "kube-system" },
      data: { mesh: btoa("first") },
    });
    const configuration = await cluster.client.create("BGPConfiguration", {
      apiVersion: "projectcalico.org/v3",
      kind: "BGPConfiguration",
      metadata: { name: "default" },
      spec: { nodeMeshPassword: { secretKeyRef: { name: "bgp", key: "mesh" } } },
    });
    await vi.waitFor(async () => {
      const { problems } = await n1.ask({ command: "status" });
      expect(problems.join()).toContain("no key mesh in a Secret bgp that the daemon may read");
      expect((await n1.peers())?.map(({ state }) => state)).toEqual(["Idle", "Idle"]);
      // Sessions that are closed for want of a password are not up: a node that has no other is not ready.
      const { ready, detail } = await n1.ask({ command: "readiness", family: 4, strict: false });
      expect(ready).toBe(false);
      expect(detail).toMatch(/192\.0\.2\.2 \(Mesh_192_0_2_2, AS 64512\): Idle, .*its password cannot be had/);
    }, WAIT);
    await cluster.allowSecret("bgp");
    await meshIsWhole();
    expect((await n1.ask({ command: "status" })).problems).toEqual([]);
    // Both ends of a session take a new one while it stands; who starts then must have it too.
    const configuredAt = (): Promise<(string | undefined)[]> =>
      Promise.all(nodes.map(async (node) => (await node.ask({ command: "status" })).reconfiguredAt));
    const before = await configuredAt();
    await cluster.client.update("Secret", { ...secret, data: { mesh: btoa("second") } });
    await vi.waitFor(async () => {
      for (const [at, time] of (await configuredAt()).entries()) expect(time).not.toBe(before[at]);
    }, WAIT);
    await n2.kill();
    n2.start();
    await meshIsWhole();
    await cluster.client.delete("BGPConfiguration", { name: configuration.metadata.name });
    await meshIsWhole();
  });

  /** Ends a daemon, starts it again, and counts packets in both directions meanwhile. */
  async function restart(node: BgpNode, signal: NodeJS.Signals, env: Readonly<Record<string, string>>): Promise<void> {
    const neighbour = nodes.find((one) => one !== node) ?? node;
    await meshIsWhole();
    const there = new Traffic(neighbour.station, `172.16.${node.station.number}.1`);
    const back = new Traffic(node.station, `172.16.${neighbour.station.number}.1`);
    const before = node.kernelRoutes();
    const known = learned(neighbour);
    const session = `Mesh_${node.station.address.replaceAll(".", "_")}`;
    expect(await node.kill(signal)).toBe(signal === "SIGTERM" ? 0 : null);
    await vi.waitFor(async () => expect((await peerOf(neighbour, session))?.state).not.toBe("Established"), WAIT);
    expect(node.kernelRoutes()).toEqual(before);
    expect(learned(neighbour)).toEqual(known);
    node.start(env);
    await meshIsWhole();
    const answered = there.answered + back.answered;
    await vi.waitFor(() => expect(there.answered + back.answered).toBeGreaterThan(answered + 5), WAIT);
    await there.stop();
    await back.stop();
    expect([...there.lost, ...back.lost]).toEqual([]);
  }

  test("a kill and a new start lose no packet in either direction", () => restart(nodes[1], "SIGKILL", {}));

  test("SIGTERM ends it cleanly, and a new start loses no packet", () =>
    restart(nodes[0], "SIGTERM", {
      BGP_PROMETHEUSMETRICSENABLED: "true",
      BGP_PROMETHEUSMETRICSHOST: "127.0.0.1",
    }));

  test("CalicoNodeStatus and metrics", async () => {
    const [n1] = nodes;
    ip("-n", n1.station.name, "route", "add", "198.51.100.0/25", "via", "192.0.2.2", "proto", "static");
    await cluster.client.create("CalicoNodeStatus", {
      apiVersion: "projectcalico.org/v3",
      kind: "CalicoNodeStatus",
      metadata: { name: "n1" },
      spec: { node: "n1", classes: ["Agent", "BGP", "Routes"], updatePeriodSeconds: 1 },
    });
    await vi.waitFor(async () => {
      const { status } = await cluster.client.get("CalicoNodeStatus", { name: "n1" });
      expect(status?.bgp).toMatchObject({ numberEstablishedV4: 2, numberNotEstablishedV4: 0, peersV6: [] });
      expect(status?.agent?.birdV4).toMatchObject({ state: "Ready", routerID: "192.0.2.1" });
      expect(status?.routes?.routesV4).toContainEqual({
        type: "FIB",
        destination: "172.16.2.0/26",
        gateway: "192.0.2.2",
        interface: "eth0",
        learnedFrom: { sourceType: "NodeMesh", peerIP: "192.0.2.2" },
      });
      // Somebody else's in the kernel, and the prefix of an interface.
      expect(status?.routes?.routesV4).toContainEqual({
        ...{ type: "FIB", destination: "198.51.100.0/25", gateway: "192.0.2.2", interface: "eth0" },
        learnedFrom: { sourceType: "Kernel" },
      });
      expect(status?.routes?.routesV4).toContainEqual({
        ...{ type: "FIB", destination: "192.0.2.0/24", gateway: "N/A", interface: "eth0" },
        learnedFrom: { sourceType: "Direct" },
      });
    }, WAIT);
    ip("-n", n1.station.name, "route", "del", "198.51.100.0/25");
    const metrics = ip("netns", "exec", n1.station.name, "curl", "-s", "http://127.0.0.1:9900/metrics");
    expect(metrics).toContain('bgp_peers{ip_version="IPv4",status="Established"} 2');
    expect(metrics).toContain('bgp_routes_imported{ip_version="IPv4",peer="Mesh_192_0_2_2",peer_ip="192.0.2.2"} 1');
    expect(metrics).toContain('bgp_routes_advertised{ip_version="IPv4",peer="Mesh_192_0_2_2",peer_ip="192.0.2.2"} 1');
  });

  test("a node that leaves the cluster is forgotten while its neighbours go on", async () => {
    const [n1, n2, n3] = nodes;
    await n3.kill();
    await cluster.client.delete("BlockAffinity", { name: "n3-172-16-3-0-26" });
    await cluster.client.delete("Node", { name: "n3" });
    await vi.waitFor(() => {
      expect(learned(n1)).toEqual(["172.16.2.0/26 via 192.0.2.2"]);
      expect(learned(n2)).toEqual(["172.16.1.0/26 via 192.0.2.1"]);
    }, WAIT);
    expect(await n1.peers()).toHaveLength(1);
  });

  test("routes of a daemon that is gone for good are swept, those of others are not", async () => {
    const [n1] = nodes;
    expect(await n1.kill("SIGTERM")).toBe(0);
    ip("-n", n1.station.name, "route", "add", "198.51.100.0/24", "via", "192.0.2.2", "proto", "static");
    expect(learned(n1)).not.toEqual([]);
    const sweep = cluster.anotherProcess(1);
    sweep.start({}, "sweep");
    expect(await sweep.exited()).toBe(0);
    expect(n1.kernelRoutes()).toEqual([]);
    expect(ip("-n", n1.station.name, "route", "show", "198.51.100.0/24")).toContain("via 192.0.2.2");
    // BIRD of somebody else's: nothing says that these are ours.
    ip("-n", n1.station.name, "route", "add", "203.0.113.0/24", "via", "192.0.2.2", "proto", "bird");
    const again = cluster.anotherProcess(1);
    again.start({}, "sweep");
    expect(await again.exited()).toBe(0);
    expect(n1.kernelRoutes()).toEqual(["203.0.113.0/24 via 192.0.2.2"]);
  });
});
