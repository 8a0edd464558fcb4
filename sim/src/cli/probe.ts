/** `probe` and `matrix`: ask the network. The JSON fields are a contract with scripts. */
import { CalicoError } from "@calico-ts/std";
import type { Colors } from "picocolors/types.js";
import { askDaemon } from "../daemon/control-client.ts";
import type { ProbeProtocol, ProbeResult } from "../probe/probe-request.ts";
import { formatMatrix } from "./matrix-grid.ts";
import type { Terminal } from "./plugins.ts";

export interface ProbeOptions {
  readonly from: string;
  readonly to: string;
  readonly port?: number;
  readonly protocol: ProbeProtocol;
  readonly expect?: "allowed" | "denied";
  readonly family?: "4" | "6";
  readonly json?: boolean;
}

/** 0 when there is a verdict (and the expected one, with --expect), else 1. */
export async function probe(
  run: string,
  options: ProbeOptions,
  view: { readonly terminal: Terminal; readonly colors: Colors },
): Promise<number> {
  if (options.port === undefined && options.protocol !== "icmp") {
    throw new CalicoError("BAD_INPUT", `a ${options.protocol} probe needs --port`);
  }
  const request = {
    from: options.from,
    to: options.to,
    port: options.port ?? 0,
    protocol: options.protocol,
    ...(options.family === undefined ? {} : { family: options.family === "6" ? (6 as const) : (4 as const) }),
  };
  const [result] = await askDaemon(run, { op: "probe", requests: [request] });
  if (result === undefined) throw new CalicoError("INTERNAL", "the daemon answered a probe with nothing");
  view.terminal.out(options.json === true ? JSON.stringify(result) : formatProbe(result, view.colors));
  if (result.verdict === "error") return 1;
  return options.expect === undefined || options.expect === result.verdict ? 0 : 1;
}

export function formatProbe(result: ProbeResult, colors: Colors): string {
  const paint = { allowed: colors.green, denied: colors.red, error: colors.yellow }[result.verdict];
  const family = result.family === undefined ? "" : ` IPv${result.family}`;
  const port = `${result.protocol === "icmp" ? "icmp" : `${result.port}/${result.protocol}`}${family}`;
  return `${paint(result.verdict)}  ${result.from} → ${result.to} ${port}  ${result.latencyMs.toFixed(1)} ms  ${result.detail}`;
}

export interface MatrixOptions {
  readonly namespace?: readonly string[];
  readonly json?: boolean;
}

export async function matrix(
  run: string,
  options: MatrixOptions,
  view: { readonly terminal: Terminal; readonly colors: Colors; readonly width: number },
): Promise<number> {
  const found = await askDaemon(run, { op: "matrix", namespaces: options.namespace ?? [] });
  if (options.json === true) view.terminal.out(JSON.stringify(found.results));
  else view.terminal.out(formatMatrix(found, view));
  return 0;
}
