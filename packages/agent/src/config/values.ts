/**
 * Parsers for parameter values. Text comes from the environment (`FELIX_…`) or from a field of a FelixConfiguration turned
 * into text; the same parser serves both, so `90`, `90.5` and the Go duration `1m30s` are all seconds. A parser
 * returns undefined for text that is not a value; what that costs is a column of the table (`params.ts`).
 */

import { parseFailsafe } from "@calico-ts/policy-compiler";

export interface ValueType<T> {
  /** For messages: what would have been accepted. */
  readonly expects: string;
  readonly parse: (text: string) => T | undefined;
}

const TRUE = new Set(["true", "1", "yes", "y", "t", "on"]);
const FALSE = new Set(["false", "0", "no", "n", "f", "off"]);

export const boolean: ValueType<boolean> = {
  expects: "true or false",
  parse: (text) => (TRUE.has(text.toLowerCase()) ? true : FALSE.has(text.toLowerCase()) ? false : undefined),
};

export const integer = (min: number, max: number): ValueType<number> => ({
  expects: `a whole number from ${min} to ${max}`,
  parse: (text) => {
    if (!/^-?\d{1,15}$/.test(text)) return undefined;
    const value = Number(text);
    return value >= min && value <= max ? value : undefined;
  },
});

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3600,
};

/** Seconds, as a decimal number or as a Go duration. */
export const seconds: ValueType<number> = { expects: "seconds, or a duration such as 1m30s", parse: parseSeconds };

export function parseSeconds(text: string): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * (UNIT_SECONDS[unit ?? "s"] ?? 0);
  }
  return total;
}

/** One of a closed list, in any case. */
export const oneOf = <T extends string>(...values: readonly T[]): ValueType<T> => ({
  expects: values.join(", "),
  parse: (text) => values.find((value) => value.toLowerCase() === text.toLowerCase()),
});

export const matching = (pattern: RegExp, expects: string): ValueType<string> => ({
  expects,
  parse: (text) => (pattern.test(text) ? text : undefined),
});

/** A regular expression, tested for compiling. Go's syntax (RE2) is a subset of ours for all that upstream documents. */
export const regularExpression: ValueType<RegExp> = {
  expects: "a regular expression",
  parse: (text) => {
    try {
      return new RegExp(text);
    } catch {
      return undefined;
    }
  },
};

/** Comma-separated items; the word `none` is the empty list. One bad item makes the whole value bad. */
export const listOf = <T>(item: ValueType<T>): ValueType<readonly T[]> => ({
  expects: `a comma-separated list of: ${item.expects}`,
  parse: (text) => {
    if (text === "" || text.toLowerCase() === "none") return [];
    const values: T[] = [];
    for (const part of text.split(",")) {
      const value = item.parse(part.trim());
      if (value === undefined) return undefined;
      values.push(value);
    }
    return values;
  },
});

/** Text as it is: the rules read it in the same way. */
export const failsafePorts: ValueType<string> = {
  expects:
    "a comma-separated list of ports, with a protocol and a prefix where wanted: 22, udp:68, tcp:10.0.0.0/8:22; or none",
  parse: (text) =>
    text.toLowerCase() === "none" || text.split(",").every((item) => parseFailsafe(item.trim()) !== undefined)
      ? text
      : undefined,
};

/** `name=duration,…`: health reporters and how long each may stay silent. */
export const timeoutOverrides: ValueType<ReadonlyMap<string, number>> = {
  expects: "reporter=duration pairs, such as InternalDataplaneMainLoop=5m",
  parse: (text) => {
    const overrides = new Map<string, number>();
    for (const pair of text === "" || text.toLowerCase() === "none" ? [] : text.split(",")) {
      const [name = "", duration = ""] = pair.trim().split("=");
      const value = parseSeconds(duration);
      if (name === "" || value === undefined) return undefined;
      overrides.set(name, value);
    }
    return overrides;
  },
};

/** Comma-separated interface names, and regular expressions between slashes. Kept as text, so that values can be compared. */
export const interfacePatterns: ValueType<readonly string[]> = {
  expects: "a comma-separated list of interface names and of regular expressions between slashes",
  parse: (text) => {
    const patterns = text === "" || text.toLowerCase() === "none" ? [] : text.split(",").map((part) => part.trim());
    const valid = patterns.every((pattern) =>
      pattern.length > 1 && pattern.startsWith("/") && pattern.endsWith("/")
        ? regularExpression.parse(pattern.slice(1, -1)) !== undefined
        : /^[a-zA-Z0-9:._+-]{1,15}$/.test(pattern),
    );
    return valid ? patterns : undefined;
  },
};

/** A 32-bit mask in decimal or hexadecimal with at least two bits set. */
export const markMask: ValueType<number> = {
  expects: "a 32-bit mask with at least two bits set, such as 0xffff0000",
  parse: (text) => {
    if (!/^(0x[0-9a-fA-F]{1,8}|\d{1,10})$/.test(text)) return undefined;
    const value = Number(text);
    if (value > 0xffff_ffff) return undefined;
    const bits = value.toString(2).replaceAll("0", "").length;
    return bits >= 2 ? value : undefined;
  },
};
