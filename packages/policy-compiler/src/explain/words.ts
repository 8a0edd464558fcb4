/** Decisions and objects in words. */
import type { DirectionTrace } from "../oracle/trace.ts";
import type { Decision } from "../oracle/verdict.ts";

/** Kinds as people know them; two of them are called NetworkPolicy. */
export function objectText({
  kind,
  namespace,
  name,
}: {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}): string {
  const shown =
    kind === "KubernetesNetworkPolicy"
      ? "Kubernetes NetworkPolicy"
      : kind === "NetworkPolicy"
        ? "Calico NetworkPolicy"
        : kind === "KubernetesClusterNetworkPolicy"
          ? "ClusterNetworkPolicy"
          : kind;
  return `${shown} ${namespace === "" ? name : `${namespace}/${name}`}`;
}

const ACTIONS = { allow: "allows", deny: "denies", pass: "passes", log: "logs" } as const;

/** One sentence. `walk`: where it was decided. */
export function decisionText(decision: Decision, walk: DirectionTrace | undefined): string {
  const who = walk?.endpoint ?? "the endpoint";
  switch (decision.by) {
    case "rule": {
      const tier = walk?.tiers.find(({ policies }) => policies.some(({ policy }) => policy === decision.policy));
      const rule = tier?.policies
        .find(({ policy }) => policy === decision.policy)
        ?.rules.find(({ index, action }) => index === decision.index && action !== "log");
      const action = rule === undefined ? "decides" : ACTIONS[rule.action];
      const where = tier === undefined ? "" : ` in tier ${tier.tier}`;
      return `${objectText(decision.policy)}${where}: ${decision.direction} rule ${decision.index} ${action} it at ${who}.`;
    }
    case "tier-default": {
      const policies = walk?.tiers.find(({ tier }) => tier === decision.tier)?.policies ?? [];
      const names = policies.map(({ policy }) => objectText(policy));
      const unknown = walk?.tiers.some(({ tier, exists }) => tier === decision.tier && !exists) === true;
      const which = unknown ? `tier ${decision.tier}, which nobody defined,` : `tier ${decision.tier}`;
      return `No ${decision.direction} rule matches in the policies of ${which} that select ${who} (${list(names)}), and what they do not match is denied.`;
    }
    case "profile":
      return decision.profile.startsWith("kns.")
        ? `No policy decides about ${decision.direction} of ${who}, and its namespace ${decision.profile.slice(4)} allows by default.`
        : `No policy decides about ${decision.direction} of ${who}; ${decision.direction} rule ${decision.index} of profile ${decision.profile} does.`;
    case "missing-profile":
      return `${who} names profile ${decision.profile}, which does not exist: everything is denied until it does.`;
    case "no-profile":
      return `No policy and no profile allows ${decision.direction} of ${who}: without either, everything is denied.`;
    case "passed-on":
      return `The policies for what ${who} forwards pass it on: it is let through.`;
    case "connection-state":
      return decision.state === "established"
        ? "It belongs to a connection that was allowed."
        : "It belongs to no connection that is known (state invalid), and such packets are dropped.";
    case "failsafe":
      return `A failsafe port (${decision.direction === "ingress" ? "failsafeInboundHostPorts" : "failsafeOutboundHostPorts"}): open whatever host policies say.`;
    case "neighbour-discovery":
      return "IPv6 finds its neighbours and routers with it: never denied between a node and its neighbours.";
    case "encapsulation":
      return `Pods may not send ${decision.what.toUpperCase()} packets: they could forge tunnel traffic (FelixConfiguration allows it if wanted).`;
    case "endpoint-to-host":
      return decision.action === "drop"
        ? "A pod to its own node: defaultEndpointToHostAction is Drop."
        : `A pod to its own node: defaultEndpointToHostAction is ${decision.action}.`;
    case "not-policed":
      return "No policy is asked: neither side has policies here, or a node speaks to its own pod.";
  }
}

const MOST_NAMES = 5;
const list = (names: readonly string[]): string =>
  names.length === 0
    ? "none"
    : names.slice(0, MOST_NAMES).join(", ") +
      (names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : "");
