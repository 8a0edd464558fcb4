import { parseAddress, parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { SessionPlan, SpeakerPlan } from "../topology/plan.ts";
import { bird } from "./bird.ts";
import { frr } from "./frr.ts";
import { gobgp } from "./gobgp.ts";
import { ownSpeaker } from "./own-speaker.ts";
import type { SpeakerContext } from "./speaker.ts";

// The programs themselves run in e2e/test/bgp.kernel.test.ts; here is what only shows when they are not well.

const session = (remote: string, rest: Partial<SessionPlan> = {}): SessionPlan => ({
  with: "node",
  name: `n-${remote}`,
  local: parseAddress(remote.includes(":") ? "fd00::1" : "10.0.0.1"),
  remote: parseAddress(remote),
  remoteAs: 65001,
  client: false,
  password: undefined,
  ...rest,
});
const plan: SpeakerPlan = {
  kind: "bird",
  as: 65001,
  routerId: parseAddress("10.0.0.1"),
  clusterId: parseAddress("10.9.9.9"),
  sessions: [session("10.0.0.11", { client: true }), session("fd00::b"), session("10.0.0.12", { password: "s3cret" })],
  originate: [parsePrefix("203.0.113.0/24")],
};
const context: SpeakerContext = { router: "r", plan, folder: "/run/x", ownSpeaker: ["node", "speaker.mjs"] };

describe("sessions as the programs tell them", () => {
  test("BIRD: established, with a reason, since a time or a date, and one that is not there", () => {
    const output = `BIRD 2.0.12 ready.
Access restricted
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     14:59:21.034
s0         BGP        ---        up     14:59:25.202  Established
s1         BGP        ---        start  2026-11-20    Active        Socket: Connection refused
`;
    expect(bird.sessions(context, output)).toEqual(["Established", "Active Socket: Connection refused", undefined]);
    expect(bird.sessions(context, "Unable to connect to server control socket")).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("FRR: by family", () => {
    const output = JSON.stringify({
      ipv4Unicast: { peers: { "10.0.0.11": { state: "Established" }, "10.0.0.12": { state: "Active" } } },
      ipv6Unicast: { peers: { "fd00::b": { state: "Idle" } } },
    });
    expect(frr.sessions(context, output)).toEqual(["Established", "Idle", "Active"]);
    expect(frr.sessions(context, "Exiting: failed to connect to any daemons.")).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("GoBGP: states by number", () => {
    const output = JSON.stringify([
      { state: { neighbor_address: "10.0.0.11", session_state: 6 } },
      { state: { neighbor_address: "fd00::b", session_state: 3 } },
    ]);
    expect(gobgp.sessions(context, output)).toEqual(["Established", "Active", undefined]);
    expect(gobgp.sessions(context, "")).toEqual([undefined, undefined, undefined]);
  });

  test("ours", () => {
    const output = JSON.stringify([{ address: "fd00::b", state: "Established" }]);
    expect(ownSpeaker.sessions(context, output)).toEqual([undefined, "Established", undefined]);
    expect(ownSpeaker.sessions(context, "connect ENOENT")).toEqual([undefined, undefined, undefined]);
  });
});

describe("what they are told", () => {
  test("BIRD: reflection, passwords and what it originates; recovery only after a death", () => {
    const config = bird.files(context)["bird.conf"] ?? "";
    expect(config.match(/rr client;/g)).toHaveLength(1);
    expect(config).toContain("rr cluster id 10.9.9.9;");
    expect(config).toContain('password "s3cret";');
    expect(config).toContain("route 203.0.113.0/24 unreachable;");
    expect(bird.processes(context, false)[0]?.argv).not.toContain("-R");
    expect(bird.processes(context, true)[0]?.argv).toContain("-R");
  });

  test("FRR: each neighbour in its own family only", () => {
    const config = frr.files(context)["bgpd.conf"] ?? "";
    const [, four = "", six = ""] = config.split(" address-family ");
    expect(four).toContain("neighbor 10.0.0.11 route-reflector-client");
    expect(four).toContain("network 203.0.113.0/24");
    expect(four).not.toContain("fd00::b");
    expect(six).toContain("neighbor fd00::b activate");
    expect(config).toContain("neighbor 10.0.0.12 password s3cret");
  });

  test("ours: one file, addresses as text", () => {
    expect(JSON.parse(ownSpeaker.files(context)["speaker.json"] ?? "")).toMatchObject({
      as: 65001,
      clusterId: "10.9.9.9",
      originate: ["203.0.113.0/24"],
      sessions: [{ remote: "10.0.0.11", client: true }, { remote: "fd00::b" }, { password: "s3cret" }],
    });
    expect(ownSpeaker.processes(context, true)[0]?.argv).toEqual(["node", "speaker.mjs", "run", "/run/x"]);
  });
});
