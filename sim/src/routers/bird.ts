/** BIRD 2 as a router's speaker. Its manual, chapters 3 (configuration), 4 (client), 6.3 (bgp), 6.7 (kernel). */
import { join } from "node:path";
import { formatPrefix } from "@calico-ts/net";
import type { SessionPlan, SpeakerPlan } from "../topology/plan.ts";
import type { SpeakerDriver } from "./speaker.ts";
import {
  CONNECT_RETRY_SECONDS,
  ESTABLISHED,
  families,
  MAX_PATHS,
  originated,
  RESTART_SECONDS,
  text,
} from "./speaker.ts";

const socket = (folder: string): string => join(folder, "bird.ctl");

function kernelAndStatic(plan: SpeakerPlan, family: 4 | 6): string {
  const channel = `ipv${family}`;
  const routes = originated(plan, family).map((prefix) => `  route ${formatPrefix(prefix)} unreachable;`);
  return `protocol kernel kernel${family} {
  ${channel} {
    import all;
    export filter { if source = RTS_BGP then accept; reject; };
  };
  learn;
  persist;
  graceful restart on;
  merge paths on limit ${MAX_PATHS};
}
protocol static originate${family} {
  ${channel};
${routes.join("\n")}
}`;
}

function session(
  plan: SpeakerPlan,
  { local, remote, remoteAs, client, password, name }: SessionPlan,
  index: number,
): string {
  const reflector =
    client && plan.clusterId !== undefined ? [`rr client;`, `rr cluster id ${text(plan.clusterId)};`] : [];
  const lines = [
    `description ${JSON.stringify(name)};`,
    `local ${text(local)} as ${plan.as};`,
    `neighbor ${text(remote)} as ${remoteAs};`,
    ...reflector,
    ...(password === undefined ? [] : [`password ${JSON.stringify(password)};`]),
    `connect delay time ${CONNECT_RETRY_SECONDS};`,
    `connect retry time ${CONNECT_RETRY_SECONDS};`,
    `error wait time 1, 5;`,
    `graceful restart on;`,
    `graceful restart time ${RESTART_SECONDS};`,
    `ipv${local.family} {`,
    // Routes from outside the AS are told inside it with ourselves as the way; reflected ones keep theirs.
    `  next hop self ebgp;`,
    `  import all;`,
    `  export filter { if source ~ [ RTS_BGP, RTS_STATIC ] then accept; reject; };`,
    `};`,
  ];
  return `protocol bgp s${index} {\n${lines.map((line) => `  ${line}`).join("\n")}\n}`;
}

export const bird: SpeakerDriver = {
  needs: [
    { program: "bird", package: "bird2" },
    { program: "birdc", package: "bird2" },
  ],
  files: ({ plan }) => ({
    "bird.conf": `${[
      "log stderr all;",
      `router id ${text(plan.routerId)};`,
      // Not the manual's 240: neighbours that restart are waited for, not addresses that never answer.
      `graceful restart wait ${RESTART_SECONDS};`,
      "protocol device { scan time 5; }",
      "protocol direct { ipv4; ipv6; }",
      ...families(plan).map((family) => kernelAndStatic(plan, family)),
      ...plan.sessions.map((each, index) => session(plan, each, index)),
    ].join("\n")}\n`,
  }),
  processes: ({ folder }, again) => [
    {
      name: "bird",
      argv: [
        "bird",
        "-f",
        "-c",
        join(folder, "bird.conf"),
        "-s",
        socket(folder),
        "-P",
        join(folder, "bird.pid"),
        ...(again ? ["-R"] : []),
      ],
    },
  ],
  ask: ({ folder }) => ["birdc", "-r", "-s", socket(folder), "show", "protocols"],
  sessions: ({ plan }, output) =>
    plan.sessions.map((_session, index) => {
      // name, proto, table, state, since (a time of today, or a date), info: "Established", "Active        Socket: Connection refused"
      const line = new RegExp(`^s${index}\\s+BGP\\s+\\S+\\s+\\S+\\s+[\\d:.-]+\\s+(.*)$`, "m").exec(output);
      const info = line?.[1]?.trim().replaceAll(/\s+/g, " ");
      return info?.startsWith(ESTABLISHED) === true ? ESTABLISHED : info;
    }),
  hint: ({ folder }) => `birdc -s ${socket(folder)}`,
};
