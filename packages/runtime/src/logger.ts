/**
 * Structured log lines: a level, a component, an event name, and fields. Text for people in the layout operators of
 * Calico know (`2026-01-01 12:00:00.000 [INFO][17] felix/sync.in_sync: kinds=9`), or one JSON object a line.
 *
 * Level names are upstream's (`LogSeverityScreen` and friends). The stream is passed in; nothing here is global.
 * A line that repeats (same component, event and error text) more than `burst` times in ten seconds is held back and
 * counted; the next one let through says how many were dropped.
 */
import { CalicoError } from "@calico-ts/std";
import type { Clock } from "./clock.ts";
import { systemClock } from "./clock.ts";

export const LOG_LEVELS = ["Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  trace(event: string, fields?: LogFields): void;
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warning(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  fatal(event: string, fields?: LogFields): void;
  /** A logger for a part: `felix` → `felix/routes`. The fields go on every line. */
  child(component: string, fields?: LogFields): Logger;
  /** True when a line of this level would be written: guards costly fields. */
  writes(level: LogLevel): boolean;
}

/** What a stream must offer; `process.stdout`, a file stream and a test's array all do. */
export interface LogStream {
  write(line: string): unknown;
}

export interface LoggerOptions {
  readonly component: string;
  readonly stream: LogStream;
  readonly level?: LogLevel;
  readonly format?: "text" | "json";
  readonly clock?: Clock;
  readonly pid?: number;
  /** Lines of one event let through in ten seconds. 0 lets everything through. */
  readonly burst?: number;
  readonly fields?: LogFields;
}

/** The root logger, whose level can be changed while running (configuration from the datastore). */
export interface RootLogger extends Logger {
  setLevel(level: LogLevel): void;
}

const WINDOW_MS = 10_000;
const DEFAULT_BURST = 50;

/** Accepts upstream's spellings in any case, `warn` and `panic` included; undefined when it is none. */
export function parseLogLevel(text: string): LogLevel | undefined {
  const lower = text.trim().toLowerCase();
  if (lower === "warn") return "Warning";
  if (lower === "panic" || lower === "critical") return "Fatal";
  return LOG_LEVELS.find((level) => level.toLowerCase() === lower);
}

export function createLogger(options: LoggerOptions): RootLogger {
  const sink = new LogSink(options);
  return Object.assign(new ComponentLogger(sink, options.component, options.fields ?? {}), {
    setLevel: (level: LogLevel) => {
      sink.threshold = LOG_LEVELS.indexOf(level);
    },
  });
}

class ComponentLogger implements Logger {
  readonly #sink: LogSink;
  readonly #component: string;
  readonly #fields: LogFields;

  constructor(sink: LogSink, component: string, fields: LogFields) {
    this.#sink = sink;
    this.#component = component;
    this.#fields = fields;
  }

  trace(event: string, fields?: LogFields): void {
    this.#log("Trace", event, fields);
  }

  debug(event: string, fields?: LogFields): void {
    this.#log("Debug", event, fields);
  }

  info(event: string, fields?: LogFields): void {
    this.#log("Info", event, fields);
  }

  warning(event: string, fields?: LogFields): void {
    this.#log("Warning", event, fields);
  }

  error(event: string, fields?: LogFields): void {
    this.#log("Error", event, fields);
  }

  fatal(event: string, fields?: LogFields): void {
    this.#log("Fatal", event, fields);
  }

  child(component: string, fields: LogFields = {}): Logger {
    const path = this.#component === "" ? component : `${this.#component}/${component}`;
    return new ComponentLogger(this.#sink, path, { ...this.#fields, ...fields });
  }

  writes(level: LogLevel): boolean {
    return LOG_LEVELS.indexOf(level) >= this.#sink.threshold;
  }

  #log(level: LogLevel, event: string, fields: LogFields | undefined): void {
    if (!this.writes(level)) return;
    const all = fields === undefined ? this.#fields : { ...this.#fields, ...fields };
    this.#sink.write({ level, component: this.#component, event, fields: all });
  }
}

interface Line {
  readonly level: LogLevel;
  readonly component: string;
  readonly event: string;
  readonly fields: LogFields;
}

class LogSink {
  threshold: number;
  readonly #options: LoggerOptions;
  readonly #clock: Clock;
  readonly #seen = new Map<string, { until: number; count: number }>();

  constructor(options: LoggerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.threshold = LOG_LEVELS.indexOf(options.level ?? "Info");
  }

  write(line: Line): void {
    const suppressed = this.#suppressed(line);
    if (suppressed === undefined) return;
    const fields = suppressed === 0 ? line.fields : { ...line.fields, suppressed };
    const now = new Date(this.#clock.now());
    const text =
      this.#options.format === "json" ? jsonLine(line, fields, now) : textLine(line, fields, this.#head(now));
    this.#options.stream.write(`${text}\n`);
  }

  #head(now: Date): { readonly time: string; readonly pid: number } {
    return { time: now.toISOString().replace("T", " ").replace("Z", ""), pid: this.#options.pid ?? process.pid };
  }

  /** undefined: hold this line back. A number: write it, and say that so many before it were not. */
  #suppressed(line: Line): number | undefined {
    const burst = this.#options.burst ?? DEFAULT_BURST;
    if (burst === 0) return 0;
    const error = line.fields["error"];
    const key = `${line.component}\0${line.event}\0${error === undefined ? "" : errorChain(error)}`;
    const now = this.#clock.monotonic();
    const seen = this.#seen.get(key);
    if (seen === undefined || now >= seen.until) {
      if (this.#seen.size > 1000) this.#seen.clear();
      this.#seen.set(key, { until: now + WINDOW_MS, count: 1 });
      return seen === undefined ? 0 : Math.max(0, seen.count - burst);
    }
    seen.count++;
    return seen.count > burst ? undefined : 0;
  }
}

function textLine(line: Line, fields: LogFields, head: { readonly time: string; readonly pid: number }): string {
  const tail = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${textValue(value)}`)
    .join("");
  return `${head.time} [${line.level.toUpperCase()}][${head.pid}] ${line.component}/${line.event}:${tail}`;
}

function textValue(value: unknown): string {
  const text = typeof value === "string" ? value : value instanceof Error ? errorChain(value) : stringify(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

function jsonLine(line: Line, fields: LogFields, now: Date): string {
  const { level, component, event } = line;
  return stringify({ time: now.toISOString(), level, component, event, ...fields });
}

/** JSON that cannot throw: errors become objects with their causes, bigint text, cycles and the unprintable a note. */
function stringify(value: unknown): string {
  try {
    return JSON.stringify(value, replacer) ?? "undefined";
  } catch (error) {
    return JSON.stringify(`unprintable: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function replacer(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Map) return Object.fromEntries(value as ReadonlyMap<string, unknown>);
  if (value instanceof Set) return [...(value as ReadonlySet<unknown>)];
  return value instanceof Error ? errorValue(value) : value;
}

function errorValue(error: Error): Record<string, unknown> {
  const out: Record<string, unknown> = { message: error.message };
  if (error instanceof CalicoError) {
    out["code"] = error.code;
    if (Object.keys(error.detail).length > 0) out["detail"] = error.detail;
  } else {
    out["name"] = error.name;
    out["stack"] = error.stack;
  }
  if (error.cause !== undefined) out["cause"] = error.cause;
  return out;
}

function errorChain(error: unknown): string {
  if (!(error instanceof Error)) return typeof error === "string" ? error : stringify(error);
  const code = error instanceof CalicoError ? `${error.code}: ` : "";
  const own = `${code}${error.message}`;
  return error.cause === undefined ? own : `${own}: ${errorChain(error.cause)}`;
}

/** Writes nothing: the default of libraries whose caller did not care. */
export const silentLogger: Logger = createLogger({ component: "", stream: { write: () => true }, level: "None" });
