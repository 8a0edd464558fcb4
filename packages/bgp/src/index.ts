export type { PeerEvent, RouteAction, RoutePath, SpeakerAction } from "./actions.ts";
export type { PeerConfig, PeerTimers, PrefixLimit, SpeakerConfig } from "./config.ts";
export { DEFAULT_TIMERS } from "./config.ts";
export type { ConnectionSide } from "./fsm/collision.ts";
export type { Negotiated } from "./fsm/negotiate.ts";
export type { SessionEnd, SessionState } from "./fsm/session.ts";
export type { PeerStateName, PeerStatus } from "./inspect/peers.ts";
export { showPeers } from "./inspect/peers.ts";
export type { RouteView, UsableRoute } from "./inspect/routes.ts";
export { showAdvertisedRoutes, showBestRoutes, showReceivedRoutes, showUsableRoutes } from "./inspect/routes.ts";
export type {
  AttributesReport,
  DaemonReport,
  ExplanationReport,
  PeerReport,
  ReadinessReport,
  RouteReport,
  StatusCommand,
  StatusReply,
  StatusRequest,
  StatusResults,
} from "./inspect/status.ts";
export { attributesReport, explanationReport, formatRouterId, routeReport } from "./inspect/status.ts";
export type { FilterClause } from "./inspect/filter-clauses.ts";
export type { Explanation, RouteName } from "./inspect/why-best.ts";
export { explainAddress, explainPrefix } from "./inspect/why-best.ts";
export type { PeerCounters } from "./peer/peer.ts";
export type { Filter, FilterMatch, FilterOperation, FilterRule } from "./policy/filter.ts";
export { matchesName } from "./policy/name-pattern.ts";
export type { PrefixMatch } from "./policy/prefix-match.ts";
export type { OwnRouteFacts } from "./rib/attribute-set.ts";
export { isNobodys } from "./rib/import-policy.ts";
export type { InterfaceResolver, NextHopResolver } from "./rib/next-hop.ts";
export type { AddressKey, PrefixKey } from "./rib/prefix-map.ts";
export { addressKey, prefixKey, PrefixMap, prefixOfKey } from "./rib/prefix-map.ts";
export type { ConnectionOf } from "./speaker.ts";
export { BgpSpeaker } from "./speaker.ts";
export type { AttributeProblem } from "./wire/attributes/decode.ts";
export type { AttributeContext, Recovery } from "./wire/attributes/table.ts";
export type { AsPath, AsPathSegment } from "./wire/attributes/as-path.ts";
export { formatAsPath } from "./wire/attributes/as-path.ts";
export type { LargeCommunity, Origin, PathAttributes } from "./wire/attributes/values.ts";
export { formatCommunity, formatLargeCommunity, WELL_KNOWN_COMMUNITIES } from "./wire/attributes/values.ts";
export type { Capability, Role } from "./wire/capabilities.ts";
export type { AddressFamily, RoutedFamily } from "./wire/family.ts";
export type { Frame, MessageType } from "./wire/message.ts";
export { encodeMessage, MessageFramer } from "./wire/message.ts";
export type { Nlri } from "./wire/nlri.ts";
export type { Notification } from "./wire/notification.ts";
export {
  decodeNotification,
  describeNotification,
  encodeNotificationBody,
  NOTIFY,
  notification,
} from "./wire/notification.ts";
export type { OpenDecoding, OpenMessage } from "./wire/open.ts";
export { decodeOpen, encodeOpenBody } from "./wire/open.ts";
export type { RefreshKind, RouteRefresh } from "./wire/route-refresh.ts";
export { decodeRouteRefresh, encodeRouteRefresh } from "./wire/route-refresh.ts";
export type { FamilyRoutes, UpdateDecoding, UpdateLimits, UpdateMessage } from "./wire/update.ts";
export { decodeUpdate, encodeAnnouncements, encodeEndOfRib, encodeWithdrawals } from "./wire/update.ts";
