/** Ids a network namespace has for others (linux/net_namespace.h): a veth's `linkNamespace` is one. */
import { type AttributeTable, optional, readTable, s32, u32, writeTable } from "../codec/attributes.ts";
import { type MessageView, need } from "../codec/reader.ts";
import { RTM, type RouteRequest } from "./request.ts";

interface WireNamespace {
  readonly id?: number;
  readonly fd?: number;
}
const namespaceTable: AttributeTable<WireNamespace> = { id: optional(1, s32), fd: optional(3, u32) };

/** `fd`: an open descriptor of the other namespace. */
export const getNamespaceId = (fd: number): RouteRequest => ({
  type: RTM.GETNSID,
  flags: 0,
  operation: "ask for the id of a network namespace",
  body(out) {
    out.u32(0); // struct rtgenmsg and its padding
    writeTable<WireNamespace>(out, namespaceTable, { fd });
  },
});

/** Undefined for other messages and when it has no id: no link leads there. @throws CalicoError BAD_INPUT */
export function readNamespaceId(message: MessageView): number | undefined {
  if (message.type !== RTM.NEWNSID) return undefined;
  const { id } = readTable(namespaceTable, need(message.body, 4).subarray(4));
  return id === undefined || id < 0 ? undefined : id;
}
