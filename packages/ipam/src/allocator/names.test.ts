import { formatPrefix, parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { blockCount, walkBlocks } from "./block-walk.ts";
import { affinityLabels, affinityName, blockName, handleName, hostnameHash, hostOwner, parseOwner } from "./names.ts";
import { poolOf } from "./pool.ts";
import { Reservations } from "./reservations.ts";

describe("names", () => {
  test("are upstream's", () => {
    expect(blockName(parsePrefix("10.0.0.64/26"))).toBe("10-0-0-64-26");
    expect(blockName(parsePrefix("fd00:1::40/122"))).toBe("fd00-1--40-122");
    expect(affinityName(hostOwner("node-a"), parsePrefix("10.0.0.64/26"))).toBe("node-a-10-0-0-64-26");
    expect(handleName("k8s-pod-network.0123ABC")).toBe("k8s-pod-network.0123abc");
    expect(parseOwner("virtual:load-balancer")).toEqual({ type: "virtual", name: "load-balancer" });
  });

  // The value is pinned in upstream's own tests.
  test("the hash of a node's name is upstream's", () => {
    expect(hostnameHash("node-a")).toBe("PY3TQE2E3XMTETLM2MJO3UITKPFB27YUJ4T4E5XGPEJON3SM4QAA");
    expect(affinityLabels(hostOwner("node-a"), parsePrefix("fd00::/122"))).toEqual({
      "projectcalico.org/hostname-hash": "PY3TQE2E3XMTETLM2MJO3UITKPFB27YUJ4T4E5XGPEJON3SM4QAA",
      "projectcalico.org/affinity-type": "host",
      "projectcalico.org/ip-version": "6",
    });
  });

  test("long node names are cut and hashed, and stay apart", () => {
    const block = parsePrefix("10.0.0.64/26");
    const a = affinityName(hostOwner(`${"n".repeat(250)}a`), block);
    const b = affinityName(hostOwner(`${"n".repeat(250)}b`), block);
    expect(a).not.toBe(b);
    expect(a).toMatch(/^n+-10-0-0-64-26-[0-9a-f]{11}$/);
    expect(a.length).toBeLessThanOrEqual(253);
  });

  test("a handle that is no resource name is hashed", () => {
    expect(handleName("net.a_b")).toMatch(/^handle-[0-9a-f]{64}$/);
    expect(handleName("x".repeat(300))).toMatch(/^handle-/);
  });
});

describe("walk", () => {
  const pool = (cidr: string, blockSize: number) => {
    const made = poolOf({
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name: "p" },
      spec: { cidr, blockSize },
    });
    if (made === undefined) throw new Error("no pool");
    return made;
  };

  test("visits every block once, and hosts start at different places", () => {
    const small = pool("10.0.0.0/20", 28);
    const walk = (host: string): string[] => [...walkBlocks(small, host)].map(formatPrefix);
    const a = walk("a");
    expect(new Set(a).size).toBe(256);
    expect(a.length).toBe(Number(blockCount(small)));
    expect(walk("a")).toEqual(a);
    const starts = new Set(Array.from({ length: 50 }, (_, i) => walk(`host-${i}`)[0]));
    expect(starts.size).toBeGreaterThan(35);
  });

  test("copes with pools of one block and of 2^74", () => {
    expect([...walkBlocks(pool("10.0.0.0/26", 26), "a")].map(formatPrefix)).toEqual(["10.0.0.0/26"]);
    const [first] = walkBlocks(pool("fd00::/48", 122), "a");
    expect(first?.length).toBe(122);
  });
});

describe("reservations", () => {
  test("count what they cover, overlapping or not", () => {
    const reservations = new Reservations(
      ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.8/29", "10.0.0.0/30"].map((text) => parsePrefix(text)),
    );
    expect(reservations.countIn(parsePrefix("10.0.0.0/28"))).toBe(12n);
    expect(reservations.countIn(parsePrefix("10.0.0.1/32"))).toBe(1n);
    expect(reservations.coversAll(parsePrefix("10.0.0.8/30"))).toBe(true);
    expect(reservations.coversAll(parsePrefix("10.0.0.0/29"))).toBe(false);
    expect(reservations.countIn(parsePrefix("fd00::/64"))).toBe(0n);
  });
});
