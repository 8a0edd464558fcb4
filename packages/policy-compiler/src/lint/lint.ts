/**
 * START HERE for `lint`: manifests in, findings out, worst first within each file's order. Everything in the manifests is at once
 * what is judged and the world it is judged in: give it the pods (or their Deployments) together with the policies.
 *
 * Reading and types are the model's (`prepare`), selectors and rules are read by the oracle; shadowing is decided from fields
 * alone, on the safe side (`rule-cover.ts`).
 */
import type { SourcePosition } from "@calico-ts/schema";
import type { ManifestProblem, ManifestWorld, SourcedResource } from "../explain/manifest-world.ts";
import { completeWorld } from "../explain/manifest-world.ts";
import type { Finding, LintRuleId } from "./finding.ts";
import { LINT_RULES } from "./finding.ts";
import { checkLockOut } from "./lock-out.ts";
import type { Report } from "./policy-checks.ts";
import { checkPolicy } from "./policy-checks.ts";
import { WorldChecks } from "./world-checks.ts";

export interface LintInput extends ManifestWorld {
  /** Files that are no YAML. */
  readonly mistakes?: readonly { readonly message: string; readonly position: SourcePosition }[];
}

export function lint(input: LintInput): Finding[] {
  const findings: Finding[] = [];
  for (const { message, position } of input.mistakes ?? []) {
    findings.push({
      ...base("bad-yaml", position),
      severity: "error",
      message,
      fix: "Correct the syntax there or just above.",
    });
  }
  findings.push(...input.problems.map(problemFinding));
  const world = completeWorld(input.resources, { workloads: input.workloads, imagine: true });
  const checks = new WorldChecks(world);
  for (const item of world) {
    if (item.locate === undefined || item.imagined !== undefined) continue;
    const report = reporter(item, findings);
    checkPolicy(item, report);
    checks.check(item, report);
  }
  checkLockOut(world, (endpoint) => reporter(endpoint, findings));
  return unique(findings).toSorted(byPlace);
}

const NOTHING = { kind: "", namespace: "", name: "" };
const base = (rule: LintRuleId, position: SourcePosition) => ({
  rule,
  object: NOTHING,
  position,
  why: LINT_RULES[rule].why,
});

function reporter(item: SourcedResource, findings: Finding[]): Report {
  const { kind, metadata } = item.resource;
  const object = { kind, namespace: metadata.namespace ?? "", name: metadata.name };
  return (rule, severity, path, { message, fix }) => {
    const position = item.locate?.(path);
    findings.push({
      rule,
      severity,
      object,
      ...(position === undefined ? {} : { position }),
      message,
      why: LINT_RULES[rule].why,
      fix,
    });
  };
}

const FIXES: Readonly<Record<ManifestProblem["problem"], string>> = {
  "not-an-object": "Write apiVersion, kind and metadata.name, or remove the document.",
  "unknown-kind": "Correct apiVersion or kind.",
  "unknown-field": "Correct the spelling or the indentation, or remove the field.",
  invalid: "Correct the value.",
  duplicate: "Rename or remove one of them.",
};

/** Some of what the model refuses has a name of its own here. */
function problemFinding({ problem, object, path, message, position }: ManifestProblem): Finding {
  const rule: LintRuleId =
    problem !== "invalid"
      ? problem
      : /\.notNets\[\d+\]$/.test(path) && message.includes("excludes every address")
        ? "negated-catch-all"
        : /\.(ports|notPorts)$/.test(path) && message.includes("set protocol")
          ? "ports-without-protocol"
          : "invalid";
  const fix =
    rule === "ports-without-protocol"
      ? "Set protocol to TCP, UDP or SCTP."
      : rule === "negated-catch-all"
        ? "Exclude only what is meant, or remove the rule."
        : FIXES[problem];
  const text = path === "" || message.includes(path) ? message : `${path}: ${message}`;
  return { ...base(rule, position), object, severity: "error", message: text, fix };
}

function unique(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter((finding) => {
    const key = JSON.stringify([finding.rule, finding.position, finding.message]);
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
}

function byPlace(a: Finding, b: Finding): number {
  const [left, right] = [a.position, b.position];
  if (left === undefined || right === undefined) return left === right ? 0 : left === undefined ? 1 : -1;
  if (left.file !== right.file) return left.file < right.file ? -1 : 1;
  return left.line - right.line || left.column - right.column;
}
