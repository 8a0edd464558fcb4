/**
 * NFLOG (linux/netfilter/nfnetlink_log.h): copies of packets that a `log group` rule hands to whoever has bound the group.
 *
 * A group has one listener per namespace at a time. The kernel gathers packets until there are enough or a time is up; ours are sent one by one.
 */
import type { Family } from "@calico-ts/net";
import { be32, bytes, optional, readTable, text, writeTable } from "./codec/attributes.ts";
import type { AttributeTable, Codec } from "./codec/attributes.ts";
import { NLM_F } from "./codec/message.ts";
import { type MessageView, need } from "./codec/reader.ts";
import { MessageWriter } from "./codec/writer.ts";
import { familyOf } from "./route/request.ts";

const NFNL_SUBSYS_ULOG = 4;
const MSG = { PACKET: 0, CONFIG: 1 } as const;
const COMMAND_BIND = 1;
const COPY_PACKET = 2;

export interface NflogPacket {
  readonly group: number;
  /** Of the rule: what `log prefix` says. */
  readonly prefix: string;
  readonly family?: Family;
  /** enum nf_inet_hooks: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting. */
  readonly hook?: number;
  /** Index of the interface it came in by; absent where there is none. */
  readonly input?: number;
  readonly output?: number;
  readonly mark?: number;
  /** From the network header on, as many bytes as the rule's `snaplen` and the listener allow. */
  readonly payload: Uint8Array;
}

interface WireConfig {
  readonly command?: { readonly command: number };
  readonly mode?: { readonly range: number; readonly mode: number };
  readonly queueThreshold?: number;
}

const raw = <V>(write: Codec<V>["write"]): Codec<V> => ({ write, read: () => undefined });

const configTable: AttributeTable<WireConfig> = {
  command: optional(
    1,
    raw((out, { command }) => out.u8(command)),
  ),
  mode: optional(
    2,
    raw((out, { range, mode }) => {
      out.be32(range);
      out.u8(mode);
      out.u8(0);
    }),
  ),
  queueThreshold: optional(5, be32),
};

interface WirePacket {
  readonly header?: Uint8Array;
  readonly mark?: number;
  readonly input?: number;
  readonly output?: number;
  readonly payload?: Uint8Array;
  readonly prefix?: string;
}

const packetTable: AttributeTable<WirePacket> = {
  header: optional(1, bytes),
  mark: optional(2, be32),
  input: optional(4, be32),
  output: optional(5, be32),
  payload: optional(9, bytes),
  prefix: optional(10, text),
};

/** Makes the sending socket the listener of a group. `copyBytes`: at most that much of each packet. Asks for an acknowledgement. */
export function encodeNflogBind(group: number, copyBytes: number, sequence: number): Uint8Array {
  const out = new MessageWriter(64);
  const start = out.beginMessage({
    type: (NFNL_SUBSYS_ULOG << 8) | MSG.CONFIG,
    flags: NLM_F.REQUEST | NLM_F.ACK,
    sequence,
  });
  out.u8(0);
  out.u8(0);
  out.be16(group);
  writeTable(out, configTable, {
    command: { command: COMMAND_BIND },
    mode: { range: copyBytes, mode: COPY_PACKET },
    queueThreshold: 1,
  });
  out.endMessage(start);
  return out.bytes();
}

/** Undefined for other messages. @throws CalicoError BAD_INPUT */
export function readNflogPacket(message: MessageView): NflogPacket | undefined {
  if (message.type !== ((NFNL_SUBSYS_ULOG << 8) | MSG.PACKET)) return undefined;
  const body = need(message.body, 4);
  const wire = readTable(packetTable, body.subarray(4));
  const family = familyOf(body[0] ?? 0);
  const hook = wire.header?.[2];
  return {
    group: ((body[2] ?? 0) << 8) | (body[3] ?? 0),
    prefix: wire.prefix ?? "",
    ...(family === undefined ? {} : { family }),
    ...(hook === undefined ? {} : { hook }),
    ...(wire.input === undefined ? {} : { input: wire.input }),
    ...(wire.output === undefined ? {} : { output: wire.output }),
    ...(wire.mark === undefined ? {} : { mark: wire.mark }),
    payload: wire.payload ?? new Uint8Array(0),
  };
}
