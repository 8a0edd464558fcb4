/**
 * Settings of the per-node agent. The keys are upstream's, all of them, whether this product acts on them or not: a
 * manifest that configures upstream must be accepted here. Defaults are in the descriptions only, because an absent key
 * must stay absent: a key of the same name in the node's environment or file may set it.
 */
import { cel, checks, object, opt, text } from "../../schema/builders.ts";
import { empty } from "../../schema/cel-terms.ts";
import type { CalicoResource } from "../../schema/declare.ts";
import { calicoKind } from "../../schema/declare.ts";
import { bpfFields } from "./bpf.ts";
import { dataplaneFields } from "./dataplane.ts";
import { processFields } from "./process.ts";

const addressRule = (field: string, family: 4 | 6) =>
  cel(
    `${empty(field)} || (isIP(self.${field}) && ip(self.${field}).family() == ${family})`,
    `${field} is an IPv${family} address`,
  );

const spec = object(
  {
    nodeSelector: opt(
      text({ maxLength: 1024, description: "Nodes the settings are for; not in default and node.<name>." }),
    ),
    ...processFields,
    ...dataplaneFields,
    ...bpfFields,
  },
  checks(
    cel(
      "!(has(self.routeTableRange) && has(self.routeTableRanges))",
      "routeTableRange and routeTableRanges exclude each other",
      "FieldValueForbidden",
    ),
    addressRule("natOutgoingAddress", 4),
    addressRule("deviceRouteSourceAddress", 4),
    addressRule("deviceRouteSourceAddressIPv6", 6),
  ),
);

export type FelixConfiguration = CalicoResource<"FelixConfiguration", typeof spec>;
export type FelixConfigurationSpec = FelixConfiguration["spec"];

export const felixConfiguration = calicoKind({
  kind: "FelixConfiguration",
  plural: "felixconfigurations",
  description: "Settings of the agent: of all nodes (default), of one (node.<name>), or of those nodeSelector matches.",
  spec,
  rules: [
    cel(
      "!(self.metadata.name == 'default' || self.metadata.name.startsWith('node.')) || !has(self.spec.nodeSelector)",
      "nodeSelector cannot be set in default and node.<name>",
      "FieldValueForbidden",
    ),
  ],
});
