/**
 * A second kernel, in memory: runs a packet through the rendered table, expression by expression, as nf_tables does
 * (registers, verdicts, jump and goto, verdict maps, base chains by priority). It knows the expressions our renderer uses
 * and refuses the rest, so a renderer that starts using another one is noticed here.
 */
import type { IpAddress } from "@calico-ts/net";
import { addressBytes } from "@calico-ts/net";
import type { NftElement, NftExpr, NftHook, NftRule, NftVerdict } from "@calico-ts/netlink";
import { CT_STATE_BITS, compareBytes, hostUint32, sameBytes } from "@calico-ts/netlink";
import { elementKey } from "../index.ts";
import type { RenderedSet, Ruleset } from "../index.ts";

export interface MachinePacket {
  readonly iifname: string;
  readonly oifname: string;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly state: keyof typeof CT_STATE_BITS;
  readonly mark?: number;
  /** Which of its addresses belongs to the node. */
  readonly local?: "source" | "destination";
}

export interface MachineVerdict {
  readonly accepted: boolean;
  /** Comment of the rule that dropped it, or of the last one that accepted. */
  readonly comment: string | undefined;
  readonly logs: readonly string[];
  readonly mark: number;
}

interface Run {
  readonly packet: MachinePacket;
  readonly network: Uint8Array;
  readonly transport: Uint8Array;
  readonly logs: string[];
  mark: number;
  state: keyof typeof CT_STATE_BITS;
  comment: string | undefined;
}

export class PacketMachine {
  readonly #ruleset: Ruleset;
  readonly #index = new Map<string, Map<string, NftElement>>();

  constructor(ruleset: Ruleset) {
    this.#ruleset = ruleset;
  }

  /** Through every base chain of the hooks, by priority. */
  run(packet: MachinePacket, hooks: readonly NftHook[]): MachineVerdict {
    const run: Run = {
      packet,
      network: networkHeader(packet),
      transport: transportHeader(packet),
      logs: [],
      mark: packet.mark ?? 0,
      state: packet.state,
      comment: undefined,
    };
    for (const hook of hooks) {
      const bases = [...this.#ruleset.chains.values()]
        .filter(({ chain }) => chain.base?.hook === hook && chain.base.type === "filter")
        .toSorted((a, b) => (a.chain.base?.priority ?? 0) - (b.chain.base?.priority ?? 0));
      for (const { chain } of bases) {
        if (this.#chain(chain.name, run) === "drop") {
          return { accepted: false, comment: run.comment, logs: run.logs, mark: run.mark };
        }
      }
    }
    return { accepted: true, comment: run.comment, logs: run.logs, mark: run.mark };
  }

  #chain(name: string, run: Run): "accept" | "drop" | "return" {
    const chain = this.#ruleset.chains.get(name);
    if (chain === undefined) throw new Error(`no chain ${name}`);
    for (const rule of chain.rules) {
      const verdict = this.#rule(rule, run);
      if (verdict === undefined || verdict.kind === "continue") continue;
      if (verdict.kind === "accept" || verdict.kind === "drop") {
        run.comment = rule.comment;
        return verdict.kind;
      }
      if (!("chain" in verdict)) return "return";
      const result = this.#chain(verdict.chain, run);
      if (result !== "return" || verdict.kind === "goto") return result;
    }
    return "return";
  }

  #rule(rule: NftRule, run: Run): NftVerdict | undefined {
    const registers = new Uint8Array(64);
    for (const expr of rule.exprs) {
      const outcome = this.#expr(expr, registers, run);
      if (outcome === false) return undefined;
      if (outcome !== true) return outcome;
    }
    return undefined;
  }

  /** true: goes on; false: the rule does not match. */
  #expr(expr: NftExpr, registers: Uint8Array, run: Run): boolean | NftVerdict {
    const at = (register: number): number => (register >= 8 ? (register - 8) * 4 : (register - 1) * 16);
    const read = (register: number, length: number): Uint8Array => registers.slice(at(register), at(register) + length);
    const write = (register: number, bytes: Uint8Array): void => {
      registers.fill(0, at(register), at(register) + Math.ceil(bytes.length / 4) * 4);
      registers.set(bytes, at(register));
    };
    switch (expr.kind) {
      case "meta":
        write(expr.dreg, this.#meta(expr.key, run));
        return true;
      case "meta-set":
        run.mark = new DataView(read(expr.sreg, 4).buffer).getUint32(0, true);
        return true;
      case "ct":
        if (expr.key === "state") write(expr.dreg, hostUint32(CT_STATE_BITS[run.state]));
        // Nothing else is known of a packet outside connection tracking: the rule breaks.
        else if (expr.key !== "status" || run.state === "untracked") return false;
        else write(expr.dreg, hostUint32(0));
        return true;
      case "notrack":
        run.state = "untracked";
        return true;
      case "payload": {
        const header = expr.base === "network" ? run.network : run.transport;
        if (expr.offset + expr.length > header.length) return false;
        write(expr.dreg, header.slice(expr.offset, expr.offset + expr.length));
        return true;
      }
      case "bitwise": {
        const bytes = read(expr.sreg, expr.mask.length);
        write(
          expr.dreg,
          bytes.map((byte, i) => (byte & (expr.mask[i] ?? 0)) ^ (expr.xor[i] ?? 0)),
        );
        return true;
      }
      case "cmp": {
        const equal = sameBytes(read(expr.sreg, expr.data.length), expr.data);
        if (expr.op !== "eq" && expr.op !== "neq") throw new Error(`cmp ${expr.op}`);
        return equal === (expr.op === "eq");
      }
      case "range": {
        const bytes = read(expr.sreg, expr.from.length);
        const inside = compareBytes(expr.from, bytes) <= 0 && compareBytes(bytes, expr.to) <= 0;
        return inside === (expr.op === "eq");
      }
      case "lookup":
        return this.#lookup(expr, read, run);
      case "log":
        run.logs.push(expr.prefix ?? "");
        return true;
      case "counter":
        return true;
      // Nothing is ever over a limit here.
      case "limit":
      case "connlimit":
        return expr.over !== true;
      case "payload-set":
        run.network.set(read(expr.sreg, expr.length), expr.offset);
        return true;
      case "verdict":
        return expr.verdict;
      case "reject":
        return { kind: "drop" };
      case "fib":
        if (expr.result === "oif") throw new Error("the packet machine has no routes");
        write(expr.dreg, hostUint32(isLocal(expr.flags, run.packet) ? RTN_LOCAL : RTN_UNICAST));
        return true;
      default:
        throw new Error(`the packet machine does not know ${expr.kind}`);
    }
  }

  /** Links have the groups that the ruleset wants. */
  #meta(key: string, run: Run): Uint8Array {
    const { iifname, oifname } = run.packet;
    const groupOf = (name: string): Uint8Array => hostUint32(this.#ruleset.groups.get(name) ?? 0);
    if (key === "iifgroup") return groupOf(iifname);
    if (key === "oifgroup") return groupOf(oifname);
    return metaBytes(key, run);
  }

  #lookup(
    expr: NftExpr & { kind: "lookup" },
    read: (register: number, length: number) => Uint8Array,
    run: Run,
  ): boolean | NftVerdict {
    const rendered = this.#ruleset.sets.get(expr.set);
    if (rendered === undefined) throw new Error(`no set ${expr.set}`);
    const element = this.#find(rendered, read(expr.sreg, keyLength(rendered)));
    if (expr.dreg !== 0) return (element !== undefined) !== (expr.invert === true);
    // A map without an entry for the key breaks the rule.
    if (element?.value === undefined || element.value instanceof Uint8Array) return false;
    run.comment = element.comment;
    return element.value;
  }

  #find(rendered: RenderedSet, key: Uint8Array): NftElement | undefined {
    if (rendered.set.interval === true) {
      return [...rendered.elements.values()].find(
        (element) => compareBytes(element.key, key) <= 0 && compareBytes(key, element.keyEnd ?? element.key) <= 0,
      );
    }
    return this.#hash(rendered).get(elementKey({ key }));
  }

  #hash(rendered: RenderedSet): Map<string, NftElement> {
    let index = this.#index.get(rendered.set.name);
    if (index === undefined) {
      index = new Map(rendered.elements);
      this.#index.set(rendered.set.name, index);
    }
    return index;
  }
}

const RTN_UNICAST = 1;
const RTN_LOCAL = 2;

const isLocal = (flags: readonly string[], { local }: MachinePacket): boolean =>
  (local === "source" && flags.includes("saddr")) || (local === "destination" && flags.includes("daddr"));

const LENGTHS: Readonly<Record<string, number>> = {
  ipv4_addr: 4,
  ipv6_addr: 16,
  inet_proto: 1,
  inet_service: 2,
  ifname: 16,
  devgroup: 4,
};

function keyLength({ set }: RenderedSet): number {
  const lengths = set.keyTypes.map((type) => LENGTHS[type] ?? 0);
  const [only = 0] = lengths;
  return lengths.length === 1 ? only : lengths.reduce((sum, length) => sum + Math.ceil(length / 4) * 4, 0);
}

function metaBytes(key: string, run: Run): Uint8Array {
  const { packet } = run;
  switch (key) {
    case "nfproto":
      return Uint8Array.of(packet.source.family === 4 ? 2 : 10);
    case "l4proto":
      return Uint8Array.of(packet.protocol);
    case "iifname":
      return nameBytes(packet.iifname);
    case "oifname":
      return nameBytes(packet.oifname);
    case "mark":
      return hostUint32(run.mark);
    default:
      throw new Error(`the packet machine does not know meta ${key}`);
  }
}

function nameBytes(name: string): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(Uint8Array.from(name, (character) => character.charCodeAt(0)));
  return bytes;
}

function networkHeader({ source, destination }: MachinePacket): Uint8Array {
  const v4 = source.family === 4;
  const header = new Uint8Array(v4 ? 20 : 40);
  header.set(addressBytes(source), v4 ? 12 : 8);
  header.set(addressBytes(destination), v4 ? 16 : 24);
  return header;
}

function transportHeader({ icmp, sourcePort, destinationPort }: MachinePacket): Uint8Array {
  if (icmp !== undefined) return Uint8Array.of(icmp.type, icmp.code, 0, 0, 0, 0, 0, 0);
  if (sourcePort === undefined || destinationPort === undefined) return new Uint8Array(8);
  const view = new DataView(new ArrayBuffer(20));
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  return new Uint8Array(view.buffer);
}
