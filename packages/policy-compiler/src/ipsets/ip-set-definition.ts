/** What an IP set is made of, and its id: the same text on every node and in upstream. */
import type { IpSetType } from "@calico-ts/dataplane-api";
import { protocolName } from "@calico-ts/net";
import type { Selector } from "@calico-ts/selector";
import { hashedId } from "@calico-ts/selector";

export type IpSetDefinition =
  | { readonly kind: "selector"; readonly selector: Selector }
  | {
      readonly kind: "named-port";
      readonly selector: Selector;
      readonly protocol: number | "any";
      readonly port: string;
    }
  /** `service` is `namespace/name`. With ports: address, protocol and port of each backend; without: addresses. */
  | { readonly kind: "service"; readonly service: string; readonly ports: boolean };

export function ipSetId(definition: IpSetDefinition): string {
  switch (definition.kind) {
    case "selector":
      return definition.selector.uniqueId;
    case "named-port": {
      const protocol = definition.protocol === "any" ? "any" : protocolName(definition.protocol).toLowerCase();
      return hashedId("n", `${definition.selector.uniqueId},${protocol},${definition.port}`);
    }
    default:
      return hashedId(definition.ports ? "svc" : "svcnoport", definition.service);
  }
}

export function ipSetType(definition: IpSetDefinition): IpSetType {
  if (definition.kind === "selector") return "net";
  return definition.kind === "named-port" || definition.ports ? "ip-port" : "ip";
}
