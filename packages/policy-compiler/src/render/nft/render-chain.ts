/** Neutral chains, rules and sets as nf_tables values (`@calico-ts/netlink`). One function per kind of value. */
import type { Prefix } from "@calico-ts/net";
import { addressBytes, prefixAddress } from "@calico-ts/net";
import type { NftBaseChain, NftChain, NftDataType, NftExpr, NftField, NftRule, NftSet } from "@calico-ts/netlink";
import {
  accept,
  connectionCount,
  counter,
  drop,
  goto,
  hostUint32,
  jump,
  limit,
  log,
  lookup,
  matchAddressType,
  matchCtState,
  matchCtStatus,
  matchDestinationAddress,
  matchDestinationPort,
  matchFamily,
  matchIcmp,
  matchIifname,
  matchMark,
  matchOifname,
  matchProtocol,
  matchRoutedBack,
  matchSourceAddress,
  matchSourcePort,
  natByMap,
  notrack,
  portKey,
  reject,
  returnVerdict,
  rule,
  setDscp,
  setMark,
  verdictMap,
} from "@calico-ts/netlink";
import { unreachable } from "@calico-ts/std";
import type {
  Action,
  Attachment,
  Chain,
  ChainRule,
  KeyField,
  KeyType,
  Match,
  SetDeclaration,
} from "../../ruleset/values.ts";
import { keyType } from "../../ruleset/values.ts";

export interface RenderedChain {
  readonly chain: NftChain;
  readonly rules: readonly NftRule[];
}

/**
 * Where neutral attachments sit among the hooks. Ours come after the priorities kube-proxy and conntrack use: NAT to a
 * service has happened when policy looks at a packet, and our masquerading runs after kube-proxy's.
 */
export const HOOKS: Readonly<Record<Attachment, NftBaseChain>> = {
  "raw-prerouting": { type: "filter", hook: "prerouting", priority: -300, policy: "accept" },
  "raw-prerouting-host": { type: "filter", hook: "prerouting", priority: -299, policy: "accept" },
  "raw-output": { type: "filter", hook: "output", priority: -300, policy: "accept" },
  "mangle-prerouting": { type: "filter", hook: "prerouting", priority: -150, policy: "accept" },
  "nat-prerouting": { type: "nat", hook: "prerouting", priority: -110, policy: "accept" },
  "nat-output": { type: "nat", hook: "output", priority: -110, policy: "accept" },
  "input-limits": { type: "filter", hook: "input", priority: -1, policy: "accept" },
  "input-from-workload": { type: "filter", hook: "input", priority: 0, policy: "accept" },
  "input-to-host": { type: "filter", hook: "input", priority: 1, policy: "accept" },
  "input-host-endpoint": { type: "filter", hook: "input", priority: 2, policy: "accept" },
  "forward-from-host": { type: "filter", hook: "forward", priority: -3, policy: "accept" },
  "forward-limits-from-workload": { type: "filter", hook: "forward", priority: -2, policy: "accept" },
  "forward-from-workload": { type: "filter", hook: "forward", priority: -1, policy: "accept" },
  "forward-limits-to-workload": { type: "filter", hook: "forward", priority: 0, policy: "accept" },
  "forward-to-workload": { type: "filter", hook: "forward", priority: 1, policy: "accept" },
  "forward-to-host": { type: "filter", hook: "forward", priority: 2, policy: "accept" },
  "forward-last": { type: "filter", hook: "forward", priority: 3, policy: "accept" },
  "output-host-endpoint": { type: "filter", hook: "output", priority: 0, policy: "accept" },
  "dscp-postrouting": { type: "filter", hook: "postrouting", priority: -151, policy: "accept" },
  "mangle-postrouting": { type: "filter", hook: "postrouting", priority: -150, policy: "accept" },
  "nat-postrouting-first": { type: "nat", hook: "postrouting", priority: 105, policy: "accept" },
  "nat-postrouting": { type: "nat", hook: "postrouting", priority: 110, policy: "accept" },
};

export function renderChain(chain: Chain): RenderedChain {
  const base = chain.attach === undefined ? undefined : HOOKS[chain.attach];
  return {
    chain: base === undefined ? { name: chain.name } : { name: chain.name, base },
    rules: chain.rules.map(renderRule),
  };
}

export function renderRule({ matches, actions, comment }: ChainRule): NftRule {
  const exprs: NftExpr[] = [];
  for (const match of matches) exprs.push(...renderMatch(match));
  for (const action of actions) exprs.push(...renderAction(action));
  return rule(exprs, comment);
}

export function renderSet(declaration: SetDeclaration): NftSet {
  return {
    name: declaration.name,
    keyTypes: declaration.key.map((type) => KEY_TYPES[type]),
    ...(declaration.ranges ? { interval: true } : {}),
    ...(declaration.chains === true ? { mapTo: "verdict" as const } : {}),
    ...(declaration.addresses === undefined ? {} : { mapTo: KEY_TYPES[keyType(declaration.addresses)] }),
  };
}

export const KEY_TYPES: Readonly<Record<KeyType, NftDataType>> = {
  ipv4: "ipv4_addr",
  ipv6: "ipv6_addr",
  protocol: "inet_proto",
  port: "inet_service",
  interface: "ifname",
  "interface-group": "devgroup",
};

function renderMatch(match: Match): NftExpr[] {
  const not = "not" in match && match.not ? { not: true } : {};
  switch (match.kind) {
    case "family":
      return matchFamily(match.family);
    case "protocol":
      return matchProtocol(match.protocol, not);
    case "icmp":
      return matchIcmp(match, not);
    case "prefix":
      return match.side === "source"
        ? matchSourceAddress(match.prefix, not)
        : matchDestinationAddress(match.prefix, not);
    case "port":
      return match.side === "source" ? matchSourcePort(match.range, not) : matchDestinationPort(match.range, not);
    case "lookup":
      return lookup(match.set, match.fields.map(nftField), not);
    case "interface":
      return match.direction === "in" ? matchIifname(match.name, not) : matchOifname(match.name, not);
    case "conntrack":
      return matchCtState(match.states);
    case "destination-rewritten":
      return matchCtStatus(["dnat"], not);
    case "mark":
      return matchMark(match.value, match.mask, not);
    case "local-address":
      return renderLocalAddress(match);
    case "routed-back":
      return matchRoutedBack();
    case "over-packet-rate":
      return limit({ rate: match.perSecond, burst: match.burst, over: true });
    case "over-connections":
      return connectionCount(match.count);
    default:
      return unreachable(match);
  }
}

const RTN_LOCAL = 2; // linux/rtnetlink.h

function renderLocalAddress(match: Match & { kind: "local-address" }): NftExpr[] {
  const side = match.side === "source" ? "saddr" : "daddr";
  const not = match.not === true;
  if (match.onInterface === undefined) return matchAddressType(side, "local", not ? { not } : {});
  return [
    { kind: "fib", result: "type", flags: [side, "oif"], dreg: 1 },
    { kind: "cmp", op: not ? "neq" : "eq", sreg: 1, data: hostUint32(RTN_LOCAL) },
  ];
}

function nftField(field: KeyField): NftField {
  switch (field.kind) {
    case "address":
      return `${field.family === 4 ? "ip" : "ip6"} ${field.side === "source" ? "saddr" : "daddr"}`;
    case "protocol":
      return "l4proto";
    case "port":
      return field.side === "source" ? "th sport" : "th dport";
    case "interface":
      return field.direction === "in" ? "iifname" : "oifname";
    case "interface-group":
      return field.direction === "in" ? "iifgroup" : "oifgroup";
    default:
      return unreachable(field);
  }
}

const LOG_INFO = 6; // linux/kern_levels.h; what upstream's nftables rules say
/** As upstream: headers, no content. */
const FLOW_LOG_BYTES = 80;

function renderAction(action: Action): NftExpr[] {
  switch (action.kind) {
    case "accept":
      return accept();
    case "drop":
      return drop();
    case "reject":
      return reject();
    case "tcp-reset":
      return reject("tcp-reset");
    case "return":
      return returnVerdict();
    case "no-track":
      return notrack();
    case "count":
      return counter();
    case "jump":
      return jump(action.chain);
    case "goto":
      return goto(action.chain);
    case "dispatch":
      return verdictMap(action.map, action.fields.map(nftField));
    case "set-mark":
      return setMark(action.value, action.mask);
    case "log":
      return [
        ...(action.rate === undefined ? [] : limit(limitOptions(action.rate))),
        ...log({ prefix: action.prefix, level: LOG_INFO }),
      ];
    case "flow-log":
      return log({ prefix: action.prefix, group: action.group, snaplen: FLOW_LOG_BYTES });
    case "masquerade":
      return renderMasquerade(action);
    case "source-nat":
      return renderSourceNat(action.address, action);
    case "translate":
      return natByMap(action.side === "source" ? "snat" : "dnat", action.family, {
        map: action.map,
        fields: action.fields.map(nftField),
      });
    case "set-dscp":
      return setDscp(action.family, action.value);
    default:
      return unreachable(action);
  }
}

const limitOptions = (rate: {
  readonly packets: number;
  readonly perSeconds: number;
  readonly burst: number;
}): { rate: number; perSeconds: number; burst: number } => ({
  rate: rate.packets,
  perSeconds: rate.perSeconds,
  burst: rate.burst,
});

interface Ports {
  readonly ports?: { readonly first: number; readonly last: number };
}

const NF_NAT_RANGE_PROTO_SPECIFIED = 1 << 1;

function renderMasquerade({ ports }: Ports): NftExpr[] {
  if (ports === undefined) return [{ kind: "masquerade" }];
  return [
    { kind: "immediate", dreg: 1, data: portKey(ports.first) },
    { kind: "immediate", dreg: 2, data: portKey(ports.last) },
    { kind: "masquerade", portMin: 1, portMax: 2, flags: NF_NAT_RANGE_PROTO_SPECIFIED },
  ];
}

function renderSourceNat(address: Prefix, { ports }: Ports): NftExpr[] {
  const family = address.family === 4 ? "ip" : "ip6";
  const load: NftExpr = { kind: "immediate", dreg: 1, data: addressBytes(prefixAddress(address)) };
  if (ports === undefined) return [load, { kind: "nat", type: "snat", family, addressMin: 1 }];
  return [
    load,
    { kind: "immediate", dreg: 2, data: portKey(ports.first) },
    { kind: "immediate", dreg: 3, data: portKey(ports.last) },
    { kind: "nat", type: "snat", family, addressMin: 1, portMin: 2, portMax: 3 },
  ];
}
