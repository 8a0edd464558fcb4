/**
 * Kubernetes NetworkPolicy → a namespaced policy in tier `default`, order 1000.
 *
 * Each Kubernetes rule becomes one Allow rule per protocol and peer. Ports of one protocol are merged. A rule any part of
 * which cannot be understood is left out whole: rules only allow, so leaving one out never opens anything.
 */
import { formatPrefix, parsePrefix } from "@calico-ts/net";
import { CalicoError, errorText } from "@calico-ts/std";
import type {
  KubernetesNetworkPolicy,
  KubernetesPolicyPeer,
  KubernetesPolicyPort,
  StagedKubernetesNetworkPolicy,
} from "../kubernetes/network-policy.ts";
import type { EntityRule } from "../resources/policy-rules.ts";
import { namespaceSelectorText, podSelectorText } from "./label-selector.ts";
import type { ConvertedPolicy, Direction, PolicyRule } from "./policy-spec.ts";
import { KUBERNETES_POLICY_FLAGS } from "./policy-spec.ts";
import type { Port, Protocol } from "./ports.ts";
import { listOf, portProtocol, PortTable } from "./ports.ts";

export const KUBERNETES_POLICY_ORDER = 1000;

type Spec = NonNullable<KubernetesNetworkPolicy["spec"]>;

export function policyFromKubernetes(policy: KubernetesNetworkPolicy): ConvertedPolicy {
  const spec = policy.spec ?? {};
  const given = typesOf(spec).filter((type) => type === "Ingress" || type === "Egress");
  return convert(policy.metadata, spec, {
    kind: "KubernetesNetworkPolicy",
    // The API server fills policyTypes in; a policy that has none after all isolates incoming traffic.
    types: given.length === 0 ? ["Ingress"] : given,
  });
}

/** A staged policy that asks for a deletion has nothing to evaluate: undefined. */
export function policyFromStagedKubernetes(policy: StagedKubernetesNetworkPolicy): ConvertedPolicy | undefined {
  const { spec } = policy;
  if (spec.stagedAction === "Delete") return undefined;
  const given = typesOf(spec).filter((type) => type === "Ingress" || type === "Egress");
  // No API server fills these in for our kind, so Kubernetes' rule is applied here.
  const usual: readonly Direction[] = (spec.egress ?? []).length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
  return convert(policy.metadata, spec, {
    kind: "StagedKubernetesNetworkPolicy",
    types: given.length === 0 ? usual : given,
  });
}

/** What is no list says nothing. */
const typesOf = ({ policyTypes }: Spec): readonly string[] => (Array.isArray(policyTypes) ? policyTypes : []);

interface Target {
  readonly kind: "KubernetesNetworkPolicy" | "StagedKubernetesNetworkPolicy";
  readonly types: readonly Direction[];
}

function convert(metadata: KubernetesNetworkPolicy["metadata"], spec: Spec, target: Target): ConvertedPolicy {
  const problems: string[] = [];
  const attempt = (what: string, build: () => PolicyRule[]): PolicyRule[] => {
    try {
      return build();
    } catch (error) {
      problems.push(`${what} is left out: ${errorText(error)}`);
      return [];
    }
  };
  return {
    kind: target.kind,
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    staged: target.kind === "StagedKubernetesNetworkPolicy",
    spec: {
      tier: "default",
      order: KUBERNETES_POLICY_ORDER,
      selector: policySelector(spec, problems),
      types: target.types.includes("Ingress") && target.types.includes("Egress") ? ["Ingress", "Egress"] : target.types,
      ingress: attempt("ingress", () =>
        listOf(spec.ingress).flatMap((rule, index) =>
          attempt(`ingress rule ${index}`, () => rulesOf({ peers: rule.from, ports: rule.ports, index }, "Ingress")),
        ),
      ),
      egress: attempt("egress", () =>
        listOf(spec.egress).flatMap((rule, index) =>
          attempt(`egress rule ${index}`, () => rulesOf({ peers: rule.to, ports: rule.ports, index }, "Egress")),
        ),
      ),
      ...KUBERNETES_POLICY_FLAGS,
    },
    problems,
  };
}

/** When it cannot be understood the policy isolates every pod of the namespace, rather than none. */
function policySelector(spec: Spec, problems: string[]): string {
  try {
    return podSelectorText(spec.podSelector);
  } catch (error) {
    problems.push(`podSelector is taken as empty, so that all pods of the namespace are isolated: ${errorText(error)}`);
    return podSelectorText(undefined);
  }
}

interface KubernetesRule {
  readonly peers: readonly KubernetesPolicyPeer[] | undefined;
  readonly ports: readonly KubernetesPolicyPort[] | undefined;
  readonly index: number;
}

function rulesOf(rule: KubernetesRule, direction: Direction): PolicyRule[] {
  const given = listOf(rule.peers);
  const peers = given.length === 0 ? [{}] : given.map(peerEntity);
  return protocolPorts(listOf(rule.ports)).flatMap(([protocol, ports]) =>
    peers.map((peer) => {
      const withPorts = ports.length === 0 ? {} : { ports };
      const source = direction === "Ingress" ? peer : {};
      const destination = direction === "Ingress" ? withPorts : { ...peer, ...withPorts };
      return {
        action: "Allow",
        index: rule.index,
        ...(protocol === undefined ? {} : { protocol }),
        ...(Object.keys(source).length === 0 ? {} : { source }),
        ...(Object.keys(destination).length === 0 ? {} : { destination }),
      };
    }),
  );
}

/** No ports at all: any protocol. */
function protocolPorts(
  ports: readonly KubernetesPolicyPort[],
): readonly (readonly [Protocol | undefined, readonly Port[]])[] {
  if (ports.length === 0) return [[undefined, []]];
  const table = new PortTable();
  for (const { protocol: name, port, endPort } of ports) {
    const protocol = portProtocol(name);
    if (port === undefined) table.addAll(protocol);
    else if (typeof port === "number") table.addRange(protocol, port, endPort ?? port);
    else if (/^\d+$/.test(port)) table.addRange(protocol, Number(port), endPort ?? Number(port));
    else if (endPort === undefined) table.addName(protocol, port);
    else throw new CalicoError("BAD_INPUT", `endPort goes with a number, not with the port name "${port}"`);
  }
  return [...table.entries()];
}

function peerEntity(peer: KubernetesPolicyPeer): EntityRule {
  if (peer.ipBlock !== undefined) {
    const except = peer.ipBlock.except ?? [];
    return {
      nets: [prefixText(peer.ipBlock.cidr)],
      ...(except.length === 0 ? {} : { notNets: except.map(prefixText) }),
    };
  }
  const namespaceSelector = namespaceSelectorText(peer.namespaceSelector);
  return {
    selector: podSelectorText(peer.podSelector),
    ...(namespaceSelector === "" ? {} : { namespaceSelector }),
  };
}

/** Host bits are allowed in Kubernetes and mean nothing. */
const prefixText = (text: string): string => formatPrefix(parsePrefix(text, "mask"));
