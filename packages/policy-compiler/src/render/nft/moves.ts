/** Interfaces whose group changes, in the terms of nf_tables. */
import type { NftElement, NftSet } from "@calico-ts/netlink";
import { concatKey, hostUint32, interfaceKey } from "@calico-ts/netlink";
import { SETS } from "../../ruleset/names.ts";
import type { Move } from "../../ruleset/workload-dispatch.ts";
import { elementKey } from "./identity.ts";
import type { RenderedSet, Ruleset, SetChange } from "./ruleset.ts";

const IFNAME_BYTES = 16;
const MOVING_MAPS = [SETS.movingFromWorkload, SETS.movingToWorkload] as const;

/** Every interface of `desired` about which the sets of groups change, or that has been left in the middle of a move. */
export function movesBetween(sets: ReadonlyMap<string, SetChange>, desired: Ruleset): readonly Move[] {
  const touched = new Set<string>();
  for (const name of [SETS.workloadGroups, ...MOVING_MAPS]) {
    for (const { key } of changedElements(sets.get(name)))
      touched.add(elementKey({ key: key.subarray(0, IFNAME_BYTES) }));
  }
  if (touched.size === 0) return [];
  return Array.from(desired.groups).flatMap(([interfaceName, group]): Move[] => {
    if (!touched.has(elementKey({ key: interfaceKey(interfaceName) }))) return [];
    const from = chainOf(desired.sets.get(SETS.fromWorkload), group);
    const to = chainOf(desired.sets.get(SETS.toWorkload), group);
    return from === undefined || to === undefined ? [] : [{ interfaceName, group, from, to }];
  });
}

function changedElements(change: SetChange | undefined): readonly NftElement[] {
  if (change === undefined || change.kind === "remove") return [];
  return change.kind === "replace" ? change.elements : [...change.added, ...change.removed];
}

function chainOf(map: RenderedSet | undefined, group: number): string | undefined {
  const value = map?.elements.get(elementKey({ key: hostUint32(group) }))?.value;
  return value !== undefined && "chain" in value ? value.chain : undefined;
}

/** What sends a moving interface to its walks whatever its link's group is; by map. */
export const overrides = (moves: readonly Move[]): ReadonlyMap<string, readonly NftElement[]> =>
  new Map([
    [SETS.movingFromWorkload, moves.map(({ interfaceName, from }) => override(interfaceName, from))],
    [SETS.movingToWorkload, moves.map(({ interfaceName, to }) => override(interfaceName, to))],
  ]);

const override = (interfaceName: string, chain: string): NftElement => ({
  key: interfaceKey(interfaceName),
  value: { kind: "goto", chain },
});

export const movingMap = (name: string): NftSet => ({ name, keyTypes: ["ifname"], mapTo: "verdict" });

/** Key of the element that lets an interface have a group. */
export const groupElementKey = (interfaceName: string, group: number): Uint8Array =>
  concatKey(interfaceKey(interfaceName), hostUint32(group));

/** The group of such a key, as the key of a dispatch map. */
export const groupPart = (key: Uint8Array): Uint8Array => key.subarray(IFNAME_BYTES);
