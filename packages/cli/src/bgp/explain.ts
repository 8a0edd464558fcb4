/** `calicoctl bgp explain`: an explanation as text. */
import type { ExplanationReport, FilterClause, RouteName } from "@calico-ts/bgp";
import type { Colors } from "picocolors/types.js";
import { attributesText, foundText } from "./text.ts";

export function explanationLines(explanation: ExplanationReport, colors: Colors): string {
  const { best, kernel, passedOver, prefix, routes, steps, told } = explanation;
  const lines = [colors.bold(prefix)];
  if (passedOver !== undefined) lines.push(`no route of ${passedOver} can be used; ask for that prefix to see why`);
  lines.push("", "candidates");
  for (const { attributes, clauses, own, reason, stale, verdict, ...name } of routes) {
    const isBest = best !== undefined && nameText(best) === nameText(name);
    const mark = isBest ? colors.green("best") : verdict === "candidate" ? "candidate" : colors.red(verdict);
    lines.push(`  ${nameText(name)}: ${mark}${reason === undefined ? "" : `, ${reason}`}${stale ? ", stale" : ""}`);
    const text = [foundText(own), attributesText(attributes)].filter((part) => part !== "").join(", ");
    if (text !== "") lines.push(`    ${colors.dim(text)}`);
    lines.push(...clauses.map((clause) => `    ${clauseText(clause)}`));
  }
  lines.push("", "decision");
  if (best === undefined) lines.push("  no route can be used");
  else if (steps.length === 0) lines.push(`  ${nameText(best)}: there is no other candidate`);
  for (const { because, removed, step } of steps) {
    lines.push(`  ${step}: ${because}; that removed ${removed.map(nameText).join(", ")}`);
  }
  lines.push("", "kernel", ...(kernel.length === 0 ? ["  no route"] : kernel.map((route) => `  ${route}`)));
  lines.push("", "told to");
  if (told.length === 0) lines.push("  nobody: there are no peers");
  for (const { attributes, clauses, peer, reason } of told) {
    lines.push(`  ${peer}: ${attributes === undefined ? `not told, ${reason ?? ""}` : attributesText(attributes)}`);
    lines.push(...clauses.map((clause) => `    ${clauseText(clause)}`));
  }
  return lines.join("\n");
}

const nameText = ({ pathId, peer }: RouteName): string => (pathId === undefined ? peer : `${peer} (path ${pathId})`);

const clauseText = ({ changes, does, rule }: FilterClause): string =>
  `filter: ${rule}: ${[does, ...changes].join(", ")}`;
