/** Host endpoints and network sets. */
import { cel, checks, integer, intOrString, list, object, opt, set, text } from "../schema/builders.ts";
import { filled } from "../schema/cel-terms.ts";
import type { CalicoResource } from "../schema/declare.ts";
import { calicoKind, column } from "../schema/declare.ts";

const endpointPort = object({
  name: text({ description: "What policies call the port." }),
  protocol: intOrString({ description: "TCP, UDP or SCTP." }),
  port: integer({ minimum: 1, maximum: 65_535 }),
});

const hostEndpointSpec = object(
  {
    node: opt(text({ maxLength: 253, description: "The node the interface is on." })),
    interfaceName: opt(text({ maxLength: 15, description: "An interface, or * for all of the node." })),
    expectedIPs: opt(
      set(text(), { description: "Addresses of the interface; they find it when it has no name here." }),
    ),
    profiles: opt(set(text(), { description: "Profiles that apply when no policy does, in order." })),
    ports: opt(list(endpointPort, { description: "Named ports." })),
  },
  checks(
    cel(
      `${filled("interfaceName")} || ${filled("expectedIPs")}`,
      "a host endpoint needs an interfaceName or expectedIPs",
    ),
    cel(filled("node"), "a host endpoint needs the name of its node"),
  ),
);

export type HostEndpoint = CalicoResource<"HostEndpoint", typeof hostEndpointSpec>;

export const hostEndpoint = calicoKind({
  kind: "HostEndpoint",
  plural: "hostendpoints",
  shortNames: ["hep", "heps"],
  description: "An interface of a node that policies apply to.",
  spec: hostEndpointSpec,
  printerColumns: [
    column("Node", "string", ".spec.node", "The node"),
    column("Interface", "string", ".spec.interfaceName", "The interface"),
  ],
});

const networkSetSpec = object({
  nets: opt(set(text(), { description: "The prefixes of the set." })),
});

export type NetworkSet = CalicoResource<"NetworkSet", typeof networkSetSpec>;
export type GlobalNetworkSet = CalicoResource<"GlobalNetworkSet", typeof networkSetSpec>;

export const networkSet = calicoKind({
  kind: "NetworkSet",
  plural: "networksets",
  namespaced: true,
  description: "Prefixes with labels, for policies of its namespace to select.",
  spec: networkSetSpec,
});

export const globalNetworkSet = calicoKind({
  kind: "GlobalNetworkSet",
  plural: "globalnetworksets",
  shortNames: ["gns"],
  description: "Prefixes with labels, for all policies to select.",
  spec: networkSetSpec,
  printerColumns: [column("Age", "date", ".metadata.creationTimestamp")],
});
