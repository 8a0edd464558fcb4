/**
 * What becomes of a route a peer sent: prefixes that are nobody's (RFC 4271 section 6.3), loops (RFC 4271 section 9, RFC 4456 section 8), leaks (RFC 9234 section 5), next hops that cannot be (RFC 4271 section
 * 6.3), graceful shutdown (RFC 8326), long-lived stale (RFC 9494), then the peer's import filter. A rejected route is kept with the reason, so it can be explained
 * and judged again when the policy changes.
 */
import type { IpAddress } from "@calico-ts/net";
import { formatAddress, sameAddress } from "@calico-ts/net";
import type { PeerConfig } from "../config.ts";
import type { Filter } from "../policy/filter.ts";
import { ignoresPrefix, runFilter, withCommunity } from "../policy/filter.ts";
import { countAs } from "../wire/attributes/as-path.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";
import { WELL_KNOWN_COMMUNITIES } from "../wire/attributes/values.ts";
import type { AttributeSet } from "./attribute-set.ts";
import type { NextHops } from "./next-hop.ts";
import type { PrefixKey } from "./prefix-map.ts";
import type { Source } from "./route.ts";
import { STALE } from "./route.ts";
import type { Verdict } from "./table.ts";

export interface ImportTerms {
  readonly peer: PeerConfig;
  readonly localAs: number;
  readonly routerId: number;
  readonly clusterId: number;
  readonly internal: boolean;
  /** Our own end of the connection. */
  readonly localAddress: IpAddress | undefined;
  /** For filters that ask through which interface a route leads. */
  readonly nextHops: Pick<NextHops, "interfaceOf">;
}

const LONG_LIVED = { kind: "long-lived-stale" } as const;
const SHUTDOWN = { kind: "graceful-shutdown" } as const;

/** One per peer and session. Remembers the verdict on the block it saw last, because routes come in runs that share one. */
export class ImportPolicy {
  readonly terms: ImportTerms;
  readonly #source: Source;
  readonly #filter: Filter | undefined;
  readonly #perPrefix: boolean;
  #lastSet: AttributeSet | undefined;
  #lastStale = 0;
  #lastVerdict: Verdict = { accepted: undefined, rejected: "" };

  constructor(terms: ImportTerms, source: Source) {
    this.terms = terms;
    this.#source = source;
    this.#filter = terms.peer.importFilter;
    this.#perPrefix = this.#filter !== undefined && !ignoresPrefix(this.#filter);
  }

  judge(key: PrefixKey, set: AttributeSet, stale: number): Verdict {
    if (isNobodys(key)) return NOBODYS;
    const marks = stale & STALE.longLived;
    if (!this.#perPrefix && this.#lastSet === set && this.#lastStale === marks) return this.#lastVerdict;
    const verdict = this.#judge(key, set, marks);
    this.#lastSet = set;
    this.#lastStale = marks;
    this.#lastVerdict = verdict;
    return verdict;
  }

  #judge(key: PrefixKey, received: AttributeSet, stale: number): Verdict {
    const { peer, internal, nextHops } = this.terms;
    const problem = loopProblem(received.attributes, this.terms) ?? nextHopProblem(received.attributes, this.terms);
    if (problem !== undefined) return reject(problem);
    const leak = internal ? undefined : leakProblem(received.attributes, peer);
    if (leak !== undefined) return reject(leak);
    if (peer.requireFilters === true && !internal && this.#filter === undefined) {
      return reject("external peer without an import filter (RFC 8212)");
    }
    let set: AttributeSet = received;
    if (!internal && marksCustomerRoutes(peer) && set.attributes.onlyToCustomer === undefined) {
      // RFC 9234: marked with the AS they came from. The source stays over sessions, so that each does not leave another set behind.
      set = set.derive(this.#source, (attributes) => ({ ...attributes, onlyToCustomer: peer.remoteAs })) ?? set;
    }
    if (this.#filter !== undefined) {
      const peerType = internal ? "internal" : "external";
      const result = runFilter(this.#filter, { key, set, source: this.#source, peerType, nextHops });
      if (!result.accept) return reject(`filter ${result.by}`);
      ({ set } = result);
    }
    const shuts = set.attributes.communities?.includes(WELL_KNOWN_COMMUNITIES["graceful-shutdown"]) === true;
    if (peer.gracefulShutdown === true || (shuts && !internal)) {
      set = set.derive(SHUTDOWN, (attributes) => ({ ...attributes, localPref: 0 })) ?? set;
    }
    if (stale !== 0) {
      if (set.attributes.communities?.includes(WELL_KNOWN_COMMUNITIES["no-llgr"]) === true) {
        return reject("stale, and marked NO_LLGR (RFC 9494)");
      }
      set =
        set.derive(LONG_LIVED, (attributes) => withCommunity(attributes, WELL_KNOWN_COMMUNITIES["llgr-stale"])) ?? set;
    }
    return { accepted: set, rejected: undefined };
  }
}

const reject = (rejected: string): Verdict => ({ accepted: undefined, rejected });

const NOBODYS = reject("no prefix of unicast hosts beyond this link (RFC 4271 section 6.3)");
const LINK_LOCAL_6 = 0xfe80n << 112n;
const AFTER_LINK_LOCAL_6 = 0xfec0n << 112n;
const MULTICAST_6 = 0xffn << 120n;

/**
 * Prefixes inside of which there is nobody to send to: this host (0.0.0.0/8, 127.0.0.0/8, ::, ::1), one link (fe80::/10), groups (224.0.0.0/4, ff00::/8),
 * everybody on a link (255.255.255.255). As BIRD has it, except that it refuses 240.0.0.0/4 too: there are clusters that live in it.
 */
export function isNobodys({ address, length }: PrefixKey): boolean {
  if (typeof address === "bigint") return isNobodys6(address, length);
  const first = address >>> 24;
  switch (first) {
    case 0:
    case 127:
      return length >= 8;
    case 255:
      return length === 32 && address === -1;
    default:
      return first >= 224 && first < 240 && length >= 4;
  }
}

function isNobodys6(address: bigint, length: number): boolean {
  if (address <= 1n) return length === 128;
  if (address < LINK_LOCAL_6) return false;
  return address >= MULTICAST_6 ? length >= 8 : address < AFTER_LINK_LOCAL_6 && length >= 10;
}

function loopProblem(attributes: PathAttributes, terms: ImportTerms): string | undefined {
  const { peer, internal, localAs, routerId, clusterId } = terms;
  const path = attributes.asPath ?? [];
  if (countAs(path, localAs) > (peer.allowedLocalAs ?? 0)) return `AS loop: our AS ${localAs} is in the path`;
  if (internal) {
    if (attributes.originatorId === routerId) return "reflected back to us: ORIGINATOR_ID is our router id";
    if (attributes.clusterList?.includes(clusterId) === true) return "cluster loop: our cluster id is in CLUSTER_LIST";
    return undefined;
  }
  if (peer.allowForeignFirstAs === true || peer.role === "rs-client") return undefined;
  const [first] = path;
  if (first?.kind === "sequence" && first.ases[0] === peer.remoteAs) return undefined;
  return `the path does not begin with the peer's AS ${peer.remoteAs}`;
}

function nextHopProblem({ nextHop }: PathAttributes, { localAddress }: ImportTerms): string | undefined {
  if (nextHop === undefined) return "no next hop";
  if (localAddress !== undefined && sameAddress(nextHop, localAddress)) return "the next hop is our own address";
  const bits = nextHop.family === 4 ? 32n : 128n;
  const top = Number(nextHop.value >> (bits - 8n));
  const unusable =
    nextHop.value === 0n ||
    (nextHop.family === 4
      ? top === 0 || top === 127 || (top >= 224 && top < 240) || nextHop.value === 0xffffffffn
      : top === 0xff || nextHop.value === 1n);
  return unusable ? `the next hop ${formatAddress(nextHop)} is not a host's address` : undefined;
}

/** RFC 9234 section 5, on ingress. `peer.role` is ours. */
function leakProblem({ onlyToCustomer }: PathAttributes, { role, remoteAs }: PeerConfig): string | undefined {
  if (onlyToCustomer === undefined || role === undefined) return undefined;
  if (role === "provider" || role === "rs") return "route leak: a customer sends a route marked ONLY_TO_CUSTOMER";
  if (role === "peer" && onlyToCustomer !== remoteAs)
    return "route leak: a peer sends a route that is not its customers'";
  return undefined;
}

/** From a provider, a peer or a route server, routes are for customers only from now on. */
const marksCustomerRoutes = ({ role }: Pick<PeerConfig, "role">): boolean =>
  role !== undefined && (role === "customer" || role === "rs-client" || role === "peer");

/** RFC 9234 section 5, on egress: marked routes go to customers and route-server clients only. */
export const forbiddenByRole = (peer: Pick<PeerConfig, "role">, { onlyToCustomer }: PathAttributes): boolean =>
  onlyToCustomer !== undefined && marksCustomerRoutes(peer);
