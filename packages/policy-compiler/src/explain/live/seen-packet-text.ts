/** A traced packet for a terminal: one line that says what became of it, and below why. */
import type { Paint } from "../explain-text.ts";
import { PLAIN_PAINT } from "../explain-text.ts";
import type { ExplainedPacket } from "./seen-packet.ts";

const LOST =
  "no rule stopped it: the kernel did while routing. It has no route for it, does not forward, or did not expect this sender on this interface (rp_filter); explain without --watch says which";

export function packetText(packet: ExplainedPacket, paint: Paint = PLAIN_PAINT): string {
  const { node, protocol, outcome, input, output, flags, icmp, state, steps } = packet;
  const end = (address: string, port: number | undefined): string =>
    port === undefined ? address : address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
  const what = [
    protocol,
    `${end(packet.source, packet.sourcePort)} → ${end(packet.destination, packet.destinationPort)}`,
    ...(flags === undefined || flags === "" ? [] : [flags]),
    ...(icmp === undefined ? [] : [`type ${icmp.type} code ${icmp.code}`]),
    ...(state === undefined ? [] : [`(${state})`]),
  ].join("  ");
  const way = `${input ?? "this node"} → ${output ?? (outcome === "lost" ? "?" : "this node")}`;
  const stopped = outcome === "dropped" || outcome === "lost";
  const verdict = (stopped ? paint.bad : paint.good)(outcome.toUpperCase());
  const lines = [`${paint.bold(node)}  ${what}  ${paint.dim(way)}  ${verdict}`];
  for (const { text, rule } of steps) {
    if (text === undefined) continue;
    const place = rule?.source === undefined ? "" : `  ${paint.bold(`${rule.source.file}:${rule.source.line}`)}`;
    lines.push(`    ${text}${place}`);
  }
  if (outcome === "lost") lines.push(`    ${LOST}`);
  else if (lines.length === 1) lines.push(paint.dim("    no policy is asked on its way through this node"));
  return lines.join("\n");
}
