import type { Rule, RuleMatch } from "@calico-ts/dataplane-api";
import { MATCH_ANYTHING } from "@calico-ts/dataplane-api";
import { expect, test } from "vitest";
import { ruleText } from "../testing/nft-text.ts";
import { renderRule } from "../render/nft/render-chain.ts";
import type { ExpansionContext } from "./rule-expansion.ts";
import { expandRule } from "./rule-expansion.ts";
import type { ActionStyle, ExpandedRules } from "./rule-expansion.ts";

const STYLE: ActionStyle = {
  allow: [{ kind: "accept" }],
  deny: [{ kind: "drop" }],
  pass: [{ kind: "set-mark", mask: 2, value: 2 }, { kind: "return" }],
  log: [{ kind: "log", prefix: "p: " }],
  passed: { kind: "mark", mask: 2, value: 2 },
};

const PARTS: Readonly<Record<string, readonly { readonly family: 4 | 6; readonly name: string }[]>> = {
  s4: [{ family: 4, name: "s4/v4" }],
  mixed: [
    { family: 4, name: "mixed/v4" },
    { family: 4, name: "mixed/v4-nets" },
    { family: 6, name: "mixed/v6" },
  ],
  n: [{ family: 4, name: "n/v4" }],
};

const CONTEXT: ExpansionContext = {
  setParts: (id) => PARTS[id],
  inlineSet: (key, elements) => `inline-${key}-${elements.length}`,
};

function expand(match: Partial<RuleMatch>, action: Rule["action"] = "allow"): ExpandedRules | undefined {
  const rule: Rule = { action, index: 0, match: { ...MATCH_ANYTHING, ...match } };
  return expandRule(rule, STYLE, CONTEXT, { blockName: "block", comment: "c" });
}

const lines = (expanded: ExpandedRules | undefined): string[] =>
  (expanded?.rules ?? []).map((rule) => ruleText(renderRule(rule)).replace(" # c", ""));

test("a rule without a family is one rule for both", () => {
  expect(lines(expand({ protocol: 6, destinationPorts: [{ first: 80, last: 80 }] }))).toEqual([
    "meta l4proto == 6 th dport == 80 accept",
  ]);
});

test("port ranges include both ends; several become a set", () => {
  expect(lines(expand({ protocol: 17, destinationPorts: [{ first: 10, last: 20 }] }))).toEqual([
    "meta l4proto == 17 th dport == 10-20 accept",
  ]);
  expect(
    lines(
      expand({
        protocol: 17,
        notSourcePorts: [
          { first: 1, last: 2 },
          { first: 4, last: 4 },
        ],
      }),
    ),
  ).toEqual(["meta l4proto == 17 th sport not in @inline-port-2 accept"]);
});

test("a set is a rule per part, and only families that have one", () => {
  expect(lines(expand({ sourceSets: ["mixed"] }))).toEqual([
    "meta nfproto == ipv4 ip saddr in @mixed/v4 accept",
    "meta nfproto == ipv4 ip saddr in @mixed/v4-nets accept",
    "meta nfproto == ipv6 ip6 saddr in @mixed/v6 accept",
  ]);
  expect(lines(expand({ sourceSets: ["s4"] }))).toEqual(["meta nfproto == ipv4 ip saddr in @s4/v4 accept"]);
});

test("a negated set excludes all its parts at once, and applies to a family without parts", () => {
  expect(lines(expand({ notDestinationSets: ["mixed"] }))).toEqual([
    "meta nfproto == ipv4 ip daddr not in @mixed/v4 ip daddr not in @mixed/v4-nets accept",
    "meta nfproto == ipv6 ip6 daddr not in @mixed/v6 accept",
  ]);
  expect(lines(expand({ notSourceSets: ["s4"] }))).toEqual([
    "meta nfproto == ipv4 ip saddr not in @s4/v4 accept",
    "meta nfproto == ipv6 accept",
  ]);
});

test("prefixes of one family make the rule one of that family, negated ones too", () => {
  expect(lines(expand({ notSourceNets: ["10.0.0.0/8"] }))).toEqual([
    "meta nfproto == ipv4 @network,12,1 != 0x0a accept",
  ]);
  expect(lines(expand({ sourceNets: ["10.0.0.0/8"], notDestinationNets: ["fd00::/8"] }))).toEqual([]);
});

test("nested prefixes do not reach a set: intervals must not overlap", () => {
  expect(lines(expand({ sourceNets: ["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"] }))).toEqual([
    "meta nfproto == ipv4 ip saddr in @inline-ipv4-2 accept",
  ]);
});

test("numeric and named ports are alternatives", () => {
  expect(
    lines(expand({ protocol: 6, destinationPorts: [{ first: 80, last: 80 }], destinationNamedPortSets: ["n"] })),
  ).toEqual([
    "meta nfproto == ipv4 meta l4proto == 6 th dport == 80 accept",
    "meta nfproto == ipv4 meta l4proto == 6 ip daddr . meta l4proto . th dport in @n/v4 accept",
    // No named port has an IPv6 address, the number stays.
    "meta nfproto == ipv6 meta l4proto == 6 th dport == 80 accept",
  ]);
});

test("a named port nobody has matches nothing", () => {
  expect(lines(expand({ protocol: 6, family: 6, destinationNamedPortSets: ["n"] }))).toEqual([]);
});

test("an ICMP type without a protocol is the family's own", () => {
  expect(lines(expand({ icmp: { type: 8 } }))).toEqual([
    "meta nfproto == ipv4 meta l4proto == 1 icmp type == 0x08 accept",
    "meta nfproto == ipv6 meta l4proto == 58 icmp type == 0x08 accept",
  ]);
});

test("many combinations become a ladder that a packet walks once", () => {
  const expanded = expand({ sourceSets: ["mixed", "mixed"], destinationSets: ["mixed", "mixed"], family: 4 }, "deny");
  expect(lines(expanded)).toEqual(["meta nfproto == ipv4 jump block-v4-0"]);
  expect(expanded?.blocks.map(({ name, rules }) => [name, rules.map(({ actions }) => actions)])).toEqual([
    ["block-v4-0", [[{ kind: "goto", chain: "block-v4-1" }], [{ kind: "goto", chain: "block-v4-1" }]]],
    ["block-v4-1", [[{ kind: "goto", chain: "block-v4-2" }], [{ kind: "goto", chain: "block-v4-2" }]]],
    ["block-v4-2", [[{ kind: "goto", chain: "block-v4-3" }], [{ kind: "goto", chain: "block-v4-3" }]]],
    ["block-v4-3", [[{ kind: "drop" }], [{ kind: "drop" }]]],
  ]);
});

test("a pass inside a ladder leaves the policy as well", () => {
  const expanded = expand({ sourceSets: ["mixed", "mixed"], destinationSets: ["mixed", "mixed"], family: 4 }, "pass");
  expect(lines(expanded)).toEqual([
    "meta nfproto == ipv4 jump block-v4-0",
    "meta mark & 0x02000000 ^ 0x00000000 == 0x02000000 return",
  ]);
});

test("a log speaks once for a packet that matches in two ways", () => {
  const expanded = expand(
    { protocol: 6, destinationPorts: [{ first: 1, last: 99 }], destinationNamedPortSets: ["n"], family: 4 },
    "log",
  );
  expect(lines(expanded)).toEqual(["meta nfproto == ipv4 meta l4proto == 6 jump block-v4-0"]);
  expect(expanded?.blocks[0]?.rules.map(({ actions }) => actions.at(-1))).toEqual([
    { kind: "goto", chain: "block-v4-log" },
    { kind: "goto", chain: "block-v4-log" },
  ]);
  expect(expanded?.blocks.at(-1)).toMatchObject({ name: "block-v4-log", rules: [{ matches: [], actions: STYLE.log }] });
});

test("a rule about a set that does not exist has no meaning", () => {
  expect(expand({ notSourceSets: ["unknown"] })).toBeUndefined();
});
