/**
 * How fast, and at what price in memory, routes go from bytes into the RIB: `node --expose-gc --conditions=calico-src bench/routes.ts [routes]`. One external peer
 * sends; attributes are shared as in a full table (about one block per six routes), prefix lengths are mixed. Then everything is withdrawn.
 */
import { encodeMessage } from "../src/wire/message.ts";
import { encodeAnnouncements, encodeWithdrawals } from "../src/wire/update.ts";
import type { Nlri } from "../src/wire/nlri.ts";
import { addressOf, peerOf } from "../test/support/network.ts";
import type { SpeakerAction } from "../src/actions.ts";
import { BgpSpeaker } from "../src/speaker.ts";
import { encodeOpenBody } from "../src/wire/open.ts";

const count = Number(process.argv[2] ?? 500_000);
const family = "ipv4-unicast" as const;
const context = { fourOctetAs: true, addPath: new Set<typeof family>(), internal: false };
const SENDER = { peer: "sender", side: "incoming" } as const;

function* messages(): IterableIterator<Uint8Array> {
  const limits = { maxMessage: 4096 };
  let block = 0;
  for (let at = 0; at < count; block++) {
    const size = Math.min(1 + ((block * 7919) % 11), count - at);
    const nlri = Array.from({ length: size }, (_, i) => ({ prefix: prefixAt(at + i) }));
    at += size;
    const path = Array.from({ length: 2 + (block % 5) }, (_, hop) => 1000 + ((block * (hop + 3)) % 60_000));
    const attributes = {
      origin: "igp" as const,
      asPath: [{ kind: "sequence" as const, ases: [65002, ...path] }],
      nextHop: addressOf(2),
      ...(block % 3 === 0 && { communities: [65002 * 65536 + (block % 50), 65002 * 65536 + 1000] }),
      ...(block % 4 === 0 && { med: block % 100 }),
    };
    for (const body of encodeAnnouncements({ family, nlri }, attributes, context, limits))
      yield encodeMessage("update", body);
  }
}

/** /24 mostly, every eighth a /22, every twentieth a /20. */
function prefixAt(index: number): Nlri["prefix"] {
  const length = index % 20 === 0 ? 20 : index % 8 === 0 ? 22 : 24;
  const value = ((1 << 24) + index * 4096) >>> 0;
  return { family: 4, value: BigInt(value), length };
}

function stream(parts: Iterable<Uint8Array>): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let chunk = new Uint8Array(65_536);
  let at = 0;
  for (const part of parts) {
    if (at + part.length > chunk.length) {
      chunks.push(chunk.subarray(0, at));
      chunk = new Uint8Array(65_536);
      at = 0;
    }
    chunk.set(part, at);
    at += part.length;
  }
  chunks.push(chunk.subarray(0, at));
  return chunks;
}

const peers = [peerOf("sender", 2, { remoteAs: 65002 })];
for (let i = 0; i < Number(process.argv[3] ?? 0); i++)
  peers.push(peerOf(`listener${i}`, 10 + i, { remoteAs: 65100 + i }));
const speaker = new BgpSpeaker({ as: 65001, routerId: 1, peers }, 0);
const capabilities = [{ kind: "multiprotocol" as const, afi: 1, safi: 1 }];
function bringUp(peer: string, as: number): void {
  const of = { peer, side: "incoming" } as const;
  const fourOctet = { kind: "four-octet-as" as const, as };
  const open = { version: 4 as const, as, holdSeconds: 0, identifier: as, capabilities: [...capabilities, fourOctet] };
  speaker.connected(of, 0, addressOf(1));
  speaker.receive(of, encodeMessage("open", encodeOpenBody(open)), 0);
  speaker.receive(of, encodeMessage("keepalive"), 0);
}
speaker.start(0);
for (const peer of peers) bringUp(peer.name, peer.remoteAs);

let routesSeen = 0;
let bytesOut = 0;
let longest = 0;
function work(): void {
  while (speaker.nextDeadline() === 0) {
    const begin = performance.now();
    note(speaker.tick(0));
    longest = Math.max(longest, performance.now() - begin);
  }
}
function note(actions: readonly SpeakerAction[]): void {
  for (const action of actions) {
    if (action.do === "route") routesSeen++;
    else if (action.do === "send") bytesOut += action.bytes.length;
  }
}

function measure(what: string, input: readonly Uint8Array[]): void {
  routesSeen = 0;
  bytesOut = 0;
  longest = 0;
  const begin = performance.now();
  const cpu = process.cpuUsage();
  for (const chunk of input) {
    note(speaker.receive(SENDER, chunk, 0));
    work();
  }
  const ms = performance.now() - begin;
  const { user, system } = process.cpuUsage(cpu);
  const busy = (user + system) / 1000;
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const rate = Math.round(count / ms);
  process.stdout.write(
    `${what.padEnd(10)} ${String(count).padStart(8)} routes ${ms.toFixed(0).padStart(6)} ms (cpu ${busy.toFixed(0)} ms) ${String(rate).padStart(5)} k/s  changes ${routesSeen}  out ${(bytesOut / 1e6).toFixed(1)} MB  ` +
      `longest tick ${longest.toFixed(0)} ms  heap ${(heapUsed / 1e6).toFixed(0)} MB  rss ${(rss / 1e6).toFixed(0)} MB  blocks ${speaker.routing.store.size}\n`,
  );
}

const announcements = stream(messages());
globalThis.gc?.();
const { rss, heapUsed } = process.memoryUsage();
process.stdout.write(
  `before: heap ${(heapUsed / 1e6).toFixed(0)} MB, rss ${(rss / 1e6).toFixed(0)} MB, input ${(announcements.reduce((sum, one) => sum + one.length, 0) / 1e6).toFixed(1)} MB\n`,
);
measure("announce", announcements);
measure("again", announcements);
const all = Array.from({ length: count }, (_, index) => ({ prefix: prefixAt(index) }));
measure(
  "withdraw",
  stream(
    encodeWithdrawals({ family, nlri: all }, context, { maxMessage: 4096 }).map((body) =>
      encodeMessage("update", body),
    ),
  ),
);
