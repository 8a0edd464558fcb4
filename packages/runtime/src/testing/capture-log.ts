/** A logger whose lines a test can read as values. */
import { createLogger, type Logger } from "../logger.ts";

export interface CapturedLine {
  readonly level: string;
  readonly component: string;
  readonly event: string;
  readonly [field: string]: unknown;
}

export function captureLog(component = "test"): { readonly log: Logger; readonly lines: CapturedLine[] } {
  const lines: CapturedLine[] = [];
  const stream = { write: (text: string) => lines.push(JSON.parse(text) as CapturedLine) };
  return { log: createLogger({ component, stream, level: "Trace", format: "json", burst: 0 }), lines };
}
