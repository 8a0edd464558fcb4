/** Policy routing rules ↔ RTM_*RULE messages (linux/fib_rules.h). */
import { type Family, type IpAddress, type Prefix, prefixAddress, prefixOf } from "@calico-ts/net";
import {
  type AttributeTable,
  address,
  optional,
  readTable,
  s32,
  text,
  u8,
  u32,
  writeTable,
} from "../codec/attributes.ts";
import { LITTLE_ENDIAN_HOST } from "../codec/byte-order.ts";
import { NLM_F } from "../codec/message.ts";
import { type MessageView, need, viewOf } from "../codec/reader.ts";
import { familyNumber, familyOf, RTM, type RouteRequest } from "./request.ts";
import type { RoutingRule, RuleAction } from "./values.ts";

/** FR_ACT_* */
const ACTIONS: Readonly<Record<RuleAction, number>> = {
  lookup: 1,
  goto: 2,
  nop: 3,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};
const FIB_RULE_INVERT = 2;
const FULL_MASK = 0xffff_ffff;
const RT_TABLE_COMPAT = 252;

interface WireRule {
  readonly destination?: IpAddress;
  readonly source?: IpAddress;
  readonly iif?: string;
  readonly goto?: number;
  readonly priority?: number;
  readonly mark?: number;
  readonly suppressPrefixLength?: number;
  readonly table?: number;
  readonly mask?: number;
  readonly oif?: string;
  readonly protocol?: number;
  readonly ipProtocol?: number;
}
const ruleTable: AttributeTable<WireRule> = {
  destination: optional(1, address),
  source: optional(2, address),
  iif: optional(3, text),
  goto: optional(4, u32),
  priority: optional(6, u32),
  mark: optional(10, u32),
  // −1 stands for "off".
  suppressPrefixLength: optional(14, {
    write: s32.write,
    read: (data) => ((s32.read(data) ?? -1) < 0 ? undefined : s32.read(data)),
  }),
  table: optional(15, u32),
  mask: optional(16, u32),
  oif: optional(17, text),
  // Zero: nobody said.
  protocol: optional(21, { write: u8.write, read: (data) => u8.read(data) || undefined }),
  ipProtocol: optional(22, u8),
};

/** Undefined for what is no IP rule message or has an unknown action. @throws CalicoError BAD_INPUT */
export function readRoutingRule(message: MessageView): RoutingRule | undefined {
  if (message.type !== RTM.NEWRULE && message.type !== RTM.DELRULE) return undefined;
  const view = viewOf(need(message.body, 12));
  const family = familyOf(view.getUint8(0));
  const action = Object.entries(ACTIONS).find(([, number]) => number === view.getUint8(7))?.[0];
  if (family === undefined || action === undefined) return undefined;
  const { destination, source, mark, mask, table, priority, ...wire } = readTable(ruleTable, message.body.subarray(12));
  const prefixFrom = (from: IpAddress | undefined, length: number): Prefix | undefined =>
    from === undefined && length === 0 ? undefined : prefixOf(from ?? { family, value: 0n }, length);
  const to = prefixFrom(destination, view.getUint8(1));
  const from = prefixFrom(source, view.getUint8(2));
  const marked = (mark ?? 0) !== 0 || (mask ?? 0) !== 0;
  return {
    family,
    priority: priority ?? 0,
    action: action as RuleAction,
    ...(action === "lookup" ? { table: table ?? view.getUint8(4) } : {}),
    ...wire,
    ...(from === undefined ? {} : { source: from }),
    ...(to === undefined ? {} : { destination: to }),
    ...(marked ? { mark: mark ?? 0, mask: mask ?? FULL_MASK } : {}),
    ...((view.getUint32(8, LITTLE_ENDIAN_HOST) & FIB_RULE_INVERT) === 0 ? {} : { invert: true }),
  };
}

function request(rule: RoutingRule, how: Pick<RouteRequest, "type" | "flags" | "operation">): RouteRequest {
  return {
    ...how,
    body(out) {
      const { source, destination, mark, table, iif, oif, suppressPrefixLength, protocol, ipProtocol } = rule;
      out.u8(familyNumber(rule.family));
      out.u8(destination?.length ?? 0);
      out.u8(source?.length ?? 0);
      out.u8(0);
      out.u8(table === undefined ? 0 : table < 256 ? table : RT_TABLE_COMPAT);
      out.u16(0);
      out.u8(ACTIONS[rule.action]);
      out.u32(rule.invert === true ? FIB_RULE_INVERT : 0);
      writeTable<WireRule>(out, ruleTable, {
        ...(destination === undefined ? {} : { destination: prefixAddress(destination) }),
        ...(source === undefined ? {} : { source: prefixAddress(source) }),
        ...(iif === undefined ? {} : { iif }),
        ...(oif === undefined ? {} : { oif }),
        ...(rule.goto === undefined ? {} : { goto: rule.goto }),
        priority: rule.priority,
        ...(mark === undefined ? {} : { mark, mask: rule.mask ?? FULL_MASK }),
        ...(suppressPrefixLength === undefined ? {} : { suppressPrefixLength }),
        ...(table === undefined ? {} : { table }),
        ...(protocol === undefined ? {} : { protocol }),
        ...(ipProtocol === undefined ? {} : { ipProtocol }),
      });
    },
  };
}

const describe = (rule: RoutingRule): string => `IPv${rule.family} rule ${rule.priority} (${rule.action})`;

/** The kernel knows no replacement of rules: adding an equal one fails with EEXIST. */
export const addRoutingRule = (rule: RoutingRule): RouteRequest =>
  request(rule, {
    type: RTM.NEWRULE,
    flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL,
    operation: `add ${describe(rule)}`,
  });

export const deleteRoutingRule = (rule: RoutingRule): RouteRequest =>
  request(rule, { type: RTM.DELRULE, flags: NLM_F.ACK, operation: `delete ${describe(rule)}` });

export const dumpRoutingRules = (family: Family): RouteRequest => ({
  type: RTM.GETRULE,
  flags: NLM_F.DUMP,
  operation: `list IPv${family} rules`,
  body(out) {
    // Strict checking: all but the family must be zero.
    out.u8(familyNumber(family));
    out.u8(0);
    out.u16(0);
    out.u32(0);
    out.u32(0);
  },
});
