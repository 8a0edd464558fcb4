/** What the simulator knows of each BGP program a router may run: its files, its processes, and how to ask for its sessions. */
import type { IpAddress, Prefix } from "@calico-ts/net";
import { formatAddress } from "@calico-ts/net";
import type { SpeakerPlan } from "../topology/plan.ts";

/** A process of the speaker; several are started in this order. */
export interface SpeakerProcess {
  readonly name: string;
  readonly argv: readonly string[];
}

export interface SpeakerContext {
  readonly router: string;
  readonly plan: SpeakerPlan;
  /** Exists, and belongs to this router alone: configuration, sockets, pid files. */
  readonly folder: string;
  /** How the caller's own speaker is started (`calico-ts`); empty when none was plugged in. */
  readonly ownSpeaker: readonly string[];
}

export interface SpeakerDriver {
  /** Programs looked for before anything is created, and the Debian package that has them. */
  readonly needs: readonly { readonly program: string; readonly package: string }[];
  /** By name below the folder. */
  files(context: SpeakerContext): Readonly<Record<string, string>>;
  /** `again`: a program that was there before and died; it asks its neighbours to keep forwarding (RFC 4724). */
  processes(context: SpeakerContext, again: boolean): readonly SpeakerProcess[];
  /** Run in the router's namespace; its output is for `sessions`. */
  ask(context: SpeakerContext): readonly string[];
  /** State by session, as `plan.sessions` has them; undefined where the output does not tell. */
  sessions(context: SpeakerContext, output: string): readonly (string | undefined)[];
  /** For people: a command that shows more. */
  hint(context: SpeakerContext): string;
}

export const ESTABLISHED = "Established";

/** Seconds. A router that is asked to keep forwarding for a neighbour that restarts does so for this long. */
export const RESTART_SECONDS = 120;
export const CONNECT_RETRY_SECONDS = 1;
export const MAX_PATHS = 16;

export const families = (plan: SpeakerPlan): (4 | 6)[] => {
  const found = [...plan.sessions.map(({ local }) => local.family), ...plan.originate.map(({ family }) => family)];
  return ([4, 6] as const).filter((family) => found.includes(family));
};

export const originated = (plan: SpeakerPlan, family: 4 | 6): readonly Prefix[] =>
  plan.originate.filter((prefix) => prefix.family === family);

export const text = (address: IpAddress): string => formatAddress(address);
