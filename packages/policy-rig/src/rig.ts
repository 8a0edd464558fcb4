/**
 * START HERE. The differential rig: a world is compiled and programmed into a real kernel, packets are sent through it, and what
 * arrives is compared with what the oracle says. See `README.md` for the picture.
 *
 * A case is a history of worlds and the packets sent at its end. The candidate goes through the history step by step as an agent would;
 * after each step its ruleset must equal, by value, that of a candidate that only ever saw the last world.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { parseAddress, sameAddress } from "@calico-ts/net";
import { errorText } from "@calico-ts/std";
import type { Defect } from "./candidate.ts";
import { Candidate, rulesetDifferences } from "./candidate.ts";
import { Dataplane } from "./dataplane.ts";
import type { Expectation } from "./expect.ts";
import { Expectations } from "./expect.ts";
import { Lab } from "./lab/lab.ts";
import { NEIGHBOUR_ADDRESS } from "./lab/plan.ts";
import type { PacketParty, RigPacket } from "./packets/packet.ts";
import { destinationOf, PROTOCOL, sourceOf } from "./packets/packet.ts";
import type { AnswerKind } from "./packets/wire.ts";
import { answerBytes, answerTo, packetBytes, readSource } from "./packets/wire.ts";
import type { World } from "./world.ts";

export interface Case {
  readonly name: string;
  /** At least one world; the packets meet the last. */
  readonly history: readonly World[];
  readonly packets: readonly RigPacket[];
}

export type Finding =
  | {
      readonly kind: "verdict";
      readonly packet: RigPacket;
      /** Set for the answer to the packet, which belongs to a connection that stands. */
      readonly answer?: AnswerKind;
      readonly kernel: boolean;
      readonly expected: Expectation;
    }
  /** It arrives, and comes from somebody else than it should. */
  | { readonly kind: "source"; readonly packet: RigPacket; readonly seen: string; readonly expected: Expectation }
  /** After a step the ruleset is not what a fresh start would have made. */
  | { readonly kind: "history"; readonly differences: readonly string[] }
  /** The kernel has something else than what it was told. */
  | { readonly kind: "drift"; readonly differences: readonly string[] }
  | { readonly kind: "refused"; readonly message: string }
  | { readonly kind: "crash"; readonly message: string };

export interface RigOptions {
  /** Of the namespaces' names. */
  readonly prefix: string;
  readonly defect?: Defect;
}

interface Flight {
  readonly packet: RigPacket;
  readonly expected: Expectation;
  readonly answer?: AnswerKind;
  /** The number of the packet it answers. */
  readonly of?: number;
  /** That packet as it arrived: its source may have been rewritten. */
  readonly told?: RigPacket;
  readonly id: number;
  arrived: boolean;
  /** As the receiver saw the sender, unless that is the node. */
  seen?: { readonly address: string; readonly port: number };
}

const portOf = (port: number | undefined, seen: { readonly port: number }): { readonly sourcePort?: number } =>
  port === undefined ? {} : { sourcePort: seen.port };

const comesFromWhereItShould = ({ expected: { source }, seen }: Flight): boolean =>
  source === undefined || seen === undefined || sameText(seen.address, source);

const sameText = (a: string, b: string): boolean => a === b || sameAddress(parseAddress(a), parseAddress(b));

/** What is wrong still when it is sent again, alone. */
function findingOf({ packet, expected, answer }: Flight, again: Flight | undefined): Finding | undefined {
  const kernel = again?.arrived === true;
  if (kernel !== expected.allowed) {
    return { kind: "verdict", packet, kernel, expected, ...(answer === undefined ? {} : { answer }) };
  }
  if (answer !== undefined || again?.seen === undefined || comesFromWhereItShould(again)) return undefined;
  return { kind: "source", packet, seen: again.seen.address, expected };
}

const ESTABLISHED: Expectation = { allowed: true, reason: { by: "connection-state", state: "established" } };

/** How long a packet that should arrive may take, in milliseconds; only mismatches wait that long. */
export interface Patience {
  readonly first: number;
  /** When it is sent again, alone, to be sure. */
  readonly again: number;
}

const PATIENCE: Patience = { first: 150, again: 1000 };

export class Rig implements Disposable {
  readonly lab: Lab;
  readonly #dataplane: Dataplane;
  defect: Defect | undefined;
  verdicts = 0;
  /** What decided so far, by kind of reason and, for rules, of policy: shows what the cases have covered. */
  readonly reasons = new Map<string, number>();
  allowed = 0;
  #nextId = 1;
  #steps = 0;

  constructor(options: RigOptions) {
    this.defect = options.defect;
    this.lab = new Lab(options.prefix);
    this.#dataplane = new Dataplane(this.lab.kernel);
  }

  [Symbol.dispose](): void {
    this.lab[Symbol.dispose]();
  }

  /** Goes through the history, then sends the packets. Stops at the first step that is wrong. */
  async run({ history, packets }: Pick<Case, "history" | "packets">, patience = PATIENCE): Promise<Finding[]> {
    const trial = this.begin(patience);
    for (const [at, world] of history.entries()) {
      const last = at === history.length - 1;
      const findings = await trial.step(world, last ? packets : []);
      if (findings.length > 0) return findings;
    }
    return [];
  }

  begin(patience = PATIENCE): Trial {
    let candidate: Candidate | undefined;
    return {
      step: async (world, packets) => {
        try {
          const first = candidate === undefined;
          candidate ??= new Candidate(world, this.defect);
          const change = first ? undefined : candidate.advance(world);
          const ruleset = candidate.ruleset();
          if (!first) {
            const differences = rulesetDifferences(ruleset, new Candidate(world, this.defect).ruleset());
            if (differences.length > 0) return [{ kind: "history", differences }];
          }
          try {
            await this.#dataplane.program(ruleset, change);
          } catch (error) {
            return [{ kind: "refused", message: errorText(error) }];
          }
          if (this.#steps++ % 16 === 0) {
            const differences = rulesetDifferences(await this.#dataplane.read(), ruleset);
            if (differences.length > 0) return [{ kind: "drift", differences }];
          }
          this.#dataplane.misleadStrangers(ruleset);
          return await this.#probe(world, typeof packets === "function" ? packets : () => packets, patience);
        } catch (error) {
          return [{ kind: "crash", message: error instanceof Error ? (error.stack ?? error.message) : String(error) }];
        }
      },
    };
  }

  /** Which rules the packet meets in the last world: what `nft` would trace. */
  async trace(world: World, packet: RigPacket): Promise<string[]> {
    const ruleset = new Candidate(world, this.defect).ruleset();
    await this.#dataplane.programCounted(ruleset);
    this.lab.kernel.conntrack.flush();
    this.#send(packet, this.#nextId++);
    await this.#settle(() => false, 20);
    const rules = await this.#dataplane.matched();
    await this.#dataplane.program(ruleset);
    return rules;
  }

  async #probe(world: World, packetsFor: PacketSource, patience: Patience): Promise<Finding[]> {
    const expectations = new Expectations(world);
    const packets = packetsFor(expectations);
    if (packets.length === 0) return [];
    const flights = await this.#fly(
      packets.map(
        (packet): Flight => ({ packet, expected: expectations.of(packet), id: this.#nextId++, arrived: false }),
      ),
      patience.first,
    );
    const answers = await this.#fly(
      flights.flatMap((flight): Flight[] => {
        const answer = flight.arrived && expectations.isTracked(flight.packet) ? answerTo(flight.packet) : undefined;
        if (answer === undefined) return [];
        return [this.#answering(flight, answer)];
      }),
      patience.first,
    );
    const all = [...flights, ...answers];
    this.verdicts += all.length;
    for (const { expected } of all) {
      const { reason } = expected;
      const name = reason.by === "rule" ? reason.policy.kind : reason.by;
      this.reasons.set(name, (this.reasons.get(name) ?? 0) + 1);
    }
    this.allowed += all.filter((flight) => flight.arrived).length;
    const wrong = all.filter((flight) => flight.arrived !== flight.expected.allowed || !comesFromWhereItShould(flight));
    const findings: Finding[] = [];
    // The first few are enough; each is looked at again by itself.
    for (const flight of wrong.slice(0, 3)) {
      const finding = findingOf(flight, await this.#again(flight, patience.again));
      if (finding !== undefined) findings.push(finding);
    }
    return findings;
  }

  /** The receiver answers to whom it has seen. */
  #answering({ packet, id: of, seen }: Flight, answer: AnswerKind): Flight {
    const { sourcePort } = packet;
    const told = seen === undefined ? {} : { told: { ...packet, ...portOf(sourcePort, seen), forged: seen.address } };
    return { packet, ...told, expected: ESTABLISHED, answer, of, id: this.#nextId++, arrived: false };
  }

  /** Alone, as a new connection, with patience. */
  async #again(flight: Flight, patienceMs: number): Promise<Flight | undefined> {
    const { packet, expected, answer } = flight;
    const fresh: Flight = {
      packet,
      expected: answer === undefined ? expected : ESTABLISHED,
      id: this.#nextId++,
      arrived: false,
    };
    const [request] = await this.#fly([fresh], patienceMs);
    if (request === undefined || answer === undefined) return request;
    const [reply] = await this.#fly([this.#answering(request, answer)], patienceMs);
    return reply;
  }

  /** Sends all, and waits until what should arrive has arrived, or too long. */
  async #fly(flights: readonly Flight[], patienceMs: number): Promise<readonly Flight[]> {
    if (flights.length === 0) return flights;
    const isAnswer = flights[0]?.answer !== undefined;
    if (!isAnswer) this.lab.kernel.conntrack.flush();
    const byId = new Map(flights.map((flight) => [flight.id, flight]));
    let outstanding = flights.filter(({ expected }) => expected.allowed).length;
    const collect = (): void =>
      this.lab.drain(({ place, id, packet }) => {
        const flight = byId.get(id);
        if (flight === undefined || flight.arrived || place !== receiverOf(flight)) return;
        flight.arrived = true;
        if (packet !== undefined) flight.seen = readSource(packet);
        if (flight.expected.allowed) outstanding--;
      });
    for (const [at, flight] of flights.entries()) {
      this.#launch(flight);
      if (at % 64 === 63) collect();
    }
    await this.#settle(() => {
      collect();
      return outstanding === 0;
    }, patienceMs);
    return flights;
  }

  /** Until done, and until a packet of the node's own that was sent last has come through behind the others. */
  async #settle(isDone: () => boolean, patienceMs: number): Promise<void> {
    await setImmediate();
    const deadline = performance.now() + patienceMs;
    while (!isDone() && performance.now() < deadline) await setTimeout(1);
    const canary = this.#nextId++;
    this.lab.sendFromNode(packetBytes(CANARY, canary), NEIGHBOUR_ADDRESS[4]);
    await setImmediate();
    isDone();
  }

  #launch(flight: Flight): void {
    const { packet, told = packet, answer, id, of = 0 } = flight;
    if (answer === undefined) return this.#send(packet, id);
    const bytes = answerBytes(told, answer, { own: id, of });
    this.#put(packet.to, bytes, { to: sourceOf(told), mark: 0 });
  }

  #send(packet: RigPacket, id: number): void {
    this.#put(packet.from, packetBytes(packet, id), { to: destinationOf(packet), mark: packet.mark ?? 0 });
  }

  #put(from: PacketParty, bytes: Uint8Array, { to, mark }: { readonly to: string; readonly mark: number }): void {
    if ("node" in from) this.lab.sendFromNode(bytes, to, mark);
    else this.lab.send("pod" in from ? from.pod : "outside", bytes);
  }
}

const CANARY: RigPacket = {
  from: { node: true },
  to: { address: NEIGHBOUR_ADDRESS[4] },
  family: 4,
  protocol: PROTOCOL.OTHER,
};

export type PacketSource = (expectations: Expectations) => readonly RigPacket[];

/** One candidate on its way through worlds. */
export interface Trial {
  step(world: World, packets: readonly RigPacket[] | PacketSource): Promise<Finding[]>;
}

const placeOf = (party: PacketParty): string => ("pod" in party ? party.pod : "node" in party ? "node" : "outside");

const receiverOf = ({ packet, answer }: Flight): string => placeOf(answer === undefined ? packet.to : packet.from);
