/** From what the syncer says to what the configuration is made of. */
import type { KindMap, KindName } from "@calico-ts/model";
import type { SyncUpdate } from "@calico-ts/sync";
import { describe, expect, test } from "vitest";
import { logLevelOf } from "../run.ts";
import { projectNode, syncKinds } from "./kinds.ts";
import { modelInput } from "./model-input.ts";
import { ResourceCache } from "./resource-cache.ts";

const update = <K extends KindName>(kind: K, resource: KindMap[K], gone = false): SyncUpdate =>
  ({
    kind,
    key: { name: resource.metadata.name, namespace: resource.metadata.namespace },
    resource: gone ? undefined : resource,
  }) as unknown as SyncUpdate;

const node = (name: string, change: Partial<KindMap["Node"]> = {}): KindMap["Node"] => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: {
    name,
    labels: { rack: "1" },
    annotations: { "projectcalico.org/IPv4Address": "192.0.2.1/24", "csi.volume.kubernetes.io/nodeid": "x" },
    resourceVersion: "7",
  },
  ...change,
});

const pod = (name: string, phase: string): KindMap["Pod"] => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default" },
  spec: { nodeName: "n1", containers: [] },
  status: { phase, podIP: "10.0.0.5", podIPs: [{ ip: "10.0.0.5" }] },
});

describe("the cache", () => {
  test("says what is news, and lists by name whatever the order of arrival", () => {
    const cache = new ResourceCache();
    expect(cache.apply(update("Node", projectNode(node("b"))))).toBe(true);
    expect(cache.apply(update("Node", projectNode(node("a"))))).toBe(true);
    expect(cache.list("Node").map(({ metadata }) => metadata.name)).toEqual(["a", "b"]);
    expect(cache.apply(update("Node", node("b"), true))).toBe(true);
    expect(cache.apply(update("Node", node("b"), true))).toBe(false);
    expect(cache.get("Node", "b")).toBeUndefined();
  });

  test("a node's heartbeat is no news", () => {
    const cache = new ResourceCache();
    cache.apply(update("Node", projectNode(node("a"))));
    const { metadata } = node("a");
    const beat = node("a", {
      metadata: { ...metadata, resourceVersion: "8" },
      status: { conditions: [{ type: "Ready", status: "True", lastTransitionTime: "2026-01-02T03:04:05Z" }] },
    });
    expect(cache.apply(update("Node", projectNode(beat)))).toBe(false);
    expect(cache.apply(update("Node", projectNode(node("a", { metadata: { ...metadata, labels: {} } }))))).toBe(true);
  });
});

test("the input of the configuration has nodes and endpoints in Calico's terms, without pods that are finished", () => {
  const cache = new ResourceCache();
  for (const one of [
    update("Node", projectNode(node("n1"))),
    update("Pod", pod("runs", "Running")),
    update("Pod", pod("done", "Succeeded")),
  ]) {
    cache.apply(one);
  }
  const input = modelInput(cache, { nodeName: "n1", routerId: "hash" }, { secret: () => "secret" });
  expect(input).toMatchObject({
    nodeName: "n1",
    routerId: "hash",
    nodes: [{ name: "n1", ipv4Address: "192.0.2.1/24", labels: { rack: "1" } }],
    peers: [],
  });
  expect(input.endpoints).toHaveLength(1);
  expect(input.secret({ name: "a", key: "b" })).toBe("secret");
});

test("endpoints inherit labels from their namespace and service account; their own come first", () => {
  const labelled = <K extends "Namespace" | "ServiceAccount">(kind: K, name: string, labels: Record<string, string>) =>
    ({ apiVersion: "v1", kind, metadata: { name, namespace: "default", labels } }) as unknown as KindMap[K];
  const cache = new ResourceCache();
  const { metadata, spec } = pod("runs", "Running");
  const own = { ...metadata, labels: { "pcns.team": "own" } };
  for (const one of [
    update("Node", projectNode(node("n1"))),
    update("Pod", {
      ...pod("runs", "Running"),
      metadata: own,
      spec: { ...spec, serviceAccountName: "robot" },
    }),
    update("ServiceAccount", labelled("ServiceAccount", "robot", { trust: "high" })),
    {
      ...update("Namespace", labelled("Namespace", "default", { team: "a", zone: "1" })),
      key: { name: "default" },
    } as SyncUpdate,
  ]) {
    cache.apply(one);
  }
  const [endpoint] = modelInput(cache, { nodeName: "n1" }, { secret: () => undefined }).endpoints;
  expect(endpoint?.labels).toMatchObject({ "pcns.team": "own", "pcns.zone": "1", "pcsa.trust": "high" });
});

test("of pods only this node's are watched", () => {
  expect(syncKinds("n1")).toContainEqual(
    expect.objectContaining({ kind: "Pod", fieldSelector: "spec.nodeName=n1" }) as unknown,
  );
});

test("a node's own logSeverityScreen counts before the cluster's, whichever of the two comes and goes", () => {
  const cache = new ResourceCache();
  const configuration = (name: string, logSeverityScreen: string): KindMap["BGPConfiguration"] => ({
    apiVersion: "projectcalico.org/v3",
    kind: "BGPConfiguration",
    metadata: { name },
    spec: { logSeverityScreen },
  });
  expect(logLevelOf(cache, "n1")).toBe("Info");
  cache.apply(update("BGPConfiguration", configuration("default", "Warning")));
  expect(logLevelOf(cache, "n1")).toBe("Warning");
  cache.apply(update("BGPConfiguration", configuration("node.n1", "Debug")));
  expect([logLevelOf(cache, "n1"), logLevelOf(cache, "n2")]).toEqual(["Debug", "Warning"]);
  cache.apply(update("BGPConfiguration", configuration("node.n1", "Debug"), true));
  expect(logLevelOf(cache, "n1")).toBe("Warning");
});
