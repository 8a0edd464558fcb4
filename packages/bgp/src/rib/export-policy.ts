/**
 * What a route becomes on its way to a group of peers: may it go at all (RFC 4271 section 9.2, RFC 4456, RFC 1997 communities, RFC 9234 roles, RFC 9494, RFC 8212),
 * the export filter, then the attributes the kind of session asks for (RFC 4271 section 5.1, RFC 4456 section 8).
 */
import type { IpAddress } from "@calico-ts/net";
import type { Filter } from "../policy/filter.ts";
import { runFilter, withCommunity } from "../policy/filter.ts";
import { prependAs } from "../wire/attributes/as-path.ts";
import type { PathAttributes } from "../wire/attributes/values.ts";
import { WELL_KNOWN_COMMUNITIES } from "../wire/attributes/values.ts";
import type { Role } from "../wire/capabilities.ts";
import type { RoutedFamily } from "../wire/family.ts";
import { addressBits } from "@calico-ts/net";
import type { AttributeSet } from "./attribute-set.ts";
import { DEFAULT_LOCAL_PREF } from "./attribute-set.ts";
import { forbiddenByRole } from "./import-policy.ts";
import type { NextHops } from "./next-hop.ts";
import type { PrefixKey } from "./prefix-map.ts";
import type { Source } from "./route.ts";

/** Everything that decides what a peer is told. Peers with equal terms form a group and share the work. */
export interface ExportTerms {
  readonly family: RoutedFamily;
  readonly internal: boolean;
  readonly reflectorClient: boolean;
  readonly localAs: number;
  readonly clusterId: number;
  readonly nextHop: "auto" | "self" | "keep";
  readonly self: IpAddress | undefined;
  readonly filter: Filter | undefined;
  readonly requireFilters: boolean;
  readonly role: Role | undefined;
  readonly gracefulShutdown: boolean;
  /** The peer knows long-lived graceful restart. */
  readonly longLived: boolean;
  readonly extendedNextHop: boolean;
  readonly addPath: boolean;
  readonly fourOctetAs: boolean;
  readonly maxMessage: number;
  /** For filters that ask through which interface a route leads. */
  readonly nextHops: Pick<NextHops, "interfaceOf">;
}

export type ExportVerdict =
  | { readonly accept: true; readonly set: AttributeSet }
  | { readonly accept: false; readonly by: string };

const WITHOUT_MED = { kind: "without-med" } as const;
const refuse = (by: string): ExportVerdict => ({ accept: false, by });

export class ExportPolicy {
  readonly terms: ExportTerms;
  /** What the attributes become depends on the source when it is reflected; sets remember by these. */
  readonly #tokens = new Map<Source, { readonly plain: object; readonly hopChosen: object }>();

  constructor(terms: ExportTerms) {
    this.terms = terms;
  }

  judge(key: PrefixKey, accepted: AttributeSet, source: Source): ExportVerdict {
    const { terms } = this;
    const problem = this.#problem(accepted, source);
    if (problem !== undefined) return refuse(problem);
    // A MED heard from a neighbour is not passed on to another AS (RFC 4271 section 5.1.4); one that our filter sets is.
    const before =
      terms.internal || source.kind === "local" || accepted.attributes.med === undefined
        ? accepted
        : (accepted.derive(WITHOUT_MED, ({ med: _heard, ...others }) => others) ?? accepted);
    let set = before;
    if (terms.filter !== undefined) {
      const peerType = terms.internal ? "internal" : "external";
      const result = runFilter(terms.filter, { key, set, source, peerType, nextHops: terms.nextHops });
      if (!result.accept) return refuse(`filter ${result.by}`);
      ({ set } = result);
    }
    const hopChosen = set.attributes.nextHop !== before.attributes.nextHop;
    const tokens = this.#tokensOf(source);
    const made = set.derive(hopChosen ? tokens.hopChosen : tokens.plain, (attributes) =>
      this.#transform(attributes, source, hopChosen),
    );
    return made === undefined ? refuse("no next hop of the right family to advertise") : { accept: true, set: made };
  }

  #problem({ attributes, longLivedStale }: AttributeSet, source: Source): string | undefined {
    const { terms } = this;
    if (terms.internal && source.kind === "internal" && !terms.reflectorClient && !source.reflectorClient) {
      return "learned from an internal peer and neither end is a reflector's client";
    }
    const communities = attributes.communities ?? [];
    if (communities.includes(WELL_KNOWN_COMMUNITIES["no-advertise"])) return "NO_ADVERTISE";
    if (!terms.internal) {
      if (communities.includes(WELL_KNOWN_COMMUNITIES["no-export"])) return "NO_EXPORT";
      if (communities.includes(WELL_KNOWN_COMMUNITIES["no-export-subconfed"])) return "NO_EXPORT_SUBCONFED";
      if (forbiddenByRole({ ...(terms.role !== undefined && { role: terms.role }) }, attributes)) {
        return "ONLY_TO_CUSTOMER (RFC 9234)";
      }
      if (terms.requireFilters && terms.filter === undefined)
        return "external peer without an export filter (RFC 8212)";
    }
    if (longLivedStale && !terms.longLived)
      return "long-lived stale, and the peer does not know what that is (RFC 9494)";
    return undefined;
  }

  #transform(attributes: PathAttributes, source: Source, hopChosen: boolean): PathAttributes | undefined {
    const { terms } = this;
    const nextHop = this.#nextHop(attributes, hopChosen);
    if (nextHop === undefined || !fits(nextHop, terms)) return undefined;
    const { linkLocalNextHop, localPref, originatorId, clusterList, ...kept } = attributes;
    const marked = terms.gracefulShutdown ? withCommunity(kept, WELL_KNOWN_COMMUNITIES["graceful-shutdown"]) : kept;
    const base = { ...marked, origin: attributes.origin ?? "incomplete", nextHop };
    // A link-local next hop means something only together with the global one it came with, and on the same link.
    const onLink = nextHop === attributes.nextHop && linkLocalNextHop !== undefined && terms.internal;
    if (terms.internal) {
      const reflected = source.kind === "internal";
      return {
        ...base,
        asPath: attributes.asPath ?? [],
        localPref: localPref ?? DEFAULT_LOCAL_PREF,
        ...(onLink && { linkLocalNextHop }),
        ...(originatorId !== undefined && { originatorId }),
        ...(clusterList !== undefined && { clusterList }),
        ...(reflected && {
          originatorId: originatorId ?? source.identifier,
          clusterList: [terms.clusterId, ...(clusterList ?? [])],
        }),
      };
    }
    // Non-transitive extended communities stay within the AS (RFC 4360 section 6).
    const { extendedCommunities, ...passed } = base;
    const transitive = extendedCommunities?.filter((one) => (Number.parseInt(one.slice(0, 2), 16) & 0x40) === 0);
    const path = (attributes.asPath ?? []).filter(({ kind }) => kind === "sequence" || kind === "set");
    const forCustomers = terms.role === "provider" || terms.role === "rs" || terms.role === "peer";
    return {
      ...passed,
      ...(transitive !== undefined && transitive.length > 0 && { extendedCommunities: transitive }),
      // A route server is transparent (RFC 7947 section 2.2.2).
      asPath: terms.role === "rs" ? path : prependAs(path, terms.localAs),
      ...(forCustomers && { onlyToCustomer: attributes.onlyToCustomer ?? terms.localAs }),
    };
  }

  #nextHop({ nextHop }: PathAttributes, hopChosen: boolean): IpAddress | undefined {
    const { nextHop: mode, internal, self } = this.terms;
    if (hopChosen && nextHop !== undefined) return nextHop;
    const keeps = mode === "keep" || (mode === "auto" && internal);
    return keeps && nextHop !== undefined ? nextHop : self;
  }

  #tokensOf(source: Source): { readonly plain: object; readonly hopChosen: object } {
    let tokens = this.#tokens.get(source);
    if (tokens === undefined) {
      tokens = { plain: { of: source }, hopChosen: { of: source } };
      this.#tokens.set(source, tokens);
    }
    return tokens;
  }

  /** The source has come back as somebody else: what was derived for it no longer holds. Absent: for any. What it was derived by is the answer. */
  forget(source?: Source): ReadonlySet<object> {
    const gone = [...this.#tokens].filter(([one]) => source === undefined || one === source);
    for (const [one] of gone) this.#tokens.delete(one);
    return new Set(gone.flatMap(([, { plain, hopChosen }]) => [plain, hopChosen]));
  }
}

/** IPv6 routes have IPv6 next hops; IPv4 routes may have them when both ends agreed (RFC 8950). */
function fits(nextHop: IpAddress, { family, extendedNextHop }: ExportTerms): boolean {
  const bits = addressBits(nextHop.family);
  return family === "ipv4-unicast" ? bits === 32 || extendedNextHop : bits === 128;
}
