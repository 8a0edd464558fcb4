/**
 * Service-loop prevention. Where prefixes of services are announced over BGP, routers send every address in them to the
 * nodes. The service proxy rewrites the destination of those that are services; a packet that is to be forwarded and still goes to such
 * a prefix belongs to nobody: its only way is back to the router, and so round and round until its TTL ends.
 *
 * `serviceLoopPrevention` says what becomes of it: Drop, Reject, or Disabled. As upstream's: after every policy, for whatever
 * state its connection is in, and not for what the node itself sends or for addresses the node has.
 */
import { tryParsePrefix } from "@calico-ts/net";
import { CHAINS } from "./names.ts";
import { maximalPrefixes } from "./prefixes.ts";
import type { RulesetConfig } from "./ruleset-config.ts";
import type { Chain, ChainRule } from "./values.ts";
import { COUNT, familyMatch } from "./values.ts";

/** No chain while there is nothing to do. */
export function serviceLoopChains(
  { serviceLoop }: Pick<RulesetConfig, "serviceLoop">,
  servicePrefixes: readonly string[],
): Chain[] {
  if (serviceLoop === "disabled") return [];
  const rules = maximalPrefixes(servicePrefixes.flatMap((text) => tryParsePrefix(text, "mask") ?? [])).map(
    (prefix): ChainRule => ({
      matches: [familyMatch(prefix.family), { kind: "prefix", side: "destination", prefix }],
      actions: [COUNT, { kind: serviceLoop }],
      comment: "service-loop prevention: no service takes this address",
    }),
  );
  return rules.length === 0 ? [] : [{ name: CHAINS.serviceLoop, attach: "forward-last", rules }];
}
