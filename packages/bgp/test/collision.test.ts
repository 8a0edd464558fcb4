/** Both ends dial at once, and the peer's OPEN comes on one connection before it comes on the other (RFC 4271 section 6.8). */
import { expect, test } from "vitest";
import type { SpeakerAction } from "../src/actions.ts";
import { otherSide } from "../src/fsm/collision.ts";
import { BgpSpeaker } from "../src/speaker.ts";
import { encodeMessage, MessageFramer } from "../src/wire/message.ts";
import { encodeOpenBody } from "../src/wire/open.ts";
import { addressOf, peerOf } from "./support/network.ts";

const OURS = 5;

test.each([
  { opens: "outgoing", identifier: 9, waited: 0, ended: "outgoing" },
  { opens: "outgoing", identifier: 1, waited: 0, ended: "incoming" },
  { opens: "incoming", identifier: 9, waited: 0, ended: "outgoing" },
  { opens: "incoming", identifier: 1, waited: 0, ended: "incoming" },
  // A connection on which the peer has long said nothing is rather dead: it does not win over one on which it speaks.
  { opens: "outgoing", identifier: 9, waited: 11_000, ended: "none" },
  { opens: "incoming", identifier: 1, waited: 11_000, ended: "none" },
] as const)(
  "OPEN on the $opens one, of identifier $identifier beside our 5, $waited ms after the other began: ends $ended",
  ({ opens, identifier, waited, ended }) => {
    const peers = [peerOf("p", 2, { remoteAs: 65001 })];
    const speaker = new BgpSpeaker({ as: 65000, routerId: OURS, peers }, 0);
    const ends: string[] = [];
    const watch = (actions: readonly SpeakerAction[]): void => {
      for (const action of actions) {
        if (action.do !== "send") continue;
        const notes = new MessageFramer().push(action.bytes).frames.filter(({ type }) => type === "notification");
        for (const { body } of notes) ends.push(`${action.side} ${body[0]}/${body[1]}`);
      }
    };
    watch(speaker.start(0));
    watch(speaker.connected({ peer: "p", side: otherSide(opens) }, 0, addressOf(1)));
    watch(speaker.connected({ peer: "p", side: opens }, waited, addressOf(1)));
    const capabilities = [
      { kind: "multiprotocol" as const, afi: 1, safi: 1 },
      { kind: "four-octet-as" as const, as: 65001 },
    ];
    const open = encodeOpenBody({ version: 4, as: 65001, holdSeconds: 90, identifier, capabilities });
    watch(speaker.receive({ peer: "p", side: opens }, encodeMessage("open", open), waited));
    expect(ends).toEqual(ended === "none" ? [] : [`${ended} 6/7`]);
    const side = ended === opens ? otherSide(opens) : opens;
    if (side !== opens) watch(speaker.receive({ peer: "p", side }, encodeMessage("open", open), waited));
    watch(speaker.receive({ peer: "p", side }, encodeMessage("keepalive"), waited));
    expect(speaker.peers.get("p")?.upSide).toBe(side);
  },
);
