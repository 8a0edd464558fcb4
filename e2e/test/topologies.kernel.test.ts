import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { eventually, killOneOfEach, KILLING_MS, Run, traces } from "./simulator.ts";

// The demo promises the same on every network it is put on; only the way of the packets differs. On each way, one process of each kind that packets
// depend on is killed under traffic. Topologies with BGP: bgp.kernel.test.ts; one switch and VXLAN: cluster.kernel.test.ts.

const NAME = `t-topology-${process.pid}`;
const DEMO = join(import.meta.dirname, "../../sim/demo");
const EXPECTATIONS = join(DEMO, "expectations.yaml");

afterEach(() => expect(traces(NAME)).toEqual([]));

const routesOf = (node: string, family: 4 | 6 = 4): string =>
  execFileSync("ip", ["-n", `cs-${NAME}-${node}`, `-${family}`, "route", "show", "proto", "80"], { encoding: "utf8" });

async function agrees(run: Run): Promise<void> {
  const { code, stdout, stderr } = await run.sim("verify", EXPECTATIONS, "--within", "30");
  expect({ code, output: code === 0 ? "" : stdout + stderr }).toEqual({ code: 0, output: "" });
}

const ON_NODES = ["calico-agent", "calico-node"];
const TIMEOUT_MS = KILLING_MS + 300_000;

async function losesNothing(run: Run, kinds = ON_NODES): Promise<void> {
  const { killed, broken } = await killOneOfEach(run, kinds);
  expect(broken).toEqual([]);
  expect(killed).toEqual(kinds);
}

const hasVxlan = (node: string): boolean => routesOf(node).includes("vxlan.calico");
const hasDirect = (node: string): boolean => /^10\.\S+\/26 via \S+ dev eth0/m.test(routesOf(node));

test("two-racks: routes inside a rack, VXLAN between racks", { timeout: TIMEOUT_MS }, async () => {
  await using run = await Run.up(NAME, "--topology", "two-racks", "--manifests", DEMO);
  await agrees(run);
  expect({ vxlan: hasVxlan("node-1"), direct: hasDirect("node-1") }).toEqual({ vxlan: true, direct: true });
  // Not even the end of control plane and kubelets stops a packet.
  await losesNothing(run, [...ON_NODES, "simulator"]);
});

test("no-encapsulation: plain routes on one subnet; its pool becomes VXLAN and plain again under running pods", {
  timeout: TIMEOUT_MS,
}, async () => {
  await using run = await Run.up(NAME, "--topology", "no-encapsulation", "--manifests", DEMO);
  await agrees(run);
  expect({ vxlan: hasVxlan("node-1"), direct: hasDirect("node-1") }).toEqual({ vxlan: false, direct: true });
  expect(routesOf("node-1")).toMatch(/^blackhole 10\.\S+\/26/m);
  const restarts = (): Promise<string> =>
    run.must(
      "get",
      "pods",
      "-A",
      "-o",
      "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}{'\\n'}",
    );
  const before = await restarts();
  for (const [mode, wanted] of [
    ["Always", { vxlan: true, direct: false }],
    ["Never", { vxlan: false, direct: true }],
  ] as const) {
    await run.must(
      "patch",
      "ippool",
      "default-ipv4-ippool",
      "--type=merge",
      "-p",
      JSON.stringify({ spec: { vxlanMode: mode } }),
    );
    await eventually(
      `routes with vxlanMode ${mode}`,
      () => Promise.resolve({ vxlan: hasVxlan("node-1"), direct: hasDirect("node-1") }),
      (found) => JSON.stringify(found) === JSON.stringify(wanted),
      60_000,
    );
    await agrees(run);
  }
  expect(await restarts()).toBe(before);
  await losesNothing(run);
  await agrees(run);
});

test("dual-stack: both families of every pair, each in its VXLAN", { timeout: TIMEOUT_MS }, async () => {
  await using run = await Run.up(NAME, "--topology", "dual-stack", "--manifests", DEMO);
  await agrees(run);
  expect(hasVxlan("node-1")).toBe(true);
  expect(routesOf("node-1", 6)).toMatch(/^fd44::\S+\/122 via \S+ dev vxlan-v6\.calico/m);
  const families = (await run.matrix("--namespace", "ferry")).map((probe) => probe.family);
  expect(new Set(families)).toEqual(new Set([4, 6]));
  await losesNothing(run);
  await agrees(run);
});

interface Verified {
  readonly checks: number;
  readonly disagreements: readonly { readonly to: string }[];
}

test("ipv6: nodes, pods and Services without any IPv4", { timeout: TIMEOUT_MS }, async () => {
  await using run = await Run.up(NAME, "--topology", "ipv6", "--manifests", DEMO);
  const { checks, disagreements } = await run.json<Verified>("verify", EXPECTATIONS);
  expect(checks).toBeGreaterThan(500);
  // One statement is about an IPv4 address on the Internet, to which there is no route here.
  expect(disagreements.filter(({ to }) => to !== "203.0.113.7")).toEqual([]);
  expect(routesOf("node-1", 6)).toMatch(/^fd44::\S+\/122 via \S+ dev vxlan-v6\.calico/m);
  expect(routesOf("node-1")).toBe("");
  await losesNothing(run);
});

test("ten-nodes: every node's pods reach every other's", { timeout: TIMEOUT_MS }, async () => {
  await using run = await Run.up(NAME, "--topology", "ten-nodes", "--manifests", DEMO);
  await agrees(run);
  for (const node of ["node-1", "node-10"]) {
    expect(routesOf(node).match(/^10\.\S+\/26 via \S+ dev vxlan\.calico/gm)?.length).toBeGreaterThan(0);
  }
});
