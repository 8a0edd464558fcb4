import { intercept, openMemory } from "@calico-ts/datastore";
import type { KindMap, Pod } from "@calico-ts/model";
import { parseAddress } from "@calico-ts/net";
import { beforeEach, expect, test } from "vitest";
import { DatastorePods } from "./datastore-pods.ts";

const store = openMemory();
const calls: string[] = [];
const client = intercept(store, { before: ({ verb, kind }) => void calls.push(`${verb} ${kind}`) });
const name = { namespace: "shop", name: "web" };
const endpoint = { containerId: "c1", addresses: [parseAddress("10.0.0.1")] };

async function freshPod(annotations: Readonly<Record<string, string>> = {}): Promise<Pod> {
  await store.delete("Pod", name).catch(() => undefined);
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { ...name, annotations }, spec: { containers: [] } };
  return store.create("Pod", pod as KindMap["Pod"]);
}

beforeEach(async () => {
  await store
    .create("Namespace", { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } })
    .catch(() => undefined);
  calls.length = 0;
});

test("a pod that the watch has shown is not asked for again, if it is the one the runtime means", async () => {
  const pod = await freshPod({ "cni.projectcalico.org/ipv4pools": '["a"]' });
  const pods = new DatastorePods({ client, node: "n", known: () => pod });
  const read = await pods.get(name, pod.metadata.uid);
  expect(read).toMatchObject({ uid: pod.metadata.uid, annotations: pod.metadata.annotations });
  expect(calls).toEqual(["get Namespace"]);
  await pods.record(name, read, endpoint);
  expect((await store.get("Pod", name)).metadata.annotations?.["cni.projectcalico.org/containerID"]).toBe("c1");
});

test.each<[string, (pod: Pod) => string | undefined, (pod: Pod) => Pod | undefined]>([
  ["the runtime names no uid", () => undefined, (pod) => pod],
  ["the watch shows an earlier pod of that name", (pod) => pod.metadata.uid, (pod) => withUid(pod, "old")],
  ["the watch has not shown it", (pod) => pod.metadata.uid, () => undefined],
  ["the runtime's uid is the configuration's, as for a static pod", () => "hash", (pod) => pod],
])("the API server is asked when %s", async (_what, uidOf, knownOf) => {
  const pod = await freshPod();
  const pods = new DatastorePods({ client, node: "n", known: () => knownOf(pod) });
  expect((await pods.get(name, uidOf(pod))).uid).toBe(pod.metadata.uid);
  expect(calls.toSorted()).toEqual(["get Namespace", "get Pod"]);
});

test("a copy that is too old is found out when the address is recorded", async () => {
  const old = await freshPod();
  const pods = new DatastorePods({ client, node: "n", known: () => old });
  const read = await pods.get(name, old.metadata.uid);
  await store.patch("Pod", name, { metadata: { annotations: { "cni.projectcalico.org/ipv4pools": '["b"]' } } });
  await expect(pods.record(name, read, endpoint)).rejects.toMatchObject({ code: "CONFLICT" });
  const next = await freshPod();
  await expect(pods.record(name, read, endpoint)).rejects.toMatchObject({
    code: expect.stringMatching(/CONFLICT|NOT/),
  });
  expect((await store.get("Pod", name)).metadata).toEqual(next.metadata);
});

test("a hundred who ask about one namespace at once are two questions, and nobody gets an answer older than his own", async () => {
  const pod = await freshPod();
  const pods = new DatastorePods({ client, node: "n", known: () => pod });
  const ask = () => pods.get(name, pod.metadata.uid);
  const first = ask();
  await Promise.resolve();
  await store.patch("Namespace", { name: "shop" }, { metadata: { labels: { step: "2" } } });
  const rest = await Promise.all(Array.from({ length: 99 }, ask));
  await first;
  expect(new Set(rest.map(({ namespaceLabels }) => namespaceLabels["step"]))).toEqual(new Set(["2"]));
  expect(calls.length).toBeLessThanOrEqual(2);
});

const withUid = (pod: Pod, uid: string): Pod => ({ ...pod, metadata: { ...pod.metadata, uid } });
