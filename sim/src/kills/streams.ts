/**
 * Streams of echo requests between pods, each more than a hundred packets a second, numbered, whatever happens to the network meanwhile.
 *
 * Kernels answer, so nobody's slowness counts as loss. A tick that comes late sends what is due, but no more than a few packets of each flow:
 * bursts would lose packets of their own. Most requests of a flow are one connection to the nodes' connection tracking, and every tenth begins a new one, since those take
 * another way through the rules.
 */
import { readFileSync } from "node:fs";
import type { EchoSocket } from "@calico-ts/linux";
import { openEchoSocket } from "@calico-ts/linux";
import type { IpAddress } from "@calico-ts/net";
import type { Loss, Mark } from "./loss.ts";
import { LossLedger } from "./loss.ts";

export interface Flow {
  /** For people: `node-1 → node-2`. */
  readonly name: string;
  /** Of the sender. */
  readonly netns: string;
  readonly to: IpAddress;
}

const PERIOD_MS = 8;
const MOST_AT_ONCE = 6;
const NEW_CONNECTION_EVERY = 10;
/** Ids of their own for those; the long connections have the numbers below. */
const FIRST_NEW_ID = 0x8000;
/** An answer takes far less than this; a machine that has everything else to do may need it to hand it over. */
const PATIENCE_MS = 1500;
const LOOK_MS = 40;
const PAYLOAD_BYTES = 12;

export class EchoStreams implements Disposable {
  readonly flows: readonly Flow[];
  readonly #ledger: LossLedger;
  readonly #sockets = new Map<string, EchoSocket>();
  /** Tells our packets from anybody else's. */
  readonly #magic = Math.floor(Math.random() * 0x1_0000_0000);
  readonly #timer: NodeJS.Timeout;
  #newIds = 0;
  #sentUntil = performance.now();

  /** Sends from now on. @throws CalicoError KERNEL */
  constructor(flows: readonly Flow[]) {
    this.flows = flows;
    this.#ledger = new LossLedger(flows.length);
    try {
      for (const flow of flows) this.#socketOf(flow);
    } catch (error) {
      this.#close();
      throw error;
    }
    this.#timer = setInterval(() => this.#tick(), PERIOD_MS);
  }

  mark(): Mark {
    return this.#ledger.mark();
  }

  /** Of the packets sent since the mark; resolves when all that still can be answered have been. The second value is where the next stretch begins. */
  async lossSince(from: Mark): Promise<readonly [Loss, Mark]> {
    const to = this.mark();
    const giveUpAt = performance.now() + PATIENCE_MS;
    while (!this.#ledger.isComplete(from, to) && performance.now() < giveUpAt)
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    this.#receive();
    return [this.#ledger.loss(from, to), to];
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#close();
  }

  #close(): void {
    for (const socket of this.#sockets.values()) socket[Symbol.dispose]();
    this.#sockets.clear();
  }

  #socketOf({ netns, to }: Flow): EchoSocket {
    const key = `${netns} ${to.family}`;
    const socket = this.#sockets.get(key) ?? openEchoSocket({ netns, family: to.family });
    this.#sockets.set(key, socket);
    return socket;
  }

  #tick(): void {
    // First what has come, so that a late tick finds its answers before it asks more.
    this.#receive();
    const due = Math.floor((performance.now() - this.#sentUntil) / PERIOD_MS);
    this.#sentUntil += due * PERIOD_MS;
    for (let round = Math.min(due, MOST_AT_ONCE); round > 0; round--) this.#send();
  }

  #send(): void {
    for (const [index, flow] of this.flows.entries()) {
      const sequence = this.#ledger.sent(index, performance.now());
      const isNew = sequence % NEW_CONNECTION_EVERY === NEW_CONNECTION_EVERY - 1;
      const id = isNew ? FIRST_NEW_ID + (this.#newIds++ % FIRST_NEW_ID) : index + 1;
      const payload = new Uint8Array(PAYLOAD_BYTES);
      const view = new DataView(payload.buffer);
      view.setUint32(0, this.#magic);
      view.setUint32(4, index);
      view.setUint32(8, sequence);
      // One the kernel refuses stays unanswered, and counts as lost: there was no route for it.
      this.#socketOf(flow).send(flow.to, { id, sequence: sequence & 0xffff, payload });
    }
  }

  #receive(): void {
    for (const socket of this.#sockets.values()) {
      for (let reply = socket.receive(); reply !== undefined; reply = socket.receive()) {
        const { payload } = reply;
        if (payload.length < PAYLOAD_BYTES) continue;
        const view = new DataView(payload.buffer, payload.byteOffset);
        if (view.getUint32(0) === this.#magic) this.#ledger.answered(view.getUint32(4), view.getUint32(8));
      }
    }
  }
}

/** Packets that the host's queues dropped since it started, because nobody had time for them (second column of softnet_stat). */
export function hostDrops(): number {
  return readFileSync("/proc/net/softnet_stat", "utf8")
    .trim()
    .split("\n")
    .reduce((sum, line) => sum + Number.parseInt(line.split(/\s+/)[1] ?? "0", 16), 0);
}
