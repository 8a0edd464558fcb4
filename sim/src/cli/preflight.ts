/** The part of `up` that asks the kernel: can this topology run here at all? */
import { probeCapabilities } from "@calico-ts/linux";
import { CalicoError } from "@calico-ts/std";
import type { TopologyPlan } from "../topology/plan.ts";
import { CAPABILITY_TABLE } from "./capability-table.ts";

/** @throws CalicoError UNSUPPORTED that names everything missing and how to get it. */
export async function requireKernel(plan: TopologyPlan): Promise<void> {
  const capabilities = await probeCapabilities();
  const missing = Object.entries(CAPABILITY_TABLE).flatMap(([name, meaning]) => {
    const wanted = meaning.importance === "needed" || meaning.neededBy?.(plan) === true;
    if (!wanted || capabilities.has(name)) return [];
    const why = capabilities.list.find((capability) => capability.name === name)?.detail ?? "not found";
    const remedy = meaning.remedy === undefined ? "" : ` (${meaning.remedy})`;
    return [`  ${meaning.what}: ${meaning.cost}${remedy}\n    ${why}`];
  });
  if (missing.length === 0) return;
  throw new CalicoError(
    "UNSUPPORTED",
    `this host lacks what the topology needs:\n${missing.join("\n")}\n\`doctor\` shows everything`,
  );
}
