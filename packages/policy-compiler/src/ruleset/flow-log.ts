/**
 * What a flow-log collector is told of a verdict: a copy of the packet in NFLOG group 1 (ingress) or 2 (egress), whose prefix says who decided.
 * Groups and prefixes are upstream's, so that its collector understands them.
 *
 * | prefix | means |
 * |---|---|
 * | `API0\|np/shop/web` | rule 0 of a policy: A allow, D deny, P pass; P policy, R profile; I ingress, E egress |
 * | `DPI\|default`, `PPI\|default` | end of a tier: its default action, deny or pass; pass too where it has nothing but staged policies |
 * | `DRI` | no profile allows it |
 *
 * A prefix of 63 bytes or more keeps its first and last ten; between them is a hash of the whole. Untracked policies do not tell.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import { sha256Base64Url } from "@calico-ts/std";
import type { Direction } from "./provenance.ts";
import type { Action } from "./values.ts";

export const FLOW_LOG_GROUPS: Readonly<Record<Direction, number>> = { ingress: 1, egress: 2 };

export type FlowVerdict = "allow" | "deny" | "pass";

/** Whose rule: `policyOwnerId(id)`, or a profile's name. */
export interface FlowOwner {
  readonly type: "policy" | "profile";
  readonly id: string;
}

export const SHORT_KINDS: Readonly<Record<PolicyId["kind"], string>> = {
  GlobalNetworkPolicy: "gnp",
  NetworkPolicy: "np",
  KubernetesNetworkPolicy: "knp",
  KubernetesClusterNetworkPolicy: "kcnp",
  StagedGlobalNetworkPolicy: "sgnp",
  StagedNetworkPolicy: "snp",
  StagedKubernetesNetworkPolicy: "sknp",
};

/** `np/shop/web`, `gnp/web` */
export const policyOwnerId = ({ kind, namespace, name }: PolicyId): string =>
  [SHORT_KINDS[kind], namespace, name].filter((part) => part !== "").join("/");

export const ruleFlowLog = (verdict: FlowVerdict, owner: FlowOwner, direction: Direction, index: number): Action =>
  flowLog(direction, `${head(verdict, owner.type, direction)}${index}|${owner.id}`);

export const tierFlowLog = (verdict: "deny" | "pass", tier: string, direction: Direction): Action =>
  flowLog(direction, `${head(verdict, "policy", direction)}|${tier}`);

export const noProfileFlowLog = (direction: Direction): Action =>
  flowLog(direction, head("deny", "profile", direction));

const VERDICTS = { allow: "A", deny: "D", pass: "P" } as const;
const OWNERS = { policy: "P", profile: "R" } as const;

const head = (verdict: FlowVerdict, owner: FlowOwner["type"], direction: Direction): string =>
  VERDICTS[verdict] + OWNERS[owner] + (direction === "ingress" ? "I" : "E");

const flowLog = (direction: Direction, prefix: string): Action => ({
  kind: "flow-log",
  group: FLOW_LOG_GROUPS[direction],
  prefix: fitPrefix(prefix),
});

const MAX_PREFIX = 63;
const KEPT = 10;

/** One that would just fit is hashed too: otherwise somebody could name a policy like another one's hash. */
function fitPrefix(prefix: string): string {
  if (prefix.length < MAX_PREFIX) return prefix;
  const hash = sha256Base64Url(prefix).slice(0, MAX_PREFIX - 2 * KEPT - 2);
  return `${prefix.slice(0, KEPT)}_${hash}_${prefix.slice(-KEPT)}`;
}
