/** Random packets: between pods, from outside, to outside, to and from the node; some forged, some of no connection. */
import type { Family } from "@calico-ts/net";
import type { Prng } from "../prng.ts";
import { addressOf, LOCAL, NODE_ADDRESS, OUTSIDE, REMOTE } from "../lab/plan.ts";
import type { PodState } from "../expect.ts";
import type { PacketParty, RigPacket } from "../packets/packet.ts";
import { flowKey, PROTOCOL, rewrittenFlowKey } from "../packets/packet.ts";
import { PACKET_PORTS, SOURCE_PORTS } from "./alphabet.ts";

const PROTOCOLS = [6, 6, 6, 6, 6, 6, 6, 6, 17, 17, 17, 17, 17, 17, 132, 132, 1, 1, 1, 1, 253, 4, 136, 136] as const;

/** VXLAN, and ports among the failsafes. */
const SPECIAL_PORTS = [4789, 22, 179, 6443] as const;

const pod = (prng: Prng): PacketParty => ({ pod: prng.pick(LOCAL).pod });

function elsewhere(prng: Prng, family: Family): PacketParty {
  return { address: prng.chance(0.6) ? addressOf(prng.pick(REMOTE), family) : prng.pick(OUTSIDE[family]) };
}

function parties(prng: Prng, family: Family): readonly [PacketParty, PacketParty] {
  const shape = prng.below(20);
  if (shape < 8) return [pod(prng), pod(prng)];
  if (shape < 12) return [elsewhere(prng, family), pod(prng)];
  if (shape < 15) return [pod(prng), elsewhere(prng, family)];
  if (shape < 17) return [elsewhere(prng, family), { node: true }];
  if (shape < 18) return [{ node: true }, elsewhere(prng, family)];
  return shape < 19 || prng.chance(0.5) ? [pod(prng), { node: true }] : [{ node: true }, pod(prng)];
}

export type StateOf = (pod: string, family: Family) => PodState;

function randomPacket(prng: Prng, stateOf: StateOf): RigPacket | undefined {
  const family = prng.chance(0.65) ? 4 : 6;
  const [from, to] = parties(prng, family);
  if ("pod" in from && "pod" in to && from.pod === to.pod) return undefined;
  const state = "pod" in to ? stateOf(to.pod, family) : "known";
  // A pod without an address of the family is nobody's destination; the node itself may send to whom it likes.
  if (state === "mute" || (state === "absent" && "node" in from)) return undefined;
  const drawn = prng.pick(PROTOCOLS);
  const protocol = drawn === PROTOCOL.ICMP && family === 6 ? PROTOCOL.ICMP6 : drawn;
  const hasPod = "pod" in from || "pod" in to;
  const base = { from, to, family, protocol } as const;
  const forged = "pod" in from && prng.chance(0.02) ? { forged: otherAddress(prng, from.pod, family) } : {};
  const mark = "node" in from && prng.chance(0.5) ? { mark: prng.pick([0x1_0000, 0x2_0000, 0x20, 0x8000_0000]) } : {};
  if (protocol === PROTOCOL.OTHER || protocol === PROTOCOL.IPIP) return { ...base, ...forged, ...mark };
  if (protocol === PROTOCOL.ICMP || protocol === PROTOCOL.ICMP6) {
    const type = protocol === PROTOCOL.ICMP ? prng.pick([8, 8, 8, 13]) : prng.pick([128, 128, 128, 139]);
    return { ...base, ...forged, ...mark, icmp: { type, code: prng.pick([0, 0, 0, 1, 2]) } };
  }
  return {
    ...base,
    ...forged,
    ...mark,
    ...(protocol === PROTOCOL.TCP && prng.chance(0.03) ? { invalid: true } : {}),
    sourcePort: prng.chance(0.6) ? prng.between(10_000, 60_000) : prng.pick(SOURCE_PORTS),
    destinationPort: prng.chance(hasPod ? 0.03 : 0.3) ? prng.pick(SPECIAL_PORTS) : prng.pick(PACKET_PORTS),
  };
}

function otherAddress(prng: Prng, own: string, family: Family): string {
  const others = [...LOCAL, ...REMOTE].filter((slot) => slot.pod !== own).map((slot) => addressOf(slot, family));
  return prng.pick([...others, NODE_ADDRESS[family], OUTSIDE[family][0] ?? ""]);
}

/** No two belong to one connection. */
export function randomPackets(prng: Prng, count: number, stateOf: StateOf): RigPacket[] {
  const flows = new Set<string>();
  const packets: RigPacket[] = [];
  for (let tries = count * 2; tries > 0 && packets.length < count; tries--) {
    const packet = randomPacket(prng, stateOf);
    if (packet === undefined) continue;
    const keys = [flowKey(packet), rewrittenFlowKey(packet)].filter((key) => key !== "");
    if (keys.some((key) => flows.has(key))) continue;
    for (const key of keys) flows.add(key);
    packets.push(packet);
  }
  return packets;
}
