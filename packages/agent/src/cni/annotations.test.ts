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

test("limits that are wrong, and limits that nobody keeps, are named; bandwidth is kept", () => {
  expect(limitProblems(undefined)).toEqual([]);
  expect(limitProblems(record({ ingressBandwidth: "1M", egressBandwidth: "1M" }))).toEqual([]);
  const many = { ingressBandwidth: "fast", egressMaxConnections: "3", ingressPacketRate: "5", dscp: "EF" };
  expect(limitProblems(record(many))).toEqual([
    'qos.projectcalico.org/ingressBandwidth: "fast" is not a quantity',
    "qos.projectcalico.org/ingressPacketRate is not kept by this agent",
    "qos.projectcalico.org/egressMaxConnections is not kept by this agent",
    "qos.projectcalico.org/dscp is not kept by this agent",
  ]);
});
