/**
 * Speakers joined in memory, with a clock of its own. A speaker's peers are named after the speakers they stand for. Each connection carries bytes in order; which
 * connection moves next is up to `pick`, so a test can try every interleaving it likes.
 */
import { formatPrefix, parseAddress } from "@calico-ts/net";
import type { PeerEvent, RoutePath, SpeakerAction } from "../../src/actions.ts";
import type { PeerConfig, SpeakerConfig } from "../../src/config.ts";
import type { ConnectionSide } from "../../src/fsm/collision.ts";
import { BgpSpeaker } from "../../src/speaker.ts";

interface End {
  readonly speaker: string;
  readonly peer: string;
  readonly side: ConnectionSide;
}

interface Pipe {
  readonly key: string;
  readonly to: End;
  readonly queue: (Uint8Array | "closed")[];
}

export interface Node {
  readonly speaker: BgpSpeaker;
  readonly routes: Map<string, readonly RoutePath[]>;
  readonly events: { readonly peer: string; readonly event: PeerEvent }[];
}

const keyOf = ({ speaker, peer, side }: End): string => `${speaker}>${peer}/${side}`;

export class Network {
  now = 0;
  readonly nodes = new Map<string, Node>();
  /** By the sending end. */
  readonly #pipes = new Map<string, Pipe>();
  readonly #busy = new Set<Pipe>();
  readonly #broken = new Set<string>();
  readonly #pick: (count: number) => number;
  /** Bytes per delivery. */
  portion = 65_536;
  delivered = 0;

  constructor(pick: (count: number) => number = () => 0) {
    this.#pick = pick;
  }

  add(name: string, config: SpeakerConfig): BgpSpeaker {
    const speaker = new BgpSpeaker(config, this.now);
    this.nodes.set(name, { speaker, routes: new Map(), events: [] });
    this.do(name, speaker.start(this.now));
    return speaker;
  }

  node(name: string): Node {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  /** Gone without a word: connections break on the other side. */
  kill(name: string): void {
    this.nodes.delete(name);
    for (const [key, pipe] of this.#pipes) {
      if (!key.startsWith(`${name}>`) && pipe.to.speaker !== name) continue;
      this.#pipes.delete(key);
      this.#busy.delete(pipe);
      if (pipe.to.speaker !== name) this.#tellClosed(pipe.to, "reset");
    }
  }

  /** Connection attempts between the two fail from now on, and bytes get lost. */
  cut(a: string, b: string): void {
    this.#broken.add(`${a}|${b}`).add(`${b}|${a}`);
  }

  mend(a: string, b: string): void {
    this.#broken.delete(`${a}|${b}`);
    this.#broken.delete(`${b}|${a}`);
  }

  do(name: string, actions: readonly SpeakerAction[]): void {
    for (const action of actions) this.#perform(name, action);
  }

  /** Runs until nothing is in flight and nothing is due before `until`. */
  run(until = this.now): void {
    for (;;) {
      if (this.#deliverOne()) continue;
      if (this.#tickDue()) continue;
      const next = this.#nextDeadline();
      if (next === undefined || next > until) break;
      this.now = Math.max(this.now, next);
    }
    this.now = Math.max(this.now, until);
  }

  #deliverOne(): boolean {
    const index = this.#pick(this.#busy.size);
    const chosen = index === 0 ? this.#busy.values().next().value : [...this.#busy][index];
    if (chosen === undefined) return false;
    const { key, to, queue } = chosen;
    const first = queue.shift();
    if (first === "closed" || first === undefined) {
      this.#busy.delete(chosen);
      this.#forget(to);
      this.#pipes.delete(key);
      this.#tellClosed(to, "closed by the peer");
      return true;
    }
    if (first.length > this.portion) queue.unshift(first.subarray(this.portion));
    if (queue.length === 0) this.#busy.delete(chosen);
    this.delivered++;
    const node = this.nodes.get(to.speaker);
    if (node !== undefined && !this.#broken.has(`${to.speaker}|${to.peer}`)) {
      this.do(to.speaker, node.speaker.receive(to, first.subarray(0, this.portion), this.now));
    }
    return true;
  }

  #tickDue(): boolean {
    let any = false;
    for (const [name, { speaker }] of this.nodes) {
      const at = speaker.nextDeadline();
      if (at === undefined || at > this.now) continue;
      any = true;
      this.do(name, speaker.tick(this.now));
    }
    return any;
  }

  #nextDeadline(): number | undefined {
    const all = [...this.nodes.values()].map(({ speaker }) => speaker.nextDeadline()).filter((at) => at !== undefined);
    return all.length === 0 ? undefined : Math.min(...all);
  }

  #perform(name: string, action: SpeakerAction): void {
    switch (action.do) {
      case "connect":
        this.#connect(name, action.peer);
        return;
      case "send":
        this.#push({ speaker: name, ...action }, action.bytes);
        return;
      case "close":
        this.#push({ speaker: name, ...action }, "closed");
        return;
      case "route":
        if (action.paths.length === 0) this.node(name).routes.delete(formatPrefix(action.prefix));
        else this.node(name).routes.set(formatPrefix(action.prefix), action.paths);
        return;
      case "report":
        this.node(name).events.push(action);
        return;
      default:
        action satisfies never;
    }
  }

  #connect(from: string, to: string): void {
    const here: End = { speaker: from, peer: to, side: "outgoing" };
    const there: End = { speaker: to, peer: from, side: "incoming" };
    const node = this.nodes.get(to);
    if (node === undefined || !node.speaker.peers.has(from) || this.#broken.has(`${from}|${to}`)) {
      this.do(from, this.node(from).speaker.disconnected(here, "refused", this.now));
      return;
    }
    if (node.speaker.admit(from, this.now) !== undefined) {
      this.do(from, this.node(from).speaker.connected(here, this.now));
      this.do(
        from,
        this.node(from).speaker.receive(here, node.speaker.admit(from, this.now) ?? new Uint8Array(), this.now),
      );
      return;
    }
    for (const [end, to] of [
      [here, there],
      [there, here],
    ] as const) {
      this.#forget(end);
      this.#pipes.set(keyOf(end), { key: keyOf(end), to, queue: [] });
    }
    this.do(to, node.speaker.connected(there, this.now, this.#addressOf(from, to)));
    this.do(from, this.node(from).speaker.connected(here, this.now, this.#addressOf(to, from)));
  }

  #push(from: End, what: Uint8Array | "closed"): void {
    const pipe = this.#pipes.get(keyOf(from));
    if (pipe === undefined) return;
    pipe.queue.push(what);
    this.#busy.add(pipe);
  }

  #forget(end: End): void {
    const pipe = this.#pipes.get(keyOf(end));
    if (pipe !== undefined) this.#busy.delete(pipe);
    this.#pipes.delete(keyOf(end));
  }

  /** A speaker's own address is what its peer calls it. */
  #addressOf(seenBy: string, speaker: string): ReturnType<typeof parseAddress> | undefined {
    return this.nodes.get(seenBy)?.speaker.peers.get(speaker)?.config.address;
  }

  #tellClosed(to: End, reason: string): void {
    const node = this.nodes.get(to.speaker);
    if (node !== undefined) this.do(to.speaker, node.speaker.disconnected(to, reason, this.now));
  }
}

/** Speaker number n is 10.0.x.y, router id n. */
export const addressOf = (n: number): ReturnType<typeof parseAddress> => parseAddress(`10.0.${n >> 8}.${n & 255}`);

export const peerOf = (name: string, n: number, change: Partial<PeerConfig> = {}): PeerConfig => ({
  name,
  address: addressOf(n),
  remoteAs: 64512,
  families: ["ipv4-unicast"],
  ...change,
});
