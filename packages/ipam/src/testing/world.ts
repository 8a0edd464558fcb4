/** A datastore with nodes and pools, and the invariants every state of it must satisfy. For the tests of this package. */
import { type DatastoreClient, openMemory } from "@calico-ts/datastore";
import type { IPPool, IPPoolSpec, KindMap } from "@calico-ts/model";
import { formatAddress, type IpAddress, parseAddress, parsePrefix } from "@calico-ts/net";
import { FakeClock } from "@calico-ts/runtime/testing";
import {
  addressOf as addressOfOrdinal,
  blockProblems,
  handleCounts,
  handleName,
  HostAllocator,
  Ipam,
  type IpamConfig,
  ordinalsByHandle,
  parseOwner,
} from "../index.ts";

export interface World {
  readonly store: DatastoreClient;
  readonly clock: FakeClock;
  readonly ipam: Ipam;
  host(name: string, client?: DatastoreClient): HostAllocator;
}

export interface WorldOptions {
  readonly pools?: Readonly<Record<string, Partial<IPPoolSpec> & { readonly cidr: string }>>;
  readonly nodes?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly config?: Partial<IpamConfig>;
  readonly reservations?: readonly string[];
}

let serial = 0;

/** Opens an empty store. */
export type StoreFactory = (clock: FakeClock) => Promise<DatastoreClient>;

const inMemory: StoreFactory = async (clock) => {
  let uid = 0;
  return openMemory({ clock, newUid: () => `uid-${uid++}` });
};

let openStore = inMemory;

/** Every world made from now on lies in such a store: the same tests, on another datastore. */
export function makeWorldsIn(factory: StoreFactory): void {
  openStore = factory;
}

export async function makeWorld(options: WorldOptions = {}): Promise<World> {
  const clock = new FakeClock();
  const store = await openStore(clock);
  const pools = options.pools ?? { default: { cidr: "10.0.0.0/24", blockSize: 28 } };
  for (const [name, spec] of Object.entries(pools)) await store.create("IPPool", poolResource(name, spec));
  for (const [name, labels] of Object.entries(options.nodes ?? { a: {}, b: {}, c: {} }))
    await addNode(store, name, labels);
  if (options.reservations !== undefined) {
    await store.create("IPReservation", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPReservation",
      metadata: { name: `reserved-${serial++}` },
      spec: { reservedCIDRs: [...options.reservations] },
    });
  }
  const ipam = new Ipam({ client: store, clock });
  if (options.config !== undefined) await ipam.setConfig({ ...(await ipam.config()), ...options.config });
  const host = (name: string, client: DatastoreClient = store): HostAllocator =>
    new HostAllocator({ client, clock, host: name });
  return { store, clock, ipam, host };
}

export const poolResource = (name: string, spec: Partial<IPPoolSpec> & { readonly cidr: string }): IPPool => ({
  apiVersion: "projectcalico.org/v3",
  kind: "IPPool",
  metadata: { name },
  spec,
});

export async function addNode(
  store: DatastoreClient,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  const node = { apiVersion: "v1", kind: "Node", metadata: { name, labels: { ...labels } } };
  await store.create("Node", node as KindMap["Node"]);
}

export const texts = (addresses: readonly { readonly address: IpAddress }[]): string[] =>
  addresses.map(({ address }) => formatAddress(address));

export const ip = parseAddress;
export const cidr = parsePrefix;

export const forPod = (handle: string) => ({
  handle,
  attributes: { pod: handle, namespace: "default" },
  want4: true,
  want6: false,
});

/** Which handle has each address, from the blocks. */
export async function holders(store: DatastoreClient): Promise<Map<string, string>> {
  const held = new Map<string, string>();
  for (const { spec } of (await store.list("IPAMBlock")).items) {
    for (const [handle, ordinals] of ordinalsByHandle(spec)) {
      for (const ordinal of ordinals) {
        const address = addressOfOrdinal(parsePrefix(spec.cidr), ordinal);
        held.set(formatAddress(address), handle);
      }
    }
  }
  return held;
}

export interface ProblemOptions {
  /** At rest handles count exactly; in the middle of something they may count too high, never too low. */
  readonly atRest: boolean;
}

/** What is wrong with the records as a whole; empty when all is well. */
export async function worldProblems(store: DatastoreClient, { atRest }: ProblemOptions): Promise<string[]> {
  const problems: string[] = [];
  const [blocks, handles, affinities] = await Promise.all([
    store.list("IPAMBlock"),
    store.list("IPAMHandle"),
    store.list("BlockAffinity"),
  ]);
  const counted = new Map(handles.items.map((item) => [handleName(item.spec.handleID), item.spec.block]));
  const actual = new Map<string, Record<string, number>>();
  for (const { spec } of blocks.items) {
    problems.push(...blockProblems(spec).map((problem) => `block ${spec.cidr}: ${problem}`));
    for (const [handle, held] of handleCounts(spec)) {
      const name = handleName(handle);
      const count = counted.get(name)?.[spec.cidr];
      if (count === undefined && !held.needsRecord) continue;
      actual.set(name, { ...actual.get(name), [spec.cidr]: held.count });
      if ((count ?? 0) < held.count)
        problems.push(`handle ${name} counts ${count ?? 0} in ${spec.cidr}, which has ${held.count}`);
    }
    const owner = parseOwner(spec.affinity);
    const affinity = affinities.items.find((item) => item.spec.cidr === spec.cidr && item.spec.node === owner?.name);
    if (owner !== undefined && affinity === undefined)
      problems.push(`block ${spec.cidr} is ${spec.affinity}'s, without affinity`);
  }
  for (const { spec } of affinities.items) {
    if (spec.state !== "confirmed") {
      if (atRest) problems.push(`affinity of ${spec.node} for ${spec.cidr} is ${spec.state}`);
      continue;
    }
    const block = blocks.items.find((item) => item.spec.cidr === spec.cidr);
    if (block !== undefined && block.spec.affinity !== `host:${spec.node}`) {
      problems.push(`${spec.node} has a confirmed affinity for ${spec.cidr} of ${block.spec.affinity ?? "nobody"}`);
    }
  }
  if (atRest) {
    for (const [name, counts] of counted) {
      const exact = JSON.stringify(sorted(counts)) === JSON.stringify(sorted(actual.get(name) ?? {}));
      if (!exact)
        problems.push(
          `handle ${name} counts ${JSON.stringify(counts)} but has ${JSON.stringify(actual.get(name) ?? {})}`,
        );
    }
  }
  return problems;
}

const sorted = (record: Readonly<Record<string, number>>): [string, number][] =>
  Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1));
