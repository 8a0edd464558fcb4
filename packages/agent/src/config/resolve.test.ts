import { rulesetConfig } from "@calico-ts/policy-compiler/testing";
import { describe, expect, test } from "vitest";
import { environmentName, paramNames, params } from "./params.ts";
import { configFromEnvironment, defaultsOf, needRestart, resolveConfig } from "./resolve.ts";
import { parseSeconds } from "./values.ts";

describe("configuration", () => {
  test("defaults are upstream's", () => {
    const { config, problems } = resolveConfig({});
    expect(problems).toEqual([]);
    expect(config).toMatchObject({
      healthEnabled: false,
      healthHost: "localhost",
      healthPort: 9099,
      prometheusMetricsPort: 9091,
      interfacePrefix: "cali",
      programClusterRoutes: "EnabledIPIPOnly",
      vxlanPort: 4789,
      vxlanVNI: 4096,
      nftablesRefreshInterval: 180,
      defaultEndpointToHostAction: "DROP",
    });
  });

  test("variables are found in any case and under upstream's names", () => {
    const text = configFromEnvironment({
      FELIX_HEALTHENABLED: "true",
      felix_IpInIpMtu: "1480",
      FELIX_PROGRAMCLUSTERROUTES: "enabled",
      FELIX_VXLANMTU: "",
      PATH: "/bin",
    });
    expect(text).toEqual({ healthEnabled: "true", ipipMTU: "1480", programClusterRoutes: "enabled" });
    expect(resolveConfig(text).config).toMatchObject({
      healthEnabled: true,
      ipipMTU: 1480,
      programClusterRoutes: "Enabled",
    });
  });

  test("whatever the rules ask for can be set by a variable", () => {
    const asked = new Set<string>();
    rulesetConfig(new Proxy({}, { get: (_values, key) => void asked.add(String(key)) }));
    expect(asked.size).toBeGreaterThan(20);
    expect([...asked].filter((name) => !Object.hasOwn(params, name))).toEqual([]);
  });

  test("failsafe ports; one that cannot be read makes the whole list bad", () => {
    const resolve = (text: string) => resolveConfig(configFromEnvironment({ FELIX_FAILSAFEINBOUNDHOSTPORTS: text }));
    const lists = ["none", "22,udp:68, tcp:10.0.0.0/8:22,TCP:[fd00::/8]:22,tcp:fd00::/8:23,tcp:192.0.2.1:24,sctp:1"];
    expect(lists.map((text) => resolve(text).config.failsafeInboundHostPorts)).toEqual(lists);
    for (const text of ["tcp:22,foo", "icmp:8", "tcp:65536", "tcp:10.0.0.0/33:22", "tcp:10.0.0/8:22"])
      expect(() => resolve(text)).toThrow("failsafeInboundHostPorts");
  });

  test("where there is no BGP daemon the agent programs all routes unless told otherwise", () => {
    const programs = (backend: string | undefined, text = {}): string =>
      resolveConfig({ ...defaultsOf({ CALICO_NETWORKING_BACKEND: backend }), ...text }).config.programClusterRoutes;
    expect([undefined, "", "bird", "vxlan", "none"].map((backend) => programs(backend))).toEqual([
      "EnabledIPIPOnly",
      "EnabledIPIPOnly",
      "EnabledIPIPOnly",
      "Enabled",
      "Enabled",
    ]);
    expect(programs("vxlan", { programClusterRoutes: "Disabled" })).toBe("Disabled");
  });

  test("a bad value falls back to the default and is reported", () => {
    const { config, problems } = resolveConfig({ vxlanVNI: "many", routeRefreshInterval: "1m30s" });
    expect(config.vxlanVNI).toBe(4096);
    expect(config.routeRefreshInterval).toBe(90);
    expect(problems).toEqual([{ name: "vxlanVNI", text: "many", expects: expect.any(String) as string }]);
  });

  test("a bad value that must not be guessed stops the start", () => {
    expect(() => resolveConfig({ defaultEndpointToHostAction: "MAYBE" })).toThrow(
      expect.objectContaining({ code: "BAD_INPUT" }) as Error,
    );
  });

  test("only live parameters change without a restart", () => {
    const before = resolveConfig({ mtuIfacePattern: "^eth" }).config;
    expect(needRestart(before, resolveConfig({ mtuIfacePattern: "^eth" }).config)).toEqual([]);
    expect(needRestart(before, resolveConfig({ mtuIfacePattern: "^eth", logSeverityScreen: "Debug" }).config)).toEqual(
      [],
    );
    expect(needRestart(before, resolveConfig({ mtuIfacePattern: "^en", vxlanPort: "8472" }).config)).toEqual([
      "vxlanPort",
      "mtuIfacePattern",
    ]);
  });

  test("seconds in both spellings", () => {
    expect(parseSeconds("90")).toBe(90);
    expect(parseSeconds("1h0m30s")).toBe(3630);
    expect(parseSeconds("250ms")).toBeCloseTo(0.25);
    for (const bad of ["", "-1", "1 m", "90x", "s"]) expect(parseSeconds(bad)).toBeUndefined();
  });

  test("every default is a value of its own type", () => {
    for (const name of paramNames) {
      const fallback: unknown = params[name].fallback;
      const isPlain = ["string", "number", "boolean"].includes(typeof fallback);
      const again: unknown = isPlain ? params[name].type.parse(String(fallback)) : fallback;
      expect([environmentName(name), again]).toEqual([environmentName(name), fallback]);
    }
  });
});
