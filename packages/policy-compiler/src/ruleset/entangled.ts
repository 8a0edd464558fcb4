/**
 * May an endpoint change its walks a moment before or after the sets change? A packet between two endpoints passes the sender's walk and the
 * receiver's, each by itself, so old and new may meet as long as nothing that one of the walks asks changes together with it. What
 * an endpoint's own address is a member of is asked by the walks of others.
 */
import { formatPrefix } from "@calico-ts/net";
import { SETS } from "./names.ts";
import type { SetDifference } from "./set-store.ts";
import type { SetElement } from "./values.ts";
import type { Move } from "./workload-dispatch.ts";

/** Asked about one interface only, or about groups. */
const OF_INTERFACES: ReadonlySet<string> = new Set([
  SETS.workloadGroups,
  SETS.fromWorkload,
  SETS.toWorkload,
  ...([4, 6] as const).flatMap((family) => [SETS.workloadSources(family), SETS.workloadSourceNets(family)]),
]);

/** @param owned interface → the prefixes its endpoint had and has. */
export function isEntangled(
  sets: readonly SetDifference[],
  moves: readonly Move[],
  owned: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  const [move, ...others] = moves;
  if (move === undefined) return false;
  // A set that is new or gone is asked by rules that are new or gone: those speak for it.
  const asked = sets.filter(({ declaration, state }) => state === "kept" && !OF_INTERFACES.has(declaration.name));
  if (others.length > 0) return asked.length > 0;
  const own = owned.get(move.interfaceName);
  const isOwn = ({ key }: SetElement): boolean =>
    key.some((part) => typeof part === "object" && "family" in part && own?.has(formatPrefix(part)) === true);
  return asked.some(({ added, removed }) => !added.every(isOwn) || !removed.every(isOwn));
}
