/**
 * Resources that may be relied on. Each is checked by the model's own rules, which an API server cannot all know; one that breaks them does not count, and the last
 * good version of it goes on counting (`previous.lastGood`). So a slip in a filter neither opens nor closes a session's policy.
 */
import { type BGPConfiguration, type BGPFilter, type BGPPeer, type Prepared, prepare } from "@calico-ts/model";
import type { ModelInput, Problem } from "./model-input.ts";

type Kinds = { BGPConfiguration: BGPConfiguration; BGPFilter: BGPFilter; BGPPeer: BGPPeer };

export type Accepted = BGPConfiguration | BGPFilter | BGPPeer;

export interface CheckedResources {
  readonly configurations: ReadonlyMap<string, BGPConfiguration>;
  /** By name. */
  readonly peers: readonly BGPPeer[];
  readonly filters: ReadonlyMap<string, BGPFilter>;
  readonly lastGood: Map<string, Accepted>;
  /** The cluster's settings are wrong and were never right: anything might be meant. */
  readonly settingsUnknown: boolean;
}

interface Fault {
  readonly field: string;
  readonly why: string;
}

/** What it means that there is no good version of a resource at all. */
const WITHOUT: { readonly [K in keyof Kinds]: string } = {
  BGPConfiguration: "It does not count",
  BGPFilter: "Peers that use it send and take no routes",
  BGPPeer: "Its sessions are not opened",
};

/** Resources are not changed in place, so what was found out about one stays true of it. */
const known = new WeakMap<object, readonly Fault[]>();

function faultsOf<K extends keyof Kinds>(kind: K, resource: Kinds[K]): readonly Fault[] {
  let faults = known.get(resource);
  if (faults === undefined) {
    const prepared = prepare(kind, resource);
    faults = prepared.ok ? [] : prepared.errors.map((error) => ({ field: error.path, why: describe(error) }));
    known.set(resource, faults);
  }
  return faults;
}

type FieldError = Extract<Prepared<"BGPPeer">, { readonly ok: false }>["errors"][number];

const describe = ({ type, value, message }: FieldError): string =>
  `${value === undefined || typeof value === "object" ? type : JSON.stringify(value)}${message === "" ? " is not allowed" : `: ${message}`}`;

export function checkResources(input: ModelInput, problems: Problem[]): CheckedResources {
  const lastGood = new Map<string, Accepted>();
  const before = input.previous?.lastGood;
  const check = <K extends keyof Kinds>(kind: K, resources: readonly Kinds[K][]): Map<string, Kinds[K]> => {
    const good = new Map<string, Kinds[K]>();
    for (const resource of resources.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
      const { name } = resource.metadata;
      const object = `${kind} ${name}`;
      const faults = faultsOf(kind, resource);
      const old = before?.get(object) as Kinds[K] | undefined;
      const used = faults.length === 0 ? resource : old;
      if (used !== undefined) {
        good.set(name, used);
        lastGood.set(object, used);
      }
      const now = old === undefined ? WITHOUT[kind] : "Its last good version stays in force";
      for (const { field, why } of faults) problems.push({ object, field, why, whatToDo: `${now}; mend the field` });
    }
    return good;
  };
  const configurations = check("BGPConfiguration", input.configurations);
  const filters = check("BGPFilter", input.filters);
  const good = [...check("BGPPeer", input.peers).values()];
  const peers = settlePeers(good, { previous: input.previous, filters, lastGood, problems });
  const settingsUnknown =
    !configurations.has("default") && input.configurations.some(({ metadata }) => metadata.name === "default");
  return { configurations, peers, filters, lastGood, settingsUnknown };
}

interface Settling {
  readonly previous: ModelInput["previous"];
  /** Good ones of now; those that stay in force although they are gone are added. */
  readonly filters: Map<string, BGPFilter>;
  readonly lastGood: Map<string, Accepted>;
  readonly problems: Problem[];
}

/**
 * Peers that name filters which are not to be had. A filter that was good before stays in force while it is named. One that never was refuses what names it: the peer
 * stays as it was, or is not taken up, so that what its sessions replace goes on. At the start there is nothing to stay with: then nothing passes.
 */
function settlePeers(peers: readonly BGPPeer[], { previous, filters, lastGood, problems }: Settling): BGPPeer[] {
  const before = previous?.lastGood;
  const keep = (name: string): boolean => {
    const old = before?.get(`BGPFilter ${name}`);
    if (old?.kind !== "BGPFilter") return false;
    lastGood.set(`BGPFilter ${name}`, old);
    return true;
  };
  const settled = peers.flatMap((peer): BGPPeer[] => {
    const object = `BGPPeer ${peer.metadata.name}`;
    const missing = (peer.spec.filters ?? []).flatMap((name, at) => (filters.has(name) ? [] : [{ name, at }]));
    const lost = missing.filter(({ name }) => !keep(name));
    const old = before?.get(object);
    const used = lost.length === 0 || previous?.config === undefined ? peer : old?.kind === "BGPPeer" ? old : undefined;
    for (const { name, at } of missing) {
      const isLost = lost.some((one) => one.at === at);
      const now = !isLost
        ? "Its last good version stays in force"
        : used === undefined
          ? "The peer is not taken up"
          : used === peer
            ? "The peer sends and takes no routes"
            : "The peer stays as it was";
      const whatToDo = `${now}; make the filter, or take its name out of the peer`;
      problems.push({ object, field: `spec.filters[${at}]`, why: `there is no good BGPFilter ${name}`, whatToDo });
    }
    if (used === undefined) {
      lastGood.delete(object);
      return [];
    }
    lastGood.set(object, used);
    for (const name of used.spec.filters ?? []) if (!filters.has(name)) keep(name);
    return [used];
  });
  for (const resource of lastGood.values()) {
    if (resource.kind === "BGPFilter" && !filters.has(resource.metadata.name)) {
      filters.set(resource.metadata.name, resource);
    }
  }
  return settled;
}
