export type { Compiler, CompilerOptions } from "./compiler.ts";
export { createCompiler } from "./compiler.ts";
export type { ConfigText } from "./config/config-merge.ts";
export type { CompilerProblem, CompilerUpdate, ResourceKey } from "./intake/intake.ts";
export type { GroupedLink, GroupKernel, GroupRepair } from "./render/link-groups.ts";
export { LinkGroups } from "./render/link-groups.ts";
export type { ProgrammableKernel } from "./render/plan-kernel.ts";
export { NodePlanKernel } from "./render/plan-kernel.ts";
export type { ChangePlan, PlanKernel } from "./render/nft/change-commands.ts";
export { applyChange, changePlan } from "./render/nft/change-commands.ts";
export { elementIdentity, elementKey, ruleIdentity } from "./render/nft/identity.ts";
export { CALICO_TABLE, NftPolicyRenderer } from "./render/nft/policy-renderer.ts";
export type { RenderedChain } from "./render/nft/render-chain.ts";
export type { ChainChange, RenderedSet, Ruleset, RulesetChange, SetChange } from "./render/nft/ruleset.ts";
export { diffRulesets, isEmptyChange } from "./render/nft/ruleset.ts";
export { vtepMac } from "./routes/vtep-mac.ts";
export type { Oracle, OracleOptions, OracleResource } from "./oracle/oracle.ts";
export { createOracle } from "./oracle/oracle.ts";
export type {
  Bystander,
  CriterionTrace,
  DirectionTrace,
  PolicyTrace,
  ProfileTrace,
  RuleTrace,
  TierTrace,
  Trace,
} from "./oracle/trace.ts";
export type { Decision, DirectionVerdict, Party, PolicyStep, Query, TierStep, Verdict } from "./oracle/verdict.ts";
export type {
  DecidedBy,
  ExplainedDirection,
  ExplainedEnd,
  ExplainedPath,
  Explanation,
  Question,
  StagedOutcome,
} from "./explain/explain.ts";
export { explain, EXPLAIN_KINDS } from "./explain/explain.ts";
export type { Paint } from "./explain/explain-text.ts";
export { explanationText, PLAIN_PAINT } from "./explain/explain-text.ts";
export type { KernelRule, RuleReader } from "./explain/live/kernel-rules.ts";
export { kernelRules } from "./explain/live/kernel-rules.ts";
export { kernelRulesText, roadText } from "./explain/live/live-text.ts";
export type { Road, RoadCode, RoadConnections, RoadFinding, RoadKernel, RoadNode } from "./explain/live/road.ts";
export { examineRoad, examineRoads } from "./explain/live/road.ts";
export type { NamedRule } from "./explain/live/rule-names.ts";
export { RuleNames } from "./explain/live/rule-names.ts";
export type { ExplainedPacket, ExplainedStep, SeenPacket, WatchedFlow } from "./explain/live/seen-packet.ts";
export { explainPacket, flowsToWatch, nodesOf } from "./explain/live/seen-packet.ts";
export { packetText } from "./explain/live/seen-packet-text.ts";
export type { ResourceLister } from "./explain/listed-world.ts";
export { listWorld } from "./explain/listed-world.ts";
export type { ManifestProblem, ManifestWorld, SourcedResource, Workload } from "./explain/manifest-world.ts";
export { completeWorld, readManifestWorld } from "./explain/manifest-world.ts";
export type { StagedPolicy } from "./explain/staged.ts";
export type { Finding, LintRule, LintRuleId, Severity } from "./lint/finding.ts";
export { LINT_RULES } from "./lint/finding.ts";
export type { LintInput } from "./lint/lint.ts";
export { lint } from "./lint/lint.ts";
export { lintSarif, lintText } from "./lint/lint-text.ts";
export type { OversizedSet } from "./ruleset/ruleset-compiler.ts";
export { FAILSAFE_IN, FAILSAFE_OUT, parseFailsafe } from "./ruleset/ruleset-config.ts";
export { GROUP_BASE, isWalkGroup } from "./ruleset/walk-groups.ts";
export type { Move } from "./ruleset/workload-dispatch.ts";
