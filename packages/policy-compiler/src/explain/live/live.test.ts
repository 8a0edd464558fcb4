import { parseAddress } from "@calico-ts/net";
import { parseYamlDocuments } from "@calico-ts/schema";
import { expect, test } from "vitest";
import type { RoadNode, SeenPacket } from "../../index.ts";
import {
  completeWorld,
  examineRoads,
  explain,
  explainPacket,
  flowsToWatch,
  nodesOf,
  packetText,
  readManifestWorld,
  roadText,
  RuleNames,
} from "../../index.ts";
import { createCompiler, NftPolicyRenderer } from "../../index.ts";
import { policyRuleComment } from "../../ruleset/provenance.ts";
import { STATES } from "../../testing/states.ts";

const LONG = "x".repeat(120);
const FILES = `apiVersion: v1
kind: Pod
metadata: { name: a, namespace: shop, labels: { app: a } }
spec: { nodeName: n1, containers: [] }
---
apiVersion: v1
kind: Pod
metadata: { name: b, namespace: shop, labels: { app: b } }
spec: { nodeName: n2, containers: [] }
---
apiVersion: v1
kind: Service
metadata: { name: b, namespace: shop }
spec: { clusterIP: 10.96.0.9, selector: { app: b }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: ${LONG} }
spec:
  ingress:
    - action: Log
    - action: Allow
    - action: Pass
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: admin }
spec:
  tier: Admin
  priority: 5
  subject: { namespaces: {} }
  ingress: [{ action: Deny, from: [{ namespaces: {} }] }]
`;
const { resources, workloads, problems } = readManifestWorld(parseYamlDocuments(FILES, "a.yaml"));
const world = completeWorld(resources, { workloads, imagine: true });

test("comments lead back to the rule and its line, shortened ones too", () => {
  expect(problems).toEqual([]);
  const names = new RuleNames(world);
  const comment = policyRuleComment({ kind: "GlobalNetworkPolicy", namespace: "", name: LONG }, "ingress", 1);
  expect(comment).toContain("~");
  expect(names.of(comment)).toMatchObject({ name: LONG, direction: "ingress", index: 1, source: { line: 22 } });
  expect(names.of("KubernetesClusterNetworkPolicy/admin ingress 0")).toMatchObject({
    kind: "ClusterNetworkPolicy",
    index: 0,
    source: { file: "a.yaml", line: 32 },
  });
  expect(names.of("Tier/default egress default-deny")).toMatchObject({ kind: "Tier", name: "default" });
  expect(names.of("Tier/default")).toBeUndefined();
});

test("what is watched: both directions, and what the sender writes before kube-proxy", () => {
  const explanation = explain(world, { from: "shop/a", to: "svc:shop/b", traffic: "tcp/80" });
  expect(nodesOf(explanation.paths)).toEqual(["n1", "n2"]);
  const [path] = explanation.paths;
  const a = parseAddress(path?.sourceAddress ?? "");
  const b = parseAddress(path?.destinationAddress ?? "");
  const service = parseAddress("10.96.0.9");
  const flows = flowsToWatch(explanation).filter(({ source }) => source?.family === 4);
  expect(flows).toEqual([
    { source: a, destination: b, protocol: 6, destinationPort: 8080 },
    { source: b, destination: a, protocol: 6, sourcePort: 8080 },
    { source: a, destination: service, protocol: 6, destinationPort: 80 },
    { source: service, destination: a, protocol: 6, sourcePort: 80 },
  ]);
  expect(flowsToWatch(explanation, 999)[0]).toMatchObject({ sourcePort: 999 });
});

const inet = { family: "inet", name: "calico" } as const;
const packet = (steps: SeenPacket["steps"], hooks: readonly string[]): SeenPacket => ({
  headers: {
    family: 4,
    source: parseAddress("10.0.0.1"),
    destination: parseAddress("10.0.0.2"),
    protocol: 6,
    sourcePort: 1,
    destinationPort: 2,
    tcpFlags: 18,
  },
  input: "cali1",
  connectionState: 8,
  hooks,
  steps,
});
const step = (comment: string | undefined, kind: "accept" | "drop" | "return" | "continue", chain = "policy-in/x") => ({
  table: inet,
  chain,
  type: "rule" as const,
  verdict: { kind },
  handle: 1n,
  ...(comment === undefined ? {} : { comment }),
});
const shown = (seen: SeenPacket): string => packetText(explainPacket("n1", seen, new RuleNames(world)));

test.each([
  [
    "a policy's rule",
    step(policyRuleComment({ kind: "GlobalNetworkPolicy", namespace: "", name: LONG }, "ingress", 0), "continue"),
    "ingress rule 0 logs it  a.yaml:21",
  ],
  [
    "Pass",
    step(policyRuleComment({ kind: "GlobalNetworkPolicy", namespace: "", name: LONG }, "ingress", 2), "return"),
    "rule 2 passes it on to the next tier",
  ],
  [
    "ClusterNetworkPolicy",
    step("KubernetesClusterNetworkPolicy/admin ingress 0", "drop"),
    "ClusterNetworkPolicy admin: ingress rule 0 denies it",
  ],
  [
    "the end of a tier",
    step("Tier/default ingress default-deny", "drop"),
    "end of tier default: no ingress rule matched",
  ],
  ["an established connection", step(undefined, "accept", "walk-in/abc"), "part of a connection that was allowed"],
  ["no profile", step("no profile allows egress", "drop"), "no policy and no profile allows it out"],
  ["a rule of ours without words", step("something else", "drop"), "something else: drop"],
  ["a rule without a comment", step(undefined, "drop", "odd"), "dropped in chain odd"],
])("%s", (_name, own, text) => {
  expect(shown(packet([own], ["prerouting", "forward"]))).toContain(text);
});

test("somebody else's drop is told as such, their other steps are not", () => {
  const foreign = { ...step("theirs", "drop", "filter"), table: { family: "ip", name: "fw" } as const };
  const seen = packet([{ ...foreign, verdict: { kind: "accept" } }, foreign], ["prerouting", "input"]);
  expect(shown(seen).split("\n")).toEqual([
    "n1  TCP  10.0.0.1:1 → 10.0.0.2:2  SYN,ACK  (new)  cali1 → this node  DROPPED",
    "    dropped by table ip fw, chain filter (theirs): not by a policy",
  ]);
});

test("how far it came", () => {
  expect(shown(packet([], ["prerouting", "forward", "postrouting"]))).toContain("SENT");
  expect(shown(packet([], ["prerouting", "input"]))).toContain("DELIVERED");
  expect(shown(packet([], ["prerouting"]))).toContain("LOST");
});

test("a road that was not looked at says nothing; possible causes are told apart from certain ones", () => {
  expect(roadText({ nodes: [], findings: [], connections: [] })).toEqual([]);
  const finding = { code: "no-route", node: "n1", text: "t", fix: "f" } as const;
  const sure = roadText({ nodes: ["n1"], findings: [{ ...finding, certain: true }], connections: [] }).join("\n");
  expect(sure).toContain("it does not get there");
  const perhaps = roadText({ nodes: ["n1"], findings: [{ ...finding, certain: false }], connections: [] }).join("\n");
  expect(perhaps).toContain("[no-route, perhaps]");
  expect(perhaps).toContain("stand in no way");
});

test("connections of one state are one note, of all backends of a service", async () => {
  const [path] = explain(world, { from: "shop/a", to: "svc:shop/b", traffic: "tcp/80" }).paths;
  if (path === undefined) throw new Error("no path");
  const [source, destination] = [path.sourceAddress ?? "", path.destinationAddress ?? ""].map((text) =>
    parseAddress(text),
  );
  const connection = (sourcePort: number, tcpState: number, status = 2) => ({
    ...{
      protocol: 6,
      source,
      destination,
      replySource: destination,
      destinationPort: 8080,
      status,
      sourcePort,
      tcpState,
    },
  });
  const known = [
    ...[1006, 1005, 1004, 1003, 1002, 1001].map((port) => connection(port, 7)),
    connection(2001, 3),
    connection(2002, 3),
    connection(3001, 1, 0),
    { ...connection(4001, 3), destinationPort: 9999 },
  ];
  const kernel = {
    links: { get: () => undefined },
    addresses: { list: () => [] },
    routes: { lookup: () => ({ errnoName: "ENETUNREACH" }) },
    sysctl: { get: () => undefined },
    conntrack: { list: () => known },
    nft: { listElements: () => Promise.resolve([]), listRules: () => Promise.resolve([]) },
  } as unknown as RoadNode["kernel"];
  const nodes = new Map([["n2", { kernel, openPod: () => undefined }]]);
  const road = await examineRoads([path, { ...path }], nodes);
  expect(road.connections).toEqual([
    { node: "n2", ports: [1001, 1002, 1003, 1004, 1005, 1006], state: "TIME_WAIT", answered: true },
    { node: "n2", ports: [2001, 2002], state: "ESTABLISHED", answered: true },
    { node: "n2", ports: [3001], state: "SYN_SENT", answered: false },
  ]);
  expect(roadText(road).filter((line) => line.includes("note:"))).toEqual([
    "  note: n2: 6 connections from ports 1001, 1002, 1003, 1004, 1005 and 1 more are known, TCP state TIME_WAIT: ended; policies judge the next one",
    "  note: n2: 2 connections from ports 2001, 2002 are known, TCP state ESTABLISHED: answered: what belongs to them passes whatever policies say now",
    "  note: n2: a connection from port 3001 is known, TCP state SYN_SENT: no answer has come back through this node",
  ]);
});

test("every rule of ours that decides has words, in every named world", () => {
  const silent = new Set<string>();
  let told = 0;
  for (const [state, updates] of Object.entries(STATES)) {
    const resources = Object.values(updates);
    const renderer = new NftPolicyRenderer();
    const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
    for (const update of resources) compiler.update(update);
    compiler.setInSync();
    compiler.flush();
    const names = new RuleNames(
      resources.flatMap(({ kind, resource }) => (resource === undefined ? [] : [{ kind, resource }])),
    );
    for (const [chain, { rules }] of renderer.desired().chains) {
      for (const { comment, exprs } of rules) {
        const verdict = exprs.findLast((expr) => expr.kind === "verdict")?.verdict;
        if (comment === undefined || (verdict?.kind !== "drop" && verdict?.kind !== "accept")) continue;
        const { steps } = explainPacket("n1", packet([step(comment, verdict.kind, chain)], []), names);
        const [own] = steps;
        told++;
        // What a tier is called, where nobody defined it, is all there is to say.
        if (
          own?.rule === undefined &&
          own?.text === `${comment}: ${verdict.kind}` &&
          !/^(Tier|\w*Policy|Profile)\//.test(comment)
        ) {
          silent.add(`${state}: ${comment}`);
        }
      }
    }
  }
  expect([...silent]).toEqual([]);
  expect(told).toBeGreaterThan(50);
});
