/**
 * START HERE for `lint`: manifests and what a cluster holds in, findings out in the order of the files. Everything in the manifests is at once
 * what is judged and the world it is judged in: give it the pods (or their Deployments) together with the policies.
 *
 * Reading and types are the model's (`prepare`), selectors and rules are read by the oracle; shadowing is decided from fields
 * alone, on the safe side (`rule-cover.ts`).
 */
import type { KindName } from "@calico-ts/model";
import { prepare } from "@calico-ts/model";
import type { SourcePosition } from "@calico-ts/schema";
import { fieldErrorBody } from "@calico-ts/schema";
import type { ManifestProblem, ManifestWorld, SourcedResource } from "../explain/manifest-world.ts";
import { completeWorld } from "../explain/manifest-world.ts";
import { stagedInForce } from "../explain/staged.ts";
import type { Finding, LintRuleId } from "./finding.ts";
import { LINT_RULES } from "./finding.ts";
import { changedTraffic } from "./changed-traffic.ts";
import { checkLockOut } from "./lock-out.ts";
import type { Report } from "./policy-checks.ts";
import { checkPolicy } from "./policy-checks.ts";
import { WorldChecks } from "./world-checks.ts";

export interface LintInput extends ManifestWorld {
  /** Files that are no YAML. */
  readonly mistakes?: readonly { readonly message: string; readonly position: SourcePosition }[];
  /** What a cluster holds (`listWorld`). With files: the cluster they would be applied to. Without: what is judged. */
  readonly cluster?: readonly SourcedResource[];
}

/**
 * Without a cluster everything in the files is judged among itself. With one and no files, the cluster is judged. With both: the files,
 * as part of the cluster; what they make better or worse about the rest of it (`Finding.change`); and which traffic they change.
 */
export function lint(input: LintInput): Finding[] {
  const findings = inputFindings(input);
  const { cluster, resources, workloads } = input;
  if (cluster === undefined) {
    const world = completeWorld(resources, { workloads, imagine: true });
    return sorted([
      ...findings,
      ...judge(world, { isJudged: ({ locate }) => locate !== undefined, isComplete: false }),
    ]);
  }
  if (resources.length + workloads.length === 0) {
    return sorted([...findings, ...judge(completeWorld(cluster, { imagine: false }), EVERYTHING)]);
  }
  const before = completeWorld(cluster, { imagine: false });
  const after = completeWorld(applied(cluster, resources), { workloads, imagine: workloads.length > 0 });
  const now = judge(before, EVERYTHING);
  const then = judge(after, EVERYTHING);
  const [known, kept] = [now, then].map((list) => new Set(list.map(identity)));
  const ofFiles = new Set(resources.map(({ resource }) => objectKey(objectOf(resource))));
  const isOfFiles = ({ object }: Finding): boolean => ofFiles.has(objectKey(object));
  return sorted([
    ...findings,
    ...then.flatMap((finding): Finding[] => {
      const isNew = known?.has(identity(finding)) !== true;
      return isNew ? [{ ...finding, change: "new" }] : isOfFiles(finding) ? [finding] : [];
    }),
    ...now
      .filter((finding) => kept?.has(identity(finding)) !== true)
      .map((finding): Finding => ({ ...finding, severity: "note", change: "gone" })),
    ...changedTraffic(before, after),
  ]);
}

function inputFindings({ mistakes = [], problems }: LintInput): Finding[] {
  const fix = "Correct the syntax there or just above.";
  return [
    ...mistakes.map(
      ({ message, position }): Finding => ({ ...base("bad-yaml", position), severity: "error", message, fix }),
    ),
    ...problems.map(problemFinding),
  ];
}

interface Scope {
  readonly isJudged: (item: SourcedResource) => boolean;
  /** What is not in the world exists nowhere. */
  readonly isComplete: boolean;
}

const EVERYTHING: Scope = { isJudged: () => true, isComplete: true };

function judge(world: readonly SourcedResource[], { isJudged, isComplete }: Scope): Finding[] {
  const findings: Finding[] = [];
  const broken = brokenPolicies(world, findings);
  const checks = new WorldChecks(world, { broken, isComplete });
  for (const item of world) {
    if (item.imagined !== undefined || !isJudged(item) || broken.has(item)) continue;
    const report = reporter(item, findings);
    checkPolicy(stagedInForce(item) ?? item, report);
    checks.check(item, report);
  }
  checkLockOut(world, (endpoint) => reporter(endpoint, findings));
  return unique(findings);
}

/** Policies that an API server should not have taken; nothing can be said about what was meant. */
function brokenPolicies(world: readonly SourcedResource[], findings: Finding[]): Set<SourcedResource> {
  const broken = new Set<SourcedResource>();
  for (const item of world) {
    if (!POLICY_KINDS.includes(item.kind)) continue;
    const prepared = prepare(item.kind, item.resource);
    if (prepared.ok) continue;
    broken.add(item);
    const report = reporter(item, findings);
    for (const error of prepared.errors) {
      const message = `${withPath(error.path, fieldErrorBody(error))}: ${afterwards(item)}`;
      report("invalid", "error", error.path, { message, fix: FIXES.invalid });
    }
  }
  return broken;
}

/** What a policy that got in all the same does (`intake/policy-facts.ts`). */
const afterwards = ({ kind }: SourcedResource): string =>
  kind.startsWith("Staged")
    ? "stored as it is, and enforced by nobody, since it is staged"
    : "stored as it is; what cannot be read of its rules is enforced closed, and without a readable selector a policy of the whole cluster applies to nothing";

const withPath = (path: string, message: string): string =>
  path === "" || message.includes(path) ? message : `${path}: ${message}`;

const POLICY_KINDS: readonly KindName[] = [
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "KubernetesNetworkPolicy",
  "ClusterNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
];

const objectKey = ({ kind, namespace, name }: Finding["object"]): string => `${kind}/${namespace}/${name}`;
const objectOf = ({ kind, metadata }: SourcedResource["resource"]): Finding["object"] => ({
  kind,
  namespace: metadata.namespace ?? "",
  name: metadata.name,
});
const identity = ({ rule, object, message }: Finding): string => JSON.stringify([rule, objectKey(object), message]);

/** As after `kubectl apply`: what has the same name is replaced. */
function applied(cluster: readonly SourcedResource[], files: readonly SourcedResource[]): SourcedResource[] {
  const key = ({ kind, resource }: SourcedResource): string =>
    `${kind}/${resource.metadata.namespace ?? ""}/${resource.metadata.name}`;
  const replaced = new Set(files.map(key));
  return [...cluster.filter((item) => !replaced.has(key(item))), ...files];
}

const NOTHING = { kind: "", namespace: "", name: "" };
const base = (rule: LintRuleId, position: SourcePosition) => ({
  rule,
  object: NOTHING,
  position,
  why: LINT_RULES[rule].why,
});

function reporter(item: SourcedResource, findings: Finding[]): Report {
  const object = objectOf(item.resource);
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
  return { ...base(rule, position), object, severity: "error", message: withPath(path, message), fix };
}

function unique(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter((finding) => {
    const key = JSON.stringify([finding.position, identity(finding)]);
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
}

/** By place; without one, after all that have one, by object, and what is about none last. Of one place or object, in the order of the checks. */
const sorted = (findings: readonly Finding[]): Finding[] => unique(findings).toSorted(byPlace);

function byPlace(a: Finding, b: Finding): number {
  const [left, right] = [a.position, b.position];
  if (left === undefined && right === undefined) return compare(rank(a), rank(b));
  if (left === undefined || right === undefined) return left === undefined ? 1 : -1;
  return compare(left.file, right.file) || left.line - right.line || left.column - right.column;
}

const rank = ({ object }: Finding): string => (object.kind === "" ? "~" : objectKey(object));
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
