export type { AttributeTable, Codec } from "./codec/attributes.ts";
export type { Answer } from "./codec/message.ts";
export { NETLINK_FAMILY, NLM_F, NLMSG_DONE, NLMSG_ERROR, readAnswer } from "./codec/message.ts";
export type { AttributeView, MessageView } from "./codec/reader.ts";
export { readAttributes, readMessages } from "./codec/reader.ts";
export { MessageWriter } from "./codec/writer.ts";
export type { ConntrackEnd, ConntrackEntry, ConntrackTuple } from "./conntrack.ts";
export {
  encodeConntrackDelete,
  encodeConntrackDump,
  encodeConntrackFlush,
  encodeConntrackForget,
  readConntrack,
} from "./conntrack.ts";
export type { NftBatch, NftBatchBuilder } from "./nftables/batch.ts";
export { batchSize, describeCommand, encodeBatch, startBatch } from "./nftables/batch.ts";
export type { CtState, CtStatus, MatchOptions } from "./nftables/build.ts";
export {
  accept,
  CT_STATE_BITS,
  CT_STATUS_BITS,
  connectionCount,
  counter,
  dnat,
  drop,
  goto,
  jump,
  limit,
  loadFields,
  log,
  lookup,
  masquerade,
  matchAddressType,
  matchCtState,
  matchCtStatus,
  matchDestinationAddress,
  matchDestinationPort,
  matchFamily,
  matchField,
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
  randomVerdict,
  reject,
  restoreMark,
  returnVerdict,
  rule,
  saveMark,
  setDscp,
  setMark,
  snat,
  verdictMap,
} from "./nftables/build.ts";
export {
  addressElement,
  addressKey,
  addressType,
  compareBytes,
  concatKey,
  DATA_TYPE_LENGTH,
  hostUint32,
  interfaceKey,
  keyLength,
  portKey,
  portRangeElement,
  prefixElement,
  protocolKey,
  sameBytes,
  verdictElement,
} from "./nftables/bytes.ts";
export type { NftDumpRequest, NftObject } from "./nftables/dump.ts";
export { encodeNftDump, encodeNftGetGeneration, nftMessageTable, readNftMessage } from "./nftables/dump.ts";
export type { WireElement } from "./nftables/elements.ts";
export { elementsFromWire } from "./nftables/elements.ts";
export type { NftField, NftFieldInfo } from "./nftables/fields.ts";
export { FIELDS } from "./nftables/fields.ts";
export { normalizeExpr, normalizeRule, sameRule } from "./nftables/normalize.ts";
export { canonicalRegister, registerAt } from "./nftables/registers.ts";
export {
  renderChain,
  renderCommand,
  renderElement,
  renderRule,
  renderSet,
  verdictText,
} from "./nftables/render.ts";
export type { NflogPacket } from "./nflog.ts";
export { encodeNflogBind, readNflogPacket } from "./nflog.ts";
export type { NftTrace, TracedHeaders, TraceVerdict } from "./nftables/trace.ts";
export { readNftTrace } from "./nftables/trace.ts";
export { MAX_COMMENT_BYTES } from "./nftables/userdata.ts";
export type {
  NftBaseChain,
  NftChain,
  NftCommand,
  NftCtKey,
  NftDataType,
  NftElement,
  NftExpr,
  NftFamily,
  NftHook,
  NftMetaKey,
  NftRegister,
  NftRule,
  NftSet,
  NftTable,
  NftVerdict,
} from "./nftables/values.ts";
export { deleteLinkAddress, dumpLinkAddresses, readLinkAddress, writeLinkAddress } from "./route/address.ts";
export { changeLink, createLink, deleteLink, dumpLinks, getLink, readLink } from "./route/link.ts";
export type { NeighbourDump } from "./route/neighbour.ts";
export { deleteNeighbour, dumpNeighbours, readNeighbour, writeNeighbour } from "./route/neighbour.ts";
export type { RouteRequest, WriteMode } from "./route/request.ts";
export { encodeRequest, RTM, writeRequest } from "./route/request.ts";
export { getNamespaceId, readNamespaceId } from "./route/namespace-id.ts";
export type { RouteDumpFilter, RouteQuery } from "./route/route.ts";
export { deleteRoute, dumpRoutes, lookupRoute, readFoundRoute, readRoute, writeRoute } from "./route/route.ts";
export type { RouteTerms, RouteWrite } from "./route/route-batch.ts";
export { encodeRouteWrites, routeWriteRequest } from "./route/route-batch.ts";
export { addRoutingRule, deleteRoutingRule, dumpRoutingRules, readRoutingRule } from "./route/rule.ts";
export type { QdiscPlace } from "./route/traffic-control.ts";
export {
  addIngress,
  deleteQdisc,
  dumpIngressFilters,
  dumpQdiscs,
  readQdisc,
  readRedirect,
  redirectIngress,
  setTokenBucket,
} from "./route/traffic-control.ts";
export type {
  BridgeOptions,
  BridgePort,
  FdbEntry,
  IpipOptions,
  Link,
  LinkAddress,
  LinkAddressSpec,
  LinkChange,
  LinkInfo,
  LinkSpec,
  Neighbour,
  NeighbourEntry,
  NeighbourSpec,
  NextHop,
  Qdisc,
  Route,
  RouteSpec,
  RouteType,
  RoutingRule,
  RuleAction,
  TokenBucket,
  TunInfo,
  VethPeerSpec,
  VxlanOptions,
} from "./route/values.ts";
