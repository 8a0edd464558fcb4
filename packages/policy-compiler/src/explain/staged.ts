/**
 * Staged policies put in force, to see what they would do: `Set` takes the place of the enforced policy of the same name or adds one,
 * `Delete` takes it away, `Learn` and `Ignore` change nothing.
 */
import type { KindMap } from "@calico-ts/model";
import type { SourcePosition } from "@calico-ts/schema";
import type { SourcedResource } from "./manifest-world.ts";
import { withPolicyTypes } from "./manifest-world.ts";

const ENFORCED = {
  StagedGlobalNetworkPolicy: "GlobalNetworkPolicy",
  StagedNetworkPolicy: "NetworkPolicy",
  StagedKubernetesNetworkPolicy: "KubernetesNetworkPolicy",
} as const;

type StagedKind = keyof typeof ENFORCED;

export interface StagedPolicy {
  readonly kind: StagedKind;
  readonly namespace: string;
  readonly name: string;
  readonly action: "Set" | "Delete";
  readonly source?: SourcePosition;
}

export interface Trial {
  readonly world: readonly SourcedResource[];
  /** By the identity (`placeKey`) of the policy they become or take away. */
  readonly staged: ReadonlyMap<string, StagedPolicy>;
}

/** undefined: nothing is staged that would change anything. */
export function tryStaged(world: readonly SourcedResource[]): Trial | undefined {
  const staged = new Map<string, StagedPolicy>();
  const added: SourcedResource[] = [];
  for (const item of world) {
    const kind = stagedKind(item);
    if (kind === undefined) continue;
    const { metadata, spec } = item.resource as KindMap[StagedKind];
    const { stagedAction = "Set" } = spec;
    if (stagedAction !== "Set" && stagedAction !== "Delete") continue;
    const { namespace = "", name } = metadata;
    const source = item.locate?.("metadata.name");
    const key = [ENFORCED[kind], ...(namespace === "" ? [] : [namespace]), name].join("/");
    staged.set(key, { kind, namespace, name, action: stagedAction, ...(source === undefined ? {} : { source }) });
    const enforced = stagedInForce(item);
    if (enforced !== undefined) added.push(enforced);
  }
  if (staged.size === 0) return undefined;
  const kept = world.filter(({ kind, resource: { metadata } }) => {
    const { namespace = "", name } = metadata;
    return !staged.has([kind, ...(namespace === "" ? [] : [namespace]), name].join("/"));
  });
  return { world: [...kept, ...added], staged };
}

const stagedKind = ({ kind }: SourcedResource): StagedKind | undefined =>
  Object.hasOwn(ENFORCED, kind) ? (kind as StagedKind) : undefined;

/** What the staged policy would add; undefined: it is none, or adds nothing. */
export function stagedInForce(item: SourcedResource): SourcedResource | undefined {
  const kind = stagedKind(item);
  if (kind === undefined) return undefined;
  const { metadata, spec: staged } = item.resource as KindMap[StagedKind];
  const { stagedAction = "Set", ...spec } = staged;
  if (stagedAction !== "Set") return undefined;
  const locate = item.locate === undefined ? {} : { locate: item.locate };
  const isKubernetes = kind === "StagedKubernetesNetworkPolicy";
  const resource = {
    apiVersion: isKubernetes ? "networking.k8s.io/v1" : "projectcalico.org/v3",
    kind: isKubernetes ? "NetworkPolicy" : ENFORCED[kind],
    metadata,
    spec,
  } as SourcedResource["resource"];
  return withPolicyTypes({ kind: ENFORCED[kind], resource, ...locate });
}
