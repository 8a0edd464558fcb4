import { parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { TunnelPool } from "./tunnel-addresses.ts";
import { decideTunnels, TUNNELS } from "./tunnel-addresses.ts";

const pool = (cidr: string, change: Partial<TunnelPool> = {}): TunnelPool => ({
  cidr: parsePrefix(cidr),
  disabled: false,
  ipip: false,
  vxlan: false,
  allowsTunnels: true,
  selectsNode: true,
  ...change,
});

const decide = (pools: TunnelPool[], annotations: Record<string, string> = {}): Record<string, string> =>
  Object.fromEntries(decideTunnels(pools, annotations).map((decision) => [decision.tunnel, decision.do]));

describe("tunnel addresses", () => {
  test("none are needed without encapsulation", () => {
    expect(decide([pool("10.0.0.0/16")])).toEqual({ ipip: "remove", vxlan: "remove", "vxlan-v6": "remove" });
  });

  test("each encapsulation and family asks for its own", () => {
    expect(
      decide([
        pool("10.0.0.0/16", { ipip: true }),
        pool("10.1.0.0/16", { vxlan: true }),
        pool("fd00::/64", { vxlan: true }),
      ]),
    ).toEqual({
      ipip: "assign",
      vxlan: "assign",
      "vxlan-v6": "assign",
    });
  });

  test.each([{ disabled: true }, { allowsTunnels: false }, { selectsNode: false }])(
    "a pool with %o does not count",
    (change) => {
      expect(decide([pool("10.0.0.0/16", { vxlan: true, ...change })])["vxlan"]).toBe("remove");
    },
  );

  test("an address in a disabled pool is kept while no enabled pool asks for the tunnel, and exchanged when one does", () => {
    const old = pool("10.1.0.0/16", { vxlan: true, disabled: true });
    const annotations = { [TUNNELS.vxlan.annotation]: "10.1.3.4" };
    expect(decideTunnels([old], annotations)[1]).toEqual({
      tunnel: "vxlan",
      do: "keep",
      address: "10.1.3.4",
      pools: [],
    });
    expect(decide([old, pool("10.2.0.0/16", { ipip: true })], annotations)["vxlan"]).toBe("keep");
    expect(decide([old, pool("10.2.0.0/16", { vxlan: true })], annotations)["vxlan"]).toBe("assign");
    for (const change of [{ allowsTunnels: false }, { selectsNode: false }, { vxlan: false }])
      expect(decide([{ ...old, ...change }], annotations)["vxlan"]).toBe("remove");
  });

  test("an address inside a pool that counts is kept; one outside is exchanged", () => {
    const vxlan = [pool("10.1.0.0/16", { vxlan: true })];
    expect(decide(vxlan, { [TUNNELS.vxlan.annotation]: "10.1.3.4" })["vxlan"]).toBe("keep");
    expect(decideTunnels(vxlan, { [TUNNELS.vxlan.annotation]: "10.9.3.4" })[1]).toMatchObject({
      do: "assign",
      release: "10.9.3.4",
    });
    expect(decide(vxlan, { [TUNNELS.vxlan.annotation]: "garbage" })["vxlan"]).toBe("assign");
  });
});
