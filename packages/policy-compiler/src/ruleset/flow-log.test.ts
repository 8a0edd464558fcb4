import type { PolicyId } from "@calico-ts/dataplane-api";
import { expect, test } from "vitest";
import type { FlowOwner, FlowVerdict } from "./flow-log.ts";
import { noProfileFlowLog, policyOwnerId, ruleFlowLog, tierFlowLog } from "./flow-log.ts";

const policy = (kind: PolicyId["kind"], name: string, namespace = ""): FlowOwner => ({
  type: "policy",
  id: policyOwnerId({ kind, name, namespace }),
});
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const long = "this-is-still-quite-a-long-tier-name-even-though-its-not-required.quite-a-long-policy-name";

// Names and results are those of upstream's own tests (felix/rules/nflogprefix_test.go).
test.each<[FlowVerdict, FlowOwner, ["ingress" | "egress", number], string]>([
  [
    "allow",
    policy("NetworkPolicy", "default.policy", "namespace1"),
    ["ingress", 0],
    "API0|np/namespace1/default.policy",
  ],
  ["pass", { type: "profile", id: "short.profile.name" }, ["egress", 999], "PRE999|short.profile.name"],
  ["deny", policy("GlobalNetworkPolicy", letters), ["egress", 88], `DPE88|gnp/${letters}`],
  [
    "deny",
    policy("GlobalNetworkPolicy", `${letters}0`),
    ["ingress", 88],
    "DPI88|gnp/_12IXaBPahNM7a7dZhI8zg6PStmHsgneYaax8LVSIq_RSTUVWXYZ0",
  ],
  [
    "deny",
    policy("GlobalNetworkPolicy", long),
    ["egress", 1],
    "DPE1|gnp/t_FSGxA9eGa6t_A5Rj2agPvl4aq8-eohq0An6xEW4n7_olicy-name",
  ],
])("%s of %o, %o", (verdict, owner, [direction, index], prefix) => {
  expect(ruleFlowLog(verdict, owner, direction, index)).toEqual({
    kind: "flow-log",
    group: direction === "ingress" ? 1 : 2,
    prefix,
  });
});

test("ends of tiers, and of everything", () => {
  expect(tierFlowLog("deny", "tier-1", "egress")).toMatchObject({ group: 2, prefix: "DPE|tier-1" });
  expect(tierFlowLog("pass", "tier-1", "ingress")).toMatchObject({ group: 1, prefix: "PPI|tier-1" });
  expect(tierFlowLog("deny", "tier-012345678901234567890123456789012345678901234567890123", "ingress")).toMatchObject({
    prefix: "DPI|tier-0_phEfG4Vhbq2xh4TQsePNa2X9YRj5peCVw1FgaNSbd_4567890123",
  });
  expect(noProfileFlowLog("ingress")).toMatchObject({ group: 1, prefix: "DRI" });
});
