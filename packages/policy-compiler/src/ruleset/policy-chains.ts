/**
 * The chains of one policy or profile and direction, shared by every endpoint it applies to. Allow accepts (which ends
 * the attached chain the packet came through, see `values.ts`), deny drops, pass marks and returns, and running off the
 * end means "no rule matched".
 *
 * Fail closed: a policy that names an IP set which does not exist denies everything in both directions.
 */
import type { ActivePolicy, PolicyId, Profile, Rule } from "@calico-ts/dataplane-api";
import { policyChain, profileChain } from "./names.ts";
import type { Direction } from "./provenance.ts";
import { policyRuleComment, profileRuleComment } from "./provenance.ts";
import type { ActionStyle, ExpansionContext } from "./rule-expansion.ts";
import { expandRule } from "./rule-expansion.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import type { Action, Chain, ChainRule } from "./values.ts";
import { ACCEPT, COUNT, RETURN } from "./values.ts";

const LOG_PREFIX_LENGTH = 127; // NF_LOG_PREFIXLEN less the NUL

interface LogNames {
  readonly tier: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

export function renderPolicyChains(
  id: PolicyId,
  policy: ActivePolicy,
  context: ExpansionContext,
  config: RulesetConfig,
): Chain[] {
  const names = { tier: policy.tier, kind: SHORT_KINDS[id.kind], namespace: id.namespace, name: id.name };
  const style = { ...actionStyle(config, names), allow: allowActions(policy, config) };
  return (["ingress", "egress"] as const).flatMap((direction) =>
    chains(policy[direction], style, context, {
      name: policyChain(id, direction),
      comment: (index) => policyRuleComment(id, direction, index),
    }),
  );
}

export function renderProfileChains(
  name: string,
  profile: Profile,
  context: ExpansionContext,
  config: RulesetConfig,
): Chain[] {
  const style = actionStyle(config, { tier: "", kind: "profile", namespace: "", name });
  return (["ingress", "egress"] as const).flatMap((direction) =>
    chains(profile[direction], style, context, {
      name: profileChain(name, direction),
      comment: (index) => profileRuleComment(name, direction, index),
    }),
  );
}

/** What stands in for a policy or profile that is referred to but not there. */
export const denyChain = (name: string, config: RulesetConfig): Chain => ({
  name,
  rules: [{ matches: [], actions: [COUNT, { kind: config.deny }], comment: "missing: deny" }],
});

export const standInChains = (chainName: (direction: Direction) => string, config: RulesetConfig): Chain[] => [
  denyChain(chainName("ingress"), config),
  denyChain(chainName("egress"), config),
];

interface Place {
  readonly name: string;
  comment(index: number): string;
}

function chains(rules: readonly Rule[], style: ActionStyle, context: ExpansionContext, place: Place): Chain[] {
  const expanded: ChainRule[] = [];
  const blocks: Chain[] = [];
  for (const [ordinal, rule] of rules.entries()) {
    const result = expandRule(rule, style, context, {
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

const SHORT_KINDS: Readonly<Record<PolicyId["kind"], string>> = {
  GlobalNetworkPolicy: "gnp",
  NetworkPolicy: "np",
  KubernetesNetworkPolicy: "knp",
  KubernetesClusterNetworkPolicy: "kcnp",
  StagedGlobalNetworkPolicy: "sgnp",
  StagedNetworkPolicy: "snp",
  StagedKubernetesNetworkPolicy: "sknp",
};

/** `%t` tier, `%k` kind, `%n` name, `%p` namespace/name. */
function logPrefix(template: string, names: LogNames): string {
  const scoped = names.namespace === "" ? names.name : `${names.namespace}/${names.name}`;
  const text = template
    .replaceAll("%t", names.tier)
    .replaceAll("%k", names.kind)
    .replaceAll("%n", names.name)
    .replaceAll("%p", scoped);
  return `${text.slice(0, LOG_PREFIX_LENGTH - 2)}: `;
}
