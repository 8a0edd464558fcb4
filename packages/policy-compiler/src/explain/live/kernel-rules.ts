/** The rules in kernels that were made from the policy rules that decided, with the packets they have counted. */
import type { NftElement, NftRule, NftTable } from "@calico-ts/netlink";
import { sameBytes } from "@calico-ts/netlink";
import { groupPart } from "../../render/nft/moves.ts";
import { CALICO_TABLE } from "../../render/nft/policy-renderer.ts";
import { SETS } from "../../ruleset/names.ts";
import type { ExplainedDirection, Explanation } from "../explain.ts";
import type { SourcedResource } from "../manifest-world.ts";

export interface KernelRule {
  readonly node: string;
  readonly chain: string;
  readonly handle: string;
  readonly comment: string;
  /** Since the rule was made; absent when the rule does not count. */
  readonly packets?: string;
}

/** What answers like `NftClient` of `@calico-ts/linux`. */
export interface RuleReader {
  listElements(table: NftTable, set: string): Promise<readonly NftElement[]>;
  listRules(
    table: NftTable,
  ): Promise<readonly { readonly chain: string; readonly handle: bigint; readonly rule: NftRule }[]>;
}

/** Of one node: the rules that decided there. */
export async function kernelRules(
  node: string,
  nft: RuleReader,
  { paths }: Explanation,
  world: readonly SourcedResource[],
): Promise<KernelRule[]> {
  const walks = paths
    .flatMap(({ walk }) => walk)
    .filter((walk) => walk.reached && walk.decidedBy.provenance !== undefined && nodeOf(walk, world) === node);
  if (walks.length === 0) return [];
  const wanted = await Promise.all(
    walks.map(async (walk) => ({ comment: walk.decidedBy.provenance, chain: await ownChain(nft, walk) })),
  );
  return (await nft.listRules(CALICO_TABLE)).flatMap(({ chain, handle, rule }) => {
    const { comment } = rule;
    if (comment === undefined) return [];
    if (!wanted.some((each) => each.comment === comment && (each.chain === undefined || each.chain === chain)))
      return [];
    const counter = rule.exprs.find((expr) => expr.kind === "counter");
    const packets = counter?.kind === "counter" ? counter.packets : undefined;
    return [
      { node, chain, handle: String(handle), comment, ...(packets === undefined ? {} : { packets: String(packets) }) },
    ];
  });
}

/** The node whose kernel decides about the endpoint. */
function nodeOf({ endpoint }: ExplainedDirection, world: readonly SourcedResource[]): string | undefined {
  for (const { resource } of world) {
    const { kind, metadata } = resource;
    if (kind === "Pod" && `${metadata.namespace}/${metadata.name}` === endpoint) return resource.spec.nodeName;
    if (kind === "HostEndpoint" && `host-endpoint/${metadata.name}` === endpoint) return resource.spec.node;
  }
  return undefined;
}

const DISPATCH = { egress: SETS.fromWorkload, ingress: SETS.toWorkload } as const;

/** The end of a tier stands in every walk through it: a pod's own is the one its interface's group leads to. */
async function ownChain(nft: RuleReader, walk: ExplainedDirection): Promise<string | undefined> {
  if (walk.decidedBy.by !== "tier-default" || walk.endpoint.startsWith("host-endpoint/")) return undefined;
  const owners = await nft.listElements(CALICO_TABLE, SETS.workloadGroups);
  const own = owners.find(({ comment }) => comment?.startsWith(`k8s/${walk.endpoint}/`) === true);
  if (own === undefined) return undefined;
  const group = groupPart(own.key);
  const walks = await nft.listElements(CALICO_TABLE, DISPATCH[walk.direction]);
  const value = walks.find(({ key }) => sameBytes(key, group))?.value;
  return value !== undefined && "chain" in value ? value.chain : undefined;
}
