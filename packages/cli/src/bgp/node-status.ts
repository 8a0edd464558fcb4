/** `calicoctl node status`: upstream's text, from our daemon. */
import type { PeerReport } from "@calico-ts/bgp";
import { CalicoError, hasCode } from "@calico-ts/std";
import { formatTable } from "../table.ts";
import type { BgpDaemonClient } from "./daemon.ts";
import { peerType, sinceText } from "./text.ts";

/** @throws CalicoError UNAVAILABLE when Calico does not run here */
export async function nodeStatus(daemon: BgpDaemonClient, now: number): Promise<string> {
  const peers = await daemon.ask({ command: "peers" }).catch((error: unknown) => {
    if (!hasCode(error, "UNAVAILABLE")) throw error;
    return undefined;
  });
  if (!(await daemon.agentRuns())) throw new CalicoError("UNAVAILABLE", "Calico process is not running.");
  const running = "Calico process is running.\n";
  if (peers === undefined) {
    return `${running}\nThe BGP backend process (BIRD) is not running.\n`;
  }
  return `${running}${([4, 6] as const).map((family) => familyStatus(peers, family, now)).join("")}`;
}

function familyStatus(peers: readonly PeerReport[], family: 4 | 6, now: number): string {
  const mine = peers.filter(({ address }) => (address.includes(":") ? 6 : 4) === family);
  const heading = `\nIPv${family} BGP status\n`;
  if (mine.length === 0) return `${heading}No IPv${family} peers found.\n`;
  const rows = mine.map((peer) => [
    peer.address,
    peerType(peer.name),
    protocolState(peer),
    sinceText(peer.since, now),
    [peer.state, peer.cause].filter((part) => part !== undefined).join(" "),
  ]);
  return heading + formatTable(["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"], rows);
}

/** BIRD's word for it: `start` while it tries. */
const protocolState = ({ state }: PeerReport): string => (state === "Established" ? "up" : "start");
