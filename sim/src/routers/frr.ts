/** FRR (zebra and bgpd) as a router's speaker. Its manual, chapters "Zebra", "BGP", "Graceful Restart", "VTY shell". */
import { join } from "node:path";
import { formatPrefix } from "@calico-ts/net";
import type { SessionPlan, SpeakerPlan } from "../topology/plan.ts";
import type { SpeakerDriver } from "./speaker.ts";
import { CONNECT_RETRY_SECONDS, families, MAX_PATHS, originated, RESTART_SECONDS, text } from "./speaker.ts";

/**
 * Whenever bgpd starts, it tells and programs nothing until every neighbour has told all it has, and now and then it misses that a neighbour
 * has (seen when connections collided); its own default is to wait six minutes. Long enough for neighbours to come back after it died.
 */
export const DEFER_SECONDS = 30;
/** A neighbour that is not there by then is not waited for. */
const COME_SECONDS = 15;

const DAEMONS = "/usr/lib/frr";

function neighbour({ local, remote, remoteAs, password, name }: SessionPlan): string[] {
  const at = ` neighbor ${text(remote)}`;
  return [
    `${at} remote-as ${remoteAs}`,
    `${at} description ${name}`,
    `${at} update-source ${text(local)}`,
    `${at} timers connect ${CONNECT_RETRY_SECONDS}`,
    `${at} disable-connected-check`,
    ...(password === undefined ? [] : [`${at} password ${password}`]),
  ];
}

function addressFamily(plan: SpeakerPlan, family: 4 | 6): string[] {
  return [
    ` address-family ipv${family} unicast`,
    ...originated(plan, family).map((prefix) => `  network ${formatPrefix(prefix)}`),
    ...plan.sessions
      .filter(({ local }) => local.family === family)
      .flatMap(({ remote, client }) => [
        `  neighbor ${text(remote)} activate`,
        // Concerns routes from outside the AS only; reflected ones keep their next hop.
        `  neighbor ${text(remote)} next-hop-self`,
        ...(client ? [`  neighbor ${text(remote)} route-reflector-client`] : []),
      ]),
    `  maximum-paths ${MAX_PATHS}`,
    `  maximum-paths ibgp ${MAX_PATHS}`,
    " exit-address-family",
  ];
}

/** Sockets and pid files in the router's folder; rights as root, since nothing but root may look into a run's folder. */
const common = (folder: string): string[] => [
  "-u",
  "root",
  "-g",
  "frrvty",
  "-z",
  join(folder, "zserv.api"),
  "--vty_socket",
  folder,
  "-P",
  "0",
  "--log",
  "stdout",
];

export const frr: SpeakerDriver = {
  needs: [
    { program: `${DAEMONS}/bgpd`, package: "frr" },
    { program: "vtysh", package: "frr" },
  ],
  files: ({ router, plan }) => ({
    "zebra.conf": `hostname ${router}\n`,
    "vtysh.conf": "no service integrated-vtysh-config\n",
    "bgpd.conf": `${[
      `hostname ${router}`,
      `router bgp ${plan.as}`,
      ` bgp router-id ${text(plan.routerId)}`,
      ...(plan.clusterId === undefined ? [] : [` bgp cluster-id ${text(plan.clusterId)}`]),
      " no bgp ebgp-requires-policy",
      " no bgp default ipv4-unicast",
      " no bgp network import-check",
      " bgp bestpath as-path multipath-relax",
      " bgp graceful-restart",
      " bgp graceful-restart preserve-fw-state",
      ` bgp graceful-restart restart-time ${RESTART_SECONDS}`,
      ` bgp graceful-restart select-defer-time ${DEFER_SECONDS}`,
      // By itself it waits for those neighbours only that are there already, and takes from each what a later one has to tell.
      ` update-delay ${2 * DEFER_SECONDS} ${DEFER_SECONDS}`,
      // That alone waits for those neighbours only that are there already; this, for every one that comes within the second number.
      ` update-delay ${DEFER_SECONDS} ${COME_SECONDS}`,
      ...plan.sessions.flatMap(neighbour),
      ...families(plan).flatMap((family) => addressFamily(plan, family)),
    ].join("\n")}\n`,
  }),
  processes: ({ folder }) => [
    {
      name: "zebra",
      // -r and -K: routes stay when zebra goes, and it takes them over when it comes back.
      argv: [
        `${DAEMONS}/zebra`,
        "-f",
        join(folder, "zebra.conf"),
        "-i",
        join(folder, "zebra.pid"),
        "-A",
        "127.0.0.1",
        "-r",
        "-K",
        String(RESTART_SECONDS),
        ...common(folder),
      ],
    },
    {
      name: "bgpd",
      argv: [
        `${DAEMONS}/bgpd`,
        "-f",
        join(folder, "bgpd.conf"),
        "-i",
        join(folder, "bgpd.pid"),
        "-A",
        "127.0.0.1",
        ...common(folder),
      ],
    },
  ],
  ask: ({ folder }) => [...shell(folder), "-c", "show bgp summary json"],
  sessions: ({ plan }, output) => {
    const families = readJson(output);
    return plan.sessions.map(
      ({ local, remote }) => families[`ipv${local.family}Unicast`]?.peers?.[text(remote)]?.state,
    );
  },
  hint: ({ folder }) => shell(folder).join(" "),
};

const shell = (folder: string): string[] => ["vtysh", "--vty_socket", folder, "--config_dir", folder];

type Summary = Partial<Record<string, { readonly peers?: Partial<Record<string, { readonly state?: string }>> }>>;

function readJson(output: string): Summary {
  try {
    return JSON.parse(output.slice(output.indexOf("{"))) as Summary;
  } catch {
    return {}; // not answering yet
  }
}
