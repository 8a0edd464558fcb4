/** IP protocol numbers by the names Calico and Kubernetes use (IANA protocol numbers; UDPLite is RFC 3828). */
export const PROTOCOL_NUMBERS = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ICMPv6: 58,
  SCTP: 132,
  UDPLite: 136,
} as const;

export type ProtocolName = keyof typeof PROTOCOL_NUMBERS;

/** The number for a name in any case, or for decimal text; undefined when it is neither or out of 1–255. */
export function protocolNumber(text: string | number): number | undefined {
  if (typeof text === "number") return Number.isInteger(text) && text >= 1 && text <= 255 ? text : undefined;
  for (const [name, number] of Object.entries(PROTOCOL_NUMBERS)) {
    if (name.toLowerCase() === text.toLowerCase()) return number;
  }
  return /^\d{1,3}$/.test(text) ? protocolNumber(Number(text)) : undefined;
}

/** The name, or the number as text when it has none. */
export function protocolName(number: number): string {
  return Object.entries(PROTOCOL_NUMBERS).find(([, value]) => value === number)?.[0] ?? String(number);
}

/** True for the protocols whose header starts with source and destination port. */
export const hasPorts = (number: number): boolean =>
  number === PROTOCOL_NUMBERS.TCP ||
  number === PROTOCOL_NUMBERS.UDP ||
  number === PROTOCOL_NUMBERS.SCTP ||
  number === PROTOCOL_NUMBERS.UDPLite;
