/** What kernels say, below an explanation, for a terminal. */
import type { Paint } from "../explain-text.ts";
import { PLAIN_PAINT } from "../explain-text.ts";
import type { KernelRule } from "./kernel-rules.ts";
import type { Road, RoadConnections } from "./road.ts";

export function kernelRulesText(rules: readonly KernelRule[], paint: Paint = PLAIN_PAINT): string[] {
  if (rules.length === 0) return [];
  const lines = rules.map(({ node, chain, handle, comment, packets }) => {
    const counted = packets === undefined ? "not counted" : `${packets} packets`;
    return `  ${node}  ${paint.bold(counted)}  ${comment}  ${paint.dim(`chain ${chain} handle ${handle}`)}`;
  });
  return ["", paint.bold("KERNEL  rules that decided, and the packets they have seen"), ...lines];
}

/** Empty when no kernel was asked. */
export function roadText({ nodes, findings, connections }: Road, paint: Paint = PLAIN_PAINT): string[] {
  if (nodes.length === 0) return [];
  const certain = findings.some((finding) => finding.certain);
  const head = certain ? paint.bad("ROAD  policy or not, it does not get there:") : paint.bold("ROAD");
  const all = `  interfaces, routes, reverse paths and connection tracking of ${nodes.join(" and ")} stand in no way`;
  return [
    "",
    head,
    ...findings.flatMap(({ code, text, fix, certain: sure }) => [
      `  ${sure ? paint.bad(`[${code}]`) : `[${code}, perhaps]`} ${text}.`,
      `      ${fix}`,
    ]),
    ...(certain ? [] : [all]),
    ...connections.map((each) => paint.dim(`  note: ${each.node}: ${connectionsText(each)}`)),
  ];
}

const MOST_PORTS = 5;
/** The kernel still remembers them, and begins anew with a packet that opens another one from the same port. */
const ENDED: readonly (string | undefined)[] = ["TIME_WAIT", "CLOSE"];

function connectionsText({ ports, state, answered }: RoadConnections): string {
  const more = ports.length > MOST_PORTS ? ` and ${ports.length - MOST_PORTS} more` : "";
  const from =
    ports.length === 0
      ? ""
      : ` from port${ports.length === 1 ? "" : "s"} ${ports.slice(0, MOST_PORTS).join(", ")}${more}`;
  const what = ports.length > 1 ? `${ports.length} connections${from} are` : `a connection${from} is`;
  const meaning = ENDED.includes(state)
    ? "ended; policies judge the next one"
    : answered
      ? `answered: what belongs to ${ports.length > 1 ? "them" : "it"} passes whatever policies say now`
      : "no answer has come back through this node";
  return `${what} known${state === undefined ? "" : `, TCP state ${state}`}: ${meaning}`;
}
