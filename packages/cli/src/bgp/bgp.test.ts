/** The commands that ask the BGP daemon, against a socket that answers what the test says. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExplanationReport, PeerReport, RouteReport, StatusRequest, StatusResults } from "@calico-ts/bgp";
import colors from "picocolors";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runCalicoctl } from "../program.ts";
import { sinceText } from "./text.ts";

const peer = (name: string, address: string, change: Partial<PeerReport> = {}): PeerReport => ({
  name,
  address,
  remoteAs: 64512,
  type: "internal",
  state: "Established",
  since: "2026-01-02T03:04:05.678Z",
  families: ["ipv4-unicast"],
  routes: [{ family: "ipv4-unicast", received: 2, advertised: 3, stale: false }],
  counters: { updatesReceived: 2, updatesSent: 1, messagesReceived: 3, messagesSent: 3, timesUp: 1 },
  holdSeconds: 90,
  cause: undefined,
  ...change,
});

const PEERS = [
  peer("Mesh_192_0_2_2", "192.0.2.2"),
  peer("Global_192_0_2_9_port_1790", "192.0.2.9", { state: "Idle", cause: "cannot connect to 192.0.2.9: refused" }),
  peer("Node_2001_db8__2", "2001:db8::2"),
];

const ROUTE: RouteReport = {
  prefix: "10.0.0.0/26",
  peer: "Mesh_192_0_2_2",
  best: true,
  stale: false,
  attributes: { nextHop: "192.0.2.2", localPref: 100, communities: ["64512:7"] },
};
const REFUSED: RouteReport = {
  ...ROUTE,
  prefix: "10.1.0.0/26",
  best: false,
  rejected: "filter BGPFilter edge importV4[0]",
};

const EXPLANATION: ExplanationReport = {
  prefix: "10.0.0.0/26",
  passedOver: "10.0.0.5/32",
  best: { peer: "a" },
  kernel: ["via 192.0.2.2 dev eth0 proto 12 metric 1024"],
  routes: [
    { peer: "a", verdict: "candidate", stale: false, attributes: { nextHop: "192.0.2.2" }, clauses: [] },
    {
      peer: "b",
      verdict: "rejected",
      reason: "filter BGPFilter edge importV4[0]",
      stale: false,
      attributes: { nextHop: "192.0.2.3", asPath: "65001 65002" },
      clauses: [{ rule: "BGPFilter edge importV4[0]", does: "rejects", changes: [] }],
    },
  ],
  steps: [{ step: "as-path-length", because: "the shortest AS path wins", removed: [{ peer: "c", pathId: 2 }] }],
  told: [
    {
      peer: "b",
      attributes: { communities: ["64512:7"] },
      clauses: [{ rule: "prefixAdvertisements[0]", does: "goes on", changes: ["add community 64512:7"] }],
    },
    { peer: "c", reason: "NO_EXPORT", clauses: [] },
  ],
};

let folder: string;
let servers: Server[];
let asked: StatusRequest[];
let answers: { -readonly [C in keyof StatusResults]?: StatusResults[C] };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ct-cli-bgp-"));
  mkdirSync(join(folder, "var/run/calico"), { recursive: true });
  servers = [];
  asked = [];
  answers = { peers: PEERS };
});
afterEach(async () => {
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

async function serve(name: string): Promise<void> {
  const server = createServer((socket) => {
    socket.on("data", (line) => {
      const request = JSON.parse(line.toString()) as StatusRequest;
      asked.push(request);
      const result = answers[request.command];
      const error = { code: "NOT_FOUND", message: "no BGP peer is named so" };
      socket.end(`${JSON.stringify(result === undefined ? { ok: false, error } : { ok: true, result })}\n`);
    });
    socket.on("error", () => undefined);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(join(folder, "var/run/calico", name), resolve));
}

async function run(...argv: string[]): Promise<{ code: number; out: string; notes: string }> {
  const out: string[] = [];
  const notes: string[] = [];
  const terminal = {
    out: (text: string) => void out.push(text),
    note: (text: string) => void notes.push(text),
    env: { CALICO_HOST_ROOT: folder },
    colors: colors.createColors(false),
  };
  return { code: await runCalicoctl(argv, terminal), out: out.join("\n"), notes: notes.join("\n") };
}

describe("node status", () => {
  test("has upstream's tables, one for each family", async () => {
    await serve("cni.sock");
    await serve("bgp.sock");
    expect(await run("node", "status")).toEqual({
      code: 0,
      notes: "",
      out: `Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+------------+-------------------------------------------+
| PEER ADDRESS |     PEER TYPE     | STATE |   SINCE    |                   INFO                    |
+--------------+-------------------+-------+------------+-------------------------------------------+
| 192.0.2.2    | node-to-node mesh | up    | 2026-01-02 | Established                               |
| 192.0.2.9    | global            | start | 2026-01-02 | Idle cannot connect to 192.0.2.9: refused |
+--------------+-------------------+-------+------------+-------------------------------------------+

IPv6 BGP status
+--------------+---------------+-------+------------+-------------+
| PEER ADDRESS |   PEER TYPE   | STATE |   SINCE    |    INFO     |
+--------------+---------------+-------+------------+-------------+
| 2001:db8::2  | node specific | up    | 2026-01-02 | Established |
+--------------+---------------+-------+------------+-------------+
`,
    });
  });

  test("without peers, without BGP, without Calico", async () => {
    expect(await run("node", "status")).toMatchObject({ code: 1, notes: "Calico process is not running." });
    await serve("cni.sock");
    expect(await run("node", "status")).toMatchObject({
      code: 0,
      out: "Calico process is running.\n\nThe BGP backend process (BIRD) is not running.\n",
    });
    await serve("bgp.sock");
    answers = { peers: [] };
    expect((await run("node", "status")).out).toContain("IPv4 BGP status\nNo IPv4 peers found.\n\nIPv6 BGP status\nNo");
  });

  test("says the time of day for what is young, the date for what is old", () => {
    const since = "2026-01-02T03:04:05.678Z";
    expect(sinceText(since, Date.parse("2026-01-02T20:00:00Z"))).toBe("03:04:05");
    expect(sinceText(since, Date.parse("2026-01-03T00:00:00Z"))).toBe("2026-01-02");
  });
});

describe("bgp", () => {
  test("show peers: why one is not up, what was refused, what is not in force", async () => {
    await serve("bgp.sock");
    answers.peers = [...PEERS.slice(1, 2), peer("Mesh_b", "192.0.2.3", { refused: { routes: 2, reason: "AS loop" } })];
    answers.status = {
      node: "n1",
      version: "v1",
      startedAt: "",
      reconfiguredAt: "",
      as: 64512,
      routerId: "192.0.2.1",
      restarting: false,
      problems: ["BGPFilter edge: too many operations"],
    };
    const { code, out, notes } = await run("bgp", "show", "peers");
    expect(code).toBe(0);
    expect(out).toContain("| Idle        | 2026-01-02 |        2 | cannot connect to 192.0.2.9: refused |");
    expect(out).toContain("| 2 refused: AS loop");
    expect(notes).toBe("not in force: BGPFilter edge: too many operations");
    expect(JSON.parse((await run("bgp", "show", "peers", "-o", "json")).out)).toHaveLength(2);
  });

  test("show routes, of one family", async () => {
    await serve("bgp.sock");
    answers.routes = [
      ROUTE,
      { ...ROUTE, prefix: "10.0.9.9/32", peer: "local", attributes: {}, own: { found: true, interface: "cali9" } },
    ];
    const { out } = await run("bgp", "show", "routes", "--family", "ipv4");
    expect(out).toMatch(/\| 10\.0\.0\.0\/26 \| 192\.0\.2\.2 \| Mesh_192_0_2_2 \| +\| +100 \| 64512:7 +\| best +\|/);
    expect(out).toMatch(/\| 10\.0\.9\.9\/32 \| +\| local .*\| best, found in the kernel on cali9 \|/);
    expect(asked).toEqual([{ command: "routes", family: "ipv4-unicast" }]);
  });

  test("show received and advertised: of one peer, or of all", async () => {
    await serve("bgp.sock");
    answers.received = [ROUTE, REFUSED];
    answers.advertised = [ROUTE];
    const received = await run("bgp", "show", "received", "192.0.2.2");
    expect(received.out).toContain("refused: filter BGPFilter edge importV4[0]");
    expect(asked).toEqual([{ command: "received", peer: "192.0.2.2" }]);
    const all = await run("bgp", "show", "advertised", "--json");
    expect(Object.keys(JSON.parse(all.out) as object)).toEqual(PEERS.map(({ name }) => name));
  });

  test("explain: candidates, the step that decided, what filters did", async () => {
    await serve("bgp.sock");
    answers.explain = EXPLANATION;
    expect((await run("bgp", "explain", "10.0.0.0/26")).out).toBe(`10.0.0.0/26
no route of 10.0.0.5/32 can be used; ask for that prefix to see why

candidates
  a: best
    next hop 192.0.2.2
  b: rejected, filter BGPFilter edge importV4[0]
    next hop 192.0.2.3, AS path 65001 65002
    filter: BGPFilter edge importV4[0]: rejects

decision
  as-path-length: the shortest AS path wins; that removed c (path 2)

kernel
  via 192.0.2.2 dev eth0 proto 12 metric 1024

told to
  b: communities 64512:7
    filter: prefixAdvertisements[0]: goes on, add community 64512:7
  c: not told, NO_EXPORT`);
    answers.explain = null;
    expect(await run("bgp", "explain", "10.9.0.0/26")).toMatchObject({ code: 1 });
  });

  test("no daemon, and what the daemon refuses, are told and exit with 1", async () => {
    const nobody = await run("bgp", "show", "peers");
    expect(nobody.code).toBe(1);
    expect(nobody.notes).toContain("no BGP daemon runs on this node");
    await serve("bgp.sock");
    expect(await run("bgp", "show", "received", "x")).toMatchObject({ code: 1, notes: "no BGP peer is named so" });
    expect((await run("bgp", "show", "received", "x", "--family", "ipx")).code).toBe(2);
  });
});
