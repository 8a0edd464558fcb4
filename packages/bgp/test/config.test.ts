import { describe, expect, test } from "vitest";
import type { PeerConfig, SpeakerConfig } from "../src/config.ts";
import { BgpSpeaker } from "../src/speaker.ts";
import { peerOf } from "./support/network.ts";

const configOf = (speaker: Partial<SpeakerConfig>, peer: Partial<PeerConfig> = {}): SpeakerConfig => ({
  as: 65000,
  routerId: 1,
  peers: [peerOf("p", 2, { remoteAs: 65001, ...peer })],
  ...speaker,
});

describe("a configuration is refused, and the one before it kept, with", () => {
  test.each<[string, Partial<SpeakerConfig>, RegExp]>([
    ["AS 0", { as: 0 }, /AS 0 is not between 1 and 4294967295/],
    ["an AS of 33 bits", { as: 2 ** 32 }, /AS 4294967296/],
    ["router id 0 (RFC 6286)", { routerId: 0 }, /router id 0/],
    ["cluster id 0", { clusterId: 0 }, /cluster id 0/],
    ["no path at all", { maxPaths: 0 }, /0 paths/],
    ["a deferral that never ends", { restarting: { deferralSeconds: Number.NaN } }, /deferral of NaN/],
    ["two peers of one name", { peers: [peerOf("p", 2), peerOf("p", 3)] }, /two peers are named "p"/],
  ])("%s", (_what, change, problem) => {
    expectRefused(configOf(change), problem);
  });

  test.each<[string, Partial<PeerConfig>, RegExp]>([
    ["AS 0 (RFC 7607)", { remoteAs: 0 }, /AS 0/],
    ["a local AS that is none", { localAs: 1.5 }, /local AS 1.5/],
    ["no address family", { families: [] }, /no address family/],
    ["a family that is not routed", { families: ["ipv4" as "ipv4-unicast"] }, /"ipv4" is none of ipv4-unicast/],
    ["a family twice", { families: ["ipv4-unicast", "ipv4-unicast"] }, /twice/],
    ["a hold time of 2 s (RFC 4271 section 4.2)", { timers: { holdSeconds: 2 } }, /hold time of 2 s/],
    ["a hold time of 17 bits", { timers: { holdSeconds: 65_536 } }, /hold time of 65536 s/],
    ["a hold time that is none", { timers: { holdSeconds: Number.NaN } }, /hold time of NaN s/],
    ["a retry without a pause", { timers: { connectRetrySeconds: 0 } }, /connectRetrySeconds of 0/],
    ["a back-off of no time", { timers: { idleHoldMinSeconds: 0 } }, /idleHoldMinSeconds of 0/],
    ["keepalives all the time", { timers: { keepaliveSeconds: 0 } }, /keepaliveSeconds of 0/],
    ["a restart time of 13 bits (RFC 4724 section 3)", { gracefulRestart: { restartSeconds: 4096 } }, /4096 s is not/],
    [
      "a stale time of 25 bits (RFC 9494 section 3.1)",
      { gracefulRestart: { restartSeconds: 1, longLivedSeconds: 2 ** 24 } },
      /16777216 s is not/,
    ],
    ["a limit that is no number", { prefixLimit: { routes: Number.NaN, action: "stop" } }, /limit of NaN/],
    ["less than no allowed AS", { allowedLocalAs: -1 }, /-1 times/],
  ])("a peer with %s", (_what, change, problem) => {
    expectRefused(configOf({}, change), problem);
  });

  function expectRefused(config: SpeakerConfig, problem: RegExp): void {
    expect(() => new BgpSpeaker(config, 0)).toThrow(problem);
    const speaker = new BgpSpeaker(configOf({}), 0);
    const before = speaker.config;
    expect(() => speaker.configure(config, 0)).toThrow(expect.objectContaining({ code: "BAD_INPUT" }) as Error);
    expect(speaker.config).toBe(before);
  }
});

test("a configuration is accepted with hold time 0 and everything at its limits", () => {
  const peer: Partial<PeerConfig> = {
    timers: { holdSeconds: 0, delayOpenSeconds: 0 },
    gracefulRestart: { restartSeconds: 4095, longLivedSeconds: 16_777_215 },
    prefixLimit: { routes: 0, action: "warn" },
    allowedLocalAs: 0,
  };
  expect(new BgpSpeaker(configOf({ as: 2 ** 32 - 1, maxPaths: 1 }, peer), 0).peers.size).toBe(1);
});
