/** Why a request could not be met, in words: which limits were hit, and what would free space. */
import type { Family } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { Owner } from "./allocator/names.ts";
import type { Qualification } from "./allocator/pool.ts";

export type Limit =
  | { readonly kind: "pools-full"; readonly pools: readonly string[] }
  | { readonly kind: "block-limit"; readonly blocks: number }
  | { readonly kind: "strict-affinity" }
  | { readonly kind: "host-reserved"; readonly perBlock: number }
  | { readonly kind: "no-new-blocks" };

export interface Shortfall {
  readonly family: Family;
  readonly owner: Owner;
  readonly wanted: number;
  readonly got: number;
  readonly pools: readonly string[];
  readonly limits: readonly Limit[];
}

export function poolExhausted(shortfall: Shortfall): CalicoError {
  const { family, owner, wanted, got, pools } = shortfall;
  const what =
    wanted === 1 ? `no IPv${family} address is free` : `only ${got} of ${wanted} IPv${family} addresses are free`;
  const limits = shortfall.limits.map(limitText);
  const advice = [...new Set(shortfall.limits.flatMap(adviceText))];
  const message = [
    `${what} for ${owner.name} in ${pools.length === 1 ? "pool" : "pools"} ${pools.join(", ")}`,
    limits.length === 0 ? "" : `: ${limits.join("; ")}`,
    advice.length === 0 ? "" : `. To make room: ${advice.join(", or ")}`,
  ].join("");
  return new CalicoError("POOL_EXHAUSTED", message, {
    detail: {
      family,
      wanted,
      got,
      pools: pools.join(","),
      limits: shortfall.limits.map((limit) => limit.kind).join(","),
    },
  });
}

export function noQualifiedPool(
  request: { readonly family: Family; readonly owner: Owner; readonly use: string },
  qualification: Qualification,
): CalicoError {
  const reasons = qualification.rejected.map(({ pool, why }) => `${pool} ${why}`);
  const why = reasons.length === 0 ? `there is no IPv${request.family} pool` : reasons.join("; ");
  return new CalicoError(
    "NO_QUALIFIED_POOL",
    `no IPv${request.family} pool can give ${request.owner.name} an address for ${request.use}: ${why}`,
    { detail: { family: request.family, use: request.use } },
  );
}

function limitText(limit: Limit): string {
  switch (limit.kind) {
    case "pools-full":
      return `every block of ${limit.pools.join(", ")} is claimed and none has an address that is free, not reserved and not cooling down`;
    case "block-limit":
      return `it owns ${limit.blocks} blocks of them, the most one node may own (maxBlocksPerHost)`;
    case "strict-affinity":
      return "it may not borrow from other nodes' blocks (strictAffinity)";
    case "host-reserved":
      return `it keeps ${limit.perBlock} addresses of each of its blocks for itself`;
    case "no-new-blocks":
      return "nodes may not claim blocks by themselves (autoAllocateBlocks is false)";
  }
}

function adviceText(limit: Limit): string[] {
  switch (limit.kind) {
    case "pools-full":
      return [
        "add a pool",
        "check for leaked addresses (calicoctl ipam check)",
        "shorten ipCooldownSeconds or remove reservations",
      ];
    case "block-limit":
      return ["raise maxBlocksPerHost"];
    case "strict-affinity":
      return ["set strictAffinity to false"];
    case "host-reserved":
      return [];
    case "no-new-blocks":
      return ["set autoAllocateBlocks to true"];
  }
}
