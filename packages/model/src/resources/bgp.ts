/** BGP: the cluster's settings, peers and route filters. */
import { Type } from "typebox";
import type { TSchema } from "typebox";
import { ATOMIC_MAP, bool, cel, checks, integer, list, object, opt, set, text, word } from "../schema/builders.ts";
import { empty, filled, notBoth } from "../schema/cel-terms.ts";
import type { CalicoResource } from "../schema/declare.ts";
import { calicoKind, column } from "../schema/declare.ts";
import { secretKeyRefSchema } from "../schema/meta.ts";

export const MAX_ROUTE_PRIORITY = 2_147_483_646;

/**
 * AS numbers have 32 bits without a sign (RFC 6793). Upstream's schema says int32, which an API server takes to mean at most
 * 2147483647 and so refuses half of them, all 32-bit private ones included; ours takes them all.
 */
const AS_NUMBER = { format: "int64", minimum: 0, maximum: 4_294_967_295 } as const;
const asNumber = (description: string) => opt(integer({ ...AS_NUMBER, description }));
const routePriority = (family: string) =>
  opt(
    integer({
      minimum: 1,
      maximum: MAX_ROUTE_PRIORITY,
      description: `Kernel metric of ${family} routes to pods; the same as in FelixConfiguration. Default: 1024.`,
    }),
  );
const serviceBlocks = (what: string) =>
  opt(
    list(object({ cidr: opt(text({ format: "cidr" })) }, ATOMIC_MAP), {
      description: `Prefixes of ${what} to announce.`,
    }),
  );

const needsMesh = (field: string) =>
  cel(
    `!has(self.${field}) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled`,
    `${field} needs the node-to-node mesh: leave it out or set nodeToNodeMeshEnabled`,
    "FieldValueForbidden",
  );

const configurationSpec = object(
  {
    asNumber: asNumber("AS number of nodes that have none of their own. Default: 64512."),
    nodeToNodeMeshEnabled: opt(bool({ description: "Every node peers with every other. Default: true." })),
    logSeverityScreen: opt(
      text({
        default: "Info",
        pattern: "^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$",
        description: "Log level of the BGP daemon.",
      }),
    ),
    listenPort: opt(integer({ minimum: 1, maximum: 65_535, description: "TCP port. Default: 179." })),
    bindMode: opt(
      word(["None", "NodeIP"], { description: "NodeIP: listen on the node's address only. Default: None." }),
    ),
    serviceClusterIPs: serviceBlocks("cluster addresses of Services"),
    serviceExternalIPs: serviceBlocks("external addresses of Services"),
    serviceLoadBalancerIPs: serviceBlocks("load-balancer addresses of Services"),
    serviceLoadBalancerAggregation: opt(
      word(["Enabled", "Disabled"], {
        default: "Enabled",
        description: "Disabled: announce each service's address by itself.",
      }),
    ),
    communities: opt(
      list(
        object(
          {
            name: opt(text({ maxLength: 253 })),
            value: opt(text({ maxLength: 40, pattern: "^(\\d+):(\\d+)$|^(\\d+):(\\d+):(\\d+)$" })),
          },
          ATOMIC_MAP,
        ),
        { maxItems: 500, description: "Names for communities: aa:nn, or aa:nn:mm for large ones." },
      ),
    ),
    prefixAdvertisements: opt(
      list(
        object(
          {
            cidr: opt(text({ format: "cidr" })),
            communities: opt(list(text(), { maxItems: 50, description: "Names or values." })),
          },
          ATOMIC_MAP,
        ),
        { maxItems: 500, description: "Communities to add to routes within a prefix." },
      ),
    ),
    nodeMeshPassword: opt(secretKeyRefSchema),
    nodeMeshMaxRestartTime: opt(text({ description: "How long mesh peers wait for a restarting node." })),
    ignoredInterfaces: opt(
      set(text(), { description: "Interfaces whose routes are not taken; * in names is a wildcard." }),
    ),
    localWorkloadPeeringIPV4: opt(text({ description: "Address pods peer with." })),
    localWorkloadPeeringIPV6: opt(text({ description: "Address pods peer with." })),
    programClusterRoutes: opt(
      word(["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"], {
        description:
          "Which routes to pods the BGP daemon programs; the rest is the agent's. Default: EnabledNoEncapOnly.",
      }),
    ),
    ipv4NormalRoutePriority: routePriority("IPv4"),
    ipv6NormalRoutePriority: routePriority("IPv6"),
  },
  checks(
    needsMesh("nodeMeshPassword"),
    needsMesh("nodeMeshMaxRestartTime"),
    cel(
      `${empty("communities")} || ${filled("prefixAdvertisements")}`,
      "communities are used by prefixAdvertisements only",
    ),
  ),
);

export type BGPConfiguration = CalicoResource<"BGPConfiguration", typeof configurationSpec>;

export const bgpConfiguration = calicoKind({
  kind: "BGPConfiguration",
  plural: "bgpconfigurations",
  shortNames: ["bgpconfig", "bgpconfigs"],
  description: "BGP settings: of the cluster (default) or of one node (node.<name>).",
  spec: configurationSpec,
});

const selectorText = (description: string) => opt(text({ maxLength: 1024, description }));

const peerSpec = object(
  {
    node: opt(text({ maxLength: 253, description: "The node that peers; without node and nodeSelector: all." })),
    nodeSelector: selectorText("The nodes that peer."),
    peerIP: opt(
      text({
        maxLength: 64,
        description:
          "Address of the peer, or address:port ([v6]:port); of a link-local one with the interface (fe80::1%eth0).",
      }),
    ),
    asNumber: asNumber("AS number of the peer."),
    peerSelector: selectorText("Peer with the nodes that match."),
    localWorkloadSelector: selectorText("Peer with pods of the same node that match."),
    localASNumber: asNumber("AS number to use towards this peer in place of the node's."),
    keepOriginalNextHop: opt(bool({ description: "Deprecated: use nextHopMode Keep." })),
    nextHopMode: opt(word(["Auto", "Self", "Keep"], { description: "Next hop of announced routes. Default: Auto." })),
    password: opt(secretKeyRefSchema),
    sourceAddress: opt(word(["UseNodeIP", "None"], { description: "Address to connect from. Default: UseNodeIP." })),
    maxRestartTime: opt(text({ description: "How long to wait for a restarting peer. Default: 120s." })),
    keepaliveTime: opt(text({ description: "Interval of keep-alive messages." })),
    numAllowedLocalASNumbers: opt(
      integer({ format: "int32", description: "How often our AS number may be in a path." }),
    ),
    ttlSecurity: opt(integer({ description: "Most hops to the peer, checked by TTL; absent: off." })),
    reachableBy: opt(text({ maxLength: 64, description: "Gateway to the peer." })),
    filters: opt(list(text(), { description: "BGPFilters, in order." })),
    reversePeering: opt(
      Type.Unsafe<"Auto" | "Manual">({
        type: "string",
        allOf: [{ enum: ["Auto", "Manual"] }, { enum: ["Auto", "Manual"] }],
        description: "Auto: nodes selected by peerSelector get the session back. Default: Auto.",
      }),
    ),
  },
  checks(
    cel(notBoth("node", "nodeSelector"), "node and nodeSelector exclude each other", "FieldValueForbidden"),
    cel(notBoth("peerIP", "peerSelector"), "peerIP and peerSelector exclude each other", "FieldValueForbidden"),
    cel(
      `${empty("peerSelector")} || !has(self.asNumber) || self.asNumber == 0`,
      "peerSelector takes AS numbers from the nodes: leave out asNumber",
      "FieldValueForbidden",
    ),
    cel(
      notBoth("localWorkloadSelector", "peerIP"),
      "localWorkloadSelector and peerIP exclude each other",
      "FieldValueForbidden",
    ),
    cel(
      notBoth("localWorkloadSelector", "peerSelector"),
      "localWorkloadSelector and peerSelector exclude each other",
      "FieldValueForbidden",
    ),
    cel(
      `${empty("localWorkloadSelector")} || (has(self.asNumber) && self.asNumber != 0)`,
      "localWorkloadSelector needs asNumber",
    ),
    cel(`${empty("reachableBy")} || ${filled("peerIP")}`, "reachableBy needs peerIP", "FieldValueForbidden"),
    cel(
      "!has(self.nextHopMode) || !has(self.keepOriginalNextHop) || !self.keepOriginalNextHop",
      "keepOriginalNextHop is deprecated: use nextHopMode alone",
      "FieldValueForbidden",
    ),
  ),
);

export type BGPPeer = CalicoResource<"BGPPeer", typeof peerSpec>;

export const bgpPeer = calicoKind({
  kind: "BGPPeer",
  plural: "bgppeers",
  description: "BGP sessions between nodes and a router, other nodes or pods.",
  spec: peerSpec,
  printerColumns: [
    column("Node Selector", "string", ".spec.nodeSelector", "The nodes that peer"),
    column("Node", "string", ".spec.node", "The node that peers"),
    column("Local ASN", "string", ".spec.localASNumber", "AS number used towards the peer"),
    column("Peer Selector", "string", ".spec.peerSelector", "The nodes to peer with"),
    column("Peer IP", "string", ".spec.peerIP", "Address of the peer"),
    column("Peer ASN", "string", ".spec.asNumber", "AS number of the peer"),
  ],
});

/** Decimal numbers 0–65535 and 0–4294967295 without leading zeros, as regular expressions. */
const UINT16 = "([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
const UINT32 =
  "([0-9]|[1-9][0-9]{1,8}|[1-3][0-9]{9}|4[0-1][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[0-1][0-9]{2}|42949672[0-8][0-9]|429496729[0-5])";
const COMMUNITY = `^(${UINT16}:${UINT16}|${UINT32}:${UINT32}:${UINT32})$`;
const community = () => text({ maxLength: 32, pattern: COMMUNITY });

const operation = object(
  {
    addCommunity: opt(object({ value: community() }, ATOMIC_MAP)),
    prependASPath: opt(object({ prefix: list(integer(AS_NUMBER), { minItems: 1, maxItems: 10 }) }, ATOMIC_MAP)),
    setPriority: opt(object({ value: integer({ minimum: 1, maximum: MAX_ROUTE_PRIORITY }) }, ATOMIC_MAP)),
  },
  { ...ATOMIC_MAP, minProperties: 1, maxProperties: 1, description: "One change to a route." },
);

function filterRule(maxPrefix: number, maxCidrText: number) {
  const length = () => opt(integer({ format: "int32", minimum: 0, maximum: maxPrefix }));
  return object(
    {
      action: word(["Accept", "Reject"]),
      cidr: opt(text({ format: "cidr", maxLength: maxCidrText, description: "Compared with the route's prefix." })),
      matchOperator: opt(word(["Equal", "NotEqual", "In", "NotIn"], { description: "How cidr is compared." })),
      prefixLength: opt(object({ min: length(), max: length() }, ATOMIC_MAP)),
      source: opt(word(["RemotePeers"], { description: "Routes learned from peers of any kind." })),
      interface: opt(text({ maxLength: 15, description: "The route's interface; * is a wildcard." })),
      communities: opt(object({ values: list(community(), { minItems: 1, maxItems: 1 }) }, ATOMIC_MAP)),
      asPathPrefix: opt(list(integer(AS_NUMBER), { description: "What the AS path starts with." })),
      peerType: opt(word(["eBGP", "iBGP"])),
      priority: opt(integer({ minimum: 1, maximum: MAX_ROUTE_PRIORITY, description: "The route's kernel metric." })),
      operations: opt(list(operation, { minItems: 1, maxItems: 10, description: "Changes to accepted routes." })),
    },
    {
      ...ATOMIC_MAP,
      description: "When everything matches, the action is taken.",
      ...checks(
        cel(`${filled("cidr")} == ${filled("matchOperator")}`, "cidr and matchOperator go together"),
        cel(`!has(self.prefixLength) || ${filled("cidr")}`, "prefixLength needs cidr"),
        cel(`${empty("operations")} || self.action == 'Accept'`, "operations go with action Accept"),
      ),
    },
  );
}

// A CIDR has at most 18 characters in IPv4, and 43 in IPv6.
const v4Rule = filterRule(32, 18);
const v6Rule = filterRule(128, 43);
const rules = <R extends TSchema>(rule: R, description: string) => opt(list(rule, { description }));

const filterSpec = object({
  exportV4: rules(v4Rule, "IPv4 routes announced."),
  importV4: rules(v4Rule, "IPv4 routes received."),
  exportV6: rules(v6Rule, "IPv6 routes announced."),
  importV6: rules(v6Rule, "IPv6 routes received."),
});

export type BGPFilter = CalicoResource<"BGPFilter", typeof filterSpec>;
export type BGPFilterRule = NonNullable<BGPFilter["spec"]["exportV4"]>[number];

export const bgpFilter = calicoKind({
  kind: "BGPFilter",
  plural: "bgpfilters",
  description: "Rules for routes that a BGP peer sends or receives.",
  spec: filterSpec,
});
