/** The processes of a run as `/proc` shows them: what each is, where it runs, and which it started. */
import { readFileSync } from "node:fs";
import { listNamespaces, namespaceInode } from "@calico-ts/linux";
import { EXEC_VARIABLE, namespacePath, namespacePrefix } from "../names.ts";
import type { OwnedProcess } from "../run/processes.ts";
import { ownedProcesses } from "../run/processes.ts";
import type { ProcessKind } from "./process-kinds.ts";
import { OTHER, SIMULATOR } from "./process-kinds.ts";

export interface Victim {
  readonly kind: ProcessKind;
  /** `node-1`, `router.tor-1`, `pod-…`, or `host`. */
  readonly place: string;
  readonly pid: number;
  readonly startTicks: number;
  /** Those that go with it, and come back after it. */
  readonly children: readonly Victim[];
}

/** Names one process of a run for good, whatever its number is now. */
export const victimName = ({ kind, place }: Pick<Victim, "kind" | "place">): string => `${kind.name} in ${place}`;

/** A process as read, before anything is made of it. */
export interface SeenProcess extends Pick<OwnedProcess, "pid" | "parent" | "startTicks"> {
  readonly commandLine: string;
  readonly place: string;
}

/** Every process of the run but short commands and those that users run with `exec`, in the order of the kinds, then of places. */
export function listVictims(run: string, kinds: readonly ProcessKind[]): Victim[] {
  return arrange(seenProcesses(run), kinds);
}

/** Short commands are what shells started: they come and go by themselves, and are no part of a list. */
export function arrange(seen: readonly SeenProcess[], kinds: readonly ProcessKind[]): Victim[] {
  const order = [...kinds, OTHER, SIMULATOR];
  const known = new Map(seen.map((each) => [each.pid, each]));
  const kindOf = (each: SeenProcess): ProcessKind =>
    [SIMULATOR, ...kinds].find(({ commandLine }) => commandLine.test(each.commandLine)) ?? OTHER;
  const isShort = (each: SeenProcess): boolean => {
    const parent = known.get(each.parent);
    return parent !== undefined && (kindOf(parent).comesBack === "when needed" || isShort(parent));
  };
  const kept = seen.filter((each) => !isShort(each));
  const make = (each: SeenProcess): Victim => ({
    kind: kindOf(each),
    place: each.place,
    pid: each.pid,
    startTicks: each.startTicks,
    // The daemon started everything, but nothing goes with it.
    children: kindOf(each) === SIMULATOR ? [] : kept.filter(({ parent }) => parent === each.pid).map(make),
  });
  return kept
    .map(make)
    .toSorted(
      (a, b) =>
        order.indexOf(a.kind) - order.indexOf(b.kind) || a.place.localeCompare(b.place, "en", { numeric: true }),
    );
}

function seenProcesses(run: string): SeenProcess[] {
  const prefix = namespacePrefix(run);
  const places = new Map(
    listNamespaces()
      .filter((name) => name.startsWith(prefix))
      .map((name) => [inodeOf(name), name.slice(prefix.length)]),
  );
  return ownedProcesses()
    .filter((each) => each.run === run)
    .flatMap(({ pid, parent, startTicks }) => {
      try {
        if (readFileSync(`/proc/${pid}/environ`, "latin1").includes(`\0${EXEC_VARIABLE}=`)) return []; // a user's own
        const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        const place = places.get(namespaceInode(`/proc/${pid}/ns/net`)) ?? "host";
        return [{ pid, parent, startTicks, commandLine, place }];
      } catch {
        return []; // ended while we looked
      }
    });
}

function inodeOf(name: string): string {
  try {
    return namespaceInode(namespacePath(name));
  } catch {
    return "gone";
  }
}
