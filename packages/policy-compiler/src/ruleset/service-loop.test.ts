import { expect, test } from "vitest";
import { formatPrefix } from "@calico-ts/net";
import { rulesetConfig } from "./ruleset-config.ts";
import { serviceLoopChains } from "./service-loop.ts";

const rules = (prefixes: readonly string[], serviceLoopPrevention?: string): string[] =>
  serviceLoopChains(
    rulesetConfig(serviceLoopPrevention === undefined ? {} : { serviceLoopPrevention }),
    prefixes,
  ).flatMap((chain) =>
    chain.rules.map(({ matches, actions }) => {
      const to = matches.flatMap((match) => (match.kind === "prefix" ? formatPrefix(match.prefix) : []));
      return `${chain.attach} ${to.join()} ${actions.at(-1)?.kind}`;
    }),
  );

test("drops what goes to a service prefix once more, or refuses it, or is not there", () => {
  const prefixes = ["10.96.0.0/12", "10.100.0.0/24", "fd00:96::/112"];
  expect(rules(prefixes)).toEqual(["forward-last 10.96.0.0/12 drop", "forward-last fd00:96::/112 drop"]);
  expect(rules(prefixes.slice(1), "Reject")).toEqual([
    "forward-last 10.100.0.0/24 reject",
    "forward-last fd00:96::/112 reject",
  ]);
  expect(serviceLoopChains(rulesetConfig({ serviceLoopPrevention: "Disabled" }), prefixes)).toEqual([]);
  expect(serviceLoopChains(rulesetConfig({}), [])).toEqual([]);
});
