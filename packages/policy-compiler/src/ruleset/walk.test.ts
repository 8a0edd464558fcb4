import type { EndpointTier, PolicyId } from "@calico-ts/dataplane-api";
import { expect, test } from "vitest";
import { rulesetConfig } from "./ruleset-config.ts";
import type { Walk } from "./walk.ts";
import { isIdle, renderWalk, walkedTiers, walkName } from "./walk.ts";

const policy = (name: string): PolicyId => ({ kind: "GlobalNetworkPolicy", namespace: "", name });
const listening = rulesetConfig({ flowLogsLocalReporter: "Enabled" });
const deaf = rulesetConfig({});

/** What becomes of a packet that is no part of a known connection: policies and profiles it is shown, what is told, how it ends. */
const road = (walk: Walk, config = listening): string[] =>
  renderWalk(walk, config).rules.flatMap(({ matches, actions }) => {
    if (matches.some(({ kind }) => kind === "conntrack" || kind === "protocol")) return [];
    return actions.flatMap((action) => {
      if (action.kind === "jump") return action.chain.replace(/^(policy|profile)-(in|out)\//, "");
      if (action.kind === "flow-log") return `${action.group} ${action.prefix}`;
      return action.kind === "count" || action.kind === "set-mark" ? [] : action.kind;
    });
  });

const walk = (direction: Walk["direction"], tier: Partial<EndpointTier>, form: Walk["form"] = "workload"): Walk => ({
  form,
  direction,
  tiers: [{ name: "default", defaultAction: "deny", ingress: [], egress: [], ...tier }],
  profiles: ["prof1", "prof2"],
});
const both: Partial<EndpointTier> = { stagedOnly: ["ingress", "egress"] };
const PROFILES = ["prof1", "prof2"];

// The cases are upstream's (felix/rules/endpoints_test.go): of staged policies ai, bi, ae, be one, or both, are staged.
test.each<[string, Walk, readonly string[]]>([
  [
    "one staged, one enforced, inward",
    walk("ingress", { ingress: [policy("bi")], egress: [policy("ae")] }),
    ["GlobalNetworkPolicy/bi", "1 DPI|default", "drop", ...PROFILES, "1 DRI", "drop"],
  ],
  [
    "one staged, one enforced, outward",
    walk("egress", { ingress: [policy("bi")], egress: [policy("ae")] }),
    ["GlobalNetworkPolicy/ae", "2 DPE|default", "drop", ...PROFILES, "2 DRE", "drop"],
  ],
  ["both staged, inward", walk("ingress", both), ["1 PPI|default", ...PROFILES, "1 DRI", "drop"]],
  ["both staged, outward", walk("egress", both), ["2 PPE|default", ...PROFILES, "2 DRE", "drop"]],
  ["staged in the other direction only", walk("ingress", { stagedOnly: ["egress"] }), [...PROFILES, "1 DRI", "drop"]],
  ["forwarded: told, and let through", walk("ingress", both, "forward"), ["1 PPI|default"]],
])("%s", (_what, of, expected) => {
  expect(road(of)).toEqual(expected);
});

test("where nobody listens a tier of staged policies only is as if it were not there", () => {
  const of = walk("ingress", both);
  const stripped = { ...of, tiers: walkedTiers(of.tiers, deaf) };
  const without: Walk = { ...of, tiers: [] };
  expect(walkName(stripped)).toBe(walkName(without));
  expect(road(stripped, deaf)).toEqual(road(without, deaf));
  expect(isIdle({ ...stripped, form: "forward" })).toBe(true);
  expect(walkedTiers(of.tiers, listening)).toEqual(of.tiers);
  // What is told makes another walk.
  expect(walkName(of)).not.toBe(walkName(without));
  expect(walkName(of)).not.toBe(walkName(walk("ingress", { ingress: [policy("ai")] })));
});
