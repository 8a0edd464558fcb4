import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { killOneOfEach, KILLING_MS, Run, traces } from "./simulator.ts";

// Every shipped topology whose nodes speak BGP: it converges, the demo keeps its promises on it, and whichever kind of process is killed that
// routes depend on, what its row in the table of promises says holds: forwarding goes on while a daemon is away (graceful restart), and routes
// are taken over after.

const DEMO = join(import.meta.dirname, "../../sim/demo");
const EXPECTATIONS = join(DEMO, "expectations.yaml");
interface Scenario {
  readonly topology: string;
  /** Lines of `ip route` on node-1, one for each of these. */
  readonly routes: readonly RegExp[];
  /** Of its routers; kinds of process beside those that every node has. */
  readonly routers: readonly string[];
}

const SCENARIOS: readonly Scenario[] = [
  {
    topology: "bgp-mesh",
    routers: [],
    routes: [/^10\.244\.\S+\/26 via 172\.30\.1\.1[23] dev eth0 proto bird/m, /^blackhole 10\.244\.\S+\/26 proto 80/m],
  },
  {
    topology: "bgp-reflectors",
    routers: ["gobgpd"],
    routes: [/^10\.244\.\S+\/26 via 172\.30\.1\.12 dev eth0 proto bird/m],
  },
  {
    topology: "bgp-racks",
    routers: ["bgpd", "bird", "calico-speaker", "zebra"],
    routes: [
      /^10\.244\.\S+\/26 via 172\.30\.1\.12 dev eth0 proto bird/m,
      /^10\.244\.\S+\/26 via 172\.30\.1\.1 dev eth0 proto bird/m,
      /^203\.0\.113\.1 via 172\.30\.1\.1 dev eth0 proto bird/m,
    ],
  },
  {
    topology: "bgp-ecmp",
    routers: ["bgpd", "bird", "calico-speaker", "zebra"],
    routes: [
      /^10\.244\.\S+\/26 proto bird metric \d+ *\n\s+nexthop via 172\.30\.1\.1 .*\n\s+nexthop via 172\.30\.1\.2 /m,
    ],
  },
  {
    topology: "bgp-dual-stack",
    routers: ["bgpd", "zebra"],
    routes: [
      /^10\.244\.\S+\/26 via 172\.30\.1\.1 dev eth0 proto bird/m,
      /^fd44::\S+\/122 via fd30:1::1 dev eth0 proto bird/m,
    ],
  },
  {
    topology: "mixed-modes",
    routers: ["bird"],
    routes: [
      /^10\.244\.\S+\/26 via 172\.30\.1\.1 dev eth0 proto bird/m,
      /^10\.244\.\S+\/26 via \S+ dev vxlan\.calico proto 80/m,
      /^10\.244\.\S+\/26 via 172\.30\.1\.\S+ dev eth0 proto 80/m,
    ],
  },
];

const ON_NODES = ["calico-agent", "calico-bgp", "calico-node"];

const routesOf = (run: Run, node: string): string =>
  ["-4", "-6"]
    .map((family) => execFileSync("ip", ["-n", `cs-${run.name}-${node}`, family, "route"], { encoding: "utf8" }))
    .join("");

describe.each(SCENARIOS)("$topology", ({ topology, routes, routers }) => {
  const name = `t-${topology}-${process.pid}`;
  let run: Run;
  beforeAll(async () => {
    run = await Run.up(name, "--topology", topology, "--manifests", DEMO);
  }, 180_000);
  afterAll(async () => {
    await run?.[Symbol.asyncDispose]();
    expect(traces(name)).toEqual([]);
  });

  const agrees = async (): Promise<void> => {
    const { code, stdout, stderr } = await run.sim("verify", EXPECTATIONS, "--within", "60");
    expect({ code, output: code === 0 ? "" : stdout + stderr }).toEqual({ code: 0, output: "" });
  };

  test("converges, and is what the demo's expectations say", { timeout: 150_000 }, async () => {
    await agrees();
    const shown = routesOf(run, "node-1");
    for (const route of routes) expect(shown).toMatch(route);
  });

  test("keeps its promises whatever kind of process is killed that routes depend on", {
    timeout: KILLING_MS + 150_000,
  }, async () => {
    const kinds = [...ON_NODES, ...routers];
    const { killed, broken } = await killOneOfEach(run, kinds);
    expect(broken).toEqual([]);
    expect(killed.toSorted()).toEqual(kinds.toSorted());
    await agrees();
  });
});
