/**
 * What a client of nf_tables can rely on, as a list of scenarios that run against the real kernel and against the fake:
 * the fake is only worth something while both agree.
 */
import { parseAddress, parsePrefix } from "@calico-ts/net";
import {
  accept,
  addressElement,
  counter,
  drop,
  goto,
  interfaceKey,
  jump,
  lookup,
  type NftCommand,
  type NftSet,
  type NftTable,
  prefixElement,
  rule,
  sameRule,
  verdictElement,
  verdictMap,
} from "@calico-ts/netlink";
import { CalicoError } from "@calico-ts/std";
import type { NftClient } from "../kernel.ts";

const table: NftTable = { family: "inet", name: "contract" };
const ips: NftSet = { name: "ips", keyTypes: ["ipv4_addr"] };
const nets: NftSet = { name: "nets", keyTypes: ["ipv4_addr"], interval: true };
const small: NftSet = { name: "small", keyTypes: ["ipv4_addr"], size: 2 };
const dispatch: NftSet = { name: "dispatch", keyTypes: ["ifname"], mapTo: "verdict" };
const address = (text: string) => addressElement(parseAddress(text));
const toChain = (name: string, chain: string) => verdictElement(interfaceKey(name), { kind: "goto", chain });

const base: readonly NftCommand[] = [
  { do: "delete-table", table, ifExists: true },
  { do: "add-table", table },
  ...[ips, nets, small, dispatch].map((set): NftCommand => ({ do: "add-set", table, set })),
  { do: "add-chain", table, chain: { name: "a" } },
  { do: "add-chain", table, chain: { name: "b" } },
];

const chain = (name: string): NftCommand => ({ do: "add-chain", table, chain: { name } });
const add = (name: string, ...parts: Parameters<typeof rule>[0][]): NftCommand => ({
  do: "add-rule",
  table,
  chain: name,
  rule: rule(parts.flat(), "why"),
});
const elements = (set: NftSet, ...list: ReturnType<typeof address>[]): NftCommand => ({
  do: "add-elements",
  table,
  set,
  elements: list,
});

/** "done", or the name of the errno and the index of the command that was refused. */
async function outcome(client: NftClient, commands: readonly NftCommand[]): Promise<string> {
  try {
    await client.apply(commands);
    return "done";
  } catch (error) {
    if (!(error instanceof CalicoError)) throw error;
    return `${String(error.detail["errnoName"])} at ${String(error.detail["commandIndex"])}`;
  }
}

export interface NftScenario {
  readonly name: string;
  /** Applied one after the other onto the base. */
  readonly steps: readonly (readonly NftCommand[])[];
  /** The outcome of each step. */
  readonly expected: readonly string[];
}

export const nftScenarios: readonly NftScenario[] = [
  {
    name: "additions are idempotent",
    steps: [
      [chain("a"), elements(ips, address("10.0.0.1"))],
      [chain("a"), elements(ips, address("10.0.0.1"))],
    ],
    expected: ["done", "done"],
  },
  {
    name: "a table that is not there",
    steps: [[{ do: "add-chain", table: { family: "inet", name: "no" }, chain: { name: "x" } }]],
    expected: ["ENOENT at 0"],
  },
  {
    name: "deleting a table that is not there",
    steps: [
      [{ do: "delete-table", table: { family: "ip", name: "no" } }],
      [{ do: "delete-table", table: { family: "ip", name: "no" }, ifExists: true }],
    ],
    expected: ["ENOENT at 0", "done"],
  },
  {
    name: "a rule for a chain that is not there",
    steps: [[chain("c"), add("no", accept())]],
    expected: ["ENOENT at 1"],
  },
  { name: "a jump to a chain that is not there", steps: [[add("a", jump("no"))]], expected: ["ENOENT at 0"] },
  {
    name: "a look-up in a set that is not there",
    steps: [[add("a", lookup("no", ["ip saddr"]))]],
    expected: ["ENOENT at 0"],
  },
  {
    name: "a set used by a rule cannot go; with the rule gone it can",
    steps: [
      [add("a", lookup("ips", ["ip saddr"]), drop())],
      [{ do: "delete-set", table, set: "ips" }],
      [
        { do: "flush-chain", table, chain: "a" },
        { do: "delete-set", table, set: "ips" },
      ],
    ],
    expected: ["done", "EBUSY at 0", "done"],
  },
  {
    name: "a chain jumped to cannot go; with the jump gone it can",
    steps: [
      [add("a", goto("b"))],
      [{ do: "delete-chain", table, chain: "b" }],
      [
        { do: "flush-chain", table, chain: "a" },
        { do: "delete-chain", table, chain: "b" },
      ],
    ],
    expected: ["done", "EBUSY at 0", "done"],
  },
  {
    name: "a chain a verdict map leads to cannot go",
    steps: [
      [elements(dispatch, toChain("eth0", "b"))],
      [{ do: "delete-chain", table, chain: "b" }],
      [
        { do: "flush-set", table, set: "dispatch" },
        { do: "delete-chain", table, chain: "b" },
      ],
    ],
    expected: ["done", "EBUSY at 0", "done"],
  },
  {
    name: "deleting a chain takes its rules along",
    steps: [[add("a", accept())], [{ do: "delete-chain", table, chain: "a" }]],
    expected: ["done", "done"],
  },
  {
    name: "a map entry cannot be changed by adding, but by deleting and adding in one transaction",
    steps: [
      [elements(dispatch, toChain("eth0", "a"))],
      [elements(dispatch, toChain("eth0", "b"))],
      [
        { do: "delete-elements", table, set: dispatch, elements: [{ key: interfaceKey("eth0") }] },
        elements(dispatch, toChain("eth0", "b")),
      ],
    ],
    expected: ["done", "EEXIST at 0", "done"],
  },
  {
    name: "a map entry to a chain that is not there",
    steps: [[elements(dispatch, toChain("eth0", "no"))]],
    expected: ["ENOENT at 0"],
  },
  {
    name: "deleting an element that is not there",
    steps: [[{ do: "delete-elements", table, set: ips, elements: [address("10.0.0.1")] }]],
    expected: ["ENOENT at 0"],
  },
  {
    name: "a set that is full",
    steps: [[elements(small, address("10.0.0.1"), address("10.0.0.2"))], [elements(small, address("10.0.0.3"))]],
    expected: ["done", "ENFILE at 0"],
  },
  {
    name: "adjacent ranges are fine, overlapping ones are not",
    steps: [
      [elements(nets, prefixElement(parsePrefix("10.0.0.0/24")), prefixElement(parsePrefix("10.0.1.0/24")))],
      [elements(nets, prefixElement(parsePrefix("10.0.0.0/16")))],
    ],
    expected: ["done", "EEXIST at 0"],
  },
  {
    name: "a set of the same name and another type",
    steps: [[{ do: "add-set", table, set: { ...ips, keyTypes: ["ipv6_addr"] } }]],
    expected: ["EEXIST at 0"],
  },
  {
    name: "a set that is not there",
    steps: [
      [elements({ name: "no", keyTypes: ["ipv4_addr"] }, address("10.0.0.1"))],
      [{ do: "flush-set", table, set: "no" }],
      [{ do: "delete-set", table, set: "no" }],
    ],
    expected: ["ENOENT at 0", "ENOENT at 0", "ENOENT at 0"],
  },
  {
    name: "a rule handle that is not there",
    steps: [
      [{ do: "delete-rule", table, chain: "a", handle: 99_999n }],
      [{ do: "replace-rule", table, chain: "a", handle: 99_999n, rule: rule(accept()) }],
    ],
    expected: ["ENOENT at 0", "ENOENT at 0"],
  },
  {
    name: "all or nothing",
    steps: [
      [chain("new"), elements(ips, address("10.0.0.9")), add("no", accept())],
      [{ do: "delete-chain", table, chain: "new" }],
      [{ do: "delete-elements", table, set: ips, elements: [address("10.0.0.9")] }],
    ],
    expected: ["ENOENT at 2", "ENOENT at 0", "ENOENT at 0"],
  },
  {
    name: "created, used and filled in one transaction",
    steps: [
      [
        chain("new"),
        { do: "add-set", table, set: { ...ips, name: "fresh" } },
        elements({ ...ips, name: "fresh" }, address("10.0.0.1")),
        add("new", lookup("fresh", ["ip daddr"]), drop()),
        add("a", jump("new")),
      ],
    ],
    expected: ["done"],
  },
  {
    name: "a verdict map dispatches",
    steps: [[add("a", verdictMap("dispatch", ["iifname"])), elements(dispatch, toChain("eth0", "b"))]],
    expected: ["done"],
  },
];

export async function runScenario(client: NftClient, scenario: NftScenario): Promise<string[]> {
  await client.apply(base);
  const outcomes: string[] = [];
  for (const step of scenario.steps) outcomes.push(await outcome(client, step));
  await client.apply([{ do: "delete-table", table }]);
  return outcomes;
}

/** Adds, inserts, replaces and deletes rules by the handles a listing gives; returns the comments in order after each. */
export async function editRules(client: NftClient): Promise<string[][]> {
  await client.apply(base);
  const asked = rule([...counter(), ...accept()], "one");
  const seen: string[][] = [];
  const look = async (): Promise<bigint[]> => {
    const entries = await client.listRules(table, "a");
    seen.push(entries.map((entry) => entry.rule.comment ?? ""));
    return entries.map((entry) => entry.handle);
  };
  await client.apply([
    { do: "add-rule", table, chain: "a", rule: asked },
    { do: "add-rule", table, chain: "a", rule: rule(drop(), "two") },
  ]);
  const [first] = await client.listRules(table, "a");
  seen.push([first !== undefined && sameRule(first.rule, asked) ? "same" : "different"]);
  const [one = 0n, two = 0n] = await look();
  await client.apply([
    { do: "insert-rule", table, chain: "a", rule: rule(drop(), "zero") },
    { do: "insert-rule", table, chain: "a", rule: rule(drop(), "between"), beforeHandle: two },
  ]);
  await look();
  await client.apply([
    { do: "replace-rule", table, chain: "a", handle: one, rule: rule(drop(), "uno") },
    { do: "delete-rule", table, chain: "a", handle: two },
  ]);
  await look();
  await client.apply([{ do: "delete-table", table }]);
  return seen;
}

export const expectedEdits: readonly (readonly string[])[] = [
  ["same"],
  ["one", "two"],
  ["zero", "one", "between", "two"],
  ["zero", "uno", "between"],
];
