/**
 * Names of chains and sets in our table. They are chosen so that `nft list chain inet calico <name>` takes them: letters
 * first, then letters, digits, `/`, `-`, `_`, `.`. The kernel allows 255 bytes; what is longer, or holds another
 * character, ends in a hash of the whole name.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import { policyIdText } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";
import { sha256Base64Url } from "@calico-ts/std";
import type { Direction } from "./provenance.ts";

const MAX_NAME = 200; // leaves room for the suffixes of block chains

export function safeName(head: string, rest: string): string {
  const name = `${head}/${rest}`;
  const safe = name.replaceAll(/[^A-Za-z0-9/_.-]/g, "_");
  if (safe === name && name.length <= MAX_NAME) return name;
  return `${safe.slice(0, MAX_NAME - 24)}_${sha256Base64Url(name).slice(0, 22)}`;
}

/** `dropping`: a copy that denies by dropping, for a place where the kernel takes no reject. */
export type Variant = "plain" | "dropping";

const head = (kind: "policy" | "profile", direction: Direction, variant: Variant): string =>
  `${variant === "dropping" ? "dropping-" : ""}${kind}-${direction === "ingress" ? "in" : "out"}`;

export const policyChain = (id: PolicyId, direction: Direction, variant: Variant = "plain"): string =>
  safeName(head("policy", direction, variant), policyIdText(id));

export const profileChain = (name: string, direction: Direction, variant: Variant = "plain"): string =>
  safeName(head("profile", direction, variant), name);

/** `s:abc` → `s/abc/v4`: the single addresses of an IP set; `…/v4-nets`: its wider prefixes. */
export const addressSet = (id: string, family: Family, nets: boolean): string =>
  `${safeName("set", id.replace(":", "/"))}/v${family}${nets ? "-nets" : ""}`;

export const CHAINS = {
  rawPrerouting: "raw-prerouting",
  rawOutput: "raw-output",
  workloadSourceCheck: "workload-source-check",
  inputFromWorkload: "input-from-workload",
  inputToHost: "input-to-host",
  workloadToHost: "workload-to-host",
  workloadToHostAction: "workload-to-host-action",
  forwardFromWorkload: "forward-from-workload",
  forwardToWorkload: "forward-to-workload",
  natPostrouting: "nat-postrouting",
  natOutgoing: "nat-outgoing",
  workloadDown: "workload-down",
  serviceLoop: "service-loop",
  hostRawPrerouting: "host-raw-prerouting",
  hostRawOutput: "host-raw-output",
  hostPreDnat: "host-pre-dnat",
  hostInput: "host-input",
  hostForwardIn: "host-forward-in",
  hostForwardOut: "host-forward-out",
  hostOutput: "host-output",
  hostPostrouting: "host-postrouting",
  hostRewritten: "host-output-rewritten",
  neighbourDiscovery: "neighbour-discovery",
  failsafeIn: "failsafe-in",
  failsafeOut: "failsafe-out",
  failsafeInRaw: "failsafe-in-raw",
  failsafeOutRaw: "failsafe-out-raw",
} as const;

export const SETS = {
  /** Group → walk. */
  fromWorkload: "from-workload-dispatch",
  toWorkload: "to-workload-dispatch",
  /** Interface . group: what the maps above are believed for. */
  workloadGroups: "workload-groups",
  /** Interface → walk, while its group is being changed together with rules. */
  movingFromWorkload: "moving-from-workload",
  movingToWorkload: "moving-to-workload",
  workloadSources: (family: Family): string => `workload-sources-v${family}`,
  workloadBgpPeers: "workload-bgp-peers",
  workloadSourceNets: (family: Family): string => `workload-source-nets-v${family}`,
  masqueradePools: (family: Family): string => `masquerade-pools-v${family}`,
  allPools: (family: Family): string => `all-pools-v${family}`,
  allHosts: (family: Family): string => `all-hosts-v${family}`,
  vxlanHosts: (family: Family): string => `vxlan-hosts-v${family}`,
} as const;
