/**
 * Three readings of one world: the oracle (from the resources), the messages of both nodes, and the rendered tables run by
 * a packet machine. They must say the same about every packet.
 */
import type { IpAddress } from "@calico-ts/net";
import { parseAddress } from "@calico-ts/net";
import type { Pod } from "@calico-ts/model";
import { hostInterfaceName } from "@calico-ts/model";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { CompilerUpdate, Party, Verdict } from "../src/index.ts";
import { createCompiler, createOracle, NftPolicyRenderer } from "../src/index.ts";
import { CheckingSink } from "../src/testing/checking-sink.ts";
import { FakeTable } from "../src/testing/fake-table.ts";
import { evaluateMessages } from "../src/testing/message-evaluator.ts";
import type { MachinePacket } from "../src/testing/packet-machine.ts";
import { PacketMachine } from "../src/testing/packet-machine.ts";
import type { RandomPacket } from "../src/testing/random-worlds.ts";
import { randomPackets, randomWorld } from "../src/testing/random-worlds.ts";

interface Node {
  readonly sink: CheckingSink;
  readonly machine: PacketMachine;
}

function compile(node: string, world: readonly CompilerUpdate[]): Node {
  const sink = new CheckingSink();
  const renderer = new NftPolicyRenderer();
  const table = new FakeTable();
  const compiler = createCompiler({
    node,
    emit: (message) => {
      sink.receive(message);
      renderer.receive(message);
    },
  });
  for (const update of world) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  table.program(renderer.take());
  expect(sink.errors).toEqual([]);
  return { sink, machine: new PacketMachine(table.ruleset()) };
}

interface Place {
  readonly party: Party;
  readonly address: IpAddress;
  /** For pods. */
  readonly pod?: string;
  readonly node?: string;
  readonly interfaceName: string;
}

function placeOf(world: readonly CompilerUpdate[], who: number | string, family: 4 | 6): Place | undefined {
  if (typeof who === "string") {
    const address = parseAddress(who);
    return address.family === family ? { party: { address: who }, address, interfaceName: "eth0" } : undefined;
  }
  const pods = world.flatMap((update): Pod[] =>
    update.kind === "Pod" && update.resource !== undefined ? [update.resource] : [],
  );
  const found = pods[who % pods.length];
  const address = found?.status?.podIPs?.map(({ ip }) => parseAddress(ip ?? "")).find((ip) => ip.family === family);
  if (found === undefined || address === undefined) return undefined;
  const { name, namespace = "" } = found.metadata;
  const pod = `${namespace}/${name}`;
  return {
    party: { pod },
    address,
    pod,
    interfaceName: hostInterfaceName(namespace, name),
    ...(found.spec.nodeName === undefined ? {} : { node: found.spec.nodeName }),
  };
}

const WITH_PORTS = new Set([6, 17, 132]);

function headers(packet: RandomPacket): Pick<MachinePacket, "protocol" | "sourcePort" | "destinationPort" | "icmp"> {
  const { protocol, sourcePort, destinationPort, icmp } = packet;
  if (WITH_PORTS.has(protocol)) return { protocol, sourcePort, destinationPort };
  return protocol === 1 || protocol === 58 ? { protocol, icmp } : { protocol };
}

/** undefined: such a packet cannot be (families differ, nobody is a pod, ICMP of the other family, a pod to itself). */
function judge(world: readonly CompilerUpdate[], nodes: ReadonlyMap<string, Node>, packet: RandomPacket) {
  const from = placeOf(world, packet.from, packet.family);
  const to = placeOf(world, packet.to, packet.family);
  if (from === undefined || to === undefined || (from.pod === undefined && to.pod === undefined)) return undefined;
  if (from.pod === to.pod || packet.protocol === (packet.family === 4 ? 58 : 1)) return undefined;
  const head = headers(packet);
  const addresses = { source: from.address, destination: to.address };

  const messages = (
    [
      [from, "egress"],
      [to, "ingress"],
    ] as const
  ).every(([place, direction]) => {
    if (place.pod === undefined) return true;
    const sink = nodes.get(place.node ?? "")?.sink;
    return sink !== undefined && evaluateMessages(sink, place.pod, direction, { ...addresses, ...head }) === true;
  });

  // Over the sender's node, then the receiver's: each sees its own side as a pod and the other as the uplink.
  const marks = new Set<number>();
  const table = [...new Set([from.node, to.node])].every((name) => {
    const machine = nodes.get(name ?? "")?.machine;
    if (machine === undefined) return true;
    const verdict = machine.run(
      {
        ...head,
        ...addresses,
        iifname: from.node === name ? from.interfaceName : "eth0",
        oifname: to.node === name ? to.interfaceName : "eth0",
        state: "new",
        mark: packet.mark,
      },
      ["prerouting", "forward"],
    );
    // A packet leaves without our bit unless it brought it.
    if (verdict.accepted && packet.mark === 0) marks.add(verdict.mark);
    return verdict.accepted;
  });
  return { from, to, head, messages, table, marks: [...marks].filter((mark) => mark !== 0) };
}

/** What was seen on the way. */
function compareAll(options: { readonly numRuns: number; readonly seed?: number }) {
  let verdicts = 0;
  let allowed = 0;
  const decisions = new Map<string, number>();
  fc.assert(
    fc.property(randomWorld, randomPackets, (world, packets) => {
      const oracle = createOracle(world);
      const nodes = new Map(["n1", "n2"].map((name) => [name, compile(name, world)]));
      for (const packet of packets) {
        const seen = judge(world, nodes, packet);
        if (seen === undefined) continue;
        const wanted: Verdict = oracle.verdict({
          from: seen.from.party,
          to: seen.to.party,
          family: packet.family,
          ...seen.head,
        });
        verdicts++;
        if (wanted.allowed) allowed++;
        decisions.set(wanted.decision.by, (decisions.get(wanted.decision.by) ?? 0) + 1);
        const { messages, table, marks } = seen;
        expect({ packet, decision: wanted.decision, messages, table, marks }).toEqual({
          packet,
          decision: wanted.decision,
          messages: wanted.allowed,
          table: wanted.allowed,
          marks: [],
        });
      }
    }),
    options,
  );
  return { allowed, denied: verdicts - allowed, decisions: [...decisions.keys()] };
}

test("the oracle, the messages and the tables agree", { timeout: 120_000 }, () => {
  compareAll({ numRuns: Number(process.env["CALICO_FUZZ_RUNS"] ?? 100), ...seedOption() });
});

test("worlds like these are decided both ways, in every way", { timeout: 120_000 }, () => {
  // A rig that only ever sees one verdict proves nothing.
  const { allowed, denied, decisions } = compareAll({ numRuns: 40, seed: 1 });
  expect(allowed).toBeGreaterThan(20);
  expect(denied).toBeGreaterThan(20);
  expect(decisions).toEqual(expect.arrayContaining(["profile", "rule", "tier-default"]));
});

function seedOption(): { seed?: number } {
  const seed = process.env["CALICO_FUZZ_SEED"];
  return seed === undefined ? {} : { seed: Number(seed) };
}
