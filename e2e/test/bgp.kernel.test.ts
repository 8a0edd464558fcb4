import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, Run, traces } from "./simulator.ts";
import { podsEverywhere, processesIn, Traffic } from "./traffic.ts";

// Every shipped topology whose nodes speak BGP: it converges, the demo keeps its promises on it, and whichever process is killed, no packet
// between pods is lost: forwarding goes on while a daemon is away (graceful restart), and routes are taken over when it is back.

const DEMO = join(import.meta.dirname, "../../sim/demo");
const EXPECTATIONS = join(DEMO, "expectations.yaml");
const EVERYWHERE = join(import.meta.dirname, "fixtures/everywhere.yaml");
/** A busy machine may need this long to bring a daemon and its sessions back. */
const RECOVERY_MS = 60_000;

interface Victim {
  /** Node, or `router.` and the router. */
  readonly in: string;
  /** Part of its command line. */
  readonly program: string;
}

interface Scenario {
  readonly topology: string;
  /** Lines of `ip route` on node-1, one for each of these. */
  readonly routes: readonly RegExp[];
  /** Whose death costs no packet. */
  readonly victims: readonly Victim[];
  /**
   * Whose death may cost some, and everything is well again after. FRR's bgpd keeps forwarding only if its neighbours come back in one order:
   * it begins to choose when those that are there have told all, and drops for a moment what the others told before. And for two minutes after
   * any start it says that it restarts, so a neighbour that really restarts does not wait for what it has to tell (RFC 4724 section 4.1).
   */
  readonly lossy?: readonly Victim[];
}

const onNode = (program: string): Victim => ({ in: "node-1", program });
const inRouter = (router: string, program: string): Victim => ({ in: `router.${router}`, program });

const SCENARIOS: readonly Scenario[] = [
  {
    topology: "bgp-mesh",
    routes: [/^10\.244\.\S+\/26 via 172\.30\.1\.1[23] dev eth0 proto bird/m, /^blackhole 10\.244\.\S+\/26 proto 80/m],
    victims: [onNode("calico-bgp.mjs"), onNode("calico-agent.mjs"), onNode("calico-node.mjs")],
  },
  {
    topology: "bgp-reflectors",
    routes: [/^10\.244\.\S+\/26 via 172\.30\.1\.12 dev eth0 proto bird/m],
    victims: [inRouter("reflector", "gobgpd"), onNode("calico-bgp.mjs")],
  },
  {
    topology: "bgp-racks",
    routes: [
      /^10\.244\.\S+\/26 via 172\.30\.1\.12 dev eth0 proto bird/m,
      /^10\.244\.\S+\/26 via 172\.30\.1\.1 dev eth0 proto bird/m,
      /^203\.0\.113\.1 via 172\.30\.1\.1 dev eth0 proto bird/m,
    ],
    victims: [inRouter("tor-1", "bird "), inRouter("tor-2", "zebra "), onNode("calico-bgp.mjs")],
    lossy: [inRouter("tor-2", "bgpd "), inRouter("spine", "calico-speaker")],
  },
  {
    topology: "bgp-ecmp",
    routes: [
      /^10\.244\.\S+\/26 proto bird metric \d+ *\n\s+nexthop via 172\.30\.1\.1 .*\n\s+nexthop via 172\.30\.1\.2 /m,
    ],
    victims: [inRouter("tor-1a", "bird "), inRouter("tor-2a", "calico-speaker")],
    lossy: [inRouter("tor-1b", "bgpd ")],
  },
  {
    topology: "bgp-dual-stack",
    routes: [
      /^10\.244\.\S+\/26 via 172\.30\.1\.1 dev eth0 proto bird/m,
      /^fd44::\S+\/122 via fd30:1::1 dev eth0 proto bird/m,
    ],
    victims: [onNode("calico-bgp.mjs")],
    lossy: [inRouter("spine", "bgpd ")],
  },
  {
    topology: "mixed-modes",
    routes: [
      /^10\.244\.\S+\/26 via 172\.30\.1\.1 dev eth0 proto bird/m,
      /^10\.244\.\S+\/26 via \S+ dev vxlan\.calico proto 80/m,
      /^10\.244\.\S+\/26 via 172\.30\.1\.\S+ dev eth0 proto 80/m,
    ],
    victims: [inRouter("spine", "bird "), onNode("calico-agent.mjs")],
  },
];

interface Status {
  readonly routers: readonly {
    readonly name: string;
    readonly sessions: readonly { readonly neighbour: string; readonly state: string }[];
  }[];
}

/** Sessions of routers that do not stand. */
async function downSessions(run: Run): Promise<string[]> {
  const [status] = await run.json<Status[]>("status");
  return (status?.routers ?? []).flatMap(({ name, sessions }) =>
    sessions
      .filter(({ state }) => state !== "Established")
      .map(({ neighbour, state }) => `${name} with ${neighbour}: ${state}`),
  );
}

async function unreadyNodes(run: Run): Promise<string> {
  const pods = await run.must("-n", "kube-system", "get", "pods", "-l", "k8s-app=calico-node", "--no-headers");
  return pods
    .split("\n")
    .filter((line) => line !== "" && !/\s1\/1\s+Running/.test(line))
    .join("\n");
}

const routesOf = (run: Run, node: string): string =>
  ["-4", "-6"]
    .map((family) => execFileSync("ip", ["-n", `cs-${run.name}-${node}`, family, "route"], { encoding: "utf8" }))
    .join("");

/** SIGKILL; resolves when another process is in its place and every session stands again. */
async function killAndWait(run: Run, victim: Victim): Promise<void> {
  const [pid] = processesIn(run, victim.in, victim.program);
  expect({ victim, pid }).toEqual({ victim, pid: expect.any(Number) });
  process.kill(pid ?? 0, "SIGKILL");
  await eventually(
    `${victim.program.trim()} in ${victim.in} is back`,
    () => Promise.resolve(processesIn(run, victim.in, victim.program)),
    (found) => found.some((one) => one !== pid),
    RECOVERY_MS,
  );
  await eventually(
    `sessions after ${victim.program.trim()} in ${victim.in} was killed`,
    async () => [...(await downSessions(run)), await unreadyNodes(run)].filter((text) => text !== ""),
    (down) => down.length === 0,
    RECOVERY_MS,
  );
}

describe.each(SCENARIOS)("$topology", ({ topology, routes, victims, lossy = [] }) => {
  const name = `t-${topology}-${process.pid}`;
  let run: Run;
  beforeAll(async () => {
    run = await Run.up(name, "--topology", topology, "--manifests", DEMO, "--manifests", EVERYWHERE);
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

  test("loses no packet when a process is killed", {
    timeout: 150_000 + 2 * victims.length * RECOVERY_MS,
  }, async () => {
    const pods = await podsEverywhere(run);
    expect(pods.length).toBeGreaterThan(2);
    const traffic = new Traffic(pods);
    try {
      for (const victim of victims) await killAndWait(run, victim);
    } finally {
      await traffic.end();
    }
    expect(traffic.lost).toEqual([]);
    expect(traffic.sent).toBeGreaterThan(victims.length * 10);
    await agrees();
  });

  for (const victim of lossy) {
    const name = `recovers from the death of ${victim.program.trim()} in ${victim.in}`;
    test(name, { timeout: 90_000 + 2 * RECOVERY_MS }, async () => {
      await killAndWait(run, victim);
      await agrees();
    });
  }
});
