/**
 * ClusterNetworkPolicy → a policy of the whole cluster in tier `kube-admin` (Admin) or `kube-baseline` (Baseline), its
 * priority as the order.
 *
 * These policies deny, so a rule that cannot be understood must not vanish: an Accept is left out, a Deny or a Pass becomes
 * a rule that denies everything. Without a tier or a subject there is no policy to speak of, and it is treated as deleted.
 */
import { formatPrefix, parsePrefix } from "@calico-ts/net";
import { CalicoError, errorText } from "@calico-ts/std";
import type {
  ClusterNetworkPolicy,
  ClusterPolicyPeer,
  ClusterPolicyProtocol,
  ClusterPolicySubject,
} from "../kubernetes/cluster-network-policy.ts";
import type { EntityRule } from "../resources/policy-rules.ts";
import { namespaceSelectorText, podSelectorText } from "./label-selector.ts";
import type { ConvertedPolicy, Direction, PolicyRule } from "./policy-spec.ts";
import { KUBERNETES_POLICY_FLAGS } from "./policy-spec.ts";
import type { Port, Protocol } from "./ports.ts";
import { listOf, PORT_PROTOCOLS, PortTable } from "./ports.ts";

const TIERS: Readonly<Record<string, string>> = { Admin: "kube-admin", Baseline: "kube-baseline" };
const ACTIONS: Readonly<Record<string, "Allow" | "Deny" | "Pass">> = { Accept: "Allow", Deny: "Deny", Pass: "Pass" };

export type ClusterPolicyOutcome =
  | { readonly ok: true; readonly policy: ConvertedPolicy }
  | { readonly ok: false; readonly problem: string };

export function policyFromClusterPolicy(resource: ClusterNetworkPolicy): ClusterPolicyOutcome {
  const { metadata, spec } = resource;
  try {
    const tier = Object.hasOwn(TIERS, spec.tier) ? TIERS[spec.tier] : undefined;
    if (tier === undefined) throw new CalicoError("BAD_INPUT", `unknown tier "${spec.tier}": use Admin or Baseline`);
    const subject = subjectOf(spec.subject);
    const problems: string[] = [];
    const ingress = listRules(spec.ingress, (rule) => rule.from, { direction: "Ingress", problems });
    const egress = listRules(spec.egress, (rule) => rule.to, { direction: "Egress", problems });
    const types: Direction[] = [];
    // The tiers pass on what no rule decides, so a direction without rules need not apply at all.
    if (ingress.length > 0) types.push("Ingress");
    if (egress.length > 0) types.push("Egress");
    return {
      ok: true,
      policy: {
        kind: "KubernetesClusterNetworkPolicy",
        namespace: "",
        name: metadata.name,
        staged: false,
        spec: { tier, order: spec.priority, ...subject, types, ingress, egress, ...KUBERNETES_POLICY_FLAGS },
        problems,
      },
    };
  } catch (error) {
    return { ok: false, problem: `ClusterNetworkPolicy ${metadata.name} is ignored: ${errorText(error)}` };
  }
}

/** What is no list of rules denies everything. */
function listRules<R extends Omit<ClusterRule, "peers" | "index">>(
  rules: readonly R[] | undefined,
  peersOf: (rule: R) => readonly ClusterPolicyPeer[],
  { direction, problems }: { readonly direction: Direction; readonly problems: string[] },
): PolicyRule[] {
  try {
    return listOf(rules).flatMap((rule, index) =>
      // oxlint-disable-next-line typescript/no-unnecessary-condition -- stored objects may hold anything
      rulesOf({ ...rule, peers: rule === null ? [] : peersOf(rule), index }, direction, problems),
    );
  } catch (error) {
    problems.push(`${direction.toLowerCase()} denies everything instead: ${errorText(error)}`);
    return [{ action: "Deny", index: 0 }];
  }
}

function subjectOf(subject: ClusterPolicySubject): EntitySelection {
  const selected = selection(subject);
  if (selected === undefined) throw new CalicoError("BAD_INPUT", "the subject names neither namespaces nor pods");
  return selected;
}

interface EntitySelection {
  readonly selector: string;
  readonly namespaceSelector?: string;
}

/** Pods on the host's network have no endpoint and so are in no selection, as the API wants it. */
function selection(from: ClusterPolicySubject): EntitySelection | undefined {
  if (from.namespaces !== undefined) {
    return { selector: podSelectorText(undefined), namespaceSelector: namespaceSelectorText(from.namespaces) };
  }
  if (from.pods === undefined) return undefined;
  const namespaceSelector = namespaceSelectorText(from.pods.namespaceSelector);
  return {
    selector: podSelectorText(from.pods.podSelector),
    ...(namespaceSelector === "" ? {} : { namespaceSelector }),
  };
}

interface ClusterRule {
  readonly action: string;
  readonly peers: readonly ClusterPolicyPeer[];
  readonly protocols?: readonly ClusterPolicyProtocol[];
  readonly index: number;
}

function rulesOf(rule: ClusterRule, direction: Direction, problems: string[]): PolicyRule[] {
  const { index } = rule;
  const where = `${direction.toLowerCase()} rule ${index}`;
  try {
    const action = Object.hasOwn(ACTIONS, rule.action) ? ACTIONS[rule.action] : undefined;
    if (action === undefined) throw new CalicoError("BAD_INPUT", `unknown action "${rule.action}"`);
    const peers = listOf(rule.peers).map((peer) => peerEntity(peer, direction));
    if (peers.length === 0) throw new CalicoError("BAD_INPUT", "the rule names no peers");
    return protocolPorts(listOf(rule.protocols)).flatMap(([protocol, ports]) =>
      peers.map((peer) => {
        const withPorts = ports.length === 0 ? {} : { ports };
        const destination = direction === "Ingress" ? withPorts : { ...peer, ...withPorts };
        return {
          action,
          index,
          ...(protocol === undefined ? {} : { protocol }),
          ...(direction === "Ingress" ? { source: peer } : {}),
          ...(Object.keys(destination).length === 0 ? {} : { destination }),
        };
      }),
    );
  } catch (error) {
    const dropped = rule.action === "Accept";
    problems.push(`${where} ${dropped ? "is left out" : "denies everything instead"}: ${errorText(error)}`);
    return dropped ? [] : [{ action: "Deny", index }];
  }
}

function peerEntity(peer: ClusterPolicyPeer, direction: Direction): EntityRule {
  const selected = selection(peer);
  if (selected !== undefined) return selected;
  if (peer.networks !== undefined && peer.networks.length > 0 && direction === "Egress") {
    return { nets: peer.networks.map((text) => formatPrefix(parsePrefix(text, "mask"))) };
  }
  throw new CalicoError("BAD_INPUT", `a peer is not understood: ${Object.keys(peer).join(", ") || "it is empty"}`);
}

function protocolPorts(
  protocols: readonly ClusterPolicyProtocol[],
): readonly (readonly [Protocol | undefined, readonly Port[]])[] {
  if (protocols.length === 0) return [[undefined, []]];
  const table = new PortTable();
  for (const entry of protocols) {
    if (entry.destinationNamedPort !== undefined) {
      // The container port brings its own protocol. Digits are a name here too: one that no port can have.
      if (/^[\d:]+$/.test(entry.destinationNamedPort)) continue;
      for (const protocol of PORT_PROTOCOLS) table.addName(protocol, entry.destinationNamedPort);
    } else if (entry.tcp !== undefined) addTransport(table, "TCP", entry.tcp);
    else if (entry.udp !== undefined) addTransport(table, "UDP", entry.udp);
    else if (entry.sctp !== undefined) addTransport(table, "SCTP", entry.sctp);
    else throw new CalicoError("BAD_INPUT", "a protocol entry is not understood");
  }
  return [...table.entries()];
}

function addTransport(
  table: PortTable,
  protocol: Protocol,
  transport: NonNullable<ClusterPolicyProtocol["tcp"]>,
): void {
  const port = transport.destinationPort;
  if (port === undefined) table.addAll(protocol);
  else if (port.number !== undefined) table.addRange(protocol, port.number, port.number);
  else if (port.range !== undefined) table.addRange(protocol, port.range.start, port.range.end);
  else throw new CalicoError("BAD_INPUT", "a destination port has neither number nor range");
}
