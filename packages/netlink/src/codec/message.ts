/** Message-level constants and answers of netlink (linux/netlink.h): acknowledgement, error, extended acknowledgement. */
import { LITTLE_ENDIAN_HOST } from "./byte-order.ts";
import type { MessageView } from "./reader.ts";
import { need, readAttributes, viewOf } from "./reader.ts";
import { textFrom } from "./text.ts";

export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F = {
  REQUEST: 0x1,
  MULTI: 0x2,
  ACK: 0x4,
  DUMP_INTR: 0x10,
  /** For GET. */
  DUMP: 0x300,
  /** For NEW. */
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  /** On NLMSG_ERROR: the request is not repeated inside, TLVs follow. */
  CAPPED: 0x100,
  ACK_TLVS: 0x200,
} as const;

export const NETLINK_FAMILY = { ROUTE: 0, NETFILTER: 12, GENERIC: 16 } as const;

/** The kernel's answer to one request: `errno` 0 means done. */
export interface Answer {
  readonly sequence: number;
  readonly errno: number;
  /** The extended acknowledgement's text and the place in the request it speaks of. */
  readonly extack?: string;
  readonly offset?: number;
}

const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

/** Reads NLMSG_ERROR, or the error inside NLMSG_DONE. @throws CalicoError BAD_INPUT */
export function readAnswer(message: MessageView): Answer {
  const { body } = message;
  if (message.type === NLMSG_DONE) {
    const errno = body.length >= 4 ? -viewOf(body).getInt32(0, LITTLE_ENDIAN_HOST) : 0;
    return withExtack({ sequence: message.sequence, errno: errno === 0 ? 0 : errno }, message, body.subarray(4));
  }
  const view = viewOf(need(body, 20));
  const errno = -view.getInt32(0, LITTLE_ENDIAN_HOST);
  const requestLength = view.getUint32(4, LITTLE_ENDIAN_HOST);
  // After the error code comes the request: its header alone when the kernel capped it, else all of it.
  const skip = (message.flags & NLM_F.CAPPED) !== 0 || requestLength < 16 ? 20 : 4 + ((requestLength + 3) & ~3);
  return withExtack(
    { sequence: view.getUint32(12, LITTLE_ENDIAN_HOST), errno: errno === 0 ? 0 : errno },
    message,
    body.subarray(skip),
  );
}

function withExtack(answer: Answer, message: MessageView, rest: Uint8Array): Answer {
  if ((message.flags & NLM_F.ACK_TLVS) === 0) return answer;
  let extended = answer;
  for (const { type, data } of readAttributes(rest)) {
    if (type === NLMSGERR_ATTR_MSG) extended = { ...extended, extack: textFrom(data) };
    else if (type === NLMSGERR_ATTR_OFFS && data.length >= 4) {
      extended = { ...extended, offset: viewOf(data).getUint32(0, LITTLE_ENDIAN_HOST) };
    }
  }
  return extended;
}
