/**
 * The chains of one policy or profile and direction, shared by every endpoint it applies to. Allow accepts (which ends
 * the attached chain the packet came through, see `values.ts`), deny drops, pass marks and returns, and running off the
 * end means "no rule matched".
 *
 * Fail closed: a policy that names an IP set which does not exist denies everything in both directions.
 */
import type { ActivePolicy, PolicyId, Profile, Rule } from "@calico-ts/dataplane-api";
import type { FlowVerdict } from "./flow-log.ts";
import { policyOwnerId, ruleFlowLog, SHORT_KINDS } from "./flow-log.ts";
import type { Variant } from "./names.ts";
import { policyChain, profileChain } from "./names.ts";
import type { Direction } from "./provenance.ts";
import { policyRuleComment, profileRuleComment } from "./provenance.ts";
import type { ActionStyle, ExpansionContext } from "./rule-expansion.ts";
import { expandRule } from "./rule-expansion.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import { variantConfig } from "./ruleset-config.ts";
import type { Action, Chain, ChainRule } from "./values.ts";
import { ACCEPT, COUNT, RETURN } from "./values.ts";

const LOG_PREFIX_LENGTH = 127; // NF_LOG_PREFIXLEN less the NUL

interface LogNames {
  readonly tier: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** The configuration chains are rendered by, and which chains. */
export interface ChainForm {
  readonly config: RulesetConfig;
  readonly variant: Variant;
}

const DIRECTIONS: Readonly<Record<Variant, readonly Direction[]>> = {
  plain: ["ingress", "egress"],
  // Only what a host sends comes where the kernel takes no reject.
  dropping: ["egress"],
};

export function renderPolicyChains(
  id: PolicyId,
  policy: ActivePolicy,
  context: ExpansionContext,
  { config: configured, variant }: ChainForm,
): Chain[] {
  const config = variantConfig(configured, variant);
  const names = { tier: policy.tier, kind: SHORT_KINDS[id.kind], namespace: id.namespace, name: id.name };
  const style = { ...actionStyle(config, names), allow: allowActions(policy, config) };
  const owner = { type: "policy", id: policyOwnerId(id) } as const;
  return DIRECTIONS[variant].flatMap((direction) =>
    chains(policy[direction], style, context, {
      name: policyChain(id, direction, variant),
      comment: (index) => policyRuleComment(id, direction, index),
      ...(config.flowLogs && !policy.untracked
        ? { flowLog: (verdict, index) => ruleFlowLog(verdict, owner, direction, index) }
        : {}),
    }),
  );
}

export function renderProfileChains(
  name: string,
  profile: Profile,
  context: ExpansionContext,
  { config: configured, variant }: ChainForm,
): Chain[] {
  const config = variantConfig(configured, variant);
  const style = actionStyle(config, { tier: "", kind: "pro", namespace: "", name });
  const owner = { type: "profile", id: name } as const;
  return DIRECTIONS[variant].flatMap((direction) =>
    chains(profile[direction], style, context, {
      name: profileChain(name, direction, variant),
      comment: (index) => profileRuleComment(name, direction, index),
      ...(config.flowLogs ? { flowLog: (verdict, index) => ruleFlowLog(verdict, owner, direction, index) } : {}),
    }),
  );
}

/** What stands in for a policy or profile that is referred to but not there. */
export const denyChain = (name: string, config: RulesetConfig): Chain => ({
  name,
  rules: [{ matches: [], actions: [COUNT, { kind: config.deny }], comment: "missing: deny" }],
});

export const standInChains = (
  chainName: (direction: Direction, variant: Variant) => string,
  { config, variant }: ChainForm,
): Chain[] =>
  DIRECTIONS[variant].map((direction) => denyChain(chainName(direction, variant), variantConfig(config, variant)));

interface Place {
  readonly name: string;
  comment(index: number): string;
  /** Absent: nobody is told. */
  readonly flowLog?: (verdict: FlowVerdict, index: number) => Action;
}

function chains(rules: readonly Rule[], style: ActionStyle, context: ExpansionContext, place: Place): Chain[] {
  const expanded: ChainRule[] = [];
  const blocks: Chain[] = [];
  for (const [ordinal, rule] of rules.entries()) {
    const result = expandRule(rule, told(style, rule, place), context, {
      blockName: `${place.name}/block-${ordinal}`,
      comment: place.comment(rule.index),
    });
    if (result === undefined) {
      return [{ name: place.name, rules: [{ matches: [], actions: style.deny, comment: place.comment(rule.index) }] }];
    }
    expanded.push(...result.rules);
    blocks.push(...result.blocks);
  }
  return [{ name: place.name, rules: expanded }, ...blocks];
}

/** The style of one rule: whoever listens hears of the verdict before it takes the packet away. */
function told(style: ActionStyle, { action, index }: Rule, { flowLog }: Place): ActionStyle {
  if (flowLog === undefined || action === "log") return style;
  const [count, ...rest] = style[action];
  return { ...style, [action]: [...(count === undefined ? [] : [count]), flowLog(action, index), ...rest] };
}

/** What runs before normal policy must also spare the packet that; an untracked Allow keeps it out of connection tracking. */
function allowActions(policy: ActivePolicy, config: RulesetConfig): readonly Action[] {
  const spare: Action = { kind: "set-mark", mask: config.acceptMark, value: config.acceptMark };
  if (policy.untracked) return [COUNT, { kind: "no-track" }, spare, ACCEPT];
  return policy.preDnat ? [COUNT, spare, ACCEPT] : [COUNT, ACCEPT];
}

function actionStyle(config: RulesetConfig, names: LogNames): ActionStyle {
  const mark = config.passMark;
  const log: Action = {
    kind: "log",
    prefix: logPrefix(config.logPrefix, names),
    ...(config.logRate === undefined ? {} : { rate: config.logRate }),
  };
  return {
    allow: [COUNT, ACCEPT],
    deny: [COUNT, { kind: config.deny }],
    pass: [COUNT, { kind: "set-mark", mask: mark, value: mark }, RETURN],
    log: [COUNT, log],
    passed: { kind: "mark", mask: mark, value: mark },
  };
}

/** `%t` tier, `%k` kind, `%n` name, `%p` namespace/name; anything else is meant as it is. */
function logPrefix(template: string, { tier, kind, name, namespace }: LogNames): string {
  const words: Readonly<Record<string, string>> = {
    "%t": tier,
    "%k": kind,
    "%n": name,
    "%p": namespace === "" ? name : `${namespace}/${name}`,
  };
  // The kernel counts bytes.
  const text = template.replaceAll(/%[tknp]/g, (word) => words[word] ?? word).replaceAll(/[^\x20-\x7e]/g, "?");
  return `${text.slice(0, LOG_PREFIX_LENGTH - 2)}: `;
}
