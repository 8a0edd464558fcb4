/**
 * ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2, standard channel; Kubernetes SIG Network): policies of the
 * cluster's administrator, before (tier Admin) or after (tier Baseline) those of its users.
 */
import type { TypeOf } from "../schema/builders.ts";
import { cel, checks, integer, object, opt, plainList, set, text, word } from "../schema/builders.ts";
import type { StoredObject } from "../schema/declare.ts";
import { column, kubernetesKind } from "../schema/declare.ts";
import { conditionsSchema, labelSelectorSchema } from "../schema/meta.ts";

const port = () => integer({ format: "int32", minimum: 1, maximum: 65_535 });

const namespacedPods = object(
  {
    namespaceSelector: opt(labelSelectorSchema("Namespaces; absent or empty: all.")),
    podSelector: labelSelectorSchema("Pods in them; empty: all."),
  },
  { description: "Pods by their labels and their namespace's." },
);

const exactlyOne = { minProperties: 1, maxProperties: 1 };

const selected = {
  namespaces: opt(labelSelectorSchema("All pods of these namespaces.")),
  pods: opt(namespacedPods),
};

const subject = object(selected, { ...exactlyOne, description: "The pods the policy is for." });

const destinationPort = object(
  {
    number: opt(port()),
    range: opt(
      object(
        { start: port(), end: port() },
        checks(cel("self.end > self.start", "the range must start below its end")),
      ),
    ),
  },
  exactlyOne,
);

const transport = () => opt(object({ destinationPort: opt(destinationPort) }, { minProperties: 1 }));

const protocol = object(
  {
    tcp: transport(),
    udp: transport(),
    sctp: transport(),
    destinationNamedPort: opt(text({ description: "The name of a container port of the destination." })),
  },
  exactlyOne,
);

const someOf = { minItems: 1, maxItems: 25 };
const protocols = opt(plainList(protocol, { ...someOf, description: "Any of these; absent: all." }));

const action = word(["Accept", "Deny", "Pass"], { description: "Pass: let the next tier decide." });
const name = opt(text({ maxLength: 100, description: "For people." }));

const ingressPeer = object(selected, exactlyOne);

const egressPeer = object(
  {
    ...selected,
    networks: opt(
      set(text({ maxLength: 43, ...checks(cel("isCIDR(self)", "not a prefix in CIDR form")) }), {
        ...someOf,
        description: "Prefixes.",
      }),
    ),
  },
  exactlyOne,
);

const ingressRule = object({ name, action, from: plainList(ingressPeer, someOf), protocols });
const egressRule = object({ name, action, to: plainList(egressPeer, someOf), protocols });

const spec = object({
  tier: word(["Admin", "Baseline"], { description: "Before or after the users' policies." }),
  priority: integer({ format: "int32", minimum: 0, maximum: 1000, description: "Place in the tier, lowest first." }),
  subject,
  ingress: opt(plainList(ingressRule, { maxItems: 25, description: "Rules for incoming packets, in order." })),
  egress: opt(plainList(egressRule, { maxItems: 25, description: "Rules for outgoing packets, in order." })),
});

const status = object({ conditions: conditionsSchema });

export type ClusterNetworkPolicy = StoredObject<"policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"> & {
  readonly spec: TypeOf<typeof spec>;
  readonly status?: TypeOf<typeof status>;
};
export type ClusterPolicyIngressRule = TypeOf<typeof ingressRule>;
export type ClusterPolicyEgressRule = TypeOf<typeof egressRule>;
export type ClusterPolicyPeer = TypeOf<typeof egressPeer>;
export type ClusterPolicyProtocol = TypeOf<typeof protocol>;
export type ClusterPolicySubject = TypeOf<typeof subject>;

export const clusterNetworkPolicy = kubernetesKind({
  kind: "ClusterNetworkPolicy",
  group: "policy.networking.k8s.io",
  version: "v1alpha2",
  plural: "clusternetworkpolicies",
  shortNames: ["cnp"],
  storage: "crd",
  hasStatus: true,
  description: "A policy of the cluster's administrator.",
  fields: { spec, status },
  required: ["spec"],
  printerColumns: [
    column("Tier", "string", ".spec.tier"),
    column("Priority", "string", ".spec.priority"),
    column("Age", "date", ".metadata.creationTimestamp"),
  ],
});
