import colorsModule from "picocolors";
import { expect, test } from "vitest";
import { topologyPath } from "../topology/shipped.ts";
import { loadTopology } from "../topology/topology-file.ts";
import { CAPABILITY_TABLE } from "./capability-table.ts";
import { explain, formatDoctor } from "./doctor.ts";

const colors = colorsModule.createColors(false);

test("what is missing comes with its cost and its remedy, what is needed first", () => {
  const findings = explain([
    { name: "btf", present: false, detail: "" },
    { name: "link:ipip", present: false, detail: "" },
    { name: "namespaces", present: true, detail: "" },
    { name: "something:new", present: false, detail: "" },
  ]);
  expect(findings.map(({ name }) => name)).toEqual(["namespaces", "link:ipip", "btf", "something:new"]);
  const text = formatDoctor(findings, { able: true, colors });
  expect(text).toMatch(/^yes +namespaces +needed +network namespaces$/m);
  expect(text).toMatch(
    /^no +link:ipip +used +IPIP tunnels: pools with encapsulation ipip cannot be used \(modprobe ipip/m,
  );
  expect(text).not.toContain("something:new");
  expect(formatDoctor(findings, { able: false, colors })).toContain("cannot run clusters");
});

test("a topology needs what its pools use", () => {
  const plan = loadTopology(topologyPath("default"));
  expect(CAPABILITY_TABLE["link:vxlan"]?.neededBy?.(plan)).toBe(true);
  expect(CAPABILITY_TABLE["link:ipip"]?.neededBy?.(plan)).toBe(false);
  expect(CAPABILITY_TABLE["ipv6"]?.neededBy?.(plan)).toBe(false);
});
