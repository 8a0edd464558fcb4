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

/** A number, also as 1.2089e+24, and perhaps what part of something that is. */
const NUMBER = /^\d+(\.\d+)?(e\+\d+)?( \(\d+%\))?$/;

const aligned = (text: string, width: number): string =>
  NUMBER.test(text) ? text.padStart(width) : text.padEnd(width);
