/** Go durations (`1h30m`, `1.5s`, `-10ms`) in nanoseconds. */

const UNITS: { readonly [unit: string]: number } = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Nanoseconds, or undefined when the text is no duration. */
export function parseDuration(text: string): bigint | undefined {
  const match = /^([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.exec(text);
  if (match === null) return text === "0" || text === "+0" || text === "-0" ? 0n : undefined;
  let total = 0n;
  for (const [, number = "0", unit = "ns"] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    const scale = UNITS[unit] ?? 1;
    const [whole = "", fraction = ""] = number.split(".");
    total += BigInt(whole === "" ? "0" : whole) * BigInt(scale) + BigInt(Math.round(Number(`0.${fraction}0`) * scale));
  }
  return match[1] === "-" ? -total : total;
}
