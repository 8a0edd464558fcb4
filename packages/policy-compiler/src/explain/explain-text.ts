/** An explanation for a terminal: the answer first, then the reason and its line, then the walk for who wants to know more. */
import type { SourcePosition } from "@calico-ts/schema";
import type { PolicyTrace, ProfileTrace, RuleTrace, TierTrace } from "../oracle/trace.ts";
import type { DecidedBy, ExplainedDirection, ExplainedPath, Explanation } from "./explain.ts";
import { placeKey } from "./explain.ts";
import { objectText } from "./words.ts";

export interface Paint {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly bold: (text: string) => string;
}

const same = (text: string): string => text;
export const PLAIN_PAINT: Paint = { good: same, bad: same, dim: same, bold: same };

interface View {
  readonly paint: Paint;
  readonly sources: Explanation["sources"];
}

export function explanationText(explanation: Explanation, paint: Paint = PLAIN_PAINT): string {
  const { question, verdict, obstacle, paths } = explanation;
  if (obstacle !== undefined) {
    const head = `${paint.bold("NO ANSWER")}  ${question.from} → ${question.to}  ${question.traffic}`;
    return `${head}\n\n  Policy is not the reason. ${obstacle.text}`;
  }
  const view: View = { paint, sources: explanation.sources };
  const blocks = alike(paths).map(([first, ...others]) => [pathText(first, view), ...alsoText(others)].join("\n"));
  if (verdict !== "mixed") return blocks.join("\n\n");
  const allowed = paths.filter((path) => path.verdict === "allowed").length;
  const head = `${paint.bad("MIXED")}  ${question.from} → ${question.to}  ${question.traffic}: ${allowed} of ${paths.length} backends can be reached`;
  return [head, ...blocks].join("\n\n");
}

/** Backends that fare the same way for the same reason, each group in full once. */
function alike(paths: readonly ExplainedPath[]): [ExplainedPath, ...ExplainedPath[]][] {
  const groups = new Map<string, [ExplainedPath, ...ExplainedPath[]]>();
  for (const path of paths) {
    const { verdict, walk, decision, staged } = path;
    const reasons = [decision, ...walk.map(({ decidedBy }) => decidedBy)];
    const key = JSON.stringify([
      staged?.verdict,
      verdict,
      reasons.map(({ by, object, index, tier }) => [by, object, index, tier]),
    ]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [path]);
    else group.push(path);
  }
  return [...groups.values()];
}

function alsoText(others: readonly ExplainedPath[]): string[] {
  if (others.length === 0) return [];
  return [
    "",
    `  The same for ${others.map(({ to, destinationAddress }) => `${to} (${destinationAddress})`).join(", ")}`,
  ];
}

const at = (source: SourcePosition | undefined): string =>
  source === undefined ? "" : `${source.file}:${source.line}`;

function pathText(path: ExplainedPath, view: View): string {
  const { paint } = view;
  const verdict = path.verdict === "allowed" ? paint.good("ALLOWED") : paint.bad("DENIED");
  const icmp = path.icmp === undefined ? "" : ` type ${path.icmp.type} code ${path.icmp.code}`;
  const traffic = path.port === undefined ? `${path.protocol}${icmp}` : `${path.protocol}/${path.port}`;
  const name = (text: string, address: string): string => (text === address ? text : `${text} (${address})`);
  const ends = `${name(path.from, path.sourceAddress)} → ${name(path.to, path.destinationAddress)}`;
  const lines = [`${verdict}  ${ends}  ${traffic}`, "", ...reason(path, view)];
  lines.push(...stagedLines(path, view));
  for (const note of path.notes) lines.push(paint.dim(`  note: ${note}`));
  for (const walk of path.walk) lines.push("", ...walkText(walk, view));
  return lines.map((line) => line.trimEnd()).join("\n");
}

function stagedLines({ verdict, staged }: ExplainedPath, view: View): string[] {
  if (staged === undefined) return [];
  const { paint } = view;
  const outcome = staged.verdict === "allowed" ? paint.good("ALLOWED") : paint.bad("DENIED");
  const still = staged.verdict === verdict ? "still be" : "be";
  const of = staged.policies.map(({ action, ...policy }) =>
    action === "Delete" ? `deletion by ${objectText(policy)}` : objectText(policy),
  );
  return [
    "",
    `  With ${of.join(", ")} in force it would ${still} ${outcome}.`,
    ...decisionLines(staged.decision, view),
  ];
}

/** What decided; of an allowed packet each side's. */
function reason({ verdict, decision, walk }: ExplainedPath, view: View): string[] {
  const deciders = walk.filter(({ reached }) => reached).map(({ decidedBy }) => decidedBy);
  const told = verdict === "allowed" && deciders.length > 0 ? deciders : [decision];
  const all = told.some(({ text }) => text === decision.text) ? told : [...told, decision];
  return all.flatMap((each) => decisionLines(each, view));
}

function decisionLines({ text, source, isolatedBy = [] }: DecidedBy, { paint }: View): string[] {
  const places = isolatedBy.flatMap((each) =>
    each.source === undefined ? [] : [`${at(each.source)}  ${objectText(each.object)}`],
  );
  return [
    `  ${text}`,
    ...[...(source === undefined ? [] : [at(source)]), ...places].map((place) => `  ${paint.bold(place)}`),
  ];
}

function walkText(walk: ExplainedDirection, view: View): string[] {
  const { paint } = view;
  const verdict = walk.allowed ? paint.good("allowed") : paint.bad("denied");
  const form = walk.form === "normal" ? "" : ` (${walk.form})`;
  const reached = walk.reached ? "" : paint.dim("  the packet does not come this far; it would have been:");
  const lines = [`${paint.bold(`${walk.direction.toUpperCase()} of ${walk.endpoint}`)}${form}${reached}  ${verdict}`];
  if (walk.tiers.length === 0) lines.push(paint.dim(`  no policy selects it for ${walk.direction}`));
  for (const tier of walk.tiers) lines.push(...tierText(tier, walk, view));
  for (const profile of walk.profiles) {
    if (profile.outcome !== "not-reached") lines.push(profileText(profile));
  }
  // Who is let through does not ask for policies that have nothing to do with it.
  if (walk.bystanders.length > 0 && (!walk.allowed || walk.tiers.length === 0)) {
    const names = walk.bystanders
      .slice(0, MOST_BYSTANDERS)
      .map(({ policy, because, subject }) =>
        because === "direction"
          ? `${objectText(policy)} (says nothing about ${walk.direction})`
          : `${objectText(policy)} (${subject})`,
      );
    const more = walk.bystanders.length - names.length;
    lines.push(paint.dim(`  do not apply: ${names.join("; ")}${more > 0 ? `; ${more} more` : ""}`));
  }
  return lines;
}

const MOST_BYSTANDERS = 4;

const TIER_OUTCOMES: Readonly<Record<TierTrace["outcome"], string>> = {
  allow: "decided: allow",
  deny: "decided: deny",
  pass: "passed on",
  "default-deny": "end of the tier: deny",
  "default-pass": "end of the tier: next",
  "not-reached": "not reached",
};

function tierText(tier: TierTrace, walk: ExplainedDirection, view: View): string[] {
  const undefinedTier = tier.exists ? "" : "  (nobody defined it: it comes last and denies)";
  const lines = [`  tier ${tier.tier}${undefinedTier}  ${view.paint.dim(TIER_OUTCOMES[tier.outcome])}`];
  for (const policy of tier.policies) lines.push(...policyText(policy, walk, view));
  return lines;
}

function policyText(policy: PolicyTrace, walk: ExplainedDirection, view: View): string[] {
  const { paint, sources } = view;
  const key = placeKey(policy.policy);
  const place = paint.dim(at(sources[key]));
  const empty = policy.rules.length === 0 ? paint.dim(`  (no ${walk.direction} rules)`) : "";
  const lines = [`    ${objectText(policy.policy)}  ${place}${empty}`];
  if (policy.outcome === "not-reached") return [`    ${paint.dim(`${objectText(policy.policy)}  not reached`)}`];
  for (const rule of policy.rules) {
    if (rule.outcome === "not-reached") continue;
    lines.push(...ruleText(rule, at(sources[`${key} ${walk.direction} ${rule.index}`]), view));
  }
  const skipped = policy.rules.filter(({ outcome }) => outcome === "not-reached").length;
  if (skipped > 0) lines.push(paint.dim(`      ${skipped} later rule${skipped === 1 ? "" : "s"} not reached`));
  return lines;
}

function ruleText(rule: RuleTrace, place: string, { paint }: View): string[] {
  const matched = rule.outcome === "match";
  const mark = matched ? (rule.action === "deny" ? paint.bad("✓") : paint.good("✓")) : paint.dim("✗");
  const head = `      ${mark} rule ${rule.index} ${rule.action}  ${paint.dim(place)}`;
  if (matched) {
    const why = rule.criteria.map(({ field, seen }) => `${field}: ${seen}`).join("; ");
    const logged = rule.action === "log" ? "  (logs, and goes on)" : "";
    return [
      `${head}${logged}`,
      ...(why === "" ? [paint.dim("          matches everything")] : [paint.dim(`          ${why}`)]),
    ];
  }
  const failed = rule.criteria.filter((criterion) => !criterion.matched);
  return [
    head,
    ...failed.map(({ field, wanted, seen }) => `          ${field} wants ${wanted}; the packet has ${seen}`),
  ];
}

function profileText({ profile, exists, outcome }: ProfileTrace): string {
  const what = !exists ? "does not exist" : outcome === "no-match" ? "no rule matches" : `decided: ${outcome}`;
  return `  profile ${profile}  ${what}`;
}
