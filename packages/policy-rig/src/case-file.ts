/**
 * Cases as YAML: what the rig prints and keeps. A file has `resources` (one world) or `history` (several, in order), and `packets`; a
 * packet may carry `expect`, the verdict that was found to be right, which then both kernel and oracle must give.
 */
import { CalicoError, errorText } from "@calico-ts/std";
import { tryParseAddress } from "@calico-ts/net";
import { parse, stringify } from "yaml";
import { slotOf } from "./lab/plan.ts";
import type { PacketParty, RigPacket } from "./packets/packet.ts";
import type { Case } from "./rig.ts";
import type { RigResource, World } from "./world.ts";
import { kindOf } from "./world.ts";

export interface CaseFile extends Case {
  readonly about?: string;
  /** By position; absent: only that kernel and oracle agree. */
  readonly expected: readonly (boolean | undefined)[];
}

interface PacketText {
  from: string;
  to: string;
  expect?: "allowed" | "denied";
  [field: string]: unknown;
}

const partyText = (party: PacketParty): string =>
  "pod" in party ? party.pod : "node" in party ? "node" : party.address;

export function caseText(source: Case & Pick<Partial<CaseFile>, "about" | "expected">): string {
  const { name, about, history, packets, expected = [] } = source;
  const texts = packets.map(({ from, to, ...rest }, at): PacketText => {
    const expect = expected[at];
    return {
      from: partyText(from),
      to: partyText(to),
      ...rest,
      ...(expect === undefined ? {} : { expect: expect ? "allowed" : "denied" }),
    };
  });
  const worlds = history.length === 1 ? { resources: history[0] } : { history };
  return stringify({ name, ...(about === undefined ? {} : { about }), ...worlds, packets: texts }, { lineWidth: 120 });
}

/** @throws CalicoError BAD_INPUT with the file's name. */
export function parseCase(text: string, file: string): CaseFile {
  const bad = (why: string): CalicoError =>
    new CalicoError("BAD_INPUT", `${file}: ${why}; a case has "resources" or "history", and "packets"`);
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw bad(errorText(error));
  }
  if (!isObject(document)) throw bad("not a YAML mapping");
  const { name, about, resources, history, packets } = document;
  const worlds = Array.isArray(history) ? history : [resources];
  if (worlds.length === 0) throw bad("the history is empty");
  const list = Array.isArray(packets) ? packets : [];
  const isAllowed = (value: unknown): boolean | undefined => (value === undefined ? undefined : value === "allowed");
  return {
    name: typeof name === "string" ? name : file,
    ...(typeof about === "string" ? { about } : {}),
    history: worlds.map((world, at) => readWorld(world, (why) => bad(`world ${at + 1}: ${why}`))),
    packets: list.map((packet, at) => readPacket(packet, (why) => bad(`packet ${at + 1}: ${why}`))),
    expected: list.map((packet) => isAllowed(isObject(packet) ? packet["expect"] : undefined)),
  };
}

type Bad = (why: string) => CalicoError;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function readWorld(value: unknown, bad: Bad): World {
  if (!Array.isArray(value)) throw bad("not a list of resources");
  return value.map((item: unknown, at): RigResource => {
    if (!isObject(item) || !isObject(item["metadata"]) || typeof item["metadata"]["name"] !== "string") {
      throw bad(`resource ${at + 1} has no metadata.name`);
    }
    const resource = item as unknown as RigResource;
    kindOf(resource);
    return resource;
  });
}

function readPacket(value: unknown, bad: Bad): RigPacket {
  if (!isObject(value)) throw bad("not a mapping");
  const { from, to, expect: _, ...rest } = value;
  const packet = { ...rest, from: readParty(from, bad), to: readParty(to, bad) };
  if (rest["family"] !== 4 && rest["family"] !== 6) throw bad("family must be 4 or 6");
  if (typeof rest["protocol"] !== "number") throw bad("protocol must be a number");
  return packet as unknown as RigPacket;
}

function readParty(value: unknown, bad: Bad): PacketParty {
  if (value === "node") return { node: true };
  if (typeof value !== "string") throw bad("from and to are a local pod, an address, or node");
  if (tryParseAddress(value) !== undefined) return { address: value };
  if (slotOf(value) === undefined) throw bad(`there is no local pod ${value} in the lab`);
  return { pod: value };
}
