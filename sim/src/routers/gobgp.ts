/** GoBGP as a route reflector: it passes routes on and programs none. Its docs: configuration.md, graceful-restart.md. */
import { join } from "node:path";
import type { SessionPlan, SpeakerPlan } from "../topology/plan.ts";
import type { SpeakerDriver } from "./speaker.ts";
import { CONNECT_RETRY_SECONDS, ESTABLISHED, RESTART_SECONDS, text } from "./speaker.ts";

/** Its API has no other door than a port; loopback of the router's namespace, which nobody else has. */
const API = "127.0.0.1:50051";

/** By number, `PeerState.SessionState` of its API. */
const STATES = ["Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", ESTABLISHED];

function neighbour(
  plan: SpeakerPlan,
  { with: kind, local, remote, remoteAs, client, password, name }: SessionPlan,
): unknown {
  return {
    config: {
      "neighbor-address": text(remote),
      "peer-as": remoteAs,
      description: name,
      ...(password === undefined ? {} : { "auth-password": password }),
    },
    // Nodes connect. Two connections at one time cost GoBGP the session and half a minute now and then.
    transport: { config: { "local-address": text(local), "passive-mode": kind === "node" } },
    timers: { config: { "connect-retry": CONNECT_RETRY_SECONDS, "idle-hold-time-after-reset": 1 } },
    "graceful-restart": { config: { enabled: true, "restart-time": RESTART_SECONDS } },
    ...(client && {
      "route-reflector": {
        config: {
          "route-reflector-client": true,
          ...(plan.clusterId === undefined ? {} : { "route-reflector-cluster-id": text(plan.clusterId) }),
        },
      },
    }),
    "afi-safis": [
      {
        config: { "afi-safi-name": `ipv${local.family}-unicast` },
        "mp-graceful-restart": { config: { enabled: true } },
      },
    ],
  };
}

export const gobgp: SpeakerDriver = {
  needs: [
    { program: "gobgpd", package: "gobgpd" },
    { program: "gobgp", package: "gobgpd" },
  ],
  files: ({ plan }) => ({
    "gobgp.json": JSON.stringify(
      {
        global: { config: { as: plan.as, "router-id": text(plan.routerId) } },
        neighbors: plan.sessions.map((session) => neighbour(plan, session)),
      },
      null,
      2,
    ),
  }),
  processes: ({ folder }, again) => [
    {
      name: "gobgpd",
      argv: [
        "gobgpd",
        "-t",
        "json",
        "-f",
        join(folder, "gobgp.json"),
        "--api-hosts",
        API,
        "--pprof-disable",
        ...(again ? ["-r"] : []),
      ],
    },
  ],
  ask: () => ["gobgp", "neighbor", "-j"],
  sessions: ({ plan }, output) => {
    const neighbours = readJson(output);
    return plan.sessions.map(({ remote }) => {
      const state = neighbours.find((each) => each.state?.neighbor_address === text(remote))?.state?.session_state;
      return state === undefined ? undefined : STATES[state];
    });
  },
  hint: () => "gobgp",
};

type Neighbours = readonly {
  readonly state?: { readonly neighbor_address?: string; readonly session_state?: number };
}[];

function readJson(output: string): Neighbours {
  try {
    return JSON.parse(output) as Neighbours;
  } catch {
    return []; // not answering yet
  }
}
