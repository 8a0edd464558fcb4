/**
 * What two OPEN messages agree on: hold time (RFC 4271 section 4.2), address families (RFC 4760 section 8), four-octet AS numbers (RFC 6793), route refresh
 * (RFC 2918, RFC 7313), additional paths per direction (RFC 7911 section 4), extended messages (RFC 8654), extended next hops (RFC 8950), graceful and
 * long-lived graceful restart (RFC 4724, RFC 8538, RFC 9494), roles (RFC 9234 section 4.2). And what makes a peer's OPEN unacceptable.
 */
import type { Capability, Role } from "../wire/capabilities.ts";
import { encodeCapability } from "../wire/capabilities.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { familyNumbers, routedFamily } from "../wire/family.ts";
import { CLASSIC_MAX, EXTENDED_MAX } from "../wire/message.ts";
import type { Notification } from "../wire/notification.ts";
import { NOTIFY, notification } from "../wire/notification.ts";
import type { OpenMessage } from "../wire/open.ts";
import { WireWriter } from "../wire/writer.ts";

/** What we are ready for with one peer. */
export interface LocalTerms {
  readonly as: number;
  readonly remoteAs: number;
  readonly identifier: number;
  readonly holdSeconds: number;
  /** Absent: a third of the hold time. */
  readonly keepaliveSeconds?: number;
  readonly families: readonly RoutedFamily[];
  readonly addPathReceive: boolean;
  readonly addPathSend: boolean;
  readonly extendedMessages: boolean;
  readonly extendedNextHop: boolean;
  readonly role?: Role;
  readonly strictRole: boolean;
  readonly gracefulRestart?: {
    readonly restartSeconds: number;
    /** We have just come back and kept forwarding. */
    readonly restarted: boolean;
    readonly forwardingPreserved: boolean;
    /** 0: no long-lived graceful restart. */
    readonly longLivedSeconds: number;
  };
  readonly hostName?: string;
}

export interface PeerRestart {
  readonly restartSeconds: number;
  readonly restarted: boolean;
  /** RFC 8538: both ends keep routes across NOTIFICATION too. */
  readonly notification: boolean;
  /** Families whose routes we keep, and whether the peer kept forwarding for them. */
  readonly families: ReadonlyMap<RoutedFamily, { readonly forwardingPreserved: boolean }>;
}

export interface Negotiated {
  readonly remoteAs: number;
  readonly remoteIdentifier: number;
  readonly internal: boolean;
  readonly families: readonly RoutedFamily[];
  /** 0: no keepalives, no hold timer. */
  readonly holdSeconds: number;
  readonly keepaliveSeconds: number;
  readonly fourOctetAs: boolean;
  readonly maxMessage: number;
  readonly addPathReceive: ReadonlySet<RoutedFamily>;
  readonly addPathSend: ReadonlySet<RoutedFamily>;
  readonly routeRefresh: boolean;
  readonly enhancedRefresh: boolean;
  /** Families whose routes may carry an IPv6 next hop although they are IPv4. */
  readonly extendedNextHop: ReadonlySet<RoutedFamily>;
  readonly restart?: PeerRestart;
  readonly longLived: ReadonlyMap<
    RoutedFamily,
    { readonly staleSeconds: number; readonly forwardingPreserved: boolean }
  >;
  readonly peerRole?: Role;
  readonly peerHostName?: string;
}

export type Negotiation =
  | { readonly ok: true; readonly negotiated: Negotiated }
  | { readonly ok: false; readonly notify: Notification; readonly reason: string };

/** The capabilities our OPEN announces. */
export function localCapabilities(terms: LocalTerms): Capability[] {
  const families = terms.families.map(familyNumbers);
  const { gracefulRestart } = terms;
  const capabilities: Capability[] = families.map((family) => ({ kind: "multiprotocol", ...family }));
  capabilities.push(
    { kind: "route-refresh" },
    { kind: "enhanced-route-refresh" },
    { kind: "four-octet-as", as: terms.as },
  );
  if (terms.extendedMessages) capabilities.push({ kind: "extended-message" });
  if (terms.extendedNextHop && terms.families.includes("ipv4-unicast")) {
    capabilities.push({ kind: "extended-next-hop", entries: [{ afi: 1, safi: 1, nextHopAfi: 2 }] });
  }
  if (terms.addPathReceive || terms.addPathSend) {
    const modes = { receive: terms.addPathReceive, send: terms.addPathSend };
    capabilities.push({ kind: "add-path", families: families.map((family) => ({ ...family, ...modes })) });
  }
  if (terms.role !== undefined) capabilities.push({ kind: "role", role: terms.role });
  if (gracefulRestart !== undefined) {
    const { restartSeconds, restarted, forwardingPreserved, longLivedSeconds } = gracefulRestart;
    const preserved = families.map((family) => ({ ...family, forwardingPreserved }));
    capabilities.push({ kind: "graceful-restart", restarted, notification: true, restartSeconds, families: preserved });
    if (longLivedSeconds > 0) {
      const stale = preserved.map((family) => ({ ...family, staleSeconds: longLivedSeconds }));
      capabilities.push({ kind: "long-lived-graceful-restart", families: stale });
    }
  }
  if (terms.hostName !== undefined) capabilities.push({ kind: "host-name", host: terms.hostName, domain: "" });
  return capabilities;
}

const COUNTERPART: Readonly<Record<Role, Role>> = {
  provider: "customer",
  customer: "provider",
  rs: "rs-client",
  "rs-client": "rs",
  peer: "peer",
};

const refuse = (notify: Notification, reason: string): Negotiation => ({ ok: false, notify, reason });

export function negotiate(terms: LocalTerms, open: OpenMessage): Negotiation {
  if (open.as !== terms.remoteAs) {
    return refuse(
      notification(NOTIFY.badPeerAs),
      `the peer says it is AS ${open.as}, configured is AS ${terms.remoteAs}`,
    );
  }
  const internal = terms.as === terms.remoteAs;
  if (internal && open.identifier === terms.identifier) {
    return refuse(notification(NOTIFY.badIdentifier), "the peer has our own router id; give one of the two another");
  }
  const peerRoles = open.capabilities.filter((one) => one.kind === "role").map((one) => one.role);
  const problem = internal ? undefined : roleProblem(terms, peerRoles);
  if (problem !== undefined) return refuse(notification(NOTIFY.roleMismatch), problem);
  const families = commonFamilies(terms.families, open.capabilities);
  if (families.length === 0) return refuseFamilies(terms.families);
  const [peerRole] = peerRoles;
  return {
    ok: true,
    negotiated: {
      remoteAs: open.as,
      remoteIdentifier: open.identifier,
      internal,
      families,
      ...timers(terms, open),
      ...features(terms, open.capabilities, families),
      ...(peerRole !== undefined && !internal && { peerRole }),
    },
  };
}

function timers(terms: LocalTerms, open: OpenMessage): { holdSeconds: number; keepaliveSeconds: number } {
  const holdSeconds = Math.min(terms.holdSeconds, open.holdSeconds);
  const third = Math.max(1, Math.floor(holdSeconds / 3));
  // A keepalive interval meant for a longer hold time would let this one run out.
  return { holdSeconds, keepaliveSeconds: Math.min(terms.keepaliveSeconds ?? third, third) };
}

type Features = Omit<
  Negotiated,
  "remoteAs" | "remoteIdentifier" | "internal" | "families" | "holdSeconds" | "keepaliveSeconds" | "peerRole"
>;

function features(terms: LocalTerms, capabilities: readonly Capability[], families: readonly RoutedFamily[]): Features {
  const has = (kind: Capability["kind"]): boolean => capabilities.some((one) => one.kind === kind);
  const shared = (one: { readonly afi: number; readonly safi: number }): RoutedFamily[] => {
    const family = routedFamily(one);
    return family !== undefined && families.includes(family) ? [family] : [];
  };
  const addPath = capabilities.flatMap((one) => (one.kind === "add-path" ? one.families : []));
  const nextHops = capabilities.flatMap((one) => (one.kind === "extended-next-hop" ? one.entries : []));
  // RFC 4724 section 3: with several, the last counts.
  const restart = capabilities.findLast((one) => one.kind === "graceful-restart");
  const longLived = capabilities.flatMap((one) => (one.kind === "long-lived-graceful-restart" ? one.families : []));
  const hostName = capabilities.find((one) => one.kind === "host-name")?.host;
  const stale = terms.gracefulRestart?.longLivedSeconds ?? 0;
  return {
    fourOctetAs: has("four-octet-as"),
    maxMessage: terms.extendedMessages && has("extended-message") ? EXTENDED_MAX : CLASSIC_MAX,
    addPathReceive: new Set(terms.addPathReceive ? addPath.filter((one) => one.send).flatMap(shared) : []),
    addPathSend: new Set(terms.addPathSend ? addPath.filter((one) => one.receive).flatMap(shared) : []),
    routeRefresh: has("route-refresh"),
    enhancedRefresh: has("enhanced-route-refresh"),
    extendedNextHop: new Set(
      terms.extendedNextHop ? nextHops.filter((one) => one.nextHopAfi === 2 && one.afi === 1).flatMap(shared) : [],
    ),
    longLived: new Map(
      stale > 0 && restart !== undefined
        ? longLived.flatMap((one) => shared(one).map((family) => [family, one] as const))
        : [],
    ),
    ...(terms.gracefulRestart !== undefined &&
      restart !== undefined && {
        restart: {
          restartSeconds: restart.restartSeconds,
          restarted: restart.restarted,
          notification: restart.notification,
          families: new Map(restart.families.flatMap((one) => shared(one).map((family) => [family, one] as const))),
        },
      }),
    ...(hostName !== undefined && { peerHostName: hostName }),
  };
}

/** A peer that announces no families at all speaks IPv4 unicast (RFC 4760 section 8). */
function commonFamilies(ours: readonly RoutedFamily[], capabilities: readonly Capability[]): RoutedFamily[] {
  const announced = capabilities.filter((one) => one.kind === "multiprotocol");
  if (announced.length === 0) return ours.filter((family) => family === "ipv4-unicast");
  const theirs = new Set(announced.map(routedFamily));
  return ours.filter((family) => theirs.has(family));
}

/** Unsupported Capability lists what we would have needed (RFC 5492 section 5). */
function refuseFamilies(families: readonly RoutedFamily[]): Negotiation {
  const writer = new WireWriter();
  for (const family of families) encodeCapability({ kind: "multiprotocol", ...familyNumbers(family) }, writer);
  return refuse(
    notification(NOTIFY.unsupportedCapability, writer.finish()),
    `the peer supports none of our address families (${families.join(", ")})`,
  );
}

function roleProblem(terms: LocalTerms, peerRoles: readonly Role[]): string | undefined {
  const { role, strictRole } = terms;
  if (role === undefined) return undefined;
  const [first] = peerRoles;
  if (first === undefined)
    return strictRole ? `we are ${role} and insist on roles; the peer announces none` : undefined;
  if (peerRoles.some((one) => one !== first)) return `the peer announces several roles: ${peerRoles.join(", ")}`;
  return COUNTERPART[role] === first ? undefined : `we are ${role}, the peer says it is ${first}`;
}
