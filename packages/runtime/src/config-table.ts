/**
 * Configuration from environment variables, declared once: variable → parser, default, help. The table yields the typed
 * value, the complaints about what was set wrongly (all of them, not the first), and the reference page.
 */
import { CalicoError } from "@calico-ts/std";
import { LOG_LEVELS, type LogLevel, parseLogLevel } from "./logger.ts";

/** A parser gives the value, or says what it wanted instead. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly wanted: string };

export interface Setting<T> {
  readonly env: string;
  readonly parse: (text: string) => Parsed<T>;
  readonly default: T;
  readonly help: string;
}

export type SettingTable = Readonly<Record<string, Setting<unknown>>>;
export type SettingValues<T extends SettingTable> = {
  readonly [Key in keyof T]: T[Key] extends Setting<infer V> ? V : never;
};

export type Environment = Readonly<Record<string, string | undefined>>;

export const setting = <T>(env: string, spec: Omit<Setting<T>, "env">): Setting<T> => ({ env, ...spec });

/** Reads every setting; an unset or empty variable is its default. @throws CalicoError BAD_INPUT naming every bad one. */
export function readSettings<const T extends SettingTable>(table: T, env: Environment): SettingValues<T> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(table)) {
    const text = env[spec.env]?.trim() ?? "";
    if (text === "") {
      values[key] = spec.default;
      continue;
    }
    const parsed = spec.parse(text);
    if (parsed.ok) values[key] = parsed.value;
    else problems.push(`${spec.env}="${text}": must be ${parsed.wanted}`);
  }
  if (problems.length > 0) {
    throw new CalicoError("BAD_INPUT", `bad environment:\n  ${problems.join("\n  ")}`);
  }
  return values as unknown as SettingValues<T>;
}

/** A Markdown table of the vocabulary. */
export function settingsReference(table: SettingTable): string {
  const rows = Object.values(table).map((spec) => {
    const value = spec.default === undefined ? "" : JSON.stringify(spec.default);
    return `| \`${spec.env}\` | ${value === "" ? "" : `\`${value}\``} | ${spec.help} |`;
  });
  return ["| Variable | Default | Meaning |", "|---|---|---|", ...rows, ""].join("\n");
}

const parsed = <T>(value: T): Parsed<T> => ({ ok: true, value });
const wanted = (text: string): Parsed<never> => ({ ok: false, wanted: text });

export const text = (value: string): Parsed<string> => parsed(value);

export const integer =
  (min: number, max: number) =>
  (value: string): Parsed<number> => {
    const number = /^-?\d+$/.test(value) ? Number(value) : Number.NaN;
    return number >= min && number <= max ? parsed(number) : wanted(`an integer from ${min} to ${max}`);
  };

/** The spellings upstream takes: true/1/yes/y/t and false/0/no/n/f, any case. */
export function flag(value: string): Parsed<boolean> {
  const lower = value.toLowerCase();
  if (["true", "1", "yes", "y", "t"].includes(lower)) return parsed(true);
  if (["false", "0", "no", "n", "f"].includes(lower)) return parsed(false);
  return wanted("true or false");
}

/** One of the words, compared without case, given back in the table's spelling. */
export const oneOf =
  <const T extends string>(...words: readonly T[]) =>
  (value: string): Parsed<T> => {
    const found = words.find((word) => word.toLowerCase() === value.toLowerCase());
    return found === undefined ? wanted(`one of ${words.join(", ")}`) : parsed(found);
  };

export function logLevel(value: string): Parsed<LogLevel> {
  const level = parseLogLevel(value);
  return level === undefined ? wanted(`one of ${LOG_LEVELS.join(", ")}`) : parsed(level);
}

/** Items separated by commas, blanks trimmed, empty ones dropped. */
export const list = (value: string): Parsed<readonly string[]> =>
  parsed(
    value
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== ""),
  );

/** Milliseconds from seconds ("90", "0.5") or a Go-style duration ("1m30s", "250ms"). */
export function durationMs(value: string): Parsed<number> {
  if (/^\d+(\.\d+)?$/.test(value)) return parsed(Number(value) * 1000);
  const parts = [...value.matchAll(/(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== value) {
    return wanted('seconds, or a duration such as "90s", "1m30s" or "250ms"');
  }
  return parsed(parts.reduce((sum, [, number = "0", unit = "s"]) => sum + Number(number) * (UNIT_MS[unit] ?? 0), 0));
}

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
};
