/** What BIRD, FRR and GoBGP really said: understood without complaint, and said again byte by byte, up to the normal form of `testing/normal-form.ts`. */
import { assert, expect, test } from "vitest";
import { AttributeStore } from "../src/rib/attribute-set.ts";
import type { IntakeSink } from "../src/rib/intake.ts";
import { takeGenerally, takeUpdate } from "../src/rib/intake.ts";
import { prefixOfKey } from "../src/rib/prefix-map.ts";
import type { AttributeContext } from "../src/wire/attributes/table.ts";
import { ROUTED_FAMILIES } from "../src/wire/family.ts";
import { MessageFramer } from "../src/wire/message.ts";
import { decodeNotification, describeNotification, encodeNotificationBody } from "../src/wire/notification.ts";
import { decodeOpen, encodeOpenBody } from "../src/wire/open.ts";
import { decodeRouteRefresh, encodeRouteRefresh } from "../src/wire/route-refresh.ts";
import { decodeUpdate } from "../src/wire/update.ts";
import { capabilityBytes, normalUpdate, reencodeUpdate } from "../testing/normal-form.ts";
import { readGoldens } from "./support/goldens.ts";

const goldens = readGoldens();
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("there are frames of every program, and of every type of message", () => {
  expect([...new Set(goldens.map(({ program }) => program))].toSorted()).toEqual(["BIRD", "FRR", "GoBGP"]);
  const types = new Set(goldens.flatMap(({ frames }) => frames.map(({ type }) => type)));
  expect([...types].toSorted()).toEqual(["keepalive", "notification", "open", "route-refresh", "update"]);
});

/** Bodies of one type of message, with where they come from. */
const of = (
  type: string,
): { readonly label: string; readonly hex: string; readonly context: AttributeContext; readonly body: Uint8Array }[] =>
  goldens.flatMap(({ label, context, frames }) =>
    frames
      .filter((frame) => frame.type === type)
      .map(({ bytes }) => ({ label, context, hex: hex(bytes.subarray(19)), body: bytes.subarray(19) })),
  );

test.each(goldens)("$label is framed as it should be", ({ frames }) => {
  const framer = new MessageFramer();
  const found = framer.push(Uint8Array.from(frames.flatMap(({ bytes }) => [...bytes])));
  expect(found.failure).toBeUndefined();
  expect(found.frames.map(({ type }) => type)).toEqual(frames.map(({ type }) => type));
});

test.each(of("open"))("OPEN of $label: $hex", ({ body }) => {
  const decoded = decodeOpen(body);
  assert(decoded.ok);
  expect(decoded.open.malformedCapabilities).toEqual([]);
  expect(hex(parameterValues(body))).toBe(hex(capabilityBytes(decoded.open)));
  const again = encodeOpenBody(decoded.open);
  expect(decodeOpen(again)).toEqual(decoded);
  expect(hex(again.subarray(0, 9))).toBe(hex(body.subarray(0, 9)));
});

test.each(of("update"))("UPDATE of $label: $hex", ({ body, context }) => {
  const decoded = decodeUpdate(body, context);
  assert(decoded.ok);
  expect(decoded.update.problems).toEqual([]);
  expect(reencodeUpdate(decoded.update, context).map(hex)).toEqual(normalUpdate(body).map(hex));
  const intake = { ...context, families: ROUTED_FAMILIES };
  const [fast, general] = [recorder(), recorder()];
  expect(takeUpdate(body, intake, new AttributeStore(), fast.sink)).toEqual({ problems: [] });
  expect(takeGenerally(body, intake, general.sink)).toEqual({ problems: [] });
  expect(fast.heard).toEqual(general.heard);
  expect(fast.heard).not.toEqual([]);
});

test.each(of("notification"))("NOTIFICATION of $label: $hex", ({ body }) => {
  const said = decodeNotification(body);
  assert(said !== undefined);
  expect(describeNotification(said)).toBe("OPEN Message Error: Bad Peer AS");
  expect(hex(encodeNotificationBody(said))).toBe(hex(body));
});

test.each(of("route-refresh"))("ROUTE-REFRESH of $label: $hex", ({ body }) => {
  const decoded = decodeRouteRefresh(body, true);
  assert(typeof decoded !== "string");
  expect(hex(encodeRouteRefresh(decoded))).toBe(hex(body));
});

/** Values of the Capabilities parameters, one after the other. */
function parameterValues(body: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (let at = 10; at < body.length; at += 2 + (body[at + 1] ?? 0)) {
    out.push(...body.subarray(at + 2, at + 2 + (body[at + 1] ?? 0)));
  }
  return Uint8Array.from(out);
}

function recorder(): { readonly sink: IntakeSink; readonly heard: unknown[] } {
  const heard: unknown[] = [];
  return {
    heard,
    sink: {
      begin: (family, set) => heard.push([family, set.attributes]),
      announce: (address, length, pathId) => heard.push([prefixOfKey({ address, length }), pathId]),
      withdraw: (family, { address, length, pathId }) => heard.push([family, prefixOfKey({ address, length }), pathId]),
      endOfRib: (family) => heard.push(["end of RIB", family]),
    },
  };
}
