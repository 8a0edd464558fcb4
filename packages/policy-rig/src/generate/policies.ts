/** Random policies of every kind. */
import type { Prng } from "../prng.ts";
import { NAMESPACES } from "../lab/plan.ts";
import type { RigResource } from "../world.ts";
import { resourceOf } from "../world.ts";
import {
  accountSelector,
  APPS,
  MISSING_TIER,
  namespaceSelector,
  PORT_NAMES,
  RULE_PORTS,
  selector,
  TEAMS,
  TIERS,
} from "./alphabet.ts";
import { rules } from "./calico-rules.ts";

type Fields = Record<string, unknown>;

function calicoSpec(prng: Prng, namespace: string | undefined): Fields {
  const spec: Fields = {};
  if (prng.chance(0.5)) spec["tier"] = prng.chance(0.1) ? MISSING_TIER : prng.pick(TIERS);
  if (prng.chance(0.6)) spec["order"] = prng.pick([1, 2, 2, 2, 3.5, -1, 1000]);
  if (prng.chance(0.85)) spec["selector"] = prng.chance(0.4) ? prng.pick(["all()", "has(app)", ""]) : selector(prng);
  if (prng.chance(0.12)) spec["serviceAccountSelector"] = accountSelector(prng);
  if (namespace === undefined && prng.chance(0.25)) spec["namespaceSelector"] = namespaceSelector(prng, false);
  if (prng.chance(0.4)) spec["types"] = prng.pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]);
  const ingress = rules(prng, { direction: "ingress", namespace }, 4);
  const egress = rules(prng, { direction: "egress", namespace }, 3);
  if (ingress.length > 0 || prng.chance(0.2)) spec["ingress"] = ingress;
  if (egress.length > 0 && prng.chance(0.7)) spec["egress"] = egress;
  return spec;
}

export function networkPolicy(prng: Prng, name: string): RigResource {
  const namespace = prng.pick(NAMESPACES);
  return resourceOf("NetworkPolicy", `${namespace}/${name}`, { spec: calicoSpec(prng, namespace) });
}

export function globalPolicy(prng: Prng, name: string): RigResource {
  const spec = calicoSpec(prng, undefined);
  if (prng.chance(0.15)) hostOnly(prng, spec);
  return resourceOf("GlobalNetworkPolicy", name, { spec });
}

/** What only host endpoints know; policies of these forms must leave pods alone. */
function hostOnly(prng: Prng, spec: Fields): void {
  spec["applyOnForward"] = true;
  const form = prng.below(3);
  if (form === 0) spec["doNotTrack"] = true;
  if (form !== 1) return;
  delete spec["egress"];
  spec["preDNAT"] = true;
  if (spec["types"] !== undefined) spec["types"] = ["Ingress"];
}

export function hostPolicy(prng: Prng, name: string): RigResource {
  const spec = calicoSpec(prng, undefined);
  spec["selector"] = prng.pick([
    "has(host)",
    "has(host)",
    "host == 'yes' && has(app)",
    "!has(projectcalico.org/namespace)",
  ]);
  delete spec["namespaceSelector"];
  delete spec["serviceAccountSelector"];
  if (prng.chance(0.6)) hostOnly(prng, spec);
  return resourceOf("GlobalNetworkPolicy", name, { spec });
}

export function stagedPolicy(prng: Prng, name: string): RigResource {
  const stagedAction = prng.pick(["Set", "Set", "Ignore", "Learn"]);
  const namespace = prng.pick(NAMESPACES);
  const kind = prng.below(3);
  if (kind === 0) {
    return resourceOf("StagedNetworkPolicy", `${namespace}/${name}`, {
      spec: { stagedAction, ...calicoSpec(prng, namespace) },
    });
  }
  if (kind === 1) {
    return resourceOf("StagedGlobalNetworkPolicy", name, { spec: { stagedAction, ...calicoSpec(prng, undefined) } });
  }
  return resourceOf("StagedKubernetesNetworkPolicy", `${namespace}/${name}`, {
    spec: { stagedAction, ...kubernetesSpec(prng) },
  });
}

export function kubernetesPolicy(prng: Prng, name: string): RigResource {
  return resourceOf("KubernetesNetworkPolicy", `${prng.pick(NAMESPACES)}/${name}`, { spec: kubernetesSpec(prng) });
}

function kubernetesSpec(prng: Prng): Fields {
  const spec: Fields = { podSelector: prng.chance(0.4) ? {} : podSelector(prng) };
  if (prng.chance(0.75)) spec["policyTypes"] = prng.pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]);
  if (prng.chance(0.75)) {
    spec["ingress"] = prng.times(prng.below(4), () => kubernetesRule(prng, "from"));
  }
  if (prng.chance(0.6)) spec["egress"] = prng.times(prng.below(3), () => kubernetesRule(prng, "to"));
  return spec;
}

function kubernetesRule(prng: Prng, side: "from" | "to"): Fields {
  const rule: Fields = {};
  if (prng.chance(0.75)) rule[side] = prng.times(prng.below(3), () => kubernetesPeer(prng));
  if (prng.chance(0.6)) rule["ports"] = prng.times(prng.below(4), () => kubernetesPort(prng));
  return rule;
}

function kubernetesPeer(prng: Prng): Fields {
  const shape = prng.below(7);
  if (shape < 2) return { podSelector: podSelector(prng) };
  if (shape < 4) return { podSelector: podSelector(prng), namespaceSelector: teamSelector(prng) };
  if (shape === 4) return { namespaceSelector: teamSelector(prng) };
  return { ipBlock: prng.pick(IP_BLOCKS) };
}

const IP_BLOCKS: readonly Fields[] = [
  { cidr: "10.0.0.0/24", except: ["10.0.0.2/32"] },
  { cidr: "0.0.0.0/0", except: ["10.0.0.0/8", "10.0.0.0/24"] },
  { cidr: "0.0.0.0/0" },
  { cidr: "1.2.0.0/16", except: ["1.2.128.0/17"] },
  { cidr: "10.0.1.1/32" },
  { cidr: "10.0.0.0/22", except: ["10.0.1.0/24", "10.0.2.1/32"] },
  { cidr: "fd00::/64" },
  { cidr: "::/0", except: ["fd00::/112", "2001:db8:1::/48"] },
];

function kubernetesPort(prng: Prng): Fields {
  const protocol = prng.chance(0.7) ? { protocol: prng.pick(["TCP", "TCP", "UDP", "SCTP"]) } : {};
  const shape = prng.below(6);
  if (shape === 0) return protocol;
  if (shape === 1) return { ...protocol, port: prng.pick([79, 80, 8000]), endPort: prng.pick([80, 8080, 65_535]) };
  if (shape < 4) return { ...protocol, port: prng.pick(PORT_NAMES) };
  return { ...protocol, port: prng.pick(RULE_PORTS) };
}

/** Of labels that pods inherit or get from Calico too. */
const GIVEN_LABELS: readonly Fields[] = [
  { "pcns.team": "red" },
  { "projectcalico.org/orchestrator": "k8s" },
  { "projectcalico.org/namespace": "b" },
  { "projectcalico.org/serviceaccount": "robot" },
];

export function podSelector(prng: Prng): Fields {
  const shape = prng.below(7);
  if (shape === 0) return {};
  if (shape === 6) return { matchLabels: prng.pick(GIVEN_LABELS) };
  if (shape < 3) return { matchLabels: { app: prng.pick(APPS) } };
  if (shape === 3) return { matchLabels: { app: prng.pick(APPS), env: "prod" } };
  if (shape === 4) {
    return { matchExpressions: [{ key: "app", operator: prng.pick(["In", "NotIn"]), values: prng.any(APPS) }] };
  }
  return { matchExpressions: [{ key: "env", operator: prng.pick(["Exists", "DoesNotExist"]) }] };
}

function teamSelector(prng: Prng): Fields {
  const shape = prng.below(5);
  if (shape === 4) return { matchLabels: { "projectcalico.org/name": prng.pick(NAMESPACES) } };
  if (shape === 0) return {};
  if (shape === 1) return { matchLabels: { team: prng.pick(TEAMS) } };
  if (shape === 2) return { matchExpressions: [{ key: "team", operator: prng.pick(["DoesNotExist", "Exists"]) }] };
  return { matchExpressions: [{ key: "team", operator: "NotIn", values: ["red"] }] };
}

export function clusterPolicy(prng: Prng, name: string): RigResource {
  const rule = (side: "from" | "to"): Fields => ({
    action: prng.pick(["Accept", "Deny", "Pass"]),
    [side]: prng.times(prng.between(1, 2), () =>
      side === "to" && prng.chance(0.3) ? { networks: prng.any(NETWORKS) } : clusterPeer(prng),
    ),
    ...(prng.chance(0.6) ? { protocols: prng.times(prng.between(1, 3), () => clusterProtocol(prng)) } : {}),
  });
  return resourceOf("ClusterNetworkPolicy", name, {
    spec: {
      tier: prng.pick(["Admin", "Baseline"]),
      priority: prng.pick([0, 1, 1, 1000]),
      subject: clusterPeer(prng),
      ...(prng.chance(0.8) ? { ingress: prng.times(prng.below(4), () => rule("from")) } : {}),
      ...(prng.chance(0.6) ? { egress: prng.times(prng.below(4), () => rule("to")) } : {}),
    },
  });
}

const NETWORKS = ["10.0.0.0/24", "fd00::/64", "1.2.0.0/16", "10.0.2.1/32", "0.0.0.0/0"] as const;

const clusterPeer = (prng: Prng): Fields =>
  prng.chance(0.4)
    ? { namespaces: teamSelector(prng) }
    : {
        pods: {
          ...(prng.chance(0.7) ? { namespaceSelector: teamSelector(prng) } : {}),
          podSelector: podSelector(prng),
        },
      };

function clusterProtocol(prng: Prng): Fields {
  const shape = prng.below(4);
  if (shape === 0) return { destinationNamedPort: prng.pick(PORT_NAMES) };
  const transport = prng.pick(["tcp", "tcp", "udp", "sctp"]);
  if (shape === 1) {
    const [start, end] = prng.pick([
      [79, 81],
      [80, 443],
      [1, 79],
      [8000, 8080],
    ] as const);
    return { [transport]: { destinationPort: { range: { start, end } } } };
  }
  return { [transport]: { destinationPort: { number: prng.pick(RULE_PORTS) } } };
}
