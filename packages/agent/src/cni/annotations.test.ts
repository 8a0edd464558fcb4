import { expect, test } from "vitest";
import { limitProblems } from "./annotations.ts";

const record = (limits: Readonly<Record<string, string>>) => ({
  uid: "u",
  annotations: Object.fromEntries(
    Object.entries(limits).map(([key, value]) => [`qos.projectcalico.org/${key}`, value]),
  ),
  namespaceAnnotations: {},
  namespaceLabels: {},
});

test("limits that are wrong are named", () => {
  expect(limitProblems(undefined)).toEqual([]);
  expect(limitProblems(record({ ingressBandwidth: "1M", egressBandwidth: "1M" }))).toEqual([]);
  const many = { ingressBandwidth: "fast", egressMaxConnections: "3", ingressPacketRate: "20k", dscp: "64" };
  expect(limitProblems(record(many))).toEqual([
    'qos.projectcalico.org/ingressBandwidth: "fast" is not a quantity',
    "qos.projectcalico.org/ingressPacketRate: 20k is out of range, 10000 is used",
    'qos.projectcalico.org/dscp: "64" is neither 0 to 63 nor a name such as EF or AF11',
  ]);
});
