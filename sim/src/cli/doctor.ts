/** `doctor`: what this host can and cannot do, found by trying, and what each missing thing costs. */
import { readFileSync } from "node:fs";
import type { Capability } from "@calico-ts/linux";
import { probeCapabilities } from "@calico-ts/linux";
import type { Colors } from "picocolors/types.js";
import type { Importance } from "./capability-table.ts";
import { CAPABILITY_TABLE } from "./capability-table.ts";
import type { Terminal } from "./plugins.ts";
import { formatTable } from "./table.ts";

export interface DoctorOptions {
  readonly json?: boolean;
}

export interface Finding extends Capability {
  readonly importance: Importance | "none";
  readonly what: string;
  /** What does not work without it. */
  readonly cost: string;
  readonly remedy: string | undefined;
}

/** 1 when no cluster can run here. */
export async function doctor(
  options: DoctorOptions,
  view: { readonly terminal: Terminal; readonly colors: Colors },
): Promise<number> {
  const findings = explain((await probeCapabilities()).list);
  const able = findings.every((finding) => finding.present || finding.importance !== "needed");
  if (options.json === true) {
    view.terminal.out(JSON.stringify({ able, kernel: kernelRelease(), capabilities: findings }, null, 2));
  } else view.terminal.out(formatDoctor(findings, { able, colors: view.colors }));
  return able ? 0 : 1;
}

export function explain(capabilities: readonly Capability[]): Finding[] {
  const order: readonly Finding["importance"][] = ["needed", "used", "later", "none"];
  return capabilities
    .map((capability): Finding => {
      const meaning = CAPABILITY_TABLE[capability.name];
      return {
        ...capability,
        importance: meaning?.importance ?? "none",
        what: meaning?.what ?? capability.name,
        cost: meaning?.cost ?? "nothing today",
        remedy: meaning?.remedy,
      };
    })
    .toSorted((a, b) => order.indexOf(a.importance) - order.indexOf(b.importance));
}

export function formatDoctor(
  findings: readonly Finding[],
  style: { readonly able: boolean; readonly colors: Colors },
): string {
  const { colors } = style;
  const rows = findings
    .filter((finding) => finding.importance !== "none")
    .map((finding) => [
      finding.present ? colors.green("yes") : finding.importance === "needed" ? colors.red("NO") : colors.yellow("no"),
      finding.name,
      finding.importance,
      finding.present
        ? finding.what
        : `${finding.what}: ${finding.cost}${finding.remedy === undefined ? "" : ` (${finding.remedy})`}`,
    ]);
  const verdict = style.able
    ? colors.green("This host can run clusters.")
    : colors.red("This host cannot run clusters: what is needed and missing is marked NO.");
  return `Linux ${kernelRelease()}\n\n${formatTable(["HERE", "CAPABILITY", "IMPORTANCE", "WHAT IT IS, AND WHAT ITS ABSENCE COSTS"], rows)}\n\n${verdict}`;
}

const kernelRelease = (): string => readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
