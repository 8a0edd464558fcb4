/** Conditions of rules with the words for them: what the rule wants, and what the packet had instead. */
import type { Family } from "@calico-ts/net";
import { formatAddress, hasPorts, protocolName } from "@calico-ts/net";
import type { SelectorNode } from "@calico-ts/selector";
import { parseSelector } from "@calico-ts/selector";
import type { Criterion, PacketTest } from "./oracle-policy.ts";
import type { PacketView, Side } from "./packet-view.ts";
import type { Entity } from "./world.ts";

export type SideName = "source" | "destination";

export const familyCriterion = (family: Family): Criterion => ({
  field: "ipVersion",
  test: (packet) => packet.family === family,
  wanted: () => String(family),
  seen: (packet) => `IPv${packet.family}`,
});

export const protocolCriterion = (protocol: number, not: boolean): Criterion => ({
  field: not ? "notProtocol" : "protocol",
  test: (packet) => (packet.protocol === protocol) !== not,
  wanted: () => (not ? `not ${protocolName(protocol)}` : protocolName(protocol)),
  seen: (packet) => protocolName(packet.protocol),
});

export function icmpCriterion(
  { type, code }: { readonly type?: number; readonly code?: number },
  not: boolean,
  test: PacketTest,
): Criterion {
  const wanted = type === undefined ? "any" : `type ${type}${code === undefined ? "" : ` code ${code}`}`;
  return {
    field: not ? "notICMP" : "icmp",
    test,
    wanted: () => (not ? `not ${wanted}` : wanted),
    seen: ({ icmp }) => (icmp === undefined ? "no ICMP type" : `type ${icmp.type} code ${icmp.code}`),
  };
}

/** About the address of a side: prefixes, selectors. `labels`: those to tell about. */
export const sideCriterion = (
  field: string,
  side: SideName,
  words: { readonly wanted: () => string; readonly labels?: () => readonly string[] },
  test: PacketTest,
): Criterion => ({
  field,
  test,
  wanted: words.wanted,
  seen: (packet) => sideText(packet[side], words.labels?.() ?? []),
});

export const portCriterion = (field: string, side: SideName, wanted: () => string, test: PacketTest): Criterion => ({
  field,
  test,
  wanted,
  seen: (packet) => portText(packet, side),
});

/** `8080/TCP (named http)`; names are those of whoever has the address. */
export function portText(packet: PacketView, side: SideName): string {
  const port = side === "source" ? packet.sourcePort : packet.destinationPort;
  const protocol = protocolName(packet.protocol);
  if (!hasPorts(packet.protocol)) return `${protocol}, which has no ports`;
  if (port === undefined) return `${protocol}, any port`;
  const names = packet[side].owners
    .flatMap(({ ports }) => ports)
    .filter((own) => own.port === port && own.protocol === packet.protocol)
    .map(({ name }) => name);
  return `${port}/${protocol}${names.length === 0 ? "" : ` (named ${[...new Set(names)].join(", ")})`}`;
}

const MOST_OWNERS = 3;

/** `10.0.0.1 (pod shop/web: app=web, role absent)` */
export function sideText({ address, owners }: Side, labels: readonly string[]): string {
  if (owners.length === 0) return `${formatAddress(address)}, no known endpoint`;
  const shown = owners.slice(0, MOST_OWNERS).map((owner) => ownerText(owner, labels));
  if (owners.length > MOST_OWNERS) shown.push(`${owners.length - MOST_OWNERS} more`);
  return `${formatAddress(address)}, ${shown.join("; ")}`;
}

export function ownerText(owner: Entity, labels: readonly string[] = []): string {
  const name = owner.kind === "pod" ? `pod ${owner.id}` : owner.id;
  const values = labels.map((label) => {
    const value = owner.labels.get(label) ?? owner.ownLabels.get(label);
    return value === undefined ? `no ${labelName(label)}` : `${labelName(label)}=${value}`;
  });
  return values.length === 0 ? name : `${name} with ${values.join(", ")}`;
}

/** Inherited labels by the names people gave them. */
const labelName = (label: string): string =>
  label.startsWith("pcns.")
    ? `namespace label ${label.slice(5)}`
    : label.startsWith("pcsa.")
      ? `account label ${label.slice(5)}`
      : label;

/** The labels a selector asks about, for telling what they are; none for one that cannot be read. */
export function labelsIn(selector: string, prefix = ""): string[] {
  try {
    return [...new Set(labelsOf(parseSelector(selector).ast))].map((label) => prefix + label);
  } catch {
    return [];
  }
}

function labelsOf(node: SelectorNode): string[] {
  if (node.kind === "not") return labelsOf(node.operand);
  if (node.kind === "and" || node.kind === "or") return node.operands.flatMap(labelsOf);
  return "label" in node ? [node.label] : [];
}
