/** Findings for people (one paragraph each, the place first, as editors understand it) and for programs (SARIF 2.1.0). */
import { formatPosition } from "@calico-ts/schema";
import type { Paint } from "../explain/explain-text.ts";
import { PLAIN_PAINT } from "../explain/explain-text.ts";
import type { Finding, Severity } from "./finding.ts";
import { describeObject, LINT_RULES } from "./finding.ts";

const CHANGES = { new: "with these files: ", gone: "no longer with these files: " } as const;
const changeText = ({ change }: Finding): string => (change === undefined ? "" : CHANGES[change]);

export function lintText(findings: readonly Finding[], paint: Paint = PLAIN_PAINT): string {
  const blocks = findings.map((finding) => {
    const { rule, severity, object, position, message, why, fix } = finding;
    const word = severity === "error" ? paint.bad(severity) : paint.bold(severity);
    const place = position === undefined ? "" : `${formatPosition(position)}: `;
    const name = describeObject(object);
    return [
      `${place}${word} [${rule}]${name === "" ? "" : ` ${name}`}: ${changeText(finding)}${message}`,
      paint.dim(`    ${why}`),
      `    ${fix}`,
    ].join("\n");
  });
  return [...blocks, summary(findings)].join("\n");
}

function summary(findings: readonly Finding[]): string {
  const count = (severity: Severity, word: string): string => {
    const number = findings.filter((finding) => finding.severity === severity).length;
    return `${number} ${word}${number === 1 ? "" : "s"}`;
  };
  return findings.length === 0
    ? "nothing found"
    : `${count("error", "error")}, ${count("warning", "warning")}, ${count("note", "note")}`;
}

/** A SARIF 2.1.0 log (OASIS): levels error, warning and note are ours by name. */
export function lintSarif(findings: readonly Finding[]): object {
  const ids = Object.keys(LINT_RULES);
  return {
    $schema: "https://json.schemastore.org/sarif-2.1.0.json",
    version: "2.1.0",
    runs: [
      {
        tool: {
          driver: {
            name: "calicoctl lint",
            informationUri: "https://docs.tigera.io/calico/latest/network-policy/",
            rules: Object.entries(LINT_RULES).map(([id, { title, why }]) => ({
              id,
              shortDescription: { text: `${title}.` },
              fullDescription: { text: why },
            })),
          },
        },
        results: findings.map((finding) => ({
          ruleId: finding.rule,
          ruleIndex: ids.indexOf(finding.rule),
          level: finding.severity,
          message: { text: sentence(finding) },
          locations:
            finding.position === undefined ? [] : [locationOf(finding.position, describeObject(finding.object))],
        })),
        columnKind: "utf16CodeUnits",
      },
    ],
  };
}

const sentence = (finding: Finding): string => {
  const name = describeObject(finding.object);
  return `${name === "" ? "" : `${name}: `}${changeText(finding)}${finding.message}. ${finding.fix}`;
};

function locationOf({ file, line, column }: NonNullable<Finding["position"]>, name: string): object {
  const physicalLocation = {
    artifactLocation: { uri: file.split("/").map(encodeURIComponent).join("/") },
    region: { startLine: line, startColumn: column },
  };
  return name === "" ? { physicalLocation } : { physicalLocation, logicalLocations: [{ fullyQualifiedName: name }] };
}
