/** NFTA_DATA: a value in a register, or a verdict with the chain it names. */
import { CalicoError, unreachable } from "@calico-ts/std";
import { type AttributeTable, beS32, type Codec, optional, readTable, required, text } from "../codec/attributes.ts";
import { readAttributes } from "../codec/reader.ts";
import type { MessageWriter } from "../codec/writer.ts";
import type { NftVerdict } from "./values.ts";

const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

/** NF_DROP, NF_ACCEPT and enum nft_verdicts. */
const VERDICT_CODES: Readonly<Record<NftVerdict["kind"], number>> = {
  drop: 0,
  accept: 1,
  continue: -1,
  jump: -3,
  goto: -4,
  return: -5,
};

export const VERDICT_NAMES: ReadonlyMap<number, NftVerdict["kind"]> = new Map(
  Object.entries(VERDICT_CODES).map(([name, code]) => [code, name as NftVerdict["kind"]]),
);

interface WireVerdict {
  readonly code: number;
  readonly chain?: string;
}
const verdictTable: AttributeTable<WireVerdict> = {
  code: required(NFTA_VERDICT_CODE, beS32),
  chain: optional(NFTA_VERDICT_CHAIN, text),
};

function writeVerdict(out: MessageWriter, verdict: NftVerdict): void {
  out.attributeBe32(NFTA_VERDICT_CODE, VERDICT_CODES[verdict.kind]);
  if (verdict.kind === "jump" || verdict.kind === "goto") out.attributeText(NFTA_VERDICT_CHAIN, verdict.chain);
}

function readVerdict(data: Uint8Array): NftVerdict {
  const { code, chain } = readTable(verdictTable, data);
  const name = VERDICT_NAMES.get(code);
  switch (name) {
    case "jump":
    case "goto":
      if (chain === undefined) break;
      return { kind: name, chain };
    case "accept":
    case "drop":
    case "return":
    case "continue":
      return { kind: name };
    case undefined:
      break;
    default:
      return unreachable(name);
  }
  throw new CalicoError("BAD_INPUT", `netlink: a verdict this codec does not know (code ${code})`);
}

export type NftData = Uint8Array | NftVerdict;

export const dataCodec: Codec<NftData> = {
  nested: true,
  write(out, value) {
    if (value instanceof Uint8Array) {
      out.attributeBytes(NFTA_DATA_VALUE, value);
      return;
    }
    const start = out.beginNested(NFTA_DATA_VERDICT);
    writeVerdict(out, value);
    out.end(start);
  },
  read(data) {
    for (const attribute of readAttributes(data)) {
      if (attribute.type === NFTA_DATA_VALUE) return attribute.data.slice();
      if (attribute.type === NFTA_DATA_VERDICT) return readVerdict(attribute.data);
    }
    throw new CalicoError("BAD_INPUT", "netlink: nf_tables data without a value");
  },
};

/** Where only a value makes sense. */
export const valueCodec: Codec<Uint8Array> = {
  nested: true,
  write: dataCodec.write,
  read(data) {
    const value = dataCodec.read(data);
    if (value instanceof Uint8Array) return value;
    throw new CalicoError("BAD_INPUT", "netlink: a verdict where nf_tables data is expected");
  },
};
