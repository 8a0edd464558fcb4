import { parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { PoolSituation } from "./default-pools.ts";
import { defaultPools } from "./default-pools.ts";
import { readNodeSettings } from "./settings.ts";

function pools(env: Record<string, string> = {}, change: Partial<PoolSituation> = {}): Record<string, string> {
  const found = defaultPools({
    settings: readNodeSettings(env),
    existingCidrs: [],
    hostSubnets: [],
    kubeadmPodSubnets: [],
    hasIpv6: false,
    randomGlobalId: Uint8Array.of(1, 2, 3, 4, 5),
    ...change,
  });
  return Object.fromEntries(found.map(({ name, spec }) => [name, spec.cidr]));
}

describe("default pools", () => {
  test("are upstream's when nothing was said", () => {
    expect(pools()).toEqual({ "default-ipv4-ippool": "192.168.0.0/16" });
  });

  test("avoid the host's own networks", () => {
    expect(pools({}, { hostSubnets: [parsePrefix("192.168.4.0/22"), parsePrefix("172.16.0.0/12")] })).toEqual({
      "default-ipv4-ippool": "10.0.0.0/16",
    });
  });

  test("follow kubeadm, and the environment before kubeadm", () => {
    const change = { kubeadmPodSubnets: ["10.244.0.0/16", "fd00:10:244::/56"] };
    expect(pools({}, { ...change, hasIpv6: true })).toEqual({
      "default-ipv4-ippool": "10.244.0.0/16",
      "default-ipv6-ippool": "fd00:10:244::/56",
    });
    expect(pools({ CALICO_IPV4POOL_CIDR: "10.7.0.0/16" }, change)).toEqual({ "default-ipv4-ippool": "10.7.0.0/16" });
  });

  test("are not made for a family that has one", () => {
    expect(pools({}, { existingCidrs: ["10.9.0.0/16"], hasIpv6: true })).toEqual({
      "default-ipv6-ippool": "fd01:203:405::/48",
    });
  });

  test("can be switched off", () => {
    expect(pools({ NO_DEFAULT_POOLS: "true" })).toEqual({});
    expect(pools({ CALICO_IPV4POOL_CIDR: "none" })).toEqual({});
  });

  test.each([
    [{ NO_DEFAULT_POOLS: "true", CALICO_IPV4POOL_CIDR: "10.0.0.0/16" }, "NO_DEFAULT_POOLS"],
    [{ CALICO_IPV4POOL_CIDR: "10.0.0.1/16" }, "CALICO_IPV4POOL_CIDR"],
    [{ CALICO_IPV4POOL_CIDR: "fd00::/48" }, "CALICO_IPV4POOL_CIDR"],
    [{ CALICO_IPV4POOL_CIDR: "10.0.0.0/28" }, "CALICO_IPV4POOL_BLOCK_SIZE"],
  ])("%o is refused by name", (env, variable) => {
    expect(() => pools(env)).toThrow(
      expect.objectContaining({ code: "BAD_INPUT", message: expect.stringContaining(variable) }),
    );
  });

  test("a bad environment names every bad variable", () => {
    expect(() => readNodeSettings({ CALICO_IPV4POOL_BLOCK_SIZE: "99", NO_DEFAULT_POOLS: "maybe" })).toThrow(
      /CALICO_IPV4POOL_BLOCK_SIZE[\s\S]*NO_DEFAULT_POOLS|NO_DEFAULT_POOLS[\s\S]*CALICO_IPV4POOL_BLOCK_SIZE/,
    );
  });
});
