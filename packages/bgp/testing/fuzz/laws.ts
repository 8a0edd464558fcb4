/**
 * What holds for every input of every decoder. Each law gets random numbers and the corpus, makes an input of its own, and throws `Broken` with the input when it does
 * not hold. Anything else that is thrown is a finding too: decoders answer with values.
 */
import { isDeepStrictEqual } from "node:util";
import { AttributeSet, AttributeStore } from "../../src/rib/attribute-set.ts";
import { type IntakeSink, takeGenerally, takeUpdate } from "../../src/rib/intake.ts";
import { decodeAttributes, encodeAttributes } from "../../src/wire/attributes/decode.ts";
import type { AttributeContext } from "../../src/wire/attributes/table.ts";
import { decodeCapabilities, encodeCapability } from "../../src/wire/capabilities.ts";
import { ROUTED_FAMILIES } from "../../src/wire/family.ts";
import { MessageFramer } from "../../src/wire/message.ts";
import { decodeNlri, encodeNlri, type NlriFormat } from "../../src/wire/nlri.ts";
import {
  decodeNotification,
  describeNotification,
  encodeNotificationBody,
  NOTIFICATION_NAMES,
  type Notification,
} from "../../src/wire/notification.ts";
import { decodeOpen, encodeOpenBody } from "../../src/wire/open.ts";
import { WireReader } from "../../src/wire/reader.ts";
import { decodeRouteRefresh, encodeRouteRefresh } from "../../src/wire/route-refresh.ts";
import { decodeUpdate } from "../../src/wire/update.ts";
import { WireWriter } from "../../src/wire/writer.ts";
import { reencodeUpdate } from "../normal-form.ts";
import { attributes, body, capabilities, CONTEXTS, type Corpus, nlri } from "./inputs.ts";
import { mutate, type Random } from "./random.ts";

/** A law that does not hold, and the input that shows it. */
export class Broken extends Error {
  readonly input: Uint8Array;
  constructor(input: Uint8Array, what: string) {
    super(what);
    this.input = input;
  }
}

export interface Law {
  readonly name: string;
  readonly about: string;
  /** Inputs of this law in a hundred. */
  readonly share: number;
  readonly make: (random: Random, corpus: Corpus) => Uint8Array;
  /** `choice`: 32 bits that decide everything else, so that an input can be tried again. Undefined: it holds. */
  readonly check: (input: Uint8Array, choice: number) => string | undefined;
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, at) => byte === b[at]);
const contextOf = (choice: number): AttributeContext =>
  CONTEXTS[choice % CONTEXTS.length] ?? { fourOctetAs: true, internal: false, addPath: new Set() };

/** A NOTIFICATION that may go out: its codes are in the registry, or its subcode is "unspecific". */
function checkNotification({ code, subcode, data }: Notification, codes: readonly number[]): string | undefined {
  if (!codes.includes(code)) return `NOTIFICATION ${code}/${subcode} where one of code ${codes.join(", ")} is due`;
  if (subcode !== 0 && NOTIFICATION_NAMES[code]?.subcodes[subcode] === undefined)
    return `NOTIFICATION ${code}/${subcode} is not in the registry`;
  return data.length > 4096 - 21 ? "the NOTIFICATION does not fit a message" : undefined;
}

export const LAWS: readonly Law[] = [
  {
    name: "framing",
    about: "messages come out whole or the stream ends with code 1, whatever the portions",
    share: 10,
    make: (random, corpus) => {
      const frames = Array.from({ length: 1 + random.below(4) }, () => random.pick(corpus.frames));
      const stream = Uint8Array.from(frames.flatMap((frame) => [...frame]));
      return random.once(4) ? stream : mutate(random, stream, corpus.frames);
    },
    check: (input, choice) => {
      const whole = new MessageFramer();
      const parts = new MessageFramer();
      if ((choice & 1) === 0) whole.maxMessage = parts.maxMessage = 65_535;
      const once = whole.push(input);
      const size = Math.max(1 + ((choice >>> 1) % (input.length + 1)), input.length >> 5);
      const frames = [];
      let failure: Notification | undefined;
      for (let at = 0; at < input.length; at += size) {
        const found = parts.push(input.slice(at, at + size));
        frames.push(...found.frames);
        failure = found.failure;
      }
      const equal =
        frames.length === once.frames.length &&
        frames.every((frame, at) => frame.type === once.frames[at]?.type && same(frame.body, once.frames[at].body)) &&
        failure?.subcode === once.failure?.subcode;
      if (!equal) return `portions of ${size} bytes change the outcome`;
      return failure === undefined ? undefined : checkNotification(failure, [1]);
    },
  },
  {
    name: "open",
    about: "understood and said again the same, or refused with code 2",
    share: 12,
    make: (random, corpus) => body(random, corpus, "open"),
    check: (input) => {
      const decoded = decodeOpen(input);
      if (!decoded.ok) return checkNotification(decoded.notify, [2]);
      const encoded = encodeOpenBody(decoded.open);
      const again = decodeOpen(encoded);
      if (!again.ok) return "said again, it is refused";
      if (!isDeepStrictEqual({ ...decoded.open, malformedCapabilities: [] }, again.open))
        return "said again, it means something else";
      return same(encodeOpenBody(again.open), encoded) ? undefined : "no fixed point";
    },
  },
  {
    name: "capabilities",
    about: "each is understood and said again the same, ignored as malformed, or carried",
    share: 8,
    make: (random) => capabilities(random),
    check: (input) => {
      const encode = (list: NonNullable<ReturnType<typeof decodeCapabilities>>["capabilities"]): Uint8Array => {
        const writer = new WireWriter();
        for (const one of list) encodeCapability(one, writer);
        return writer.finish();
      };
      const decoded = decodeCapabilities(input);
      if (decoded === undefined) return undefined;
      const encoded = encode(decoded.capabilities);
      const again = decodeCapabilities(encoded);
      if (again === undefined || again.malformed.length > 0) return "said again, it is malformed";
      return isDeepStrictEqual(again.capabilities, decoded.capabilities)
        ? undefined
        : "said again, it means something else";
    },
  },
  {
    name: "attributes",
    about: "understood or priced by RFC 7606; what is understood has a normal form",
    share: 18,
    make: (random) => attributes(random),
    check: (input, choice) => {
      const context = contextOf(choice);
      const { attributes: found, problems } = decodeAttributes(input, context);
      if (problems.some(({ code, reason }) => code < 0 || code > 255 || reason === ""))
        return "a problem without a name";
      const encoded = encodeAttributes(found, context);
      const again = decodeAttributes(encoded, context);
      if (again.problems.length > 0) return `said again, it is malformed: ${again.problems[0]?.reason}`;
      if ((choice >>> 8) % 8 === 0 && !isDeepStrictEqual(withoutPartial(again.attributes), withoutPartial(found)))
        return "said again, it means something else";
      return same(encodeAttributes(again.attributes, context), encoded) ? undefined : "no fixed point";
    },
  },
  {
    name: "nlri",
    about: "prefixes with and without path identifiers, host bits cleared",
    share: 12,
    make: (random) => nlri(random),
    check: (input, choice) => {
      const format: NlriFormat = {
        family: (choice & 1) === 0 ? "ipv4-unicast" : "ipv6-unicast",
        addPath: (choice & 2) === 0,
      };
      const decoded = decodeNlri(new WireReader(input), format);
      if (decoded === undefined) return undefined;
      const writer = new WireWriter();
      for (const one of decoded) encodeNlri(writer, one, format);
      const encoded = writer.finish();
      if (encoded.length !== input.length) return "said again, it has another length";
      return isDeepStrictEqual(decodeNlri(new WireReader(encoded), format), decoded)
        ? undefined
        : "said again, it means something else";
    },
  },
  {
    name: "update",
    about: "understood, withdrawn or refused with code 3; has a normal form; the fast and the general way agree",
    share: 28,
    make: (random, corpus) => body(random, corpus, "update"),
    check: checkUpdate,
  },
  {
    name: "notification",
    about: "comes back as it was and can be read out",
    share: 6,
    make: (random, corpus) => body(random, corpus, "notification"),
    check: (input) => {
      const decoded = decodeNotification(input);
      if (decoded === undefined) return input.length < 2 ? undefined : "not understood";
      const text = describeNotification(decoded);
      // oxlint-disable-next-line no-control-regex -- that is what it looks for
      if (text === "" || /[\u0000-\u001f\u007f]/.test(text) || text.length > 600)
        return `not fit for a log: ${JSON.stringify(text)}`;
      return same(encodeNotificationBody(decoded), input) ? undefined : "comes back otherwise";
    },
  },
  {
    name: "route-refresh",
    about: "comes back as it was, is ignored, or has the wrong length",
    share: 6,
    make: (random, corpus) => body(random, corpus, "refresh"),
    check: (input, choice) => {
      const enhanced = (choice & 1) === 0;
      const decoded = decodeRouteRefresh(input, enhanced);
      if (decoded === "bad-length") return input.length === 4 ? "four bytes are the right length" : undefined;
      if (decoded === "ignore") return enhanced ? undefined : "ignored without subtypes";
      return same(encodeRouteRefresh(decoded), input) || !enhanced ? undefined : "comes back otherwise";
    },
  },
];

/** Partial is set on what we pass on without knowing it. */
function withoutPartial(found: ReturnType<typeof decodeAttributes>["attributes"]): unknown {
  return { ...found, unknown: found.unknown?.map((one) => ({ ...one, partial: true })) };
}

function checkUpdate(input: Uint8Array, choice: number): string | undefined {
  const context = contextOf(choice);
  const decoded = decodeUpdate(input, context);
  const [fast, general] = [heardBy(takeUpdate, input, context), heardBy(takeGenerally, input, context)];
  if (!isDeepStrictEqual(fast, general)) return "the fast and the general way differ";
  if (!decoded.ok) return checkNotification(decoded.notify, [3]);
  const { withdrawn, reachable } = decoded.update;
  const routes = [...withdrawn, ...reachable].reduce((sum, { nlri: list }) => sum + list.length, 0);
  if (routes > input.length) return `${routes} routes out of ${input.length} bytes`;
  const encoded = reencodeUpdate(decoded.update, context);
  for (const one of encoded) {
    const again = decodeUpdate(one, context);
    if (!again.ok) return `said again, it is refused: ${again.reason}`;
    if (again.update.problems.length > 0) return `said again, it is malformed: ${again.update.problems[0]?.reason}`;
    const twice = reencodeUpdate(again.update, context);
    if (twice.length !== 1 || twice[0] === undefined || !same(twice[0], one)) return "no fixed point";
  }
  return undefined;
}

type Take = (
  body: Uint8Array,
  context: AttributeContext & { readonly families: typeof ROUTED_FAMILIES },
  sink: IntakeSink,
) => unknown;

/** What the tables would be told; attributes as they are when the UPDATE is over, of shared blocks decoded again. */
function heardBy(take: typeof takeUpdate | Take, input: Uint8Array, context: AttributeContext): unknown {
  const heard: unknown[] = [];
  const sink: IntakeSink = {
    begin: (family, set) => {
      set.retain();
      heard.push(family, set);
    },
    announce: (address, length, pathId) => heard.push(address, length, pathId),
    withdraw: (family, { address, length, pathId }) => heard.push("-", family, address, length, pathId),
    endOfRib: (family) => heard.push("end", family),
  };
  const intake = { ...context, families: ROUTED_FAMILIES };
  const result =
    take === takeUpdate ? takeUpdate(input, intake, new AttributeStore(), sink) : takeGenerally(input, intake, sink);
  return [heard.map((one) => (one instanceof AttributeSet ? one.attributes : one)), result];
}
