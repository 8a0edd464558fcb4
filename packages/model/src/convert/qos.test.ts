import { describe, expect, test } from "vitest";
import { parseDscp, qosControls } from "./qos.ts";

const ours = (annotations: Record<string, string>): ReturnType<typeof qosControls> =>
  qosControls(
    Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`qos.projectcalico.org/${key}`, value])),
  );

describe("limits", () => {
  test("none", () => {
    expect(qosControls({ "example.com/x": "1" })).toEqual({ controls: undefined, problems: [] });
  });

  test("all of one direction", () => {
    const { controls, problems } = ours({
      ingressBandwidth: "10M",
      ingressBurst: "20M",
      ingressPeakrate: "15M",
      ingressMinburst: "2k",
      ingressPacketRate: "100",
      ingressPacketBurst: "7",
      ingressMaxConnections: "10",
      dscp: "AF11",
    });
    expect(problems).toEqual([]);
    expect(controls).toEqual({
      ingress: {
        bandwidth: 10_000_000,
        burst: 20_000_000,
        peakRate: 15_000_000,
        minBurst: 2000,
        packetRate: 100,
        packetBurst: 7,
        maxConnections: 10,
      },
      egress: {},
      dscp: 10,
    });
  });

  test("bursts have defaults", () => {
    expect(ours({ egressBandwidth: "1M", egressPacketRate: "1" }).controls?.egress).toEqual({
      bandwidth: 1_000_000,
      burst: 4_294_967_296,
      packetRate: 1,
      packetBurst: 5,
    });
  });

  test("Kubernetes' annotation counts where ours is not there", () => {
    const kubernetes = { "kubernetes.io/ingress-bandwidth": "1M", "kubernetes.io/egress-bandwidth": "2Mi" };
    expect(qosControls(kubernetes).controls).toMatchObject({
      ingress: { bandwidth: 1e6 },
      egress: { bandwidth: 2_097_152 },
    });
    const both = { ...kubernetes, "qos.projectcalico.org/ingressBandwidth": "5M" };
    expect(qosControls(both).controls?.ingress.bandwidth).toBe(5e6);
  });

  test.each([
    ["ingressBandwidth", "1", "bandwidth", 1000],
    ["ingressBandwidth", "2P", "bandwidth", 1e15],
    ["ingressPacketRate", "0", "packetRate", 1],
    ["ingressPacketRate", "-5", "packetRate", 1],
    ["ingressPacketRate", "20k", "packetRate", 10_000],
    ["ingressMaxConnections", "5G", "maxConnections", 4_294_967_295],
  ] as const)("%s %s is moved into range", (key, value, limit, expected) => {
    const { controls, problems } = ours({ [key]: value });
    expect(controls?.ingress[limit]).toBe(expected);
    expect(problems).toEqual([expect.stringContaining("out of range")]);
  });

  test("a fraction rounds up", () => {
    expect(ours({ ingressPacketRate: "1500m" }).controls?.ingress.packetRate).toBe(2);
  });

  test.each<[Record<string, string>, string]>([
    [{ ingressBurst: "1M" }, "a burst needs a bandwidth"],
    [{ ingressPeakrate: "1M" }, "a peak rate needs a bandwidth"],
    [{ ingressMinburst: "2k" }, "a minimum burst needs a peak rate"],
    [{ ingressPacketBurst: "2" }, "a packet burst needs a packet rate"],
    [{ ingressBandwidth: "lots" }, "not a quantity"],
    [{ dscp: "64" }, "neither"],
  ])("%j is dropped", (annotations, why) => {
    const { controls, problems } = ours(annotations);
    expect(controls).toBeUndefined();
    expect(problems).toEqual([expect.stringContaining(why)]);
  });

  test("a peak rate must be above the bandwidth", () => {
    expect(ours({ egressBandwidth: "1M", egressPeakrate: "1M" }).controls?.egress).not.toHaveProperty("peakRate");
  });
});

test.each([
  ["0", 0],
  ["63", 63],
  ["64", undefined],
  ["EF", 46],
  ["ef", 46],
  ["DF", 0],
  ["CS7", 56],
  ["AF43", 38],
  ["AF44", undefined],
  ["", undefined],
  ["-1", undefined],
])("DSCP %j is %s", (text, expected) => {
  expect(parseDscp(text)).toBe(expected);
});
