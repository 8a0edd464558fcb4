import { CalicoError } from "@calico-ts/std";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NLM_F, NLMSG_DONE, NLMSG_ERROR, readAnswer } from "./message.ts";
import { readAttributes, readMessages } from "./reader.ts";
import { textFrom, utf8Bytes, utf8Length } from "./text.ts";
import { MessageWriter } from "./writer.ts";

describe("text", () => {
  test("agrees with TextEncoder and TextDecoder on every text without NUL", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (value) => {
        const text = value.replaceAll("\0", "");
        expect(utf8Bytes(text)).toEqual(new TextEncoder().encode(text));
        expect(utf8Length(text)).toBe(utf8Bytes(text).length);
        expect(textFrom(utf8Bytes(text))).toBe(text);
      }),
    );
  });

  test("never throws on broken bytes and stops at NUL", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(textFrom(bytes)).toBeTypeOf("string");
      }),
    );
    expect(textFrom(Uint8Array.of(97, 0, 98))).toBe("a");
    expect(textFrom(Uint8Array.of(0xff, 0x61))).toBe("\ufffda");
    expect(utf8Bytes("\ud800")).toEqual(Uint8Array.of(0xef, 0xbf, 0xbd));
  });
});

describe("attributes", () => {
  const attributes = fc.array(
    fc.record({ type: fc.integer({ min: 1, max: 0x3fff }), data: fc.uint8Array({ maxLength: 40 }) }),
  );

  test("what was written is read, aligned to four bytes", () => {
    fc.assert(
      fc.property(attributes, (list) => {
        const out = new MessageWriter(4);
        for (const { type, data } of list) out.attributeBytes(type, data);
        expect(out.length % 4).toBe(0);
        expect(readAttributes(out.bytes()).map(({ type, data }) => ({ type, data: new Uint8Array(data) }))).toEqual(
          list,
        );
      }),
    );
  });

  test("an attribute that would not fit its length field is refused", () => {
    const out = new MessageWriter();
    expect(() => out.attributeBytes(1, new Uint8Array(65_532))).toThrow(CalicoError);
    const fits = new MessageWriter();
    fits.attributeBytes(1, new Uint8Array(65_531));
    expect(readAttributes(fits.bytes())[0]?.data).toHaveLength(65_531);
  });

  test("a name with NUL is refused: the kernel would cut it there", () => {
    expect(() => new MessageWriter().attributeText(1, "a\0b")).toThrow(/NUL/);
  });

  test("arbitrary bytes are read or refused, never overrun", () => {
    const outcome = (read: (bytes: Uint8Array) => unknown, bytes: Uint8Array): unknown => {
      try {
        read(bytes);
        return "fine";
      } catch (error) {
        return error instanceof CalicoError ? "fine" : error;
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(outcome(readAttributes, bytes)).toBe("fine");
        expect(outcome(readMessages, bytes)).toBe("fine");
      }),
    );
  });
});

describe("answers", () => {
  const error = (flags: number, body: (out: MessageWriter) => void, type: number = NLMSG_ERROR) => {
    const out = new MessageWriter();
    const start = out.beginMessage({ type, flags, sequence: 7 });
    body(out);
    out.endMessage(start);
    const [message] = readMessages(out.bytes());
    return readAnswer(message);
  };
  const request = (out: MessageWriter, length: number): void => {
    out.u32(length);
    out.u16(0);
    out.u16(0);
    out.u32(42);
    out.u32(0);
  };

  test("an acknowledgement carries the sequence number of the request", () => {
    expect(
      error(NLM_F.CAPPED, (out) => {
        out.u32(0);
        request(out, 100);
      }),
    ).toEqual({ sequence: 42, errno: 0 });
  });

  test("a refusal carries the kernel's own words, after a request repeated or capped", () => {
    const words = (out: MessageWriter): void => out.attributeText(1, "Device is busy");
    const capped = error(NLM_F.CAPPED | NLM_F.ACK_TLVS, (out) => {
      out.u32(-16);
      request(out, 100);
      words(out);
    });
    const whole = error(NLM_F.ACK_TLVS, (out) => {
      out.u32(-16);
      request(out, 24);
      out.u64(0n);
      words(out);
    });
    expect(capped).toEqual({ sequence: 42, errno: 16, extack: "Device is busy" });
    expect(whole).toEqual(capped);
  });

  test("a dump can end in an error", () => {
    expect(error(NLM_F.MULTI, (out) => out.u32(-2), NLMSG_DONE)).toEqual({ sequence: 7, errno: 2 });
    expect(error(NLM_F.MULTI, (out) => out.u32(0), NLMSG_DONE)).toEqual({ sequence: 7, errno: 0 });
  });
});
