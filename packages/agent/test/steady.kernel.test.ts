/**
 * What is right is not touched: whatever policies say, the table as the kernel gives it back equals the table as it was asked for, so
 * that neither a refresh nor a new process writes anything.
 */
import { openMemory } from "@calico-ts/datastore";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import { openSyncer } from "@calico-ts/sync";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SYNC_KINDS } from "../src/intake/kinds.ts";
import { CompiledNode } from "../testing/dataplane-node.ts";
import { Lab } from "../testing/lab.ts";
import * as world from "../testing/world.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const CONFIG = {
  programClusterRoutes: "Enabled",
  natPortRange: "20000:30000",
  logActionRateLimit: "10/second",
  nftablesFilterDenyAction: "REJECT",
  defaultEndpointToHostAction: "ACCEPT",
  natOutgoingExclusions: "IPPoolsAndHostIPs",
};

const kubernetesPolicies: readonly Record<string, unknown>[] = [
  { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
  {
    podSelector: { matchLabels: { app: "web" } },
    ingress: [
      { from: [{ podSelector: {} }, { ipBlock: { cidr: "10.0.0.0/8", except: ["10.65.1.64/26", "10.1.0.0/16"] } }] },
      { ports: [{ port: 8080 }, { port: "web", protocol: "TCP" }, { port: 5000, endPort: 5999, protocol: "UDP" }] },
      { ports: [{ protocol: "SCTP" }], from: [{ namespaceSelector: { matchLabels: { team: "a" } } }] },
    ],
    egress: [{ to: [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }] }],
  },
];

const calicoRules = [
  {
    action: "Allow",
    protocol: "TCP",
    source: { selector: "app == 'friend'" },
    destination: { ports: [80, "100:200", "web"] },
  },
  {
    action: "Deny",
    protocol: "UDP",
    source: { notNets: ["10.0.0.0/8", "192.168.0.0/16"], notPorts: [53] },
    destination: {},
  },
  { action: "Allow", protocol: "ICMP", icmp: { type: 8, code: 0 } },
  { action: "Deny", protocol: "ICMP", notICMP: { type: 3 } },
  { action: "Allow", protocol: "ICMPv6", icmp: { type: 128 } },
  { action: "Log", source: { notSelector: "app == 'other'" } },
  {
    action: "Allow",
    notProtocol: "TCP",
    source: { nets: ["10.1.0.0/16", "10.2.0.0/16"] },
    destination: { nets: ["10.65.0.0/16"] },
  },
  { action: "Allow", ipVersion: 6, source: { nets: ["2001:db8::/32"] } },
  { action: "Allow", protocol: 47, destination: { notSelector: "has(secret)" } },
  { action: "Allow", protocol: "TCP", destination: { ports: Array.from({ length: 30 }, (_, at) => 1000 + at * 3) } },
  { action: "Pass", source: { namespaceSelector: "team == 'a'", notNets: ["10.65.1.7/32"] } },
];

const rich: readonly world.Entry[] = [
  ...[world.node(1), world.node(2), world.pool({ vxlanMode: "CrossSubnet" }), world.block(1), world.block(2)],
  ...[world.namespace("default", { team: "a" }), world.namespace("other", { team: "b" })],
  ...["web", "friend", "other"].map((name, at) => world.pod({ name, node: "n1", address: `10.65.1.${at + 2}` })),
  ...["far", "away"].map((name, at) => world.pod({ name, node: "n2", address: `10.65.2.${at + 2}` })),
  ...kubernetesPolicies.map(
    (spec, at): world.Entry => ({
      kind: "KubernetesNetworkPolicy",
      resource: {
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: `k${at}`, namespace: "default" },
        spec,
      },
    }),
  ),
  {
    kind: "GlobalNetworkPolicy",
    resource: {
      apiVersion: "projectcalico.org/v3",
      kind: "GlobalNetworkPolicy",
      metadata: { name: "global" },
      spec: { selector: "all()", order: 10, types: ["Ingress", "Egress"], ingress: calicoRules, egress: calicoRules },
    },
  },
  {
    kind: "NetworkPolicy",
    resource: {
      apiVersion: "projectcalico.org/v3",
      kind: "NetworkPolicy",
      metadata: { name: "local", namespace: "default" },
      spec: {
        selector: "app == 'web'",
        order: 20,
        types: ["Ingress", "Egress"],
        ingress: calicoRules,
        egress: calicoRules,
      },
    },
  },
  {
    kind: "GlobalNetworkSet",
    resource: {
      apiVersion: "projectcalico.org/v3",
      kind: "GlobalNetworkSet",
      metadata: { name: "set", labels: { app: "friend" } },
      spec: { nets: ["10.3.0.0/16", "10.4.0.0/24", "10.4.1.0/24", "2001:db8:1::/48", "10.5.0.1/32", "0.0.0.0/1"] },
    },
  },
];

async function dataplaneWith(namespace: string, entries: readonly world.Entry[]): Promise<CompiledNode> {
  const client = openMemory();
  await world.put(client, ...entries);
  const node = new CompiledNode({ netns: lab.path(namespace), folder: lab.folder, config: CONFIG });
  await using syncer = openSyncer({ client, kinds: SYNC_KINDS, signal: AbortSignal.timeout(10_000) });
  const updates: CompilerUpdate[] = [];
  for await (const batch of syncer) {
    updates.push(...batch.updates);
    if (batch.inSync) break;
  }
  await node.know(...updates);
  expect(node.compiler.problems()).toEqual([]);
  return node;
}

test("everything a policy can say is read back as it was written", async () => {
  const [n1 = ""] = lab.nodes(2);
  for (const [at, name] of ["web", "friend", "other"].entries()) lab.pod(n1, `default/${name}`, `10.65.1.${at + 2}`);
  {
    await using first = await dataplaneWith(n1, rich);
    const done = 3; // interval sets, the rules that ask them, and the end of it when the links have their groups
    expect(first.dataplane.table.counts.transactions).toBe(done);
    for (const _ of [1, 2]) {
      first.dataplane.table.markForResync("a test");
      lab.ip(n1, "link set lo mtu 65535"); // a notification that leads to a pass
      lab.ip(n1, "link set lo mtu 65536");
      await new Promise((resolve) => setTimeout(resolve, 100));
      await first.dataplane.whenIdle();
    }
    expect(first.dataplane.table.counts).toMatchObject({ transactions: done, repairs: 0 });
    expect(first.dataplane.table.counts.readings).toBeGreaterThanOrEqual(2);
    const dump = (await first.dataplane.dump()) as { rules: { difference: unknown; desired: { chains: object } } };
    expect(dump.rules.difference).toEqual({ chains: [], sets: [] });
    expect(Object.keys(dump.rules.desired.chains).length).toBeGreaterThan(15);
  }
  const before = lab.nft(n1, "-a", "list", "table", "inet", "calico");
  {
    await using second = await dataplaneWith(n1, rich);
    expect(second.dataplane.table.counts).toMatchObject({ transactions: 0, readings: 1 });
  }
  expect(lab.nft(n1, "-a", "list", "table", "inet", "calico")).toBe(before);
});
