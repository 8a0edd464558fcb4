/** What each clause of a filter does to a route: the same run as the real one, with every clause that matches written down. */
import { formatAddress } from "@calico-ts/net";
import { unreachable } from "@calico-ts/std";
import type { Filter, FilterInput, FilterOperation } from "../policy/filter.ts";
import { runFilter } from "../policy/filter.ts";
import { formatCommunity, formatLargeCommunity } from "../wire/attributes/values.ts";

export interface FilterClause {
  /** Where the clause comes from, `BGPFilter edge importV4[0]`. */
  readonly rule: string;
  readonly does: "accepts" | "rejects" | "goes on";
  /** `add community 64512:1`, in order. */
  readonly changes: readonly string[];
}

/** The clauses that matched, in order; the last one decided. */
export function filterClauses(filter: Filter | undefined, input: FilterInput): FilterClause[] {
  const clauses: FilterClause[] = [];
  if (filter === undefined) return clauses;
  runFilter(filter, input, (rule, { action, operations = [] }) => {
    const does = action === "accept" ? "accepts" : action === "reject" ? "rejects" : "goes on";
    clauses.push({ rule, does, changes: action === "reject" ? [] : operations.map(describeOperation) });
  });
  return clauses;
}

function describeOperation(operation: FilterOperation): string {
  switch (operation.do) {
    case "add-community":
      return `add community ${formatCommunity(operation.community)}`;
    case "remove-community":
      return `remove community ${formatCommunity(operation.community)}`;
    case "add-large-community":
      return `add large community ${formatLargeCommunity(operation.community)}`;
    case "prepend-as-path":
      return `prepend ${operation.ases.join(" ")} to the AS path`;
    case "set-local-pref":
      return `set local preference ${operation.value}`;
    case "set-med":
      return `set MED ${operation.value}`;
    case "set-next-hop":
      return `set next hop ${formatAddress(operation.address)}`;
    default:
      return unreachable(operation);
  }
}
