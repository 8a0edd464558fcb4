/**
 * Commands → one batch: BATCH_BEGIN, a message (or several) per command, BATCH_END, all in one buffer that goes to the
 * kernel in one `send`. The kernel applies all of it or nothing (linux/netfilter/nfnetlink.h).
 *
 * Errors come back by sequence number, so numbers are consecutive and `commandOf` leads from one to the command.
 * Only the last message asks for an acknowledgement: it arrives after the commit.
 */
import { CalicoError, unreachable } from "@calico-ts/std";
import { writeTable } from "../codec/attributes.ts";
import { NLM_F } from "../codec/message.ts";
import { MessageWriter } from "../codec/writer.ts";
import { writeElement } from "./elements.ts";
import {
  chainTable,
  chainToWire,
  FAMILY_NUMBERS,
  ruleTable,
  ruleToWire,
  setTable,
  setToWire,
  tableTable,
  type WireRule,
  writeNewRule,
} from "./objects.ts";
import type { NftCommand, NftElement, NftFamily, NftSet, NftTable } from "./values.ts";

export const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;

export const NFT_MSG = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  GETSET: 10,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  NEWGEN: 15,
  GETGEN: 16,
  TRACE: 17,
} as const;

export const nftMessageType = (message: number): number => (NFNL_SUBSYS_NFTABLES << 8) | message;

/** An attribute holds 64 KiB; an entry (key, value, comment, end) takes well under 1 KiB. */
const ELEMENTS_PER_MESSAGE_BYTES = 60_000;

export interface NftBatch {
  readonly bytes: Uint8Array;
  /** Sequence number of BATCH_BEGIN; a commit that fails as a whole is reported under it. */
  readonly firstSequence: number;
  /** Sequence number of the message that will be acknowledged. */
  readonly lastSequence: number;
  /** Index of the command a message belongs to; undefined for the batch as a whole. */
  commandOf(sequence: number): number | undefined;
}

/** @throws CalicoError BAD_INPUT for a value that has no encoding; `detail.commandIndex` says where. */
export function encodeBatch(commands: readonly NftCommand[], firstSequence: number): NftBatch {
  const builder = startBatch(firstSequence, batchSize(commands));
  for (const command of commands) builder.add(command);
  return builder.finish();
}

/** A batch in the making, for callers that give way to others in between: encoding 20 000 rules takes 100 ms. */
export interface NftBatchBuilder {
  /** @throws CalicoError BAD_INPUT; the batch is of no use afterwards. */
  add(command: NftCommand): void;
  /** Once, after at least one command. */
  finish(): NftBatch;
}

/** `expectedBytes`: room to begin with; it grows. */
export function startBatch(firstSequence: number, expectedBytes = 8192): NftBatchBuilder {
  const encoder = new BatchEncoder(firstSequence, expectedBytes);
  let index = 0;
  return {
    add(command) {
      encoder.startCommand(index);
      try {
        encodeCommand(encoder, command);
      } catch (error) {
        if (!(error instanceof CalicoError)) throw error;
        const what = describeCommand(command);
        throw new CalicoError(error.code, `${what} (command ${index}): ${error.message}`, {
          cause: error,
          detail: { commandIndex: index, command: what },
        });
      }
      index++;
    },
    finish: () => encoder.finish(),
  };
}

/** About how many bytes the commands take: too few costs a copy. */
export function batchSize(commands: readonly NftCommand[]): number {
  let bytes = 1024;
  for (const command of commands) {
    bytes += 512;
    if (command.do === "add-elements" || command.do === "delete-elements") bytes += command.elements.length * 64;
  }
  return bytes;
}

class BatchEncoder {
  readonly #out: MessageWriter;
  readonly #owners: number[] = [];
  readonly #first: number;
  #command = 0;
  #lastStart = 0;

  constructor(firstSequence: number, capacity: number) {
    this.#first = firstSequence;
    this.#out = new MessageWriter(capacity);
    this.#envelope(NFNL_MSG_BATCH_BEGIN, firstSequence);
  }

  startCommand(index: number): void {
    this.#command = index;
  }

  /** A number unique in the batch, for set ids. */
  get sequence(): number {
    return this.#first + 1 + this.#owners.length;
  }

  message(
    header: { readonly type: number; readonly flags: number; readonly family: NftFamily },
    body: (out: MessageWriter) => void,
  ): void {
    const out = this.#out;
    this.#lastStart = out.beginMessage({
      type: nftMessageType(header.type),
      flags: NLM_F.REQUEST | header.flags,
      sequence: this.sequence,
    });
    this.#owners.push(this.#command);
    out.u8(FAMILY_NUMBERS[header.family]);
    out.u8(0);
    out.be16(0);
    body(out);
    out.endMessage(this.#lastStart);
  }

  finish(): NftBatch {
    const owners = this.#owners;
    const first = this.#first;
    const lastSequence = first + owners.length;
    this.#acknowledgeLast();
    this.#envelope(NFNL_MSG_BATCH_END, lastSequence + 1);
    return {
      bytes: this.#out.bytes(),
      firstSequence: first,
      lastSequence,
      commandOf: (sequence) => owners[sequence - first - 1],
    };
  }

  #acknowledgeLast(): void {
    const flags = new Uint16Array(1);
    const bytes = this.#out.bytes();
    const at = this.#lastStart + 6;
    const word = new Uint8Array(flags.buffer);
    word.set(bytes.subarray(at, at + 2));
    flags[0] = (flags[0] ?? 0) | NLM_F.ACK;
    bytes.set(word, at);
  }

  #envelope(type: number, sequence: number): void {
    const out = this.#out;
    const start = out.beginMessage({ type, flags: NLM_F.REQUEST, sequence });
    out.u8(0);
    out.u8(0);
    out.be16(NFNL_SUBSYS_NFTABLES);
    out.endMessage(start);
  }
}

const CREATE = NLM_F.CREATE;
const NFT_TABLE_F_OWNER = 2;

function encodeCommand(encoder: BatchEncoder, command: NftCommand): void {
  const { table } = command;
  switch (command.do) {
    case "add-table":
    case "delete-table":
    case "add-chain":
    case "flush-chain":
    case "delete-chain":
      return encodeTableOrChain(encoder, command);
    case "add-rule":
    case "insert-rule":
    case "replace-rule":
    case "delete-rule":
      return encodeRule(encoder, command);
    case "add-set":
      return encoder.message({ type: NFT_MSG.NEWSET, flags: CREATE, family: table.family }, (out) => {
        writeTable(out, setTable, setToWire(table.name, command.set, encoder.sequence));
      });
    case "delete-set":
      return encoder.message({ type: NFT_MSG.DELSET, flags: 0, family: table.family }, (out) => {
        out.attributeText(1, table.name);
        out.attributeText(2, command.set);
      });
    case "flush-set":
      return encoder.message({ type: NFT_MSG.DELSETELEM, flags: 0, family: table.family }, (out) => {
        out.attributeText(1, table.name);
        out.attributeText(2, command.set);
      });
    case "add-elements":
      return encodeElements(encoder, { type: NFT_MSG.NEWSETELEM, flags: CREATE, ...command });
    case "delete-elements":
      return encodeElements(encoder, { type: NFT_MSG.DELSETELEM, flags: 0, ...command });
    default:
      return unreachable(command);
  }
}

type TableOrChain = Extract<
  NftCommand,
  { do: "add-table" | "delete-table" | "add-chain" | "flush-chain" | "delete-chain" }
>;

function encodeTableOrChain(encoder: BatchEncoder, command: TableOrChain): void {
  const { family, name } = command.table;
  const send = (type: number, flags: number, body: (out: MessageWriter) => void): void =>
    encoder.message({ type, flags, family }, body);
  switch (command.do) {
    case "add-table":
      return send(NFT_MSG.NEWTABLE, CREATE, (out) =>
        writeTable(out, tableTable, command.owned === true ? { name, flags: NFT_TABLE_F_OWNER } : { name }),
      );
    case "delete-table":
      // Kernels before 6.3 have no "destroy"; adding first makes the deletion succeed on all of them.
      if (command.ifExists === true) send(NFT_MSG.NEWTABLE, CREATE, (out) => out.attributeText(1, name));
      return send(NFT_MSG.DELTABLE, 0, (out) => out.attributeText(1, name));
    case "add-chain":
      return send(NFT_MSG.NEWCHAIN, CREATE, (out) =>
        writeTable(out, chainTable, chainToWire(command.table, command.chain)),
      );
    case "flush-chain":
      // Deleting rules without a handle: all of the chain.
      return send(NFT_MSG.DELRULE, 0, (out) => writeTable(out, ruleTable, { table: name, chain: command.chain }));
    case "delete-chain":
      return send(NFT_MSG.DELCHAIN, 0, (out) => writeTable(out, chainTable, { table: name, name: command.chain }));
    default:
      return unreachable(command);
  }
}

type RuleCommand = Extract<NftCommand, { do: "add-rule" | "insert-rule" | "replace-rule" | "delete-rule" }>;

function encodeRule(encoder: BatchEncoder, command: RuleCommand): void {
  const { family, name } = command.table;
  const place = { table: name, chain: command.chain };
  const type = command.do === "delete-rule" ? NFT_MSG.DELRULE : NFT_MSG.NEWRULE;
  const send = (flags: number, wire: WireRule): void =>
    encoder.message({ type, flags, family }, (out) => writeTable(out, ruleTable, wire));
  switch (command.do) {
    case "add-rule":
      return encoder.message({ type, flags: CREATE | NLM_F.APPEND, family }, (out) =>
        writeNewRule(out, place, command.rule),
      );
    case "insert-rule": {
      const position = command.beforeHandle === undefined ? {} : { position: command.beforeHandle };
      return send(CREATE, { ...place, ...position, ...ruleToWire(command.rule) });
    }
    case "replace-rule":
      return send(NLM_F.REPLACE, { ...place, handle: command.handle, ...ruleToWire(command.rule) });
    case "delete-rule":
      return send(0, { ...place, handle: command.handle });
    default:
      return unreachable(command);
  }
}

interface ElementsRequest {
  readonly type: number;
  readonly flags: number;
  readonly table: NftTable;
  readonly set: NftSet;
  readonly elements: readonly NftElement[];
}

function encodeElements(encoder: BatchEncoder, request: ElementsRequest): void {
  const forDelete = request.type === NFT_MSG.DELSETELEM;
  let next = 0;
  // No elements: still one message for an addition, so that a missing set is noticed; a deletion of nothing would flush.
  if (request.elements.length === 0 && forDelete) return;
  do {
    encoder.message({ type: request.type, flags: request.flags, family: request.table.family }, (out) => {
      out.attributeText(1, request.table.name);
      out.attributeText(2, request.set.name);
      const list = out.beginNested(3);
      for (; next < request.elements.length && out.length - list < ELEMENTS_PER_MESSAGE_BYTES; next++) {
        const element = request.elements[next];
        if (element !== undefined) writeElement(out, request.set, element, forDelete);
      }
      out.end(list);
    });
  } while (next < request.elements.length);
}

/** For messages to people: what a command would do. */
export function describeCommand(command: NftCommand): string {
  const table = `${command.table.family} ${command.table.name}`;
  switch (command.do) {
    case "add-table":
    case "delete-table":
      return `${command.do} ${table}`;
    case "add-chain":
      return `${command.do} ${table} ${command.chain.name}`;
    case "flush-chain":
    case "delete-chain":
      return `${command.do} ${table} ${command.chain}`;
    case "add-rule":
    case "insert-rule":
      return `${command.do} ${table} ${command.chain}${commentText(command.rule.comment)}`;
    case "replace-rule":
      return `${command.do} ${table} ${command.chain} handle ${command.handle}${commentText(command.rule.comment)}`;
    case "delete-rule":
      return `${command.do} ${table} ${command.chain} handle ${command.handle}`;
    case "add-set":
      return `${command.do} ${table} ${command.set.name}`;
    case "delete-set":
    case "flush-set":
      return `${command.do} ${table} ${command.set}`;
    case "add-elements":
    case "delete-elements":
      return `${command.do} ${table} ${command.set.name} (${command.elements.length} elements)`;
    default:
      return unreachable(command);
  }
}

const commentText = (comment: string | undefined): string => (comment === undefined ? "" : ` "${comment}"`);
