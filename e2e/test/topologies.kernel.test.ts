import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { Run, traces } from "./simulator.ts";

// The demo promises the same on every network it is put on; only the way of the packets differs.

const NAME = `t-topology-${process.pid}`;
const DEMO = join(import.meta.dirname, "../../sim/demo");

afterEach(() => expect(traces(NAME)).toEqual([]));

const routesOf = (node: string): string =>
  execFileSync("ip", ["-n", `cs-${NAME}-${node}`, "route", "show", "proto", "80"], { encoding: "utf8" });

test.each([
  { topology: "no-encapsulation", vxlan: false, direct: true, what: "un-encapsulated routes on one subnet" },
  { topology: "two-racks", vxlan: true, direct: true, what: "routes inside a rack, VXLAN between racks" },
])("$topology: $what", { timeout: 120_000 }, async ({ topology, vxlan, direct }) => {
  await using run = await Run.up(NAME, "--topology", topology, "--manifests", DEMO);
  const { code, stdout, stderr } = await run.sim("verify", join(DEMO, "expectations.yaml"));
  expect({ code, output: code === 0 ? "" : stdout + stderr }).toEqual({ code: 0, output: "" });
  const lines = routesOf("node-1").split("\n");
  expect(lines.some((line) => line.includes("vxlan.calico"))).toBe(vxlan);
  expect(lines.some((line) => /^10\.\S+\/26 via \S+ dev eth0/.test(line))).toBe(direct);
});
