/**
 * The matrix as a grid: a row for each source, a column for each destination port.
 *
 *            1  2  3
 *   cart     ·  ●  ✗
 *
 * Columns are numbered, since names of a dozen destinations fit no terminal; the legend under the grid says what they are.
 */
import type { Colors } from "picocolors/types.js";
import type { MatrixResult } from "../daemon/control-protocol.ts";
import type { ProbeResult, Verdict } from "../probe/probe-request.ts";
import { padEnd, visibleWidth } from "./table.ts";

export interface GridStyle {
  readonly colors: Colors;
  /** Characters in a line; wider grids are broken into parts. */
  readonly width: number;
}

const SIGNS: { readonly [K in Verdict]: string } = { allowed: "●", denied: "✗", error: "!" };

export function formatMatrix({ results, pods }: MatrixResult, style: GridStyle): string {
  if (results.length === 0)
    return "nothing to probe: fewer than two pods with a network of their own, or none declares a port";
  const labels = new Map(pods.map(({ pod, label }) => [pod, label]));
  const columns = destinationColumns(
    results,
    pods.map(({ pod }) => pod),
  );
  const rows = [...new Set(results.map(({ from }) => from))];
  const cells = new Map(results.map((result) => [`${result.from} ${columnKey(result)}`, result.verdict]));
  const rowWidth = Math.max(...rows.map((row) => visibleWidth(labels.get(row) ?? row)));
  const cellWidth = String(columns.length).length + 1;
  const perPart = Math.max(1, Math.floor((style.width - rowWidth - 1) / cellWidth));
  const parts: string[] = [];
  for (let start = 0; start < columns.length; start += perPart) {
    const part = columns.slice(start, start + perPart);
    const head = " ".repeat(rowWidth) + part.map((_, index) => String(start + index + 1).padStart(cellWidth)).join("");
    const lines = rows.map((row) => {
      const signs = part.map(
        (column) => " ".repeat(cellWidth - 1) + sign(cells.get(`${row} ${column.key}`), style.colors),
      );
      return padEnd(labels.get(row) ?? row, rowWidth) + signs.join("");
    });
    parts.push([style.colors.bold(head), ...lines].join("\n"));
  }
  const legend = columns.map(
    (column, index) => `${String(index + 1).padStart(cellWidth)}  ${labels.get(column.to) ?? column.to} ${column.port}`,
  );
  return [...parts, legend.join("\n"), summary(results, style.colors)].join("\n\n");
}

interface Column {
  readonly key: string;
  readonly to: string;
  readonly port: string;
}

const portOf = ({ port, protocol, family }: ProbeResult): string =>
  `${port}/${protocol}${family === undefined ? "" : ` IPv${family}`}`;

const columnKey = (result: ProbeResult): string => `${result.to} ${portOf(result)}`;

/** In the order of the rows, so that the diagonal is one. */
function destinationColumns(results: readonly ProbeResult[], pods: readonly string[]): Column[] {
  const columns = new Map<string, Column>();
  for (const result of results) {
    const key = columnKey(result);
    if (!columns.has(key)) columns.set(key, { key, to: result.to, port: portOf(result) });
  }
  const place = new Map(pods.map((pod, index) => [pod, index]));
  return [...columns.values()].toSorted((a, b) => (place.get(a.to) ?? 0) - (place.get(b.to) ?? 0));
}

function sign(verdict: Verdict | undefined, colors: Colors): string {
  switch (verdict) {
    case "allowed":
      return colors.green(SIGNS.allowed);
    case "denied":
      return colors.red(SIGNS.denied);
    case "error":
      return colors.yellow(SIGNS.error);
    case undefined:
      return colors.dim("·");
  }
}

function summary(results: readonly ProbeResult[], colors: Colors): string {
  const count = (verdict: Verdict): number => results.filter((result) => result.verdict === verdict).length;
  const errors = count("error");
  const parts = [
    `${colors.green(SIGNS.allowed)} allowed ${count("allowed")}`,
    `${colors.red(SIGNS.denied)} denied ${count("denied")}`,
  ];
  if (errors > 0) parts.push(`${colors.yellow(SIGNS.error)} error ${errors} (the reasons: matrix --json)`);
  return parts.join("   ");
}
