/** GoBGP. It has no way into the kernel without another maker's daemon: what it learns stays in its table. */
import {
  isIpv6,
  type NeighbourSpec,
  type OriginatedRoute,
  type RouteSeen,
  type Router,
  RouterProcess,
  type RouterSpec,
  versionOf,
} from "./router.ts";

interface GoAttribute {
  readonly type: number;
  readonly as_paths?: readonly { readonly asns: readonly number[] }[];
  readonly nexthop?: string;
  readonly communities?: readonly number[];
  readonly value?: unknown;
}

interface GoPath {
  readonly attrs: readonly GoAttribute[];
  readonly "neighbor-ip"?: string;
}

export class GoBgp extends RouterProcess implements Router {
  readonly name = "GoBGP";
  readonly version = versionOf("gobgpd", /version (\S+)/);

  constructor(netns: string, spec: RouterSpec) {
    super(netns, "gobgp", spec);
    this.write("gobgpd.toml", goConfig(spec));
  }

  get configuration(): string {
    return goConfig(this.spec);
  }

  async start(recover = false): Promise<void> {
    const args = ["-f", this.path("gobgpd.toml"), "--api-hosts", "127.0.0.1:50051", "--pprof-disable"];
    await this.speak("gobgpd", recover ? [...args, "-r"] : args, () =>
      this.#gobgp("global", "-j").includes(this.spec.routerId),
    );
    // Neighbours are let in when our routes are there, or End-of-RIB would come before them.
    for (const route of this.spec.originate ?? []) this.#originate(route);
    if (this.spec.originate === undefined) return;
    for (const { address, interface: zone } of this.spec.neighbours) {
      this.#gobgp("neighbor", zone === undefined ? address : `${address}%${zone}`, "enable");
    }
  }

  isUp(neighbour: string): boolean {
    const one = this.#json("neighbor", neighbour, "-j") as
      | { readonly state?: { readonly session_state?: number } }
      | undefined;
    return one?.state?.session_state === 6;
  }

  received(): number[] {
    const all = this.#json("neighbor", "-j") as
      | readonly { readonly afi_safis?: readonly { readonly state?: { readonly received?: number | string } }[] }[]
      | undefined;
    return (all ?? []).map(({ afi_safis: families }) => Number(families?.[0]?.state?.received ?? 0));
  }

  routesTo(prefix: string): RouteSeen[] {
    const family = isIpv6(prefix) ? "ipv6" : "ipv4";
    const found = this.#json("global", "rib", prefix, "-a", family, "-j") as
      | Record<string, readonly GoPath[]>
      | undefined;
    return (found?.[prefix] ?? []).map(routeSeen);
  }

  refresh(neighbour: string): void {
    this.#gobgp("neighbor", neighbour, "softresetin");
    this.#gobgp("neighbor", neighbour, "softresetout");
  }

  witness(): string {
    return `${this.#gobgp("neighbor")}\n${this.#gobgp("global", "rib")}\n${this.#gobgp("global", "rib", "-a", "ipv6")}\n${this.log("gobgpd")}`;
  }

  #originate({ prefix, communities = [], routeTargets = [], largeCommunities = [] }: OriginatedRoute): void {
    const family = isIpv6(prefix) ? "ipv6" : "ipv4";
    // By itself it tells IPv6 routes over IPv4 sessions with an IPv4-mapped next hop, which leads nowhere.
    const [hop] = this.spec.neighbours.flatMap(
      (one) => one.nextHop6 ?? (isIpv6(one.localAddress) ? one.localAddress : []),
    );
    const words = [
      ...["origin", "igp"],
      ...(family === "ipv6" && hop !== undefined ? ["nexthop", hop] : []),
      ...(communities.length === 0 ? [] : ["community", communities.join(",")]),
      ...(routeTargets.length === 0 ? [] : ["rt", ...routeTargets]),
      ...(largeCommunities.length === 0 ? [] : ["large-community", largeCommunities.join(",")]),
    ];
    this.#gobgp("global", "rib", "add", "-a", family, prefix, ...words);
  }

  #gobgp(...command: string[]): string {
    return this.ask("gobgp", "-u", "127.0.0.1", ...command);
  }

  #json(...command: string[]): unknown {
    try {
      return JSON.parse(this.#gobgp(...command));
    } catch {
      return undefined;
    }
  }
}

function routeSeen({ attrs, "neighbor-ip": neighbour }: GoPath): RouteSeen {
  const of = (type: number): GoAttribute | undefined => attrs.find((one) => one.type === type);
  const list = (value: unknown): readonly Record<string, unknown>[] =>
    Array.isArray(value) ? (value as Record<string, unknown>[]) : [];
  return {
    neighbour: neighbour ?? "",
    asPath: (of(2)?.as_paths ?? []).flatMap(({ asns }) => asns).join(" "),
    nextHop: of(3)?.nexthop ?? of(14)?.nexthop ?? "",
    communities: (of(8)?.communities ?? []).map((value) => `${Math.floor(value / 65536)}:${value % 65536}`),
    routeTargets: list(of(16)?.value)
      .filter(({ subtype }) => subtype === 2)
      .map(({ value }) => String(value)),
    largeCommunities: list(of(32)?.value).map((one) =>
      [one["ASN"], one["LocalData1"], one["LocalData2"]].map(String).join(":"),
    ),
    originatorId: typeof of(9)?.value === "string" ? String(of(9)?.value) : undefined,
    clusterList: Array.isArray(of(10)?.value) ? (of(10)?.value as string[]) : [],
  };
}

function neighbourText(one: NeighbourSpec, spec: RouterSpec): string {
  const restart = one.gracefulRestart === true;
  const zone = one.interface === undefined ? "" : `%${one.interface}`;
  return `
[[neighbors]]
  [neighbors.config]
    neighbor-address = "${one.address}${zone}"
    peer-as = ${one.as}
    ${spec.originate === undefined ? "" : "admin-down = true"}
    ${one.password === undefined ? "" : `auth-password = "${one.password}"`}
  [neighbors.transport.config]
    ${one.passive === true ? "passive-mode = true" : ""}
    local-address = "${one.localAddress}${zone}"
  [neighbors.timers.config]
    connect-retry = 1
    hold-time = 60
    keepalive-interval = 10
    idle-hold-time-after-reset = 1
  ${one.ttlSecurityHops === undefined ? "" : `[neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = ${256 - one.ttlSecurityHops}`}
  ${restart ? "[neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 60\n    notification-enabled = true" : ""}
  ${one.reflectorClient === true ? `[neighbors.route-reflector.config]\n    route-reflector-client = true\n    route-reflector-cluster-id = "${spec.clusterId ?? spec.routerId}"` : ""}
${one.families
  .map(
    (family) => `  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "${family}-unicast"
    ${restart ? "[neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true" : ""}
    ${one.addPath === true ? "[neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8" : ""}`,
  )
  .join("\n")}
`;
}

const goConfig = (spec: RouterSpec): string => `[global.config]
  as = ${spec.as}
  router-id = "${spec.routerId}"
${spec.multipath === true ? "[global.use-multiple-paths.config]\n  enabled = true" : ""}
${spec.neighbours.map((one) => neighbourText(one, spec)).join("")}`;
