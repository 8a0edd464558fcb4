/** However routes, policy, refreshes and congestion come together: in the end a peer has heard what it should know, and nothing else stands. */
import { parsePrefix } from "@calico-ts/net";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Filter } from "../src/policy/filter.ts";
import { encodeRouteRefresh } from "../src/wire/route-refresh.ts";
import { ByHand } from "./support/by-hand.ts";

const PREFIXES = Array.from({ length: 4 }, (_, at) => `10.${at}.0.0/16`);
const REQUEST = encodeRouteRefresh({ afi: 1, safi: 1, kind: "request" });

/** What the peer knows after all it has heard. */
function known({ heard }: ByHand): string[] {
  const routes = new Set<string>();
  for (const word of heard) {
    if (word.startsWith("+")) routes.add(word.slice(1));
    else if (word.startsWith("-")) routes.delete(word.slice(1));
  }
  return [...routes].toSorted();
}

const hiding = (prefix: string): Filter => ({
  name: `without ${prefix}`,
  rules: [{ action: "reject", match: { prefix: { operator: "in", prefix: parsePrefix(prefix) } } }],
  otherwise: "accept",
});

class Peer {
  readonly one = new ByHand().up().settle();
  readonly ours = new Set<string>();
  hidden: string | undefined;

  originate(prefix: string): void {
    this.ours.add(prefix);
    this.one.speaker.originate(parsePrefix(prefix), {}, this.one.now);
  }

  withdraw(prefix: string): void {
    this.ours.delete(prefix);
    this.one.speaker.withdraw(parsePrefix(prefix));
  }

  hide(prefix: string | undefined): void {
    this.hidden = prefix;
    const { config } = this.one.speaker;
    const peers = config.peers.map(({ exportFilter: _before, ...peer }) =>
      prefix === undefined ? peer : { ...peer, exportFilter: hiding(prefix) },
    );
    this.one.speaker.configure({ ...config, peers }, this.one.now);
  }

  congested(is: boolean): void {
    this.one.speaker.setCongested("p", is);
  }

  /** In the end. */
  expectHeard(): void {
    this.congested(false);
    this.one.settle();
    expect(known(this.one)).toEqual([...this.ours].filter((prefix) => prefix !== this.hidden).toSorted());
  }
}

test("a route that is withdrawn together with the rule that let it out is gone, not told again", () => {
  const peer = new Peer();
  for (const prefix of PREFIXES) peer.originate(prefix);
  peer.one.settle();
  peer.hide("10.3.0.0/16");
  peer.withdraw("10.1.0.0/16");
  peer.expectHeard();
});

test("what a peer missed while it was congested is told as it is then", () => {
  const peer = new Peer();
  peer.originate("10.0.0.0/16");
  peer.one.settle();
  peer.congested(true);
  peer.originate("10.1.0.0/16");
  peer.withdraw("10.0.0.0/16");
  peer.one.settle();
  peer.hide("10.3.0.0/16");
  peer.congested(false);
  peer.withdraw("10.1.0.0/16");
  peer.expectHeard();
});

test("in whatever order", () => {
  const prefix = fc.constantFrom(...PREFIXES);
  const step = fc.oneof(
    fc.record({ do: fc.constant("originate" as const), prefix }),
    fc.record({ do: fc.constant("withdraw" as const), prefix }),
    fc.record({ do: fc.constant("hide" as const), prefix: fc.option(prefix, { nil: undefined }) }),
    fc.record({ do: fc.constant("congested" as const), is: fc.boolean() }),
    fc.constantFrom({ do: "tick" as const }, { do: "settle" as const }, { do: "refresh" as const }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const peer = new Peer();
      for (const one of steps) {
        if (one.do === "originate") peer.originate(one.prefix);
        else if (one.do === "withdraw") peer.withdraw(one.prefix);
        else if (one.do === "hide") peer.hide(one.prefix);
        else if (one.do === "congested") peer.congested(one.is);
        else if (one.do === "refresh") peer.one.say("route-refresh", REQUEST);
        else if (one.do === "tick") peer.one.tick();
        else peer.one.settle();
      }
      peer.expectHeard();
    }),
    { numRuns: 300 },
  );
});
