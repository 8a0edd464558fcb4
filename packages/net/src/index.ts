export type { Family, IpAddress } from "./address.ts";
export {
  addressBits,
  addressBytes,
  addressFromBytes,
  compareAddresses,
  formatAddress,
  isLinkLocal,
  parseAddress,
  sameAddress,
  tryParseAddress,
} from "./address.ts";
export { formatMac, parseMac } from "./mac.ts";
export type { PortRange } from "./port-range.ts";
export { mergePortRanges, singlePort } from "./port-range.ts";
export type { HostBits, Prefix } from "./prefix.ts";
export {
  addressAt,
  comparePrefixes,
  containsAddress,
  containsPrefix,
  formatPrefix,
  hostPrefix,
  lastAddress,
  overlaps,
  parsePrefix,
  prefixAddress,
  prefixOf,
  prefixSize,
  samePrefix,
  tryParsePrefix,
} from "./prefix.ts";
export type { AddressRange } from "./prefix-set.ts";
export { coversPrefixes, intersectPrefixes, mergePrefixes, prefixesOfRange, subtractPrefixes } from "./prefix-set.ts";
export type { PrefixEntry } from "./prefix-trie.ts";
export { PrefixTrie } from "./prefix-trie.ts";
export type { ProtocolName } from "./protocol.ts";
export { hasPorts, PROTOCOL_NUMBERS, protocolName, protocolNumber } from "./protocol.ts";
