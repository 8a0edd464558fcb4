/** Address families (RFC 4760): the two this library routes, by the numbers on the wire. */
import type { Family } from "@calico-ts/net";

export interface AddressFamily {
  readonly afi: number;
  readonly safi: number;
}

export type RoutedFamily = "ipv4-unicast" | "ipv6-unicast";

export const ROUTED_FAMILIES: readonly RoutedFamily[] = ["ipv4-unicast", "ipv6-unicast"];

const NUMBERS: Readonly<Record<RoutedFamily, AddressFamily>> = {
  "ipv4-unicast": { afi: 1, safi: 1 },
  "ipv6-unicast": { afi: 2, safi: 1 },
};

export const familyNumbers = (family: RoutedFamily): AddressFamily => NUMBERS[family];

/** Undefined for families we do not route; they are carried as numbers where a peer may announce them. */
export function routedFamily({ afi, safi }: AddressFamily): RoutedFamily | undefined {
  if (safi !== 1) return undefined;
  return afi === 1 ? "ipv4-unicast" : afi === 2 ? "ipv6-unicast" : undefined;
}

export const ipFamily = (family: RoutedFamily): Family => (family === "ipv4-unicast" ? 4 : 6);
