/**
 * A whole speaker that hears a hostile stream. The input is what a peer sends on one connection; its first four bytes say how far the session gets before. Three things
 * are watched: nothing is thrown; what it answers is whole messages, at most one NOTIFICATION, the last; what it keeps is bounded by what it was sent. A stream with one
 * known defect (`DEFECTS`) has to be answered with the code that belongs to it.
 */
import { parseAddress } from "@calico-ts/net";
import type { SpeakerAction } from "../../src/actions.ts";
import { BgpSpeaker } from "../../src/speaker.ts";
import { encodeMessage, MessageFramer } from "../../src/wire/message.ts";
import { decodeNotification, describeNotification } from "../../src/wire/notification.ts";
import { encodeOpenBody } from "../../src/wire/open.ts";
import type { Corpus } from "./inputs.ts";
import { body } from "./inputs.ts";
import type { Law } from "./laws.ts";
import { join, mutate, type Random } from "./random.ts";

const OF = { peer: "p", side: "incoming" } as const;
const AS = 65_002;
export const STAGES = ["before OPEN", "before KEEPALIVE", "established"] as const;

const ADDRESSES = [parseAddress("192.0.2.1"), parseAddress("192.0.2.2")] as const;
const goodOpen = (change: { readonly as?: number; readonly identifier?: number } = {}): Uint8Array =>
  encodeMessage(
    "open",
    encodeOpenBody({
      version: 4,
      as: change.as ?? AS,
      holdSeconds: 90,
      identifier: change.identifier ?? 2,
      capabilities: [
        { kind: "multiprotocol", afi: 1, safi: 1 },
        { kind: "multiprotocol", afi: 2, safi: 1 },
        { kind: "route-refresh" },
        { kind: "enhanced-route-refresh" },
        { kind: "four-octet-as", as: change.as ?? AS },
      ],
    }),
  );
const keepalive = encodeMessage("keepalive");
const update = (...bytes: number[]): Uint8Array => encodeMessage("update", Uint8Array.from(bytes));

function patched(message: Uint8Array, at: number, ...bytes: number[]): Uint8Array {
  const out = message.slice();
  out.set(bytes, at);
  return out;
}

/** An otherwise good message with one thing wrong, where it may come, and what RFC 4271 section 6 and its successors want said. */
interface Defect {
  readonly name: string;
  readonly stages: readonly (typeof STAGES)[number][];
  readonly code: readonly [number, number];
  readonly make: (random: Random) => Uint8Array;
}

const ANY = STAGES;
const OPENING = ["before OPEN"] as const;
const UP = ["established"] as const;

export const DEFECTS: readonly Defect[] = [
  {
    name: "marker",
    stages: ANY,
    code: [1, 1],
    make: (random) => patched(keepalive, random.below(16), random.below(255)),
  },
  {
    name: "length below the header",
    stages: ANY,
    code: [1, 2],
    make: (random) => patched(keepalive, 16, 0, random.below(19)),
  },
  {
    name: "length beyond 4096",
    stages: ANY,
    code: [1, 2],
    make: (random) => patched(keepalive, 16, 0x10 + 1 + random.below(0xe0), random.next() & 255),
  },
  {
    name: "KEEPALIVE with a body",
    stages: ANY,
    code: [1, 2],
    make: (random) => encodeMessage("keepalive", random.bytes(1 + random.below(20))),
  },
  {
    name: "type",
    stages: ANY,
    code: [1, 3],
    make: (random) => patched(keepalive, 18, random.pick([0, 6 + random.below(250)])),
  },
  {
    name: "version",
    stages: OPENING,
    code: [2, 1],
    make: (random) => patched(goodOpen(), 19, random.pick([0, 1, 2, 3, 5 + random.below(250)])),
  },
  {
    name: "wrong AS",
    stages: OPENING,
    code: [2, 2],
    make: (random) => goodOpen({ as: random.pick([1, 65_001, 4_200_000_000]) }),
  },
  { name: "identifier 0", stages: OPENING, code: [2, 3], make: () => goodOpen({ identifier: 0 }) },
  {
    name: "parameter",
    stages: OPENING,
    code: [2, 4],
    make: (random) => patched(goodOpen(), 29, random.pick([0, 1, 3 + random.below(250)])),
  },
  {
    name: "hold time 1 or 2",
    stages: OPENING,
    code: [2, 6],
    make: (random) => patched(goodOpen(), 22, 0, 1 + random.below(2)),
  },
  {
    name: "no family in common",
    stages: OPENING,
    code: [2, 7],
    make: () =>
      encodeMessage(
        "open",
        encodeOpenBody({
          version: 4,
          as: AS,
          holdSeconds: 90,
          identifier: 2,
          capabilities: [{ kind: "multiprotocol", afi: 25, safi: 65 }],
        }),
      ),
  },
  { name: "UPDATE before OPEN", stages: OPENING, code: [5, 1], make: () => update(0, 0, 0, 0) },
  { name: "KEEPALIVE before OPEN", stages: OPENING, code: [5, 1], make: () => keepalive },
  { name: "UPDATE before KEEPALIVE", stages: ["before KEEPALIVE"], code: [5, 2], make: () => update(0, 0, 0, 0) },
  { name: "OPEN again", stages: ["before KEEPALIVE"], code: [5, 2], make: () => goodOpen() },
  { name: "OPEN when established", stages: UP, code: [5, 3], make: () => goodOpen() },
  {
    name: "withdrawn routes longer than the message",
    stages: UP,
    code: [3, 1],
    make: (random) => update(1 + random.below(255), random.below(256), 0, 0),
  },
  {
    name: "attributes longer than the message",
    stages: UP,
    code: [3, 1],
    make: (random) => update(0, 0, 1 + random.below(255), random.below(256)),
  },
  {
    name: "prefix longer than 32 bits",
    stages: UP,
    code: [3, 10],
    make: (random) => update(0, 6, 33 + random.below(223), 1, 2, 3, 4, 5, 0, 0),
  },
  {
    name: "MP_REACH twice",
    stages: UP,
    code: [3, 9],
    make: () => {
      const one = [0x80, 14, 5, 0, 2, 1, 0, 0];
      return update(0, 0, 0, one.length * 2, ...one, ...one);
    },
  },
  {
    name: "ROUTE-REFRESH of another length",
    stages: UP,
    code: [7, 1],
    make: (random) => encodeMessage("route-refresh", random.bytes(5 + random.below(9))),
  },
];

/** Byte 0: the stage; byte 1: index of the defect + 1, or 0 for anything at all. */
export const SESSION_LAW: Law = {
  name: "session",
  about: "a whole speaker: no exception, whole answers, the right NOTIFICATION for each known defect, bounded memory",
  share: 0,
  make: (random, corpus) => {
    if (random.once(2)) {
      const at = random.below(DEFECTS.length);
      const defect = DEFECTS[at];
      if (defect === undefined) throw new RangeError("no such defect");
      const stage = STAGES.indexOf(random.pick(defect.stages));
      return join(Uint8Array.of(stage, at + 1), harmless(random, stage), defect.make(random));
    }
    return join(Uint8Array.of(random.below(3), 0), hostile(random, corpus));
  },
  check: (input, choice) => {
    const stage = (input[0] ?? 0) % STAGES.length;
    const defect = DEFECTS[(input[1] ?? 0) - 1];
    return play(input.subarray(2), { stage, code: defect?.code, portion: 1 + (choice % 700) });
  },
};

/** What may come before the defect without changing anything. */
function harmless(random: Random, stage: number): Uint8Array {
  if (stage !== 2) return new Uint8Array(0);
  return join(...Array.from({ length: random.below(3) }, () => (random.once(2) ? keepalive : update(0, 0, 0, 0))));
}

function hostile(random: Random, corpus: Corpus): Uint8Array {
  const parts = Array.from({ length: 1 + random.below(5) }, () => {
    if (random.once(4)) return random.pick(corpus.frames);
    const kind = random.pick(["update", "update", "update", "open", "refresh", "notification"] as const);
    return encodeMessage(kind === "refresh" ? "route-refresh" : kind, body(random, corpus, kind));
  });
  const stream = join(...parts);
  return random.once(3) ? mutate(random, stream, corpus.frames) : stream;
}

function play(
  stream: Uint8Array,
  {
    stage,
    code,
    portion,
  }: { readonly stage: number; readonly code: readonly [number, number] | undefined; readonly portion: number },
): string | undefined {
  const [local, address] = ADDRESSES;
  const peer = { name: "p", address, remoteAs: AS, families: ["ipv4-unicast", "ipv6-unicast"], passive: true } as const;
  const speaker = new BgpSpeaker({ as: 65_001, routerId: 1, peers: [peer] }, 0);
  const framer = new MessageFramer();
  const answers: ReturnType<MessageFramer["push"]>["frames"][number][] = [];
  const connection = { open: true };
  let problem: string | undefined;
  const hear = (actions: readonly SpeakerAction[]): void => {
    for (const action of actions) {
      if (action.do === "send") {
        if (!connection.open) problem ??= "something is sent after the connection was closed";
        const { frames, failure } = framer.push(action.bytes);
        if (failure !== undefined) problem ??= `what it sends is not BGP: ${describeNotification(failure)}`;
        answers.push(...frames);
      } else if (action.do === "close" && action.side === OF.side) connection.open = false;
    }
  };
  speaker.start(0);
  hear(speaker.connected(OF, 0, local));
  if (stage > 0) hear(speaker.receive(OF, goodOpen(), 0));
  if (stage > 1) hear(speaker.receive(OF, keepalive, 0));
  hear(speaker.tick(0));
  if (!connection.open) return "the session did not get as far as it should";
  for (let at = 0; at < stream.length && connection.open; at += portion) {
    hear(speaker.receive(OF, stream.subarray(at, at + portion), 1));
    for (let round = 0; speaker.nextDeadline() === 0 && round < 100; round++) hear(speaker.tick(1));
  }
  if (problem !== undefined) return problem;
  const notifications = answers.filter(({ type }) => type === "notification");
  if (notifications.length > 1) return "more than one NOTIFICATION";
  const last = answers.at(-1);
  if (notifications.length === 1 && last?.type !== "notification") return "a NOTIFICATION that is not the last message";
  if (notifications.length === 1 && connection.open) return "a NOTIFICATION, and the connection stays open";
  const routes = [...speaker.routing.tables.values()].reduce((sum, table) => sum + table.size, 0);
  if (routes > stream.length || speaker.routing.store.size > 1 + stream.length / 23)
    return `${routes} destinations, ${speaker.routing.store.size} attribute sets out of ${stream.length} bytes`;
  if (!connection.open && routes > 0) return "the session is over and its routes are still there";
  if (code === undefined) return undefined;
  const said = last?.type === "notification" ? decodeNotification(last.body) : undefined;
  if (said?.code === code[0] && said.subcode === code[1]) return undefined;
  return `answered with ${said === undefined ? "no NOTIFICATION" : describeNotification(said)}, due is ${code.join("/")}`;
}
