/**
 * The one place that knows kinds: turns a resource into facts and hands them to the nodes that want them. A resource that
 * makes a conversion fail is treated as `policy-facts.ts` says for policies and as absent otherwise, and is reported until
 * it changes.
 */
import type { PolicyId } from "@calico-ts/dataplane-api";
import type { ConvertedPolicy, HostEndpoint, KindMap, KindName, Node, Pod, Profile } from "@calico-ts/model";
import {
  annotationProblems,
  calicoNodeFromKubernetes,
  DEFAULT_ALLOW_PROFILE,
  defaultAllowProfile,
  namespaceProfileName,
  policyFromCalico,
  policyFromClusterPolicy,
  policyFromKubernetes,
  policyFromStagedKubernetes,
  profileFromNamespace,
  profileFromServiceAccount,
  serviceAccountProfileName,
  workloadEndpointFromPod,
} from "@calico-ts/model";
import { errorText } from "@calico-ts/std";
import type { Graph } from "../graph.ts";
import {
  hostEndpointFacts,
  networkSetFacts,
  profileFacts,
  sliceFacts,
  tierFacts,
  workloadFacts,
} from "./endpoint-facts.ts";
import { bgpSettings, podPeerFacts } from "./bgp-facts.ts";
import type { EndpointFacts, PolicyFacts } from "./facts.ts";
import { policyFacts } from "./policy-facts.ts";
import { blockFacts, nodeFacts, poolMessage } from "./routing-facts.ts";

export interface ResourceKey {
  readonly name: string;
  readonly namespace?: string | undefined;
}

interface UpdateOf<K extends KindName> {
  readonly kind: K;
  readonly key: ResourceKey;
  /** As it is now; undefined: it is gone. */
  readonly resource: KindMap[K] | undefined;
}

/** The latest state of one resource; a `SyncUpdate` of `@calico-ts/sync` is one. */
export type CompilerUpdate = { readonly [K in KindName]: UpdateOf<K> }[KindName];

export interface CompilerProblem {
  readonly kind: KindName;
  readonly namespace: string;
  readonly name: string;
  readonly messages: readonly string[];
}

export class Intake {
  readonly #node: string;
  readonly #graph: Graph;
  readonly #onProblem: (problem: CompilerProblem) => void;
  readonly #problems = new Map<string, CompilerProblem>();

  constructor(node: string, graph: Graph, onProblem: (problem: CompilerProblem) => void) {
    this.#node = node;
    this.#graph = graph;
    this.#onProblem = onProblem;
    graph.setProfile(DEFAULT_ALLOW_PROFILE, profileFacts(defaultAllowProfile, []));
  }

  problems(): readonly CompilerProblem[] {
    return [...this.#problems.values()];
  }

  accept(update: CompilerUpdate): void {
    const messages: string[] = [];
    try {
      this.#route(update, messages);
    } catch (error) {
      messages.push(`is not understood and counts as absent: ${errorText(error)}`);
      this.#route({ ...update, resource: undefined }, []);
    }
    this.report(update.kind, update.key, messages);
  }

  report(kind: KindName, key: ResourceKey, messages: readonly string[]): void {
    const { name, namespace = "" } = key;
    const id = `${kind}/${namespace}/${name}`;
    const before = this.#problems.get(id)?.messages ?? [];
    if (before.join("\n") === messages.join("\n")) return;
    const problem = { kind, namespace, name, messages };
    if (messages.length === 0) this.#problems.delete(id);
    else this.#problems.set(id, problem);
    this.#onProblem(problem);
  }

  #route(update: CompilerUpdate, problems: string[]): void {
    const { key } = update;
    const graph = this.#graph;
    switch (update.kind) {
      case "Pod":
        return graph.setEndpoint(`pod ${key.namespace ?? ""}/${key.name}`, this.#pod(update.resource, problems));
      case "HostEndpoint":
        return graph.setEndpoint(`hep ${key.name}`, this.#hostEndpoint(update.resource, problems));
      case "NetworkSet":
      case "GlobalNetworkSet": {
        const id = `${update.kind} ${key.namespace ?? ""}/${key.name}`;
        return graph.setNetworkSet(id, update.resource && networkSetFacts(update.resource));
      }
      case "Namespace":
        return this.#profile(
          namespaceProfileName(key.name),
          update.resource && profileFromNamespace(update.resource),
          problems,
        );
      case "ServiceAccount": {
        const name = serviceAccountProfileName(key.namespace ?? "", key.name);
        return this.#profile(name, update.resource && profileFromServiceAccount(update.resource), problems);
      }
      case "Profile":
        return this.#profile(key.name, update.resource, problems);
      case "Tier":
        return graph.setTier(key.name, update.resource && tierFacts(update.resource));
      case "EndpointSlice":
        return graph.setSlice(`${key.namespace ?? ""}/${key.name}`, update.resource && sliceFacts(update.resource));
      default:
        return this.#routePolicy(update, problems);
    }
  }

  #routePolicy(update: CompilerUpdate, problems: string[]): void {
    const { key } = update;
    switch (update.kind) {
      case "GlobalNetworkPolicy":
      case "NetworkPolicy":
      case "StagedGlobalNetworkPolicy":
      case "StagedNetworkPolicy":
        return this.#policy(update.kind, key, update.resource && policyFromCalico(update.resource), problems);
      case "KubernetesNetworkPolicy":
        return this.#policy(update.kind, key, update.resource && policyFromKubernetes(update.resource), problems);
      case "StagedKubernetesNetworkPolicy":
        return this.#policy(update.kind, key, update.resource && policyFromStagedKubernetes(update.resource), problems);
      case "ClusterNetworkPolicy": {
        const outcome = update.resource && policyFromClusterPolicy(update.resource);
        if (outcome?.ok === false) problems.push(outcome.problem);
        const policy = outcome?.ok === true ? outcome.policy : undefined;
        return this.#policy("KubernetesClusterNetworkPolicy", key, policy, problems);
      }
      default:
        return this.#routeRouting(update, problems);
    }
  }

  #routeRouting(update: CompilerUpdate, problems: string[]): void {
    const { key } = update;
    const graph = this.#graph;
    switch (update.kind) {
      case "Node":
        return graph.setNode(key.name, update.resource && nodeOf(update.resource));
      case "IPPool": {
        const pool = update.resource && poolMessage(update.resource);
        if (update.resource !== undefined && pool === undefined) {
          problems.push(`spec.cidr "${update.resource.spec.cidr}" is not a prefix; the pool is ignored`);
        }
        return graph.setPool(key.name, pool);
      }
      case "IPAMBlock":
        return graph.setBlock(key.name, update.resource && blockFacts(update.resource));
      case "BGPConfiguration":
        if (key.name === "default") graph.setBgpSettings(update.resource && bgpSettings(update.resource, problems));
        return;
      case "BGPPeer":
        return graph.setPodPeer(key.name, update.resource && podPeerFacts(update.resource));
      case "FelixConfiguration":
        return graph.setConfiguration(key.name, update.resource);
      default:
        // Kinds that shape neither policy nor routes here: most of BGP, IPAM bookkeeping, Services (their slices say all), …
        return undefined;
    }
  }

  #pod(pod: Pod | undefined, problems: string[]): EndpointFacts | undefined {
    const endpoint = pod === undefined ? undefined : workloadEndpointFromPod(pod, this.#graph.interfacePrefix());
    if (pod === undefined || endpoint === undefined) return undefined;
    // Another node's pods are its own agent's to tell of.
    if (endpoint.node === this.#node) problems.push(...annotationProblems(pod));
    return workloadFacts(endpoint, this.#node);
  }

  #hostEndpoint(resource: HostEndpoint | undefined, problems: string[]): EndpointFacts | undefined {
    return resource === undefined ? undefined : hostEndpointFacts(resource, this.#node, problems);
  }

  #profile(name: string, profile: Profile | undefined, problems: string[]): void {
    // Built in: it exists whether or not somebody stores one.
    const actual = profile === undefined && name === DEFAULT_ALLOW_PROFILE ? defaultAllowProfile : profile;
    this.#graph.setProfile(name, actual && profileFacts(actual, problems));
  }

  #policy(kind: PolicyId["kind"], key: ResourceKey, policy: ConvertedPolicy | undefined, problems: string[]): void {
    const id: PolicyId = { kind, namespace: key.namespace ?? "", name: key.name };
    let facts: PolicyFacts | undefined;
    if (policy !== undefined) {
      const outcome = policyFacts(policy);
      problems.push(...outcome.problems);
      facts = outcome.facts;
    }
    this.#graph.setPolicy(id, facts);
  }
}

const nodeOf = (node: Node): ReturnType<typeof nodeFacts> => nodeFacts(calicoNodeFromKubernetes(node));
