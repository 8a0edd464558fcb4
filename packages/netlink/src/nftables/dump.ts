/**
 * Dump requests of nf_tables, and messages of dumps and notifications → values. Rules come out in normal form
 * (`normalize.ts`), so that they compare with what was asked for.
 */
import { be32, optional, readTable, text, type AttributeTable, writeTable } from "../codec/attributes.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, readAttributes } from "../codec/reader.ts";
import { textFrom } from "../codec/text.ts";
import { MessageWriter } from "../codec/writer.ts";
import { NFNL_SUBSYS_NFTABLES, NFT_MSG, nftMessageType } from "./batch.ts";
import { elementsTable, type WireElement } from "./elements.ts";
import { normalizeRule } from "./normalize.ts";
import {
  chainFromWire,
  chainTable,
  FAMILY_NUMBERS,
  familyName,
  ruleFromWire,
  ruleTable,
  setFromWire,
  setTable,
  tableTable,
  type WireRule,
} from "./objects.ts";
import type { NftChain, NftFamily, NftRule, NftSet, NftTable } from "./values.ts";

/** `gone`: the message reports a deletion. */
export type NftObject =
  | { readonly kind: "table"; readonly gone: boolean; readonly table: NftTable }
  | { readonly kind: "chain"; readonly gone: boolean; readonly table: NftTable; readonly chain: NftChain }
  | {
      readonly kind: "rule";
      readonly gone: boolean;
      readonly table: NftTable;
      readonly chain: string;
      readonly handle: bigint;
      readonly rule: NftRule;
    }
  | { readonly kind: "set"; readonly gone: boolean; readonly table: NftTable; readonly set: NftSet }
  | {
      readonly kind: "elements";
      readonly gone: boolean;
      readonly table: NftTable;
      readonly set: string;
      /** Entries as the kernel has them: `elementsFromWire` joins those of all messages of a dump. */
      readonly elements: readonly WireElement[];
    }
  | {
      readonly kind: "generation";
      readonly id: number;
      readonly process?: { readonly id: number; readonly name: string };
    }
  | { readonly kind: "other" };

interface WireGeneration {
  readonly id?: number;
  readonly process?: number;
  readonly name?: string;
}
const generationTable: AttributeTable<WireGeneration> = {
  id: optional(1, be32),
  process: optional(2, be32),
  name: optional(3, text),
};

const OTHER: NftObject = { kind: "other" };

export const isNftMessage = (message: MessageView): boolean => message.type >> 8 === NFNL_SUBSYS_NFTABLES;

/** @throws CalicoError BAD_INPUT for malformed data; messages of other kinds and families are `other`. */
export function readNftMessage(message: MessageView): NftObject {
  if (!isNftMessage(message)) return OTHER;
  const body = need(message.body, 4);
  const attributes = body.subarray(4);
  const type = message.type & 255;
  if (type === NFT_MSG.NEWGEN) return readGeneration(attributes);
  const family = familyName(body[0] ?? 0);
  if (family === undefined) return OTHER;
  switch (type) {
    case NFT_MSG.NEWTABLE:
    case NFT_MSG.DELTABLE: {
      const { name } = readTable(tableTable, attributes);
      return { kind: "table", gone: type === NFT_MSG.DELTABLE, table: { family, name } };
    }
    case NFT_MSG.NEWCHAIN:
    case NFT_MSG.DELCHAIN: {
      const wire = readTable(chainTable, attributes);
      const table = { family, name: wire.table };
      return { kind: "chain", gone: type === NFT_MSG.DELCHAIN, table, chain: chainFromWire(family, wire) };
    }
    case NFT_MSG.NEWRULE:
    case NFT_MSG.DELRULE:
      return readRule(family, readTable(ruleTable, attributes), type === NFT_MSG.DELRULE);
    case NFT_MSG.NEWSET:
    case NFT_MSG.DELSET: {
      const wire = readTable(setTable, attributes);
      return {
        kind: "set",
        gone: type === NFT_MSG.DELSET,
        table: { family, name: wire.table },
        set: setFromWire(wire),
      };
    }
    case NFT_MSG.NEWSETELEM:
    case NFT_MSG.DELSETELEM: {
      const wire = readTable(elementsTable, attributes);
      const table = { family, name: wire.table };
      return {
        kind: "elements",
        gone: type === NFT_MSG.DELSETELEM,
        table,
        set: wire.set,
        elements: wire.elements ?? [],
      };
    }
    default:
      return OTHER;
  }
}

function readRule(family: NftFamily, wire: WireRule, gone: boolean): NftObject {
  return {
    kind: "rule",
    gone,
    table: { family, name: wire.table },
    chain: wire.chain ?? "",
    handle: wire.handle ?? 0n,
    rule: normalizeRule(ruleFromWire(wire)),
  };
}

function readGeneration(attributes: Uint8Array): NftObject {
  const { id, process, name } = readTable(generationTable, attributes);
  const generation = { kind: "generation", id: id ?? 0 } as const;
  return process === undefined ? generation : { ...generation, process: { id: process, name: name ?? "" } };
}

/** The table a notification speaks of, without decoding the rest: its name is attribute 1 of every object. */
export function nftMessageTable(message: MessageView): NftTable | undefined {
  if (!isNftMessage(message) || message.body.length < 4) return undefined;
  if ((message.type & 255) === NFT_MSG.NEWGEN) return undefined;
  const family = familyName(message.body[0] ?? 0);
  const name = readAttributes(message.body.subarray(4)).find((attribute) => attribute.type === 1);
  return family === undefined || name === undefined ? undefined : { family, name: textFrom(name.data) };
}

export type NftDumpRequest =
  | { readonly what: "tables" }
  | { readonly what: "chains"; readonly table: NftTable }
  | { readonly what: "rules"; readonly table: NftTable; readonly chain?: string }
  | { readonly what: "sets"; readonly table: NftTable }
  | { readonly what: "elements"; readonly table: NftTable; readonly set: string };

const DUMP_TYPES: Readonly<Record<NftDumpRequest["what"], number>> = {
  tables: NFT_MSG.GETTABLE,
  chains: NFT_MSG.GETCHAIN,
  rules: NFT_MSG.GETRULE,
  sets: NFT_MSG.GETSET,
  elements: NFT_MSG.GETSETELEM,
};

/** The kernel filters chains by family only: compare `table` in the answers. */
export function encodeNftDump(request: NftDumpRequest, sequence: number): Uint8Array {
  const out = new MessageWriter(256);
  const start = out.beginMessage({
    type: nftMessageType(DUMP_TYPES[request.what]),
    flags: NLM_F.REQUEST | NLM_F.DUMP,
    sequence,
  });
  out.u8(request.what === "tables" ? 0 : FAMILY_NUMBERS[request.table.family]);
  out.u8(0);
  out.be16(0);
  switch (request.what) {
    case "rules":
      writeTable<WireRule>(
        out,
        ruleTable,
        request.chain === undefined
          ? { table: request.table.name }
          : { table: request.table.name, chain: request.chain },
      );
      break;
    case "sets":
      out.attributeText(1, request.table.name);
      break;
    case "elements":
      out.attributeText(1, request.table.name);
      out.attributeText(2, request.set);
      break;
    default:
      break;
  }
  out.endMessage(start);
  return out.bytes();
}

export function encodeNftGetGeneration(sequence: number): Uint8Array {
  const out = new MessageWriter(32);
  const start = out.beginMessage({ type: nftMessageType(NFT_MSG.GETGEN), flags: NLM_F.REQUEST, sequence });
  out.be32(0);
  out.endMessage(start);
  return out.bytes();
}
