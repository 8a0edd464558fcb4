import { parseAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { encodeAttributes } from "../../src/wire/attributes/decode.ts";
import { ATTRIBUTES, type AttributeContext } from "../../src/wire/attributes/table.ts";
import { decodeUpdate } from "../../src/wire/update.ts";
import { ATTRIBUTE_ERRORS, type Cost, type Malformed } from "./attribute-errors.ts";

const contextOf = ({ from = {} }: Pick<Malformed, "from">): AttributeContext => ({
  fourOctetAs: true,
  addPath: new Set(),
  internal: true,
  ...from,
});

/** 10.0.0.0/8 with all that a route needs, the attribute in question in place of a good one. */
function updateWith({ bytes }: Malformed, context: AttributeContext): Uint8Array {
  const mandatory = [
    { code: 1, good: { origin: "igp" } },
    { code: 2, good: { asPath: [] } },
    { code: 3, good: { nextHop: parseAddress("192.0.2.1") } },
  ] as const;
  const good = mandatory.flatMap(({ code, good: one }) =>
    code === bytes[1] ? [] : [...encodeAttributes(one, context)],
  );
  const list = [...good, ...bytes];
  return Uint8Array.of(0, 0, list.length >> 8, list.length & 255, ...list, 8, 10);
}

function costOf(row: Malformed): Cost {
  const context = contextOf(row);
  const decoded = decodeUpdate(updateWith(row, context), context);
  if (!decoded.ok) return `session-reset ${decoded.notify.code}/${decoded.notify.subcode}`;
  const { problems, reachable, withdrawn } = decoded.update;
  if (reachable.length > 0) return problems.length === 0 ? "accepted" : "attribute-discard";
  expect(withdrawn.map(({ nlri }) => nlri.length)).not.toContain(0);
  return "treat-as-withdraw";
}

const peerOf = ({ from = {} }: Malformed): string =>
  [
    from.internal === false ? " from an external peer" : "",
    from.fourOctetAs === false ? " of a two-octet peer" : "",
  ].join("");

describe("RFC 7606", () => {
  test.each(
    ATTRIBUTE_ERRORS.map((row) => ({ ...row, title: `${row.section}: ${row.what}${peerOf(row)} → ${row.cost}` })),
  )("$title", (row) => {
    expect(costOf(row)).toBe(row.cost);
  });

  test("every attribute of the codec is in the table, with its flags and with its value", () => {
    const known = Object.values(ATTRIBUTES).map(({ code }) => code);
    const absentFrom = (rows: readonly Malformed[]): number[] =>
      known.filter((code) => !rows.some(({ bytes }) => bytes[1] === code));
    const isAboutFlags = ({ section }: Malformed): boolean => section === "3 (c)";
    expect(absentFrom(ATTRIBUTE_ERRORS.filter(isAboutFlags))).toEqual([ATTRIBUTES.mpUnreach.code]);
    expect(absentFrom(ATTRIBUTE_ERRORS.filter((row) => !isAboutFlags(row)))).toEqual([]);
  });

  test("routes of an MP_REACH_NLRI with wrong flags are withdrawn, not forgotten (section 3 c)", () => {
    const row = ATTRIBUTE_ERRORS.find(({ what }) => what === "MP_REACH_NLRI with flags 0xc0");
    const context = contextOf({});
    const decoded = decodeUpdate(
      updateWith(row ?? { section: "", what: "", bytes: [], cost: "accepted" }, context),
      context,
    );
    expect(decoded).toMatchObject({
      ok: true,
      update: { reachable: [], withdrawn: [{ family: "ipv4-unicast" }, { family: "ipv6-unicast" }] },
    });
  });

  test("an UPDATE that announces nothing it can be read to announce ends the session (section 5.2)", () => {
    const list = [0x80, 4, 3, 0, 0, 1];
    const decoded = decodeUpdate(Uint8Array.of(0, 0, 0, list.length, ...list), contextOf({}));
    expect(decoded).toMatchObject({ ok: false, notify: { code: 3, subcode: 1 } });
  });

  test.each<[string, number[]]>([
    ["an unknown well-known attribute", [0x40, 99, 1, 7]],
    ["an MP_UNREACH_NLRI cut short", [0x80, 15, 2, 0, 2]],
  ])("the NOTIFICATION shows the peer its attribute: %s (RFC 4271 section 6.3)", (_what, bytes) => {
    const decoded = decodeUpdate(Uint8Array.of(0, 0, 0, bytes.length, ...bytes), contextOf({}));
    expect(decoded).toMatchObject({ ok: false, notify: { data: Uint8Array.from(bytes) } });
  });
});
