import { openMemory } from "@calico-ts/datastore";
import type { Node } from "@calico-ts/model";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { expect, test, vi } from "vitest";
import { keepNodes, withLabels } from "./node-sync.ts";

const PATIENCE = { timeout: 20_000, interval: 20 };

const node = (name: string, labels: Record<string, string>, annotations: Record<string, string> = {}): Node => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name, labels, annotations },
});

test("Calico's nodes follow Kubernetes': labels, except those of others, and their end", {
  timeout: 60_000,
}, async () => {
  const client = openMemory();
  const kubernetes = openMemory();
  for (const name of ["a", "b"]) {
    await client.create("Node", node(name, { mine: "1" }));
    await kubernetes.create("Node", node(name, { zone: "east" }));
  }
  await client.create("Node", node("ghost", {}));
  const stop = new AbortController();
  const options = { client, kubernetes, clock: systemClock, log: silentLogger, syncLabels: true };
  const running = keepNodes({ ...options, reconcileMs: 60_000, passGapMs: 10 }, stop.signal);
  const labels = async (): Promise<unknown> =>
    (await client.list("Node")).items.map(({ metadata }) => [metadata.name, metadata.labels]);
  await vi.waitFor(
    async () =>
      expect(await labels()).toEqual([
        ["a", { mine: "1", zone: "east" }],
        ["b", { mine: "1", zone: "east" }],
      ]),
    PATIENCE,
  );
  await kubernetes.patch("Node", { name: "a" }, { metadata: { labels: { zone: null, rack: "7" } } });
  await kubernetes.delete("Node", { name: "b" });
  await vi.waitFor(async () => expect(await labels()).toEqual([["a", { mine: "1", rack: "7" }]]), PATIENCE);
  stop.abort();
  await running;
});

test("a label that was copied and then changed by somebody is theirs when Kubernetes drops it", () => {
  const copied = withLabels(node("a", {}), { zone: "east" });
  expect(withLabels(copied, { zone: "east" })).toBe(copied);
  const changed = { ...copied, metadata: { ...copied.metadata, labels: { zone: "west" } } };
  expect(withLabels(changed, {}).metadata.labels).toEqual({ zone: "west" });
  expect(withLabels(copied, {}).metadata.labels).toEqual({});
  expect(withLabels(node("a", {}, { "projectcalico.org/kube-labels": "{" }), {}).metadata.labels).toEqual({});
});
