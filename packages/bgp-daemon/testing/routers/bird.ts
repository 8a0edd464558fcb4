/** BIRD 2. Each neighbour is a protocol n0, n1, …; everything learned goes into the kernel. */
import { spawnSync } from "node:child_process";
import {
  isIpv6,
  type NeighbourSpec,
  type OriginatedRoute,
  type RouteSeen,
  type Router,
  RouterProcess,
  type RouterSpec,
} from "./router.ts";

export class Bird extends RouterProcess implements Router {
  readonly name = "BIRD";
  readonly version =
    /BIRD version (\S+)/.exec(spawnSync("bird", ["--version"], { encoding: "utf8" }).stderr)?.[1] ?? "?";

  constructor(netns: string, spec: RouterSpec) {
    super(netns, "bird", spec);
    this.write("bird.conf", birdConfig(spec));
  }

  get configuration(): string {
    return birdConfig(this.spec);
  }

  start(recover = false): Promise<void> {
    const args = ["-f", "-c", this.path("bird.conf"), "-s", this.path("bird.ctl"), "-P", this.path("bird.pid")];
    const isUp = (): boolean => /up and running|Graceful restart/.test(this.#birdc("show", "status"));
    return this.speak("bird", recover ? [...args, "-R"] : args, isUp);
  }

  /** A new specification for the same files; the running BIRD takes it over. */
  reconfigure(spec: RouterSpec): void {
    this.write("bird.conf", birdConfig(spec));
    this.#birdc("configure");
  }

  isUp(neighbour: string): boolean {
    return /\bEstablished\b/.test(this.#birdc("show", "protocols", this.#protocol(neighbour)));
  }

  received(): number[] {
    const text = this.#birdc("show", "protocols", "all");
    return [...text.matchAll(/Routes:\s+(\d+) imported/g)].map(([, count]) => Number(count));
  }

  routesTo(prefix: string): RouteSeen[] {
    const out: RouteSeen[] = [];
    let protocol = "";
    let fields = new Map<string, string>();
    const finish = (): void => {
      const index = /^n(\d+)$/.exec(protocol)?.[1];
      if (index !== undefined) out.push(routeSeen(this.spec.neighbours[Number(index)]?.address ?? "", fields));
      fields = new Map();
    };
    for (const line of this.#birdc("show", "route", "all", prefix).split("\n")) {
      const begins = /^(?:\S+)?\s+(?:unicast|blackhole|unreachable) \[(\S+) /.exec(line);
      if (begins !== null) {
        finish();
        protocol = begins[1] ?? "";
      }
      const field = /^\s+BGP\.(\w+): (.*)$/.exec(line);
      if (field !== null) fields.set(field[1] ?? "", field[2] ?? "");
    }
    finish();
    return out;
  }

  refresh(neighbour: string): void {
    this.#birdc("reload", "in", this.#protocol(neighbour));
    this.#birdc("reload", "out", this.#protocol(neighbour));
  }

  witness(): string {
    return `${this.#birdc("show", "protocols", "all")}\n${this.#birdc("show", "route", "all")}\n${this.log("bird")}`;
  }

  #protocol(neighbour: string): string {
    return `n${this.spec.neighbours.findIndex((one) => one.address === neighbour)}`;
  }

  #birdc(...command: string[]): string {
    return this.ask("birdc", "-s", this.path("bird.ctl"), ...command);
  }
}

function routeSeen(neighbour: string, fields: ReadonlyMap<string, string>): RouteSeen {
  const groups = (name: string): string[][] =>
    [...(fields.get(name) ?? "").matchAll(/\(([^)]*)\)/g)].map((match) => (match[1] ?? "").split(/,\s*/));
  return {
    neighbour,
    asPath: fields.get("as_path") ?? "",
    nextHop: (fields.get("next_hop") ?? "").split(" ")[0] ?? "",
    communities: groups("community").map((parts) => parts.join(":")),
    routeTargets: groups("ext_community")
      .filter(([kind]) => kind === "rt")
      .map(([, ...parts]) => parts.join(":")),
    largeCommunities: groups("large_community").map((parts) => parts.join(":")),
    originatorId: fields.get("originator_id"),
    clusterList: (fields.get("cluster_list") ?? "").split(" ").filter((id) => id !== ""),
  };
}

const originated = (family: "ipv4" | "ipv6", routes: readonly OriginatedRoute[]): string => {
  const lines = routes
    .filter(({ prefix }) => isIpv6(prefix) === (family === "ipv6"))
    .map(({ prefix, communities = [], routeTargets = [], largeCommunities = [] }) => {
      const adds = [
        ...communities.map((one) => `bgp_community.add((${one.replace(":", ",")}));`),
        ...routeTargets.map((one) => `bgp_ext_community.add((rt,${one.replace(":", ",")}));`),
        ...largeCommunities.map((one) => `bgp_large_community.add((${one.replaceAll(":", ",")}));`),
      ];
      return `route ${prefix} blackhole${adds.length === 0 ? "" : ` { ${adds.join(" ")} }`};`;
    });
  return `protocol static s_${family} { ${family}; ${lines.join("\n")} }`;
};

function neighbourText(one: NeighbourSpec, index: number, as: number): string {
  const channel = (family: "ipv4" | "ipv6"): string => {
    const paths = one.addPath === true ? "add paths on;" : "";
    const hop = family === "ipv6" && one.nextHop6 !== undefined ? `next hop address ${one.nextHop6};` : "";
    const extended = family === "ipv4" && one.extendedNextHop === true ? "extended next hop on;" : "";
    return `${family} { import all; export where source = RTS_STATIC || source = RTS_BGP; ${paths} ${hop} ${extended} };`;
  };
  const zone = one.interface === undefined ? "" : `interface "${one.interface}";`;
  return `protocol bgp n${index} {
  local ${one.localAddress} as ${as};
  neighbor ${one.address} as ${one.as};
  ${zone}
  connect delay time 1; connect retry time 2; error wait time 1,2; hold time 60;
  ${one.password === undefined ? "" : `password "${one.password}";`}
  ${one.ttlSecurityHops === undefined ? "" : `ttl security on; ${one.ttlSecurityHops > 1 ? `multihop ${one.ttlSecurityHops};` : ""}`}
  graceful restart ${one.gracefulRestart === true ? "on" : "off"};
  long lived graceful restart off;
  enable extended messages on;
  ${one.passive === true ? "passive;" : ""}
  ${one.fourOctetAs === false ? "enable as4 off;" : ""}
  ${one.reflectorClient === true ? "rr client;" : ""}
  ${one.families.map(channel).join("\n  ")}
}`;
}

function birdConfig({ as, routerId, neighbours, originate = [], clusterId, multipath, kernel }: RouterSpec): string {
  const wanted = kernel === false ? "none" : "where source = RTS_BGP";
  const merge = multipath === true ? "merge paths on;" : "";
  return `log stderr all;
router id ${routerId};
protocol device {}
protocol direct { ipv4; ipv6; }
protocol kernel { persist; graceful restart; ${merge} ipv4 { import none; export ${wanted}; }; }
protocol kernel { persist; graceful restart; ${merge} ipv6 { import none; export ${wanted}; }; }
${originated("ipv4", originate)}
${originated("ipv6", originate)}
${neighbours.map((one, index) => neighbourText(one, index, as).replace("rr client;", `rr client; ${clusterId === undefined ? "" : `rr cluster id ${clusterId};`}`)).join("\n")}
`;
}
