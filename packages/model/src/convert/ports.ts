/** Ports of Kubernetes policies as v3 ports: numbers, `first:last`, names. */
import { mergePortRanges } from "@calico-ts/net";
import type { PortRange } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";

export type Protocol = "TCP" | "UDP" | "SCTP";
export const PORT_PROTOCOLS: readonly Protocol[] = ["SCTP", "TCP", "UDP"];

export type Port = number | string;

/** Ports collected per protocol. A protocol with no port restriction takes all its ports, whatever else is listed. */
export class PortTable {
  readonly #ranges = new Map<Protocol, PortRange[]>();
  readonly #names = new Map<Protocol, Set<string>>();
  readonly #unrestricted = new Set<Protocol>();

  addAll(protocol: Protocol): void {
    this.#unrestricted.add(protocol);
  }

  addRange(protocol: Protocol, first: number, last: number): void {
    const valid = [first, last].every((port) => Number.isInteger(port) && port >= 1 && port <= 65_535);
    if (!valid || last < first) {
      throw new CalicoError("BAD_INPUT", `ports ${first} to ${last} are not a range of ports 1 to 65535`);
    }
    this.#ranges.set(protocol, [...(this.#ranges.get(protocol) ?? []), { first, last }]);
  }

  addName(protocol: Protocol, name: string): void {
    if (name === "") throw new CalicoError("BAD_INPUT", "a port name is empty");
    this.#names.set(protocol, (this.#names.get(protocol) ?? new Set()).add(name));
  }

  /** Protocols in alphabetical order; ranges merged and sorted, then names. An empty list: all ports. */
  *entries(): IterableIterator<readonly [Protocol, readonly Port[]]> {
    for (const protocol of PORT_PROTOCOLS) {
      const ranges = mergePortRanges(this.#ranges.get(protocol) ?? []);
      const ports = [...ranges.map(portText), ...[...(this.#names.get(protocol) ?? [])].toSorted()];
      if (this.#unrestricted.has(protocol)) yield [protocol, []];
      else if (ports.length > 0) yield [protocol, ports];
    }
  }
}

const portText = (range: PortRange): Port =>
  range.first === range.last ? range.first : `${range.first}:${range.last}`;

/** Null is absent, as Kubernetes reads it; stored objects may hold anything else. @throws CalicoError BAD_INPUT */
export function listOf<T>(value: readonly T[] | undefined | null): readonly T[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new CalicoError("BAD_INPUT", "what should be a list is none");
  return value;
}

/** Absent means TCP. @throws CalicoError BAD_INPUT */
export function portProtocol(text: string | undefined): Protocol {
  if (text === undefined || text === "") return "TCP";
  const known = PORT_PROTOCOLS.find((protocol) => protocol === text.toUpperCase());
  if (known === undefined) throw new CalicoError("BAD_INPUT", `protocol "${text}" has no ports: use TCP, UDP or SCTP`);
  return known;
}
