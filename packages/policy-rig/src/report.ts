/** Findings for people. */
import { reasonText } from "./expect.ts";
import { packetText } from "./packets/packet.ts";
import type { Finding } from "./rig.ts";

const verdict = (allowed: boolean): string => (allowed ? "allowed" : "denied");

export function findingText(finding: Finding): string {
  switch (finding.kind) {
    case "verdict": {
      const { packet, answer, kernel, expected } = finding;
      const what = answer === undefined ? packetText(packet) : `the ${answer} to ${packetText(packet)}`;
      return `${what}\n  kernel: ${verdict(kernel)}\n  oracle: ${verdict(expected.allowed)} (${reasonText(expected.reason)})`;
    }
    case "source":
      return `${packetText(finding.packet)}\n  comes from ${finding.seen}\n  should come from ${finding.expected.source ?? "somebody else"}`;
    case "history":
      return `the ruleset depends on how the world came about:\n  ${finding.differences.join("\n  ")}`;
    case "drift":
      return `the kernel has another ruleset than it was told:\n  ${finding.differences.join("\n  ")}`;
    case "refused":
      return `the kernel refused the ruleset: ${finding.message}`;
    default:
      return `something threw: ${finding.message}`;
  }
}

/** Is it the same trouble? Then shrinking may go on with it. */
export function sameTrouble(a: Finding, b: Finding): boolean {
  if (a.kind !== b.kind) return false;
  return a.kind !== "verdict" || b.kind !== "verdict" || (a.kernel === b.kernel && a.answer === b.answer);
}
