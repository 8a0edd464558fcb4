/**
 * What rules say about packets: to a flow-log collector (NFLOG groups 1 and 2), and by the action Log.
 *
 * A Log rule writes to the kernel's log, which every namespace of the machine shares and many may not read. Here the same rule
 * writes to an NFLOG group of the test's instead; prefix, limit and place are as rendered.
 */
import type { NflogPacket } from "@calico-ts/netlink";
import type { NftCommand, NftExpr } from "@calico-ts/netlink";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import {
  applyChange,
  createCompiler,
  diffRulesets,
  isEmptyChange,
  NftPolicyRenderer,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";
import { globalPolicy, namespace, node, pod, policy, resource } from "@calico-ts/policy-compiler/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readTable } from "./kernel-table.ts";
import { LAB_PODS, NODE_ADDRESS, PacketLab } from "./packet-lab.ts";

const PORTS = [80, 81, 82, 83];
const LOG_GROUP = 7;
let lab: PacketLab;
let listener: Disposable;
let packets: NflogPacket[] = [];

beforeAll(() => {
  lab = new PacketLab(`ct-${process.pid}l`);
  for (const where of ["node", ...LAB_PODS.map(({ name }) => name)]) for (const port of PORTS) lab.listen(where, port);
  listener = lab.kernel.nflog([1, 2, LOG_GROUP], (packet) => {
    if (packet === "overrun") throw new Error("the kernel dropped log messages");
    packets.push(packet);
  });
});
afterAll(() => {
  listener[Symbol.dispose]();
  lab[Symbol.dispose]();
});

const base = [
  namespace("a"),
  namespace("b"),
  ...LAB_PODS.map((spec) => pod(`${spec.namespace}/${spec.name}`, { ips: [spec.address], labels: { app: spec.name } })),
  node("n1", { ipv4: `${NODE_ADDRESS}/24` }),
];
const felix = (spec: object): CompilerUpdate => resource("FelixConfiguration", "default", { spec });
const EMPTY = { ...new NftPolicyRenderer().desired(), chains: new Map(), sets: new Map() };

const redirected = (expr: NftExpr): NftExpr =>
  expr.kind === "log" && expr.group === undefined ? { kind: "log", prefix: expr.prefix ?? "", group: LOG_GROUP } : expr;

const redirect = (command: NftCommand): NftCommand =>
  command.do === "add-rule"
    ? { ...command, rule: { ...command.rule, exprs: command.rule.exprs.map(redirected) } }
    : command;

async function program(...world: readonly CompilerUpdate[]): Promise<NftPolicyRenderer> {
  const renderer = new NftPolicyRenderer();
  renderer.setHostInterfaces(new Map([["eth0", [NODE_ADDRESS]]]));
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of [...base, ...world]) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const observed = await readTable(lab.kernel).catch(() => EMPTY);
  const target = new NodePlanKernel(lab.kernel);
  await applyChange(diffRulesets(observed, renderer.desired()), {
    commit: (commands) => target.commit(commands.map(redirect)),
    setGroups: (groups) => target.setGroups(groups),
  });
  packets = [];
  return renderer;
}

const opens = (where: string, address: string, port: number): Promise<boolean> =>
  lab.connects(where, address, port, 10_000);

const portOf = ({ payload }: NflogPacket): number => ((payload[22] ?? 0) << 8) | (payload[23] ?? 0);
const sourcePortOf = ({ payload }: NflogPacket): number => ((payload[20] ?? 0) << 8) | (payload[21] ?? 0);

/** What was said about connections to a port, in order; a repeated request says the same again. */
const said = (port: number): string[] => [
  ...new Set(packets.filter((packet) => portOf(packet) === port).map(({ group, prefix }) => `${group} ${prefix}`)),
];

const expectSaid = (port: number, lines: readonly string[]): Promise<void> =>
  expect.poll(() => said(port), { timeout: 10_000 }).toEqual(lines);

describe("flow logs", () => {
  const fromP0 = { action: "Allow", protocol: "TCP", source: { selector: "app == 'p0'" } };
  const rules = [
    { ...fromP0, destination: { ports: [80] } },
    { action: "Deny", protocol: "TCP", destination: { ports: [81] } },
  ];
  const world = [
    resource("Tier", "first", { spec: { order: 1, defaultAction: "Pass" } }),
    globalPolicy("first.some", {
      tier: "first",
      selector: "app == 'p1'",
      ingress: [{ action: "Pass", protocol: "TCP", destination: { ports: [82] } }],
    }),
    policy("a/web", { selector: "app == 'p1'", types: ["Ingress"], ingress: rules }),
  ];
  const outward = "2 ARE0|kns.a";

  test("each verdict is told, with who decided", async () => {
    const renderer = await program(felix({ flowLogsLocalReporter: "Enabled" }), ...world);
    expect(isEmptyChange(diffRulesets(await readTable(lab.kernel), renderer.desired()))).toBe(true);
    expect(await opens("p0", "10.0.0.2", 80)).toBe(true);
    for (const port of [81, 82, 83]) expect(await lab.connects("p0", "10.0.0.2", port)).toBe(false);
    await expectSaid(80, [outward, "1 PPI|first", "1 API0|np/a/web"]);
    await expectSaid(81, [outward, "1 PPI|first", "1 DPI1|np/a/web"]);
    await expectSaid(82, [outward, "1 PPI0|gnp/first.some", "1 DPI|default"]);
    await expectSaid(83, [outward, "1 PPI|first", "1 DPI|default"]);
    const accepted = packets.find(({ prefix }) => prefix.startsWith("API0"));
    expect([...(accepted?.payload.subarray(12, 20) ?? [])]).toEqual([10, 0, 0, 1, 10, 0, 0, 2]);
    expect(accepted).toMatchObject({ family: 4, hook: 2 });
  });

  test("a tier of staged policies only passes, and tells so", async () => {
    const listened = felix({ flowLogsLocalReporter: "Enabled" });
    const stagedTier = resource("Tier", "staged", { spec: { order: 0 } });
    const spec = { tier: "staged", selector: "app == 'p1'", types: ["Ingress"], ingress: [{ action: "Deny" }] };
    const stagedPolicy = resource("StagedGlobalNetworkPolicy", "staged.deny", { spec });
    const other = resource("StagedNetworkPolicy", "default.x", { spec: { selector: "all()", types: ["Egress"] } }, "a");
    await program(listened, ...world, stagedTier, stagedPolicy, other);
    expect(await opens("p0", "10.0.0.2", 80)).toBe(true);
    expect(await lab.connects("p0", "10.0.0.2", 83)).toBe(false);
    // The sender's tier has a staged policy for that direction, the receiver's default tier an enforced one.
    await expectSaid(80, ["2 PPE|default", outward, "1 PPI|staged", "1 PPI|first", "1 API0|np/a/web"]);
    await expectSaid(83, ["2 PPE|default", outward, "1 PPI|staged", "1 PPI|first", "1 DPI|default"]);
  });

  test("profiles, and a host endpoint nothing allows", async () => {
    const endpoint = resource("HostEndpoint", "uplink", { spec: { node: "n1", interfaceName: "eth0" } });
    await program(felix({ flowLogsGoldmaneServer: "goldmane:7443" }), endpoint);
    expect(await opens("p0", "10.0.1.1", 80)).toBe(true);
    await expectSaid(80, [outward, "1 ARI0|kns.b"]);
    expect(await lab.connects("out", NODE_ADDRESS, 81)).toBe(false);
    await expectSaid(81, ["1 DRI"]);
  });

  test("nobody listens: nothing is said", async () => {
    await program(...world);
    expect(await opens("p0", "10.0.0.2", 80)).toBe(true);
    await program(felix({ flowLogsLocalReporter: "Enabled" }), ...world);
    expect(await lab.connects("p0", "10.0.0.2", 81)).toBe(false);
    await expectSaid(81, [outward, "1 PPI|first", "1 DPI1|np/a/web"]);
    expect(said(80)).toEqual([]);
  });
});

describe("the action Log", () => {
  const logged = { types: ["Ingress"], ingress: [{ action: "Log", protocol: "TCP" }, { action: "Allow" }] };
  const world = [
    globalPolicy("everyone", { ...logged, selector: "app == 'p1'", order: 1 }),
    policy("a/mine", { ...logged, selector: "app == 'p2' || app == 'p0'" }),
  ];

  test.each([
    [undefined, "calico-packet: ", "calico-packet: "],
    ["%t %k %p %n 100%x", "default gnp everyone everyone 100%x: ", "default np a/mine mine 100%x: "],
    ["x".repeat(200), `${"x".repeat(125)}: `, `${"x".repeat(125)}: `],
  ])("logPrefix %s", async (logPrefix, ofGlobal, ofNamespaced) => {
    await program(felix(logPrefix === undefined ? {} : { logPrefix }), ...world);
    expect(await opens("p0", "10.0.0.2", 80)).toBe(true);
    expect(await opens("p1", "10.0.0.1", 81)).toBe(true);
    await expectSaid(80, [`7 ${ofGlobal}`]);
    await expectSaid(81, [`7 ${ofNamespaced}`]);
  });

  interface Limits {
    readonly logActionRateLimit?: string;
    readonly logActionRateLimitBurst?: number;
  }
  test.each<[string, object, Limits, number]>([
    ["one rule", { protocol: "TCP" }, { logActionRateLimit: "1/day", logActionRateLimitBurst: 3 }, 3],
    ["the default burst", { protocol: "TCP" }, { logActionRateLimit: "1/day" }, 5],
    ["no limit", { protocol: "TCP" }, {}, 8],
    [
      "a rule with alternatives",
      { protocol: "TCP", source: { nets: ["10.0.0.0/16"] }, destination: { ports: ["http", "1:100"] } },
      { logActionRateLimit: "1/day", logActionRateLimitBurst: 3 },
      3,
    ],
  ])("%s: connections beyond the limit pass without a word", async (_what, match, spec, lines) => {
    const ingress = [{ action: "Log", ...match }, { action: "Allow" }];
    const named = pod("a/p1", {
      ips: ["10.0.0.2"],
      labels: { app: "p1" },
      ports: [{ name: "http", containerPort: 80, protocol: "TCP" }],
    });
    await program(
      felix({ ...spec, flowLogsLocalReporter: "Enabled" }),
      named,
      globalPolicy("everyone", { selector: "app == 'p1'", types: ["Ingress"], ingress }),
    );
    for (let at = 0; at < 8; at++) expect(await opens("p0", "10.0.0.2", 80)).toBe(true);
    // The Allow that follows is told to the collector in any case: when all of those are here, so is what Log said.
    const connections = (group: number): number =>
      new Set(packets.filter((packet) => packet.group === group).map(sourcePortOf)).size;
    await expect.poll(() => connections(1), { timeout: 10_000 }).toBe(8);
    // A request that was repeated on a slow machine counts against the limit, and is no other connection.
    const spoken = packets.filter(({ group }) => group === LOG_GROUP).length;
    expect(spec.logActionRateLimit === undefined ? connections(LOG_GROUP) : spoken).toBe(lines);
  });
});
