/** Kubernetes NetworkPolicy, and Calico's staged form of it, which has the same fields. */
import type { TypeOf } from "../schema/builders.ts";
import { integer, list, object, OPEN, opt, set, text, word } from "../schema/builders.ts";
import { Type } from "typebox";
import type { CalicoResource, StoredObject } from "../schema/declare.ts";
import { calicoKind, column, kubernetesKind } from "../schema/declare.ts";
import { labelSelectorSchema } from "../schema/meta.ts";

const peer = object(
  {
    podSelector: opt(labelSelectorSchema("Pods, of the policy's namespace unless namespaceSelector is given.")),
    namespaceSelector: opt(labelSelectorSchema("Namespaces.")),
    ipBlock: opt(
      object(
        {
          cidr: text({ description: "A prefix." }),
          except: opt(list(text(), { description: "Prefixes inside it that do not match." })),
        },
        { description: "Addresses; excludes the selectors." },
      ),
    ),
  },
  { description: "Who is on the other side." },
);

const port = object({
  protocol: opt(text({ description: "TCP, UDP or SCTP. Default: TCP." })),
  port: opt(
    // Unlike Calico's own number-or-text fields this one has no pattern.
    Type.Unsafe<number | string>({
      anyOf: [{ type: "integer" }, { type: "string" }],
      "x-kubernetes-int-or-string": true,
      description: "A number or the name of a container port. Default: all.",
    }),
  ),
  endPort: opt(integer({ format: "int32", description: "Makes port the first of a range." })),
});

const ports = opt(list(port, { description: "Empty: all." }));

const fields = {
  podSelector: opt(labelSelectorSchema("The pods the policy is for; empty: all of the namespace.")),
  ingress: opt(list(object({ ports, from: opt(list(peer, { description: "Empty: anybody." })) }))),
  egress: opt(list(object({ ports, to: opt(list(peer, { description: "Empty: anybody." })) }))),
};

const policySpec = object({ ...fields, policyTypes: opt(list(text())) }, OPEN);

export type KubernetesNetworkPolicy = StoredObject<"networking.k8s.io/v1", "NetworkPolicy"> & {
  readonly spec?: TypeOf<typeof policySpec>;
};
export type KubernetesPolicyPeer = TypeOf<typeof peer>;
export type KubernetesPolicyPort = TypeOf<typeof port>;

export const kubernetesNetworkPolicy = kubernetesKind({
  kind: "NetworkPolicy",
  group: "networking.k8s.io",
  version: "v1",
  plural: "networkpolicies",
  shortNames: ["netpol"],
  namespaced: true,
  description: "Kubernetes' own policy for pods of its namespace.",
  fields: { spec: policySpec },
  printerColumns: [column("Age", "date", ".metadata.creationTimestamp")],
});

const stagedSpec = object({
  stagedAction: opt(
    word(["Set", "Delete", "Learn", "Ignore"], {
      default: "Set",
      description: "What to do to the policy of the same name when this one is put in force.",
    }),
  ),
  ...fields,
  policyTypes: opt(set(text(), { minItems: 1, maxItems: 2, description: "Ingress, Egress or both." })),
});

export type StagedKubernetesNetworkPolicy = CalicoResource<"StagedKubernetesNetworkPolicy", typeof stagedSpec>;

export const stagedKubernetesNetworkPolicy = calicoKind({
  kind: "StagedKubernetesNetworkPolicy",
  plural: "stagedkubernetesnetworkpolicies",
  shortNames: ["sknp"],
  namespaced: true,
  description: "A Kubernetes NetworkPolicy that is evaluated and reported but not enforced.",
  spec: stagedSpec,
});
