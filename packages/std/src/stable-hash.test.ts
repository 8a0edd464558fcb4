import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sha1Hex, sha224Base64Url, sha256Base64Url, sha256Hex } from "./stable-hash.ts";

test("agree with another implementation, for any text", () => {
  const peer = (name: string, text: string, encoding: "hex" | "base64url"): string =>
    createHash(name).update(text, "utf8").digest(encoding);
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      expect(sha1Hex(text)).toBe(peer("sha1", text, "hex"));
      expect(sha256Hex(text)).toBe(peer("sha256", text, "hex"));
      expect(sha224Base64Url(text)).toBe(peer("sha224", text, "base64url"));
      expect(sha256Base64Url(text)).toBe(peer("sha256", text, "base64url"));
    }),
  );
});
