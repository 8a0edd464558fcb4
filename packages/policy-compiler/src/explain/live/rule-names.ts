/**
 * From the comment of a kernel rule back to the policy rule that made it. Comments may be shortened (`ruleset/provenance.ts`), so
 * nothing is parsed: the comments of every rule of the world are made again and looked up.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { SourcePosition } from "@calico-ts/schema";
import type { Direction } from "../../ruleset/provenance.ts";
import { policyRuleComment, profileRuleComment, tierDefaultComment } from "../../ruleset/provenance.ts";
import { calicoSpec } from "../../lint/policy-checks.ts";
import type { SourcedResource } from "../manifest-world.ts";
import { isOf } from "../manifest-world.ts";

export interface NamedRule {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly direction: Direction;
  /** Of the rule in its list; absent for the end of a tier. */
  readonly index?: number;
  readonly source?: SourcePosition;
}

const DIRECTIONS = ["ingress", "egress"] as const;

export class RuleNames {
  readonly #byComment = new Map<string, () => NamedRule>();

  constructor(world: readonly SourcedResource[]) {
    for (const item of world) this.#addItem(item);
  }

  of(comment: string): NamedRule | undefined {
    return this.#byComment.get(comment)?.();
  }

  #addItem(item: SourcedResource): void {
    const { namespace = "", name } = item.resource.metadata;
    for (const direction of DIRECTIONS) {
      if (isOf(item, "Tier")) {
        this.#add(tierDefaultComment(name, direction), item, { direction, path: "spec.defaultAction" });
        continue;
      }
      const count = ruleCount(item, direction);
      for (let index = 0; index < count; index++) {
        const path = `spec.${direction}[${index}]`;
        const comment = isOf(item, "Profile")
          ? profileRuleComment(name, direction, index)
          : policyRuleComment({ kind: kernelKind(item.kind), namespace, name }, direction, index);
        this.#add(comment, item, { direction, index, path });
      }
    }
  }

  #add(
    comment: string,
    item: SourcedResource,
    { direction, index, path }: { readonly direction: Direction; readonly index?: number; readonly path: string },
  ): void {
    const { namespace = "", name } = item.resource.metadata;
    this.#byComment.set(comment, () => {
      const source = item.locate?.(path);
      return {
        kind: item.kind,
        namespace,
        name,
        direction,
        ...(index === undefined ? {} : { index }),
        ...(source === undefined ? {} : { source }),
      };
    });
  }
}

function ruleCount(item: SourcedResource, direction: Direction): number {
  if (isOf(item, "KubernetesNetworkPolicy")) return item.resource.spec?.[direction]?.length ?? 0;
  if (isOf(item, "ClusterNetworkPolicy") || isOf(item, "Profile")) return item.resource.spec[direction]?.length ?? 0;
  return calicoSpec(item)?.[direction]?.length ?? 0;
}

/** Policies of Kubernetes' cluster scope have another name in the kernel than in the datastore. */
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only policies come here
const kernelKind = (kind: string): PolicyId["kind"] =>
  (kind === "ClusterNetworkPolicy" ? "KubernetesClusterNetworkPolicy" : kind) as PolicyId["kind"];
