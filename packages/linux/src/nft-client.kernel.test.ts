/** The nf_tables client against the kernel, with `nft -j` as the witness. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import {
  accept,
  addressElement,
  addressKey,
  concatKey,
  counter,
  dnat,
  drop,
  hostUint32,
  interfaceKey,
  jump,
  limit,
  log,
  lookup,
  masquerade,
  matchAddressType,
  matchCtState,
  matchDestinationPort,
  matchFamily,
  matchIcmp,
  matchIifname,
  matchMark,
  matchProtocol,
  matchSourceAddress,
  type NftCommand,
  type NftExpr,
  type NftRule,
  type NftSet,
  type NftTable,
  normalizeRule,
  notrack,
  portKey,
  portRangeElement,
  prefixElement,
  protocolKey,
  randomVerdict,
  reject,
  rule,
  sameRule,
  saveMark,
  setMark,
  verdictElement,
  verdictMap,
} from "@calico-ts/netlink";
import { afterAll, describe, expect, test } from "vitest";
import type { KernelEvent } from "./kernel.ts";
import { editRules, expectedEdits, nftScenarios, runScenario } from "./testing/nft-contract.ts";
import { scratchNamespace } from "./testing/scratch.ts";

const scratch = scratchNamespace("nft");
afterAll(() => scratch[Symbol.dispose]());
const { nft } = scratch.kernel;
const table: NftTable = { family: "inet", name: "calico" };

const SETS = {
  ips: { name: "ips", keyTypes: ["ipv4_addr"] },
  nets: { name: "nets", keyTypes: ["ipv4_addr"], interval: true },
  nets6: { name: "nets6", keyTypes: ["ipv6_addr"], interval: true },
  ports: { name: "ports", keyTypes: ["inet_service"], interval: true },
  services: { name: "services", keyTypes: ["ipv4_addr", "inet_proto", "inet_service"], mapTo: "verdict" },
  ranges: { name: "ranges", keyTypes: ["ipv4_addr", "inet_service"], interval: true },
  dispatch: { name: "dispatch", keyTypes: ["ifname"], mapTo: "verdict" },
  choice: { name: "choice", keyTypes: ["integer"], mapTo: "verdict" },
  marks: { name: "marks", keyTypes: ["mark"], mapTo: "mark" },
  macs: { name: "macs", keyTypes: ["ether_addr"], size: 16 },
} satisfies Record<string, NftSet>;

const begin: readonly NftCommand[] = [
  { do: "delete-table", table, ifExists: true },
  { do: "add-table", table },
  ...Object.values(SETS).map((set): NftCommand => ({ do: "add-set", table, set })),
  {
    do: "add-chain",
    table,
    chain: { name: "forward", base: { type: "filter", hook: "forward", priority: 0, policy: "drop" } },
  },
  {
    do: "add-chain",
    table,
    chain: { name: "nat-in", base: { type: "nat", hook: "prerouting", priority: -100, policy: "accept" } },
  },
  {
    do: "add-chain",
    table,
    chain: { name: "nat-out", base: { type: "nat", hook: "postrouting", priority: 100, policy: "accept" } },
  },
  { do: "add-chain", table, chain: { name: "pol" } },
];

interface Listed {
  readonly nftables: readonly Readonly<Record<string, Record<string, unknown>>>[];
}
const witness = (...args: string[]): Listed => scratch.json("nft", "-j", ...args) as Listed;
const witnessed = (kind: string): Record<string, unknown>[] =>
  witness("list", "table", "inet", "calico").nftables.flatMap((entry) =>
    entry[kind] === undefined ? [] : [entry[kind]],
  );

describe("the contract", () => {
  test.each(nftScenarios)("$name", async (scenario) => {
    expect(await runScenario(nft, scenario)).toEqual(scenario.expected);
  });

  test("rules are edited by handle", async () => {
    expect(await editRules(nft)).toEqual(expectedEdits);
  });
});

test("tables, chains and sets: nft sees what we asked for, and so do we", async () => {
  await nft.apply(begin);
  expect(await nft.listTables()).toContainEqual(table);
  expect(await nft.listSets(table)).toEqual(Object.values(SETS));
  const chains = begin.flatMap((command) => (command.do === "add-chain" ? [command.chain] : []));
  expect(await nft.listChains(table)).toEqual(chains);
  expect(witnessed("chain").find((chain) => chain["name"] === "forward")).toMatchObject({
    type: "filter",
    hook: "forward",
    prio: 0,
    policy: "drop",
  });
  expect(witnessed("set").find((set) => set["name"] === "ranges")).toMatchObject({
    type: ["ipv4_addr", "inet_service"],
    flags: ["interval"],
  });
  expect(witnessed("map").find((map) => map["name"] === "dispatch")).toMatchObject({ type: "ifname", map: "verdict" });
});

const withoutCounts = (rule: NftRule): NftRule => ({
  ...rule,
  exprs: rule.exprs.map((expr): NftExpr => (expr.kind === "counter" ? { kind: "counter" } : expr)),
});

test("every expression comes back from the kernel as it was asked for", async () => {
  await nft.apply(begin);
  const forward = [
    rule(
      [
        ...matchFamily(4),
        ...matchSourceAddress(parsePrefix("10.0.0.0/8")),
        ...matchProtocol(6),
        ...matchDestinationPort({ first: 80, last: 90 }),
        ...counter(),
        ...accept(),
      ],
      "KubernetesNetworkPolicy|default/x|ingress|0",
    ),
    rule([
      ...matchFamily(4),
      ...matchSourceAddress(parsePrefix("10.0.0.0/13"), { not: true }),
      ...lookup("nets", ["ip daddr"], { not: true }),
      ...drop(),
    ]),
    rule([...matchFamily(6), ...lookup("nets6", ["ip6 saddr"]), ...reject()]),
    rule([
      ...matchFamily(4),
      ...matchProtocol(6),
      ...lookup("ranges", ["ip saddr", "th dport"]),
      ...reject("tcp-reset"),
    ]),
    rule([...matchFamily(4), ...verdictMap("services", ["ip daddr", "l4proto", "th dport"])]),
    rule([...verdictMap("dispatch", ["iifname"])]),
    rule([...matchIifname("cali*"), ...matchIifname("eth0", { not: true }), ...jump("pol")]),
    rule([
      ...matchProtocol(1),
      ...matchIcmp({ type: 8, code: 0 }),
      ...limit({ rate: 5, burst: 7 }),
      ...log({ prefix: "calico-packet: ", group: 3, snaplen: 80 }),
      ...accept(),
    ]),
    rule([
      ...matchCtState(["established", "related"]),
      ...setMark(0x10, 0xf0),
      ...matchMark(0x10, 0xf0),
      ...saveMark(),
      ...log({ prefix: "kernel log" }),
    ]),
    rule([...randomVerdict("choice", 3)]),
    rule([...matchAddressType("daddr", "local"), ...notrack()].slice(0, 2), "fib only: notrack belongs in a raw chain"),
    rule([{ kind: "connlimit", count: 4, over: true }, ...drop()]),
    rule([
      { kind: "payload", base: "network", offset: 12, length: 4, dreg: 9 },
      { kind: "hash", sreg: 9, length: 4, modulus: 2, seed: 7, dreg: 1 },
      { kind: "lookup", set: "choice", sreg: 1, dreg: 0 },
    ]),
    rule([
      { kind: "ct", key: "dst-ip", direction: "original", dreg: 1 },
      { kind: "lookup", set: "ips", sreg: 1 },
      ...drop(),
    ]),
    rule([
      { kind: "meta", key: "mark", dreg: 1 },
      { kind: "lookup", set: "marks", sreg: 1, dreg: 1 },
      { kind: "meta-set", key: "mark", sreg: 1 },
    ]),
    rule([
      { kind: "immediate", dreg: 1, data: hostUint32(5) },
      { kind: "ct-set", key: "mark", sreg: 1 },
    ]),
    rule([
      { kind: "immediate", dreg: 1, data: Uint8Array.of(0x20) },
      { kind: "payload-set", base: "network", offset: 1, length: 1, sreg: 1, checksumOffset: 10 },
    ]),
  ];
  const nat = [
    rule([...matchFamily(4), ...matchProtocol(6), ...dnat({ address: parseAddress("10.0.0.9"), port: 80 })]),
    rule([...matchProtocol(6), { kind: "immediate", dreg: 1, data: portKey(99) }, { kind: "redirect", portMin: 1 }]),
  ];
  const snat = [rule(masquerade({ fullyRandom: true }))];
  const adds = (chain: string, rules: typeof forward): NftCommand[] =>
    rules.map((rule) => ({ do: "add-rule", table, chain, rule }));
  await nft.apply([...adds("forward", forward), ...adds("nat-in", nat), ...adds("nat-out", snat)]);

  const listed = async (chain: string) => (await nft.listRules(table, chain)).map((entry) => entry.rule);
  for (const [chain, asked] of [
    ["forward", forward],
    ["nat-in", nat],
    ["nat-out", snat],
  ] as const) {
    const there = await listed(chain);
    expect(there).toHaveLength(asked.length);
    asked.forEach((wanted, index) => {
      expect(withoutCounts(there[index])).toEqual(withoutCounts(normalizeRule(wanted)));
      expect(sameRule(there[index], wanted)).toBe(true);
    });
  }
  // The whole table in one listing, chain by chain.
  expect((await nft.listRules(table)).map((entry) => entry.chain)).toEqual([
    ...forward.map(() => "forward"),
    ...nat.map(() => "nat-in"),
    ...snat.map(() => "nat-out"),
  ]);
  const text = scratch.run("nft", "list", "table", "inet", "calico");
  for (const line of [
    'ip saddr 10.0.0.0/8 tcp dport 80-90 counter packets 0 bytes 0 accept comment "KubernetesNetworkPolicy|default/x|ingress|0"',
    "ip daddr . meta l4proto . th dport vmap @services",
    'iifname "cali*" iifname != "eth0" jump pol',
    "dnat ip to 10.0.0.9:80",
    "masquerade fully-random",
  ]) {
    expect(text).toContain(line);
  }
});

test("what nft lists of ours, nft loads again and lists the same", async () => {
  await nft.apply([
    ...begin,
    { do: "add-elements", table, set: SETS.choice, elements: [verdictElement(hostUint32(1), { kind: "accept" })] },
    { do: "add-elements", table, set: SETS.nets, elements: [prefixElement(parsePrefix("10.0.0.0/24"))] },
    {
      do: "add-elements",
      table,
      set: SETS.dispatch,
      elements: [verdictElement(interfaceKey("cali1"), { kind: "drop" })],
    },
    {
      do: "add-rule",
      table,
      chain: "pol",
      rule: rule([...matchFamily(4), ...lookup("nets", ["ip saddr"]), ...drop()], "it's why"),
    },
    { do: "add-rule", table, chain: "pol", rule: rule(randomVerdict("choice", 2)) },
  ]);
  const listed = scratch.run("nft", "list", "ruleset");
  const file = join(mkdtempSync(join(tmpdir(), "ct-nft-")), "listed.nft");
  writeFileSync(file, `flush ruleset\n${listed}`);
  scratch.run("nft", "-f", file);
  rmSync(dirname(file), { recursive: true });
  expect(scratch.run("nft", "list", "ruleset")).toBe(listed);
});

test("elements of every kind of set: nft and we see the same", async () => {
  await nft.apply(begin);
  const goTo = { kind: "goto", chain: "pol" } as const;
  const content = [
    {
      set: SETS.ips,
      elements: [
        { ...addressElement(parseAddress("10.0.0.1")), comment: "first" },
        addressElement(parseAddress("10.0.0.2")),
      ],
    },
    {
      set: SETS.nets,
      elements: ["0.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "10.5.5.5/32", "255.255.255.0/24"].map((text) =>
        prefixElement(parsePrefix(text)),
      ),
    },
    { set: SETS.nets6, elements: ["::/16", "fd00::/8"].map((text) => prefixElement(parsePrefix(text))) },
    {
      set: SETS.ports,
      elements: [
        portRangeElement({ first: 0, last: 10 }),
        portRangeElement({ first: 11, last: 11 }),
        portRangeElement({ first: 30_000, last: 65_535 }),
      ],
    },
    {
      set: SETS.services,
      elements: [
        verdictElement(concatKey(addressKey(parseAddress("10.96.0.1")), protocolKey(6), portKey(443)), {
          kind: "jump",
          chain: "pol",
        }),
      ],
    },
    {
      set: SETS.ranges,
      elements: [
        {
          key: concatKey(addressKey(parseAddress("10.0.0.0")), portKey(10)),
          keyEnd: concatKey(addressKey(parseAddress("10.0.0.255")), portKey(20)),
        },
        { key: concatKey(addressKey(parseAddress("10.2.0.0")), portKey(10)) },
      ],
    },
    { set: SETS.dispatch, elements: [verdictElement(interfaceKey("cali123"), goTo, "default/pod")] },
    { set: SETS.choice, elements: [verdictElement(hostUint32(1), { kind: "accept" })] },
    { set: SETS.marks, elements: [{ key: hostUint32(1), value: hostUint32(0x10) }] },
    { set: SETS.macs, elements: [{ key: Uint8Array.of(2, 0, 0, 0, 0, 1) }] },
  ];
  await nft.apply(content.map(({ set, elements }): NftCommand => ({ do: "add-elements", table, set, elements })));
  for (const { set, elements } of content) {
    const bare = elements.map((element) => {
      const { keyEnd, ...rest } = { keyEnd: undefined, ...element };
      return keyEnd === undefined || String(keyEnd) === String(element.key) ? rest : { ...rest, keyEnd };
    });
    const byKey = (list: readonly { readonly key: Uint8Array }[]) =>
      list.toSorted((a, b) => (String(a.key) < String(b.key) ? -1 : 1));
    expect([set.name, byKey(await nft.listElements(table, set))]).toEqual([set.name, byKey(bare)]);
  }
  expect(await nft.listElements(table, "macs")).toHaveLength(1);
  const elems = (name: string) =>
    [...witnessed("set"), ...witnessed("map")].find((set) => set["name"] === name)?.["elem"];
  expect(elems("nets")).toEqual([
    { prefix: { addr: "0.0.0.0", len: 8 } },
    { prefix: { addr: "10.0.0.0", len: 24 } },
    { prefix: { addr: "10.0.1.0", len: 24 } },
    "10.5.5.5",
    { prefix: { addr: "255.255.255.0", len: 24 } },
  ]);
  expect(elems("ports")).toEqual([{ range: [0, 10] }, 11, { range: [30_000, 65_535] }]);
  expect(elems("dispatch")).toEqual([
    [{ elem: { val: "cali123", comment: "default/pod" } }, { goto: { target: "pol" } }],
  ]);

  await nft.apply(content.map(({ set, elements }): NftCommand => ({ do: "delete-elements", table, set, elements })));
  for (const { set } of content) expect([set.name, await nft.listElements(table, set)]).toEqual([set.name, []]);
});

test("an element list larger than an attribute goes through whole", async () => {
  await nft.apply(begin);
  const elements = Array.from({ length: 20_000 }, (_, n) =>
    addressElement({ family: 4, value: BigInt(0x0a00_0000 + n) }),
  );
  await nft.apply([{ do: "add-elements", table, set: SETS.ips, elements }]);
  expect(await nft.listElements(table, "ips")).toHaveLength(20_000);
});

test("commands that ask for nothing do nothing", async () => {
  await nft.apply(begin);
  const before = await nft.generation();
  await nft.apply([]);
  await nft.apply([{ do: "delete-elements", table, set: SETS.ips, elements: [] }]);
  expect(await nft.generation()).toBe(before);
  await nft.apply([{ do: "add-elements", table, set: SETS.ips, elements: [] }]);
  expect(await nft.listElements(table, SETS.ips)).toEqual([]);
});

test("a set that is not there", async () => {
  await expect(nft.listElements(table, "nothing")).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(await nft.listRules({ family: "ip", name: "nothing" })).toEqual([]);
  expect(await nft.listSets({ family: "ip", name: "nothing" })).toEqual([]);
});

test("tables of other programs can be listed, whatever is in them", async () => {
  scratch.run(
    "nft",
    `add table ip foreign; add chain ip foreign c { type filter hook input priority 0; };
     add rule ip foreign c tcp flags & (fin|syn) == syn meta hour "10:00"-"12:00" tcp option maxseg size set 1400 accept;
     add set ip foreign s { type icmp_type; elements = { echo-request }; };
     add rule ip foreign c tcp dport { 22, 80-90 } accept`,
  );
  const foreign: NftTable = { family: "ip", name: "foreign" };
  const rules = await nft.listRules(foreign);
  expect(rules).toHaveLength(2);
  expect(rules[0]?.rule.exprs.some((expr) => expr.kind === "unknown")).toBe(true);
  expect((await nft.listSets(foreign)).find((set) => set.name === "s")?.keyTypes).toEqual([]);
});

test("concurrent transactions run one after the other", async () => {
  await nft.apply(begin);
  const adds = Array.from({ length: 50 }, (_, n) =>
    nft.apply([
      { do: "add-elements", table, set: SETS.ips, elements: [addressElement({ family: 4, value: BigInt(n + 1) })] },
    ]),
  );
  await Promise.all(adds);
  expect(await nft.listElements(table, SETS.ips)).toHaveLength(50);
});

test("notifications say which tables changed and who did it", async () => {
  await nft.apply(begin);
  const events: KernelEvent[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  using _ = scratch.kernel.watch(["nftables"], (event) => {
    events.push(event);
    if (events.length === 2) resolve();
  });
  await nft.apply([{ do: "add-chain", table, chain: { name: "mine" } }]);
  scratch.run("nft", "add chain inet calico theirs");
  await promise;
  const [mine, theirs] = events;
  expect(mine).toMatchObject({ kind: "nftables", tables: [table], portId: nft.portId });
  expect(theirs).toMatchObject({ kind: "nftables", tables: [table], process: { name: "nft" } });
  expect(theirs).not.toMatchObject({ portId: nft.portId });
  expect(await nft.generation()).toBe(theirs?.kind === "nftables" ? theirs.generation : -1);
});
