/**
 * The chain that decides about one direction of an endpoint's traffic: connection state, failsafes of hosts, tiers,
 * profiles, final drop.
 *
 * It is named after its content, so all endpoints with the same list of policies share one: adding the next pod of a
 * Deployment adds elements to maps and sets, and no rule. Per tier: policies in order, the end-of-tier action. A rule
 * with Pass sets a mark bit and returns; the bit skips what is left of the tier and is cleared before the next one, and
 * again before the profiles, so no packet leaves with it.
 *
 * Forms differ in what stands around the tiers:
 *
 * | form | before | after |
 * |---|---|---|
 * | workload | connection state, drops of tunnel packets (egress) | tier defaults, profiles, drop |
 * | host | connection state, failsafes | tier defaults, profiles, drop |
 * | forward | connection state | tier defaults; what the tiers pass on goes on, and profiles are not asked |
 * | pre-dnat | connection state, failsafes | nothing: what no rule decides goes on |
 * | untracked | failsafes, both ways round because there are no connections | nothing |
 *
 * A tier of staged policies only passes. While somebody listens to flow logs it tells so, and a walk of such tiers exists to tell.
 */
import type { EndpointTier } from "@calico-ts/dataplane-api";
import { sha256Base64Url } from "@calico-ts/std";
import { noProfileFlowLog, tierFlowLog } from "./flow-log.ts";
import { CHAINS, policyChain, profileChain } from "./names.ts";
import type { Direction } from "./provenance.ts";
import { fit, tierDefaultComment } from "./provenance.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import { variantConfig } from "./ruleset-config.ts";
import type { Action, Chain, ChainRule, Match } from "./values.ts";
import { ACCEPT, COUNT, DROP } from "./values.ts";

export type WalkForm = "workload" | "host" | "forward" | "pre-dnat" | "untracked";

export interface Walk {
  readonly form: WalkForm;
  readonly direction: Direction;
  readonly tiers: readonly EndpointTier[];
  readonly profiles: readonly string[];
  /** What stands in its rules and in those it jumps to for a deny. Absent: as configured. */
  readonly variant?: "dropping";
}

/** Elsewhere a tier's default action does not count. */
const ENDS_TIERS: ReadonlySet<WalkForm> = new Set(["workload", "host", "forward"]);
/** And what they do not allow is denied. */
const ASKS_PROFILES: ReadonlySet<WalkForm> = new Set(["workload", "host"]);

/** Equal walks have equal names: only what applies to the direction counts. */
export function walkName(walk: Walk): string {
  const tiers = tiersOf(walk).map((tier) => [
    tier.name,
    isStagedOnly(tier, walk.direction) ? "staged" : tier.defaultAction,
    ...tier[walk.direction].map((id) => [id.kind, id.namespace, id.name]),
  ]);
  const hash = sha256Base64Url(JSON.stringify([tiers, profilesOf(walk)])).slice(0, 22);
  const form = walk.form === "workload" ? "walk" : `${walk.form}-walk`;
  const variant = walk.variant === undefined ? "" : `${walk.variant}-`;
  return `${variant}${form}-${walk.direction === "ingress" ? "in" : "out"}/${hash}`;
}

/** Tiers as they are walked: those of staged policies only have nothing to do but to tell that they pass. */
export const walkedTiers = (tiers: readonly EndpointTier[], { flowLogs }: RulesetConfig): readonly EndpointTier[] =>
  flowLogs ? tiers : tiers.map(({ stagedOnly: _stagedOnly, ...tier }) => tier);

const isStagedOnly = (tier: EndpointTier, direction: Direction): boolean =>
  tier.stagedOnly?.includes(direction) === true;

const tiersOf = ({ tiers, direction }: Walk): EndpointTier[] =>
  tiers.filter((tier) => tier[direction].length > 0 || isStagedOnly(tier, direction));

/** Those the walk jumps to. */
export const profilesOf = (walk: Walk): readonly string[] => (ASKS_PROFILES.has(walk.form) ? walk.profiles : []);

/** True when there is nothing to decide, so that no walk is needed. */
export const isIdle = (walk: Walk): boolean =>
  walk.form !== "workload" && walk.form !== "host" && tiersOf(walk).length === 0;

export function renderWalk(walk: Walk, configured: RulesetConfig): Chain {
  const config = variantConfig(configured, walk.variant);
  return { name: walkName(walk), rules: [...before(walk, config), ...decide(walk, config)] };
}

function before(walk: Walk, config: RulesetConfig): ChainRule[] {
  const inward = walk.direction === "ingress";
  switch (walk.form) {
    case "workload":
      return [...connectionRules(config), ...(inward ? [] : encapsulationDrops(config))];
    case "host":
    case "pre-dnat":
      return [...connectionRules(config), jump(inward ? CHAINS.failsafeIn : CHAINS.failsafeOut)];
    case "forward":
      return connectionRules(config);
    default:
      return [jump(inward ? CHAINS.failsafeInRaw : CHAINS.failsafeOutRaw)];
  }
}

const jump = (chain: string): ChainRule => ({ matches: [], actions: [{ kind: "jump", chain }] });

export function connectionRules(config: RulesetConfig): ChainRule[] {
  const known: ChainRule = {
    matches: [{ kind: "conntrack", states: ["established", "related"] }],
    actions: [ACCEPT],
  };
  const invalid: ChainRule = {
    matches: [{ kind: "conntrack", states: ["invalid"] }],
    actions: [COUNT, DROP],
    comment: "invalid connection state",
  };
  return config.dropInvalid ? [known, invalid] : [known];
}

/** A pod that sends tunnel packets could inject traffic that other nodes take for ours. */
function encapsulationDrops(config: RulesetConfig): ChainRule[] {
  const vxlan: ChainRule = {
    matches: [
      { kind: "protocol", protocol: 17 },
      { kind: "port", side: "destination", range: { first: config.vxlanPort, last: config.vxlanPort } },
    ],
    actions: [COUNT, DROP],
    comment: "VXLAN from a workload",
  };
  const ipip: ChainRule = {
    matches: [{ kind: "protocol", protocol: 4 }],
    actions: [COUNT, DROP],
    comment: "IPIP from a workload",
  };
  return [...(config.allowVxlanFromWorkloads ? [] : [vxlan]), ...(config.allowIpipFromWorkloads ? [] : [ipip])];
}

function decide(walk: Walk, config: RulesetConfig): ChainRule[] {
  const { direction } = walk;
  const tiers = tiersOf(walk);
  const rules = tiers.flatMap((tier) => tierRules(tier, walk, config));
  if (tiers.length > 0) rules.push(clearPass(config));
  if (!ASKS_PROFILES.has(walk.form)) return rules;
  for (const profile of walk.profiles) rules.push(jump(profileChain(profile, direction, walk.variant)));
  const comment = `no profile allows ${direction}`;
  const tell = config.flowLogs ? [noProfileFlowLog(direction)] : [];
  rules.push({ matches: [], actions: [COUNT, ...tell, { kind: config.deny }], comment });
  return rules;
}

function tierRules(tier: EndpointTier, { direction, form, variant }: Walk, config: RulesetConfig): ChainRule[] {
  const notPassed: Match = { kind: "mark", mask: config.passMark, value: 0 };
  if (isStagedOnly(tier, direction)) {
    const told: ChainRule = {
      matches: [notPassed],
      actions: [tierFlowLog("pass", tier.name, direction)],
      comment: fit(`Tier/${tier.name}`, ` ${direction} staged policies only`),
    };
    return [clearPass(config), told];
  }
  const jumps = tier[direction].map((id, at): ChainRule => {
    const action: Action = { kind: "jump", chain: policyChain(id, direction, variant) };
    return { matches: at === 0 ? [] : [notPassed], actions: [action], comment: fit(`Tier/${tier.name}`) };
  });
  const end = ENDS_TIERS.has(form) ? tierEnd(tier, direction, config) : [];
  return [clearPass(config), ...jumps, ...end.map((rule) => ({ ...rule, matches: [notPassed] }))];
}

/** Of packets that no policy of the tier has decided about. */
function tierEnd(tier: EndpointTier, direction: Direction, config: RulesetConfig): Omit<ChainRule, "matches">[] {
  const denies = tier.defaultAction === "deny";
  const tell = config.flowLogs ? [tierFlowLog(denies ? "deny" : "pass", tier.name, direction)] : [];
  if (denies) {
    return [{ actions: [COUNT, ...tell, { kind: config.deny }], comment: tierDefaultComment(tier.name, direction) }];
  }
  return tell.length === 0 ? [] : [{ actions: tell, comment: fit(`Tier/${tier.name}`, ` ${direction} default-pass`) }];
}

const clearPass = (config: RulesetConfig): ChainRule => ({
  matches: [],
  actions: [{ kind: "set-mark", mask: config.passMark, value: 0 }],
});
