/** FRR: zebra and bgpd, started directly; bgpd alone is killed and started again, zebra keeps the kernel's routes meanwhile. */
import { chmodSync, chownSync } from "node:fs";
import { execFileSync } from "node:child_process";
import {
  isIpv6,
  type NeighbourSpec,
  type RouteSeen,
  type Router,
  RouterProcess,
  type RouterSpec,
  until,
  versionOf,
} from "./router.ts";

const PROGRAMS = "/usr/lib/frr";

interface FrrPath {
  readonly peer?: { readonly peerId?: string };
  readonly aspath?: { readonly string?: string };
  readonly nexthops?: readonly { readonly ip?: string; readonly scope?: string }[];
  readonly community?: { readonly string?: string };
  readonly extendedCommunity?: { readonly string?: string };
  readonly largeCommunity?: { readonly string?: string };
  readonly originatorId?: string;
  readonly clusterList?: { readonly list?: readonly string[] };
}

export class Frr extends RouterProcess implements Router {
  readonly name = "FRR";
  readonly version = versionOf(`${PROGRAMS}/bgpd`, /version (\S+)/);
  #zebraRuns = false;

  constructor(netns: string, spec: RouterSpec) {
    super(netns, "frr", spec);
    // The daemons drop to a user of their own.
    const [uid, gid] = ["-u", "-g"].map((flag) => Number(execFileSync("id", [flag, "frr"], { encoding: "utf8" })));
    chownSync(this.directory, uid ?? 0, gid ?? 0);
    chmodSync(this.directory, 0o755);
    this.write("zebra.conf", "log stdout\n");
    this.write("bgpd.conf", frrConfig(spec));
  }

  get configuration(): string {
    return frrConfig(this.spec);
  }

  async start(): Promise<void> {
    if (!this.#zebraRuns) this.launch(`${PROGRAMS}/zebra`, this.#common("zebra"));
    this.#zebraRuns = true;
    await until(() => this.#answers("zebra"), "zebra answers");
    const outside = this.spec.kernel === false ? ["-n"] : [];
    await this.speak(`${PROGRAMS}/bgpd`, [...this.#common("bgpd"), ...outside], () => this.#answers("bgpd"));
  }

  isUp(neighbour: string): boolean {
    const all = this.#json(`show bgp neighbors ${neighbour} json`) as
      | Record<string, { readonly bgpState?: string }>
      | undefined;
    return Object.values(all ?? {}).some((one) => one.bgpState === "Established");
  }

  received(): number[] {
    const summary = this.#json("show bgp ipv4 unicast summary json") as
      | { readonly peers?: Readonly<Record<string, { readonly pfxRcd?: number }>> }
      | undefined;
    return Object.values(summary?.peers ?? {}).map(({ pfxRcd }) => pfxRcd ?? 0);
  }

  routesTo(prefix: string): RouteSeen[] {
    const family = isIpv6(prefix) ? "ipv6" : "ipv4";
    const found = this.#json(`show bgp ${family} unicast ${prefix} json`) as
      | { readonly paths?: readonly FrrPath[] }
      | undefined;
    const words = (text: string | undefined): string[] => (text ?? "").split(" ").filter((word) => word !== "");
    return (found?.paths ?? []).map((path) => ({
      neighbour: path.peer?.peerId ?? "",
      asPath: path.aspath?.string ?? "",
      nextHop: path.nexthops?.find((hop) => hop.scope !== "link-local")?.ip ?? path.nexthops?.[0]?.ip ?? "",
      communities: words(path.community?.string),
      routeTargets: words(path.extendedCommunity?.string).flatMap((word) =>
        word.startsWith("RT:") ? [word.slice(3)] : [],
      ),
      largeCommunities: words(path.largeCommunity?.string),
      originatorId: path.originatorId,
      clusterList: path.clusterList?.list ?? [],
    }));
  }

  refresh(neighbour: string): void {
    this.#show(`clear bgp ${neighbour} soft in`, "bgpd");
    this.#show(`clear bgp ${neighbour} soft out`, "bgpd");
  }

  witness(): string {
    return `${this.#show("show bgp summary", "bgpd")}\n${this.#show("show bgp ipv4 unicast", "bgpd")}\n${this.#show("show ip route", "zebra")}\n${this.log("bgpd")}\n${this.log("zebra")}`;
  }

  #common(daemon: string): string[] {
    return [
      ...["-f", this.path(`${daemon}.conf`), "-i", this.path(`${daemon}.pid`), "-z", this.path("zserv.api")],
      ...["--vty_socket", this.directory, "-P", "0", "--log", "stdout"],
    ];
  }

  #answers(daemon: string): boolean {
    return this.#show("show version", daemon).includes("FRRouting");
  }

  #show(command: string, daemon: string): string {
    return this.ask("vtysh", "--vty_socket", this.directory, "-d", daemon, "-c", command);
  }

  #json(command: string): unknown {
    try {
      return JSON.parse(this.#show(command, "bgpd"));
    } catch {
      return undefined;
    }
  }
}

function neighbourLines(one: NeighbourSpec): string[] {
  const n = `neighbor ${one.address}`;
  return [
    `${n} remote-as ${one.as}`,
    one.interface === undefined ? `${n} update-source ${one.localAddress}` : `${n} interface ${one.interface}`,
    `${n} timers 10 60`,
    `${n} timers connect 1`,
    `${n} advertisement-interval 0`,
    ...(one.passive === true ? [`${n} passive`] : []),
    ...(one.password === undefined ? [] : [`${n} password ${one.password}`]),
    ...(one.ttlSecurityHops === undefined ? [] : [`${n} ttl-security hops ${one.ttlSecurityHops}`]),
    ...(one.extendedNextHop === true ? [`${n} capability extended-nexthop`] : []),
  ];
}

function familyLines(family: "ipv4" | "ipv6", { as, neighbours, originate = [], multipath }: RouterSpec): string[] {
  const routes = originate
    .map((route, index) => ({ ...route, index }))
    .filter(({ prefix }) => isIpv6(prefix) === (family === "ipv6"));
  return [
    `address-family ${family} unicast`,
    ...routes.map(({ prefix, index }) => `network ${prefix} route-map origin${index}`),
    ...(multipath === true ? ["maximum-paths 16", "maximum-paths ibgp 16"] : []),
    ...neighbours
      .filter(({ families }) => families.includes(family))
      .flatMap((one) => {
        const n = `neighbor ${one.address}`;
        return [
          `${n} activate`,
          `${n} send-community all`,
          ...(one.addPath === true ? [`${n} addpath-tx-all-paths`] : []),
          ...(one.reflectorClient === true ? [`${n} route-reflector-client`] : []),
          ...(family === "ipv6" && one.nextHop6 !== undefined ? [`${n} route-map hop6 out`] : []),
          ...(one.as === as && one.reflectorClient !== true ? [`${n} next-hop-self`] : []),
        ];
      }),
    "exit-address-family",
  ];
}

function frrConfig(spec: RouterSpec): string {
  const { as, routerId, neighbours, originate = [], clusterId, multipath } = spec;
  const hop6 = neighbours.find((one) => one.nextHop6 !== undefined)?.nextHop6;
  const lines = [
    "log stdout",
    // First: a route map that is defined after its use takes effect five seconds later, and End-of-RIB does not wait for it.
    ...originate.flatMap(({ communities = [], routeTargets = [], largeCommunities = [] }, index) => [
      `route-map origin${index} permit 10`,
      ...(communities.length === 0 ? [] : [`set community ${communities.join(" ")}`]),
      ...(routeTargets.length === 0 ? [] : [`set extcommunity rt ${routeTargets.join(" ")}`]),
      ...(largeCommunities.length === 0 ? [] : [`set large-community ${largeCommunities.join(" ")}`]),
      "exit",
    ]),
    ...(hop6 === undefined ? [] : ["route-map hop6 permit 10", `set ipv6 next-hop global ${hop6}`, "exit"]),
    `router bgp ${as}`,
    `bgp router-id ${routerId}`,
    "no bgp ebgp-requires-policy",
    "no bgp default ipv4-unicast",
    "no bgp network import-check",
    ...(neighbours.some((one) => one.gracefulRestart === true)
      ? [
          "bgp graceful-restart",
          "bgp graceful-restart preserve-fw-state",
          "bgp graceful-restart restart-time 60",
          // By itself it waits for those neighbours only that are there already, and End-of-RIB takes from each what a later one has to tell.
          "update-delay 60 30",
        ]
      : ["bgp graceful-restart-disable"]),
    ...(clusterId === undefined ? [] : [`bgp cluster-id ${clusterId}`]),
    ...(multipath === true ? ["bgp bestpath as-path multipath-relax"] : []),
    ...neighbours.flatMap(neighbourLines),
    ...familyLines("ipv4", spec),
    ...familyLines("ipv6", spec),
    "exit",
  ];
  return `${lines.join("\n")}\n`;
}
