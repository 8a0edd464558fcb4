import { describe, expect, test } from "vitest";
import type { Node, Pod, PodSpec } from "../kube/objects.ts";
import { type NodeLoad, placePod, STARTING_MS, worthWaitingFor } from "./schedule.ts";

const node = (name: string, spec: Node["spec"] = {}, labels: Readonly<Record<string, string>> = {}): Node => ({
  metadata: { name, labels: { "kubernetes.io/hostname": name, ...labels } },
  spec,
});

const pod = (name: string, spec: Partial<PodSpec> = {}, owner?: string): Pod => ({
  metadata: {
    name,
    namespace: "shop",
    labels: { app: "web" },
    ...(owner === undefined
      ? {}
      : {
          ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: owner, uid: owner, controller: true }],
        }),
  },
  spec: { containers: [{ name: "c" }], ...spec },
});

const load = (each: Node, ...pods: readonly Pod[]): NodeLoad => ({
  node: each,
  pods: new Map(pods.map((one) => [one.metadata.name, one])),
});

const place = (what: Pod, ...loads: readonly NodeLoad[]) =>
  placePod(
    what,
    loads,
    loads.flatMap((each) => [...each.pods.values()]),
  );

describe("placing a pod", () => {
  test("spreads the pods of one owner, then all pods", () => {
    const busy = [pod("x1"), pod("x2"), pod("x3")];
    expect(place(pod("p", {}, "rs"), load(node("a"), pod("s", {}, "rs")), load(node("b"), ...busy))).toEqual({
      kind: "bind",
      node: "b",
    });
    expect(place(pod("p"), load(node("a"), ...busy), load(node("b"), pod("y")))).toEqual({ kind: "bind", node: "b" });
  });

  test("nodeSelector, affinity and taints filter, and the message counts why", () => {
    const nodes = [
      load(node("a", { unschedulable: true })),
      load(node("b", { taints: [{ key: "dedicated", value: "gpu", effect: "NoSchedule" }] }, { disk: "ssd" })),
      load(node("c")),
    ];
    const selective = pod("p", { nodeSelector: { disk: "ssd" } });
    expect(place(selective, ...nodes)).toEqual({
      kind: "unschedulable",
      message:
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {dedicated: gpu}, 1 node(s) were unschedulable.",
    });
    const tolerant = pod("p", {
      nodeSelector: { disk: "ssd" },
      tolerations: [{ key: "dedicated", operator: "Equal", value: "gpu" }],
    });
    expect(place(tolerant, ...nodes)).toEqual({ kind: "bind", node: "b" });
  });

  test("an affinity to a node's name, as daemons have, and an empty term that matches nothing", () => {
    const to = (terms: readonly object[]): Partial<PodSpec> => ({
      affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } },
    });
    const nodes = [load(node("a")), load(node("b"))];
    const named = to([{ matchFields: [{ key: "metadata.name", operator: "In", values: ["b"] }] }]);
    expect(place(pod("p", named), ...nodes)).toEqual({ kind: "bind", node: "b" });
    expect(place(pod("p", to([{}])), ...nodes)).toMatchObject({ kind: "unschedulable" });
  });

  test("a node that has just been registered is waited for, an old broken one is not", () => {
    const born = "2026-01-01T00:00:00Z";
    const taints = [{ key: "node.kubernetes.io/not-ready", effect: "NoSchedule" }];
    const starting = (spec: Node["spec"], labels = {}): NodeLoad => {
      const { metadata } = node("b", {}, labels);
      return load({ metadata: { ...metadata, creationTimestamp: born }, spec: { taints, ...spec } });
    };
    const soon = Date.parse(born) + 2_000;
    expect(worthWaitingFor(pod("p"), [load(node("a")), starting({})], soon)).toBe(true);
    expect(worthWaitingFor(pod("p"), [starting({})], Date.parse(born) + STARTING_MS)).toBe(false);
    expect(worthWaitingFor(pod("p"), [starting({ unschedulable: true })], soon)).toBe(false);
    expect(worthWaitingFor(pod("p", { nodeSelector: { disk: "ssd" } }), [starting({})], soon)).toBe(false);
    expect(worthWaitingFor(pod("p", { tolerations: [{ operator: "Exists" }] }), [starting({})], soon)).toBe(false);
  });

  test("host ports are not shared", () => {
    const server = (name: string): Pod =>
      pod(name, { hostNetwork: true, containers: [{ name: "c", ports: [{ containerPort: 179 }] }] });
    expect(place(server("p"), load(node("a"), server("q")), load(node("b")))).toEqual({ kind: "bind", node: "b" });
    expect(place(server("p"), load(node("a"), server("q")))).toMatchObject({ kind: "unschedulable" });
  });

  test("pod anti-affinity keeps apart, pod affinity together", () => {
    const term = [{ labelSelector: { matchLabels: { app: "web" } }, topologyKey: "kubernetes.io/hostname" }];
    const there = pod("q", { nodeName: "a" });
    const nodes = [load(node("a"), there), load(node("b"))];
    const apart = pod("p", { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: term } } });
    expect(place(apart, ...nodes)).toEqual({ kind: "bind", node: "b" });
    const together = pod("p", { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: term } } });
    expect(place(together, ...nodes)).toEqual({ kind: "bind", node: "a" });
    expect(place(together, load(node("b")))).toEqual({ kind: "bind", node: "b" });
  });
});
