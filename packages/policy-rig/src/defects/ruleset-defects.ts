/** Deliberate defects of the renderer: the finished ruleset is wrong in one way each. */
import type { NftElement, NftExpr, NftRule } from "@calico-ts/netlink";
import { concatKey, hostUint32, interfaceKey, matchOifname, rule, sameBytes } from "@calico-ts/netlink";
import type { RenderedChain, RenderedSet, Ruleset } from "@calico-ts/policy-compiler";
import { elementKey } from "@calico-ts/policy-compiler";
import type { Defect } from "../candidate.ts";
import { interfaceOf, LOCAL } from "../lab/plan.ts";

type Rules = readonly NftRule[];

/** Chains whose name matches; `change` gets the rules and the name. */
const inChains = (name: string, about: string, where: RegExp, change: (rules: Rules) => Rules): Defect => ({
  name,
  about,
  ruleset: (ruleset) => ({
    ...ruleset,
    chains: new Map(
      Array.from(ruleset.chains, ([chain, rendered]): [string, RenderedChain] => [
        chain,
        where.test(chain) ? { ...rendered, rules: change(rendered.rules) } : rendered,
      ]),
    ),
  }),
});

export const NAT_DEFECTS: readonly Defect[] = [
  inChains("nat-outgoing-lost", "what leaves the pools keeps its address", /^nat-outgoing$/, () => []),
  inChains("nat-towards-pools", "NAT outgoing also between pools", /^nat-outgoing$/, (rules) =>
    rules.map((rule) => ({
      ...rule,
      exprs: rule.exprs.filter((expr) => expr.kind !== "lookup" || !expr.set.startsWith("all-pools")),
    })),
  ),
];

const POLICY = /^(policy|profile)-/;
const BLOCK = /\/block-\d/;
/** Of pods and of hosts. */
const WALK = /(^|^host-|^forward-)walk-/;

type RewriteExprs = (exprs: readonly NftExpr[]) => readonly NftExpr[] | undefined;

/** `change` gets the expressions of each rule; undefined: the rule goes. */
const inExprs = (name: string, about: string, where: RegExp, change: RewriteExprs): Defect =>
  inChains(name, about, where, (rules) =>
    rules.flatMap((rule): NftRule[] => {
      const exprs = change(rule.exprs);
      return exprs === undefined ? [] : [{ ...rule, exprs }];
    }),
  );

const inExpr = (name: string, about: string, where: RegExp, change: (expr: NftExpr) => NftExpr): Defect =>
  inExprs(name, about, where, (exprs) => exprs.map(change));

const inSets = (
  name: string,
  about: string,
  change: (rendered: RenderedSet, setName: string, ruleset: Ruleset) => RenderedSet,
): Defect => ({
  name,
  about,
  ruleset: (ruleset) => ({
    ...ruleset,
    sets: new Map(Array.from(ruleset.sets, ([set, rendered]) => [set, change(rendered, set, ruleset)])),
  }),
});

const unhooked = (name: string, about: string, chain: string): Defect =>
  inChains(name, about, new RegExp(`^${chain}$`), () => []);

const withElements = (rendered: RenderedSet, keep: (element: NftElement, at: number) => boolean): RenderedSet => ({
  set: rendered.set,
  elements: new Map([...rendered.elements].filter(([, element], at) => keep(element, at))),
});

const verdictOf = (exprs: readonly NftExpr[]): string | undefined => {
  const last = exprs.at(-1);
  return last?.kind === "verdict" ? last.verdict.kind : undefined;
};

const isStateRule = (exprs: readonly NftExpr[], bit: number): boolean =>
  exprs[0]?.kind === "ct" && exprs[0].key === "state" && exprs[1]?.kind === "bitwise" && hasBit(exprs[1].mask, bit);

/** Integers of the kernel are in host order: the low byte is first or last. */
const hasBit = (mask: Uint8Array, bit: number): boolean => (((mask[0] ?? 0) | (mask[3] ?? 0)) & bit) !== 0;

const withoutBit = (mask: Uint8Array, bit: number): Uint8Array =>
  mask.map((byte, at) => (at % 3 === 0 ? byte & ~bit : byte));

const STATE = { invalid: 1, established: 2, related: 4 } as const;

const nudge = (bytes: Uint8Array, by: number): Uint8Array => {
  const copy = Uint8Array.from(bytes);
  for (let at = copy.length - 1, carry = by; at >= 0 && carry !== 0; at--) {
    const value = (copy[at] ?? 0) + carry;
    copy[at] = value & 255;
    carry = value < 0 ? -1 : value > 255 ? 1 : 0;
  }
  return copy;
};

const dispatchDropLost = (name: string, about: string, chain: RegExp): Defect =>
  inChains(name, about, chain, (rules) => rules.filter(({ exprs }) => verdictOf(exprs) !== "drop"));

const endingIn = (name: string, about: string, chain: RegExp): Defect =>
  inChains(name, about, chain, (rules) => [...rules, rule([{ kind: "verdict", verdict: { kind: "drop" } }])]);

export const RULE_DEFECTS: readonly Defect[] = [
  inExpr("set-negation-lost", "lookups in sets are never negated", POLICY, (expr) =>
    expr.kind === "lookup" && expr.invert === true ? { kind: "lookup", set: expr.set, sreg: expr.sreg } : expr,
  ),
  inExpr("comparison-negation-lost", "comparisons are never negated", POLICY, (expr) =>
    expr.kind === "cmp" && expr.op === "neq" ? { ...expr, op: "eq" } : expr,
  ),
  inExpr("range-negation-lost", "port ranges are never negated", POLICY, (expr) =>
    expr.kind === "range" ? { ...expr, op: "eq" } : expr,
  ),
  inExpr("range-begins-early", "ranges in rules begin one too low", POLICY, (expr) =>
    expr.kind === "range" ? { ...expr, from: nudge(expr.from, -1) } : expr,
  ),
  inExpr("range-ends-early", "ranges in rules end one too low", POLICY, (expr) =>
    expr.kind === "range" ? { ...expr, to: nudge(expr.to, -1) } : expr,
  ),
  inExprs("ipv6-rules-lost", "policies have no rules for IPv6", POLICY, (exprs) =>
    exprs.some((expr, at) => expr.kind === "cmp" && expr.data[0] === 10 && isLoadOf(exprs[at - 1], "nfproto"))
      ? undefined
      : exprs,
  ),
  inExpr("icmpv6-taken-for-icmp", "ICMPv6 is compared with ICMP's number", POLICY, (expr) =>
    expr.kind === "cmp" && expr.data.length === 1 && expr.data[0] === 58 ? { ...expr, data: Uint8Array.of(1) } : expr,
  ),
  inExpr("ports-byte-order", "ports in rules are in the wrong byte order", POLICY, (expr) =>
    expr.kind === "cmp" && expr.data.length === 2 ? { ...expr, data: expr.data.toReversed() } : expr,
  ),
  inExpr("destination-port-offset", "the destination port is read where the source port is", POLICY, (expr) =>
    expr.kind === "payload" && expr.base === "transport" && expr.offset === 2 ? { ...expr, offset: 0 } : expr,
  ),
  inExpr("ipv6-source-offset", "the IPv6 source address is read where the destination is", POLICY, (expr) =>
    expr.kind === "payload" && expr.base === "network" && expr.offset === 8 && expr.length === 16
      ? { ...expr, offset: 24 }
      : expr,
  ),
  inExpr("accept-only-returns", "Allow in policies only goes back", POLICY, (expr) =>
    expr.kind === "verdict" && expr.verdict.kind === "accept" ? { kind: "verdict", verdict: { kind: "return" } } : expr,
  ),
  inExpr("pass-mark-not-set", "Pass does not mark the packet", POLICY, (expr) =>
    expr.kind === "bitwise" ? { ...expr, xor: new Uint8Array(expr.xor.length) } : expr,
  ),
  inChains(
    "ladder-step-cut",
    "where choices are a ladder of chains, only the first alternative counts",
    BLOCK,
    (rules) => rules.slice(0, 1),
  ),
  inExprs("ladder-pass-lost", "Pass at the end of a ladder only leaves the ladder", POLICY, (exprs) =>
    isLoadOf(exprs[0], "mark") && verdictOf(exprs) === "return" ? undefined : exprs,
  ),
  inChains("long-policies-cut", "policies end after four rules", POLICY, (rules) => rules.slice(0, 4)),
];

const isLoadOf = (expr: NftExpr | undefined, key: "nfproto" | "mark"): boolean =>
  expr?.kind === "meta" && expr.key === key;

export const WALK_DEFECTS: readonly Defect[] = [
  inExprs("established-lost", "packets of connections that stand meet policy again", WALK, (exprs) =>
    isStateRule(exprs, STATE.established) ? undefined : exprs,
  ),
  inExpr("related-lost", "errors about connections that stand meet policy", WALK, (expr) =>
    expr.kind === "bitwise" && hasBit(expr.mask, STATE.related) && hasBit(expr.mask, STATE.established)
      ? { ...expr, mask: withoutBit(expr.mask, STATE.related) }
      : expr,
  ),
  inExprs("invalid-accepted", "packets of no connection are not dropped", WALK, (exprs) =>
    isStateRule(exprs, STATE.invalid) ? undefined : exprs,
  ),
  inChains("final-drop-lost", "what no profile allows is let through", WALK, (rules) => rules.slice(0, -1)),
  inExprs("pass-mark-not-cleared", "the mark of Pass stays set in later tiers", WALK, (exprs) =>
    exprs.some((expr) => expr.kind === "meta-set") ? undefined : exprs,
  ),
  inExprs("pass-mark-not-read", "the rest of a tier is not skipped after Pass", WALK, (exprs) =>
    isLoadOf(exprs[0], "mark") && verdictOf(exprs) === "jump" ? exprs.slice(-1) : exprs,
  ),
  inExprs("tier-end-lost", "the end of a tier does nothing", WALK, (exprs) =>
    isLoadOf(exprs[0], "mark") && verdictOf(exprs) === "drop" ? undefined : exprs,
  ),
  inExprs("vxlan-drop-lost", "pods may send VXLAN packets", WALK, (exprs) =>
    verdictOf(exprs) === "drop" && exprs.some((expr) => expr.kind === "payload") ? undefined : exprs,
  ),
  inExprs("ipip-drop-lost", "pods may send IPIP packets", WALK, (exprs) =>
    verdictOf(exprs) === "drop" &&
    exprs.some((expr) => expr.kind === "cmp" && expr.data.length === 1 && expr.data[0] === 4)
      ? undefined
      : exprs,
  ),
  endingIn("untracked-ends-with-drop", "what no doNotTrack policy decides is dropped", /^untracked-walk-/),
  endingIn("pre-dnat-ends-with-drop", "what no preDNAT policy decides is dropped", /^pre-dnat-walk-/),
  endingIn("forward-ends-with-drop", "what applyOnForward policies pass on is dropped", /^forward-walk-/),
  inChains(
    "raw-answers-lost",
    "answers from failsafe ports are not known without connections",
    /^failsafe-(in|out)-raw$/,
    (rules) =>
      rules.filter(
        ({ exprs }) => !exprs.some((expr) => expr.kind === "payload" && expr.base === "transport" && expr.offset === 0),
      ),
  ),
  inExpr("policies-do-not-return", "policies are gone to, not jumped to", WALK, (expr) =>
    expr.kind === "verdict" && expr.verdict.kind === "jump" && expr.verdict.chain.startsWith("policy-")
      ? { kind: "verdict", verdict: { kind: "goto", chain: expr.verdict.chain } }
      : expr,
  ),
  dispatchDropLost("spoof-check-lost", "pods may send from any address", /^workload-source-check$/),
  dispatchDropLost(
    "unknown-receiver-open",
    "packets to pods nobody knows are let through",
    /^forward-to-workload-dispatch$/,
  ),
  unhooked("egress-unhooked", "forwarded packets do not meet egress policy", "forward-from-workload"),
  unhooked("ingress-unhooked", "packets do not meet ingress policy", "forward-to-workload"),
  unhooked("to-host-unhooked", "packets to the node do not meet egress policy", "input-from-workload"),
  unhooked("source-check-unhooked", "sources are not checked", "raw-prerouting"),
];

export const SET_DEFECTS: readonly Defect[] = [
  inSets("interval-ends-early", "ranges in sets end one too early", (rendered) =>
    rendered.set.interval !== true || rendered.set.keyTypes.length > 1
      ? rendered
      : {
          set: rendered.set,
          elements: new Map(
            Array.from(rendered.elements, ([key, element]) => {
              const { keyEnd } = element;
              const narrow = keyEnd === undefined || sameBytes(keyEnd, element.key);
              return [key, narrow ? element : { ...element, keyEnd: nudge(keyEnd, -1) }];
            }),
          ),
        },
  ),
  inSets("first-range-lost", "the first range of a set is left out", (rendered) =>
    rendered.set.interval === true ? withElements(rendered, (_, at) => at > 0) : rendered,
  ),
  inSets("last-hash-element-lost", "the last single address of a set is left out", (rendered, name) =>
    rendered.set.interval === true || !name.startsWith("set/")
      ? rendered
      : withElements(rendered, (_, at) => at < rendered.elements.size - 1),
  ),
  inSets("last-group-lost", "the last group is in no dispatch map", (rendered, name) =>
    name.endsWith("-workload-dispatch") ? withElements(rendered, (_, at) => at < rendered.elements.size - 1) : rendered,
  ),
  inSets("dispatch-swapped", "groups lead to each other's ingress policy", (rendered, name) => {
    if (name !== "to-workload-dispatch") return rendered;
    const entries = [...rendered.elements];
    const values = entries.map(([, element]) => element.value);
    return {
      set: rendered.set,
      elements: new Map(
        entries.map(([key, element], at): [string, NftElement] => {
          const value = values[(at + 1) % values.length];
          return [key, value === undefined ? element : { ...element, value }];
        }),
      ),
    };
  }),
  inSets("dispatch-to-egress", "ingress dispatch leads to the egress walk", (rendered, name, ruleset) =>
    name === "to-workload-dispatch"
      ? { set: rendered.set, elements: ruleset.sets.get("from-workload-dispatch")?.elements ?? rendered.elements }
      : rendered,
  ),
];

const rotated = <T>(list: readonly T[]): readonly T[] => [...list.slice(1), ...list.slice(0, 1)];

/** Interface → group as the links are told. */
const inGroups = (
  name: string,
  about: string,
  change: (groups: readonly (readonly [string, number])[]) => readonly (readonly [string, number])[],
): Defect => ({
  name,
  about,
  ruleset: (ruleset) => ({ ...ruleset, groups: new Map(change([...ruleset.groups])) }),
});

const rotatedGroups: (groups: readonly (readonly [string, number])[]) => readonly (readonly [string, number])[] = (
  groups,
) => {
  const others = rotated(groups.map(([, group]) => group));
  return groups.map(([name, group], at) => [name, others[at] ?? group]);
};

/** The interfaces of the lab that have no endpoint are let in with a group that others have. */
function believeStrangers(ruleset: Ruleset): Ruleset {
  const believed = ruleset.sets.get(SET_OF_GROUPS);
  if (believed === undefined) return ruleset;
  const groups = new Set(ruleset.groups.values());
  const strangers = LOCAL.map(interfaceOf).filter((name) => !ruleset.groups.has(name));
  const elements = strangers.flatMap((name) =>
    Array.from(groups, (group): NftElement => ({ key: concatKey(interfaceKey(name), hostUint32(group)) })),
  );
  const all = new Map([...believed.elements, ...elements.map((element) => [elementKey(element), element] as const)]);
  return { ...ruleset, sets: new Map([...ruleset.sets, [SET_OF_GROUPS, { ...believed, elements: all }]]) };
}

const SET_OF_GROUPS = "workload-groups";

/** Believed and set alike: the pair of walks itself is somebody else's. */
function exchangePairs(ruleset: Ruleset): Ruleset {
  const groups = new Map(rotatedGroups([...ruleset.groups]));
  const believed = ruleset.sets.get(SET_OF_GROUPS);
  if (believed === undefined) return ruleset;
  const elements = Array.from(
    groups,
    ([name, group]): NftElement => ({
      key: concatKey(interfaceKey(name), hostUint32(group)),
    }),
  );
  const set = { ...believed, elements: new Map(elements.map((element) => [elementKey(element), element])) };
  return { ...ruleset, groups, sets: new Map([...ruleset.sets, [SET_OF_GROUPS, set]]) };
}

/** What sends the last interface to a walk by name, as during a move, has stayed there and is wrong by now. */
function keepOverride(ruleset: Ruleset): Ruleset {
  const [last] = [...ruleset.groups].slice(-1);
  const dispatch = ruleset.chains.get("forward-to-workload-dispatch");
  const walks = [...(ruleset.sets.get("to-workload-dispatch")?.elements.values() ?? [])];
  if (last === undefined || dispatch === undefined) return ruleset;
  const [name, own] = last;
  const verdict = walks.find(({ key }) => !sameBytes(key, hostUint32(own)))?.value;
  if (verdict === undefined || !("chain" in verdict)) return ruleset;
  const override = rule([...matchOifname(name), { kind: "verdict", verdict }]);
  const chain = { ...dispatch, rules: [override, ...dispatch.rules] };
  return { ...ruleset, chains: new Map([...ruleset.chains, [chain.chain.name, chain]]) };
}

export const GROUP_DEFECTS: readonly Defect[] = [
  inGroups("group-not-set", "the last pod's link has no group", (groups) => groups.slice(0, -1)),
  inGroups("group-of-another", "links have each other's groups", rotatedGroups),
  inSets("group-not-believed", "the last pod may have no group", (rendered, name) =>
    name === SET_OF_GROUPS ? withElements(rendered, (_, at) => at < rendered.elements.size - 1) : rendered,
  ),
  {
    name: "groups-exchanged",
    about: "pods have each other's groups, and are believed",
    ruleset: exchangePairs,
  },
  {
    name: "stale-group-believed",
    about: "a link keeps the group of an endpoint that is gone, and is believed",
    ruleset: believeStrangers,
  },
  inExprs(
    "group-not-checked",
    "any workload interface may have any group",
    /-dispatch$|^workload-to-host$/,
    (exprs) => {
      const guard = exprs.findIndex((expr) => expr.kind === "lookup" && expr.set === SET_OF_GROUPS);
      return guard === -1 ? exprs : exprs.slice(guard + 1);
    },
  ),
  {
    name: "move-never-ends",
    about: "a pod that has moved still takes the walk it was sent to by name",
    ruleset: keepOverride,
  },
];
