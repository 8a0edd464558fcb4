/** Tables as upstream's commands print them: a frame, centred headings in capitals, numbers to the right. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, at) => Math.max(heading.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const frame = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+`;
  const line = (cells: readonly string[], place: (text: string, width: number) => string): string =>
    `|${widths.map((width, at) => ` ${place(cells[at] ?? "", width)} `).join("|")}|`;
  return [frame, line(headings, centred), frame, ...rows.map((row) => line(row, aligned)), frame, ""].join("\n");
}

function centred(text: string, width: number): string {
  const left = Math.floor((width - text.length) / 2);
  return " ".repeat(left) + text + " ".repeat(width - text.length - left);
}

const aligned = (text: string, width: number): string =>
  /^\d/.test(text) && !text.includes("/") && !text.includes(".") && !text.includes(":")
    ? text.padStart(width)
    : text.padEnd(width);
