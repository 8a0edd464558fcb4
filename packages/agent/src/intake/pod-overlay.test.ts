import type { Pod } from "@calico-ts/model";
import { parseAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { type Announcement, PodOverlay } from "./pod-overlay.ts";

const ref = { namespace: "shop", name: "web" };
const A = "cni.projectcalico.org/";

const pod = (
  overrides: { uid?: string; annotations?: Record<string, string>; ips?: string[]; node?: string } = {},
): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { ...ref, uid: overrides.uid ?? "u1", annotations: overrides.annotations ?? {} },
  spec: { nodeName: overrides.node ?? "n1", containers: [] },
  status: { podIPs: (overrides.ips ?? []).map((ip) => ({ ip })) },
});

const announcement = (changes: Partial<Announcement> = {}): Announcement => ({
  pod: ref,
  uid: "u1",
  containerId: "c1",
  addresses: [parseAddress("10.0.0.5")],
  ...changes,
});

function world() {
  const seen: (Pod | undefined)[] = [];
  const overlay = new PodOverlay({ node: "n1", forward: (_ref, seenPod) => seen.push(seenPod) });
  const addresses = (): string[] | undefined => seen.at(-1)?.status?.podIPs?.map(({ ip }) => ip ?? "");
  return { overlay, seen, addresses };
}

describe("what CNI knows earlier", () => {
  test("an announced address is there before the API server says so, and until it does", () => {
    const { addresses, overlay, seen } = world();
    overlay.update(ref, pod());
    expect(addresses()).toEqual([]);
    overlay.announce(announcement());
    expect(addresses()).toEqual(["10.0.0.5"]);
    expect(seen.at(-1)?.metadata.annotations).toEqual({
      [`${A}podIP`]: "10.0.0.5/32",
      [`${A}podIPs`]: "10.0.0.5/32",
      [`${A}containerID`]: "c1",
    });
    overlay.update(ref, pod({ annotations: { other: "x" } })); // a change that has nothing to do with it
    expect(addresses()).toEqual(["10.0.0.5"]);

    const caughtUp = { [`${A}podIP`]: "10.0.0.5/32", [`${A}podIPs`]: "10.0.0.5/32", [`${A}containerID`]: "c1" };
    const echoed = pod({ annotations: caughtUp });
    overlay.update(ref, echoed);
    expect(seen.at(-1)).toBe(echoed);
    expect(overlay.announced(ref)).toBeUndefined();
  });

  test("the announcement may come before the watch shows the pod", () => {
    const { addresses, overlay, seen } = world();
    overlay.announce(announcement());
    expect(seen).toEqual([]);
    overlay.update(ref, pod());
    expect(addresses()).toEqual(["10.0.0.5"]);
  });

  test("a new sandbox of a pod whose status still has the old address", () => {
    const { addresses, overlay } = world();
    const old = { [`${A}podIP`]: "10.0.0.4/32", [`${A}podIPs`]: "10.0.0.4/32", [`${A}containerID`]: "c0" };
    overlay.update(ref, pod({ annotations: old, ips: ["10.0.0.4"] }));
    overlay.withdraw(ref, "c0");
    expect(addresses()).toEqual([]);
    overlay.announce(announcement());
    expect(addresses()).toEqual(["10.0.0.5"]);
    const recorded = { [`${A}podIP`]: "10.0.0.5/32", [`${A}podIPs`]: "10.0.0.5/32", [`${A}containerID`]: "c1" };
    overlay.update(ref, pod({ annotations: recorded, ips: ["10.0.0.4"] }));
    expect(addresses()).toEqual(["10.0.0.5"]);
    overlay.update(ref, pod({ annotations: recorded, ips: ["10.0.0.5"] }));
    expect(addresses()).toEqual(["10.0.0.5"]);
    expect(overlay.announced(ref)).toBeUndefined();
  });

  test("withdrawn: the addresses are gone whatever the API server still says, for that container only", () => {
    const { addresses, overlay } = world();
    overlay.update(ref, pod());
    overlay.announce(announcement());
    overlay.withdraw(ref, "c0"); // a DEL of an earlier sandbox
    expect(addresses()).toEqual(["10.0.0.5"]);
    overlay.withdraw(ref, "c1");
    expect(addresses()).toEqual([]);
    const late = { [`${A}podIP`]: "10.0.0.5/32", [`${A}podIPs`]: "10.0.0.5/32", [`${A}containerID`]: "c1" };
    overlay.update(ref, pod({ annotations: late, ips: ["10.0.0.5"] }));
    expect(addresses()).toEqual([]);
  });

  test("a pod recreated under its name is another pod", () => {
    const { addresses, overlay, seen } = world();
    overlay.update(ref, pod({ uid: "old", ips: ["10.0.0.4"] }));
    overlay.announce(announcement({ uid: "new" }));
    expect(addresses()).toEqual(["10.0.0.4"]);
    overlay.update(ref, undefined);
    expect(seen.at(-1)).toBeUndefined();
    overlay.update(ref, pod({ uid: "new" }));
    expect(addresses()).toEqual(["10.0.0.5"]);
    overlay.update(ref, undefined);
    overlay.update(ref, pod({ uid: "new" }));
    expect(addresses()).toEqual([]);
  });

  test("pods of other nodes pass through untouched", () => {
    const { overlay, seen } = world();
    const far = pod({ node: "n2", ips: ["10.0.9.9"] });
    overlay.update(ref, far);
    overlay.update(ref, undefined);
    expect(seen).toEqual([far, undefined]);
  });
});
