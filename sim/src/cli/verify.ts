/** `verify`: the network against a file of expectations; exit code 1 and a diff when they disagree. */
import type { Colors } from "picocolors/types.js";
import { askDaemon } from "../daemon/control-client.ts";
import type { VerifiedFlow, VerifyResult } from "../daemon/control-protocol.ts";
import { readExpectations } from "../verify/expectations.ts";
import type { Terminal } from "./plugins.ts";

export interface VerifyOptions {
  readonly json?: boolean;
  /** Keep asking until the network agrees or this many seconds are over. */
  readonly within?: number;
}

const RETRY_MS = 200;

export const disagreements = (result: VerifyResult): VerifiedFlow[] =>
  result.checks.filter((check) => check.verdict !== check.expect);

export async function verify(
  target: { readonly run: string; readonly file: string },
  options: VerifyOptions,
  view: { readonly terminal: Terminal; readonly colors: Colors },
): Promise<number> {
  const expectations = readExpectations(target.file);
  const giveUpAt = performance.now() + (options.within ?? 0) * 1000;
  for (;;) {
    const result = await askDaemon(target.run, { op: "verify", expectations });
    const agrees = disagreements(result).length === 0 && result.dangling.length === 0;
    if (!agrees && performance.now() < giveUpAt) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      continue;
    }
    view.terminal.out(options.json === true ? formatJson(result, agrees) : formatVerify(result, view.colors));
    return agrees ? 0 : 1;
  }
}

function formatJson(result: VerifyResult, agrees: boolean): string {
  return JSON.stringify(
    { agrees, checks: result.checks.length, disagreements: disagreements(result), unknownNames: result.dangling },
    null,
    2,
  );
}

export function formatVerify(result: VerifyResult, colors: Colors): string {
  const wrong = disagreements(result);
  const lines = wrong.flatMap((check) => {
    const family = check.family === undefined ? "" : ` IPv${check.family}`;
    const port = `${check.protocol === "icmp" ? "icmp" : `${check.port}/${check.protocol}`}${family}`;
    return [
      `${check.from} → ${check.to} ${port}   (${check.source}${check.because === undefined ? "" : `: ${check.because}`})`,
      colors.red(`  - expected ${check.expect}`),
      colors.green(`  + was      ${check.verdict}: ${check.detail}`),
    ];
  });
  const unknown = result.dangling.map((text) => colors.yellow(text));
  const total = `${result.checks.length} expectation${result.checks.length === 1 ? "" : "s"}`;
  const verdict =
    wrong.length === 0 && unknown.length === 0
      ? colors.green(`${total}: the network agrees`)
      : colors.red(
          `${total}: the network disagrees with ${wrong.length}${unknown.length === 0 ? "" : `, ${unknown.length} name${unknown.length === 1 ? "" : "s"} unknown`}`,
        );
  return [...lines, ...unknown, verdict].join("\n");
}
