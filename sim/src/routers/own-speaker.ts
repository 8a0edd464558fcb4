/**
 * Our own speaker as a router's: a program that the caller plugs in, told what to do by one JSON file.
 *
 * `<program> run FOLDER` speaks as `FOLDER/speaker.json` says (`SpeakerFile`) until a signal; `<program> status FOLDER` prints
 * a JSON list of `{ address, state }`, one for each session, with `Established` for one that stands.
 */
import { formatPrefix } from "@calico-ts/net";
import type { SpeakerPlan } from "../topology/plan.ts";
import type { SpeakerContext, SpeakerDriver } from "./speaker.ts";
import { RESTART_SECONDS, text } from "./speaker.ts";

/** Addresses and prefixes are text. */
export interface SpeakerFile {
  readonly as: number;
  readonly routerId: string;
  readonly clusterId?: string;
  readonly restartSeconds: number;
  readonly originate: readonly string[];
  readonly sessions: readonly {
    readonly name: string;
    readonly local: string;
    readonly remote: string;
    readonly remoteAs: number;
    readonly client: boolean;
    readonly password?: string;
  }[];
}

export const SPEAKER_FILE = "speaker.json";

export const ownSpeaker: SpeakerDriver = {
  needs: [],
  files: ({ plan }) => ({ [SPEAKER_FILE]: `${JSON.stringify(speakerFile(plan), null, 2)}\n` }),
  processes: ({ ownSpeaker: program, folder }) => [{ name: "calico-speaker", argv: [...program, "run", folder] }],
  ask: ({ ownSpeaker: program, folder }) => [...program, "status", folder],
  sessions: ({ plan }, output) => {
    const found = readJson(output);
    return plan.sessions.map(({ remote }) => found.find(({ address }) => address === text(remote))?.state);
  },
  hint: ({ ownSpeaker: program, folder }: SpeakerContext) => [...program, "status", folder].join(" "),
};

function speakerFile({ as, routerId, clusterId, originate, sessions }: SpeakerPlan): SpeakerFile {
  return {
    as,
    routerId: text(routerId),
    ...(clusterId === undefined ? {} : { clusterId: text(clusterId) }),
    restartSeconds: RESTART_SECONDS,
    originate: originate.map(formatPrefix),
    sessions: sessions.map(({ name, local, remote, remoteAs, client, password }) => ({
      name,
      local: text(local),
      remote: text(remote),
      remoteAs,
      client,
      ...(password === undefined ? {} : { password }),
    })),
  };
}

function readJson(output: string): readonly { readonly address: string; readonly state: string }[] {
  try {
    return JSON.parse(output) as { address: string; state: string }[];
  } catch {
    return []; // not answering yet
  }
}
