/** A speaker whose only peer is nothing but bytes: says what a test wants said, and keeps what it hears in words. */
import { formatPrefix, parsePrefix } from "@calico-ts/net";
import type { SpeakerAction } from "../../src/actions.ts";
import type { PeerConfig, SpeakerConfig } from "../../src/config.ts";
import { BgpSpeaker } from "../../src/speaker.ts";
import type { PathAttributes } from "../../src/wire/attributes/values.ts";
import type { Capability } from "../../src/wire/capabilities.ts";
import type { MessageType } from "../../src/wire/message.ts";
import { encodeMessage, MessageFramer } from "../../src/wire/message.ts";
import { encodeOpenBody } from "../../src/wire/open.ts";
import { decodeUpdate, encodeAnnouncements } from "../../src/wire/update.ts";
import { addressOf, peerOf } from "./network.ts";

const SIDE = { peer: "p", side: "incoming" } as const;
const AS = 65001;
const FAMILY = "ipv4-unicast";

export interface ByHandOptions {
  readonly as?: number;
  readonly capabilities?: readonly Capability[];
  readonly peer?: Partial<PeerConfig>;
  readonly speaker?: Partial<SpeakerConfig>;
}

export class ByHand {
  readonly speaker: BgpSpeaker;
  now = 0;
  /** `+10.0.0.0/8`, `-10.0.0.0/8`, `end-of-rib`, `notification 6/2`, `route-refresh 1`, and names of other messages. */
  readonly heard: string[] = [];
  /** Of the last announcement heard. */
  attributes: PathAttributes = {};
  readonly #as: number;
  readonly #capabilities: readonly Capability[];
  #framer = new MessageFramer();

  /** The speaker is AS 65000, the peer AS 65001 unless told otherwise. */
  constructor({ as = AS, capabilities = [], peer, speaker }: ByHandOptions = {}) {
    this.#as = as;
    this.#capabilities = capabilities;
    const peers = [peerOf("p", 2, { remoteAs: as, passive: true, ...peer })];
    this.speaker = new BgpSpeaker({ as: 65000, routerId: 1, peers, ...speaker }, 0);
    this.#hear(this.speaker.start(0));
  }

  /** Opens a session; of the routes nothing has been told yet. */
  up(more: readonly Capability[] = []): this {
    this.#framer = new MessageFramer();
    const capabilities: readonly Capability[] = [
      { kind: "multiprotocol", afi: 1, safi: 1 },
      { kind: "four-octet-as", as: this.#as },
      ...this.#capabilities,
      ...more,
    ];
    this.#hear(this.speaker.connected(SIDE, this.now, addressOf(1)));
    this.say("open", encodeOpenBody({ version: 4, as: this.#as, holdSeconds: 0, identifier: 2, capabilities }));
    return this.say("keepalive", new Uint8Array(0));
  }

  down(): this {
    this.#hear(this.speaker.disconnected(SIDE, "gone", this.now));
    return this.settle();
  }

  say(type: MessageType, body: Uint8Array): this {
    this.#hear(this.speaker.receive(SIDE, encodeMessage(type, body), this.now));
    return this;
  }

  announce(prefix: string, attributes: PathAttributes = {}): this {
    const all = {
      origin: "igp" as const,
      asPath: [{ kind: "sequence" as const, ases: [this.#as] }],
      nextHop: addressOf(2),
      ...attributes,
    };
    const context = { fourOctetAs: true, addPath: new Set<typeof FAMILY>(), internal: true };
    const nlri = [{ prefix: parsePrefix(prefix) }];
    for (const body of encodeAnnouncements({ family: FAMILY, nlri }, all, context, { maxMessage: 4096 }))
      this.say("update", body);
    return this.settle();
  }

  tick(now = this.now): this {
    this.now = now;
    this.#hear(this.speaker.tick(now));
    return this;
  }

  /** Until nothing is due. */
  settle(now = this.now): this {
    this.now = now;
    for (let at = this.speaker.nextDeadline(); at !== undefined && at <= now; at = this.speaker.nextDeadline())
      this.tick(now);
    return this;
  }

  #hear(actions: readonly SpeakerAction[]): void {
    for (const action of actions) {
      if (action.do !== "send") continue;
      for (const { type, body } of this.#framer.push(action.bytes).frames) this.heard.push(...this.#words(type, body));
    }
  }

  #words(type: MessageType, body: Uint8Array): readonly string[] {
    if (type === "notification") return [`notification ${body[0]}/${body[1]}`];
    if (type === "route-refresh") return [`route-refresh ${body[2]}`];
    if (type !== "update") return [type];
    const decoded = decodeUpdate(body, { fourOctetAs: true, addPath: new Set(), internal: true });
    if (!decoded.ok) return [decoded.reason];
    const { withdrawn, reachable, attributes, endOfRib } = decoded.update;
    if (endOfRib !== undefined) return ["end-of-rib"];
    if (reachable.length > 0) this.attributes = attributes;
    const words = (sign: string, routes: typeof reachable): string[] =>
      routes.flatMap(({ nlri }) => nlri.map(({ prefix }) => `${sign}${formatPrefix(prefix)}`));
    return [...words("-", withdrawn), ...words("+", reachable)];
  }
}
