import { parseAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readMessages } from "../codec/reader.ts";
import { MessageWriter } from "../codec/writer.ts";
import { readNftTrace } from "./trace.ts";

const TRACE = (10 << 8) | 17;
const INET = 1;

function message(fill: (out: MessageWriter) => void, type = TRACE) {
  const out = new MessageWriter();
  const start = out.beginMessage({ type, flags: 0, sequence: 0 });
  out.u8(INET);
  out.u8(0);
  out.be16(0);
  fill(out);
  out.endMessage(start);
  const [only] = readMessages(out.bytes());
  if (only === undefined) throw new Error("no message");
  return only;
}

function head(out: MessageWriter, type: number, chain = "in"): void {
  out.attributeText(1, "calico");
  out.attributeText(2, chain);
  out.attributeBe32(4, type);
  out.attributeBe32(6, 7);
}

function verdict(out: MessageWriter, code: number, chain?: string): void {
  const start = out.beginNested(5);
  out.attributeBe32(1, code);
  if (chain !== undefined) out.attributeText(2, chain);
  out.end(start);
}

const hex = (text: string): Uint8Array => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
/** A SYN of 10.0.0.1:40000 to 10.0.0.2:80, and a neighbour solicitation of fe80::1 to ff02::1. */
const IPV4 = hex("4500003c1c4640004006b1e60a0000010a000002");
const TCP = hex("9c400050000000000000000050027210e6320000");
const IPV6 = hex(`6000000000203aff${"fe80".padEnd(28, "0")}0001${"ff02".padEnd(28, "0")}0001`);

const outcome = (action: () => unknown): unknown => {
  try {
    action();
    return "fine";
  } catch (error) {
    return error instanceof CalicoError ? "fine" : error;
  }
};

test("a rule with its packet", () => {
  const trace = readNftTrace(
    message((out) => {
      head(out, 3);
      const handle = out.begin(3);
      out.be64(42n);
      out.end(handle);
      verdict(out, -3, "web");
      out.attributeBytes(8, IPV4);
      out.attributeBytes(9, TCP);
      out.attributeBe32(10, 5);
      out.attributeBe32(21, 8);
    }),
  );
  expect(trace).toEqual({
    id: 7,
    table: { family: "inet", name: "calico" },
    chain: "in",
    type: "rule",
    handle: 42n,
    verdict: { kind: "jump", chain: "web" },
    input: 5,
    connectionState: 8,
    headers: {
      family: 4,
      source: parseAddress("10.0.0.1"),
      destination: parseAddress("10.0.0.2"),
      protocol: 6,
      sourcePort: 40_000,
      destinationPort: 80,
      tcpFlags: 2,
    },
  });
});

test("a chain's policy, and IPv6 with ICMP", () => {
  const trace = readNftTrace(
    message((out) => {
      head(out, 1);
      out.attributeBe32(16, 0);
      out.attributeBytes(8, IPV6);
      out.attributeBytes(9, hex("87000000"));
    }),
  );
  expect(trace).toMatchObject({
    type: "policy",
    verdict: { kind: "drop" },
    headers: { family: 6, source: parseAddress("fe80::1"), protocol: 58, icmp: { type: 135, code: 0 } },
  });
});

describe("what is not there is left out", () => {
  test.each([
    ["no verdict", () => {}, { verdict: { kind: "continue" } }],
    ["a queue's verdict", (out: MessageWriter) => verdict(out, 0x10003), { verdict: { kind: "other", code: 0x10003 } }],
    ["a cut network header", (out: MessageWriter) => out.attributeBytes(8, IPV4.slice(0, 12)), {}],
    [
      "a cut transport header",
      (out: MessageWriter) => {
        out.attributeBytes(8, IPV4);
        out.attributeBytes(9, TCP.slice(0, 3));
      },
      { headers: { protocol: 6 } },
    ],
  ])("%s", (_name, fill, expected) => {
    const trace = readNftTrace(
      message((out) => {
        head(out, 2);
        fill(out);
      }),
    );
    expect(trace).toMatchObject({ type: "return", ...expected });
    expect(trace?.headers?.sourcePort).toBeUndefined();
  });
});

test("other messages are none, hostile ones an error", () => {
  expect(readNftTrace(message((out) => head(out, 3), (10 << 8) | 6))).toBeUndefined();
  expect(() => readNftTrace(message((out) => head(out, 9)))).toThrow(CalicoError);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      expect(outcome(() => readNftTrace({ type: TRACE, flags: 0, sequence: 0, portId: 0, body: bytes }))).toBe("fine");
    }),
  );
});
