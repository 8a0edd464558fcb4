/**
 * `npm run bench -- policy`: from resources to the kernel, beside `nft -f` on the same rules in the same run. Needs root.
 *
 * Ours is what an agent does: compile, render, encode, commit, in processes that run as the agent runs (`policy-agent.ts`). The peer is the
 * `nft` program with the same change as text: loading the program, reading its cache and talking to the kernel, as upstream runs it. Machines
 * differ and are busy, so the ratio counts.
 *
 * Both columns say processor time too ("CPU", the kernel's part included). A pod that goes over to policies others have costs the kernel an
 * element of a set and the group of a link; one whose list of policies nobody had before costs elements of verdict maps, of which the kernel's
 * part grows with the rules behind them. How much that part is stands beside it: one such element changed by a batch that says nothing else.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AGENT_NODE_FLAGS } from "@calico-ts/node";
import { createOracle } from "@calico-ts/policy-compiler";
import { connectionRates } from "./policy-connections.ts";
import { alone, type Row, timed } from "./policy-rows.ts";
import { oracleWorld } from "./policy-worlds.ts";

/** The rows of one section of `policy-agent.ts`, in a process with the flags of the agent's. */
function asAgent(section: "day" | "shape" | "large-set"): Row[] {
  const program = join(import.meta.dirname, "policy-agent.ts");
  const flags = [...AGENT_NODE_FLAGS, "--conditions=calico-src"];
  return JSON.parse(execFileSync(process.execPath, [...flags, program, section], { encoding: "utf8" })) as Row[];
}

async function verdicts(): Promise<Row> {
  const oracle = createOracle([...oracleWorld()]);
  const ask = (at: number): void => {
    const from = { pod: `a/p${1 + (at % 999)}` };
    oracle.verdict({ from, to: { pod: "a/p0" }, protocol: 6, destinationPort: 80 });
  };
  ask(0);
  const took = await timed(() => {
    for (let at = 0; at < 2000; at++) ask(at);
  });
  return alone("an oracle verdict at 20 000 rules, 3 700 selectors (mean)", took / 2000, 0.2);
}

async function connections(): Promise<Row> {
  const { few, many } = await connectionRates(10, 10_000);
  const perSecond = (value: number): string => `${Math.round(value)} a second`;
  const ratio = many.perSecond / few.perSecond;
  return {
    what: `new connections between two pods, ${many.policies} policies on the node`,
    ours: perSecond(many.perSecond),
    peer: `${few.policies} policies: ${perSecond(few.perSecond)}`,
    ratio,
    target: "× ≥ 0.95",
    met: ratio >= 0.95,
    numbers: { few: few.perSecond, many: many.perSecond },
  };
}

/** The differential rig: worlds compiled and programmed, packets sent, verdicts compared. */
function rig(): Row {
  const program = join(import.meta.dirname, "../../packages/policy-rig/src/main.ts");
  const options = ["--conditions=calico-src", program, "--seconds", "10", "--json"];
  const text = execFileSync(process.execPath, options, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const { mismatches, verdicts, verdictsPerSecond } = JSON.parse(text) as Record<string, number>;
  if (verdictsPerSecond === undefined || mismatches !== 0) throw new Error(`the rig found something: ${text}`);
  return {
    what: "kernel verdicts the rig compares with the oracle's",
    ours: `${verdictsPerSecond} a second, ${verdicts} in all`,
    peer: "",
    target: "≥ 500 a second",
    met: verdictsPerSecond >= 500,
    numbers: { verdictsPerSecond },
  };
}

function print(rows: readonly Row[]): void {
  const cells = rows.map(({ what, ours, peer, ratio, target, met }) => [
    what,
    ours,
    peer,
    ratio === undefined ? "" : `× ${ratio.toFixed(2)}`,
    met === undefined ? "" : `${target} ${met ? "✓" : "✗"}`,
  ]);
  const widths = [0, 1, 2, 3, 4].map((at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]): string => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  ");
  process.stdout.write(`${cells.map(line).join("\n")}\n`);
  const artifacts = join(import.meta.dirname, "../../artifacts/bench");
  mkdirSync(artifacts, { recursive: true });
  writeFileSync(join(artifacts, "policy.json"), `${JSON.stringify({ rows }, undefined, 2)}\n`);
}

print([...asAgent("day"), ...asAgent("shape"), ...asAgent("large-set"), await verdicts(), await connections(), rig()]);
