/** Columns for people: as wide as needed, two spaces apart, no borders. Colours do not count as width. */
import { stripVTControlCharacters } from "node:util";

export const visibleWidth = (text: string): number => stripVTControlCharacters(text).length;

export const padEnd = (text: string, width: number): string =>
  text + " ".repeat(Math.max(0, width - visibleWidth(text)));

export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => visibleWidth(row[column] ?? ""))));
  return all
    .map((row) =>
      row
        .map((cell, column) => padEnd(cell, widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
