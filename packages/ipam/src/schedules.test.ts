import { formatAddress, type IpAddress } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import { Schedule } from "./testing/schedule.ts";
import { addNode, forPod, holders, makeWorld, type World, worldProblems } from "./testing/world.ts";
import type { HandleRecords } from "./assign-batch.ts";
import { Collector } from "./gc/collector.ts";
import { HostAllocator } from "./host-allocator.ts";
import { Ipam } from "./ipam.ts";

const HOSTS = ["a", "b", "c"];

interface Story {
  readonly world: World;
  readonly schedule: Schedule;
  readonly records: HandleRecords;
  /** Addresses of pods that run, by our own account. */
  readonly ledger: Map<string, string>;
  /** Pods whose ADD failed or whose agent died: the kubelet will call DEL for them. */
  readonly toDelete: Set<string>;
  readonly problems: string[];
  /** Nodes whose story is over. */
  ended: number;
}

/** A node: an agent that starts and stops pods, crashes now and then, and is started again. */
async function nodeStory(story: Story, host: string, steps: number): Promise<void> {
  const { world, schedule, ledger, records, toDelete } = story;
  const start = () => {
    const actor = schedule.actor(host, world.store);
    return { actor, allocator: new HostAllocator({ client: actor.client, clock: world.clock, host, records }) };
  };
  let agent = start();
  const running = new Set<string>();
  const busy: Promise<void>[] = [];
  const add = async (handle: string): Promise<void> => {
    const { allocator } = agent;
    await putPod(world, handle, host);
    try {
      const [assigned] = await allocator.assign({
        ...forPod(handle),
        attributes: { node: host, pod: handle, namespace: "default" },
      });
      if (assigned === undefined) return;
      const address = formatAddress(assigned.address);
      const other = ledger.get(address);
      if (other !== undefined) story.problems.push(`${address} given to ${handle} while ${other} has it`);
      ledger.set(address, handle);
      running.add(handle);
    } catch {
      await world.store.delete("Pod", { namespace: "default", name: handle });
      toDelete.add(handle);
    }
  };
  const del = async (handle: string): Promise<void> => {
    running.delete(handle);
    for (const [address, holder] of ledger) if (holder === handle) ledger.delete(address);
    toDelete.add(handle);
    await world.store.delete("Pod", { namespace: "default", name: handle });
    const { allocator } = agent;
    await allocator.release(handle).then(
      () => void toDelete.delete(handle),
      () => undefined,
    );
  };
  for (let step = 0; step < steps; step++) {
    const dice = schedule.choose(1000) / 1000;
    const victim = [...running][0];
    if (dice < 0.5) busy.push(add(`${host}-${step}`));
    else if (dice < 0.85 && victim !== undefined) busy.push(del(victim));
    else if (dice < 0.93) {
      agent.actor.crash();
      agent = start();
    } else await world.clock.advance(70_000);
    if (schedule.chance(0.5)) await Promise.all(busy.splice(0));
  }
  await Promise.all(busy);
  story.ended++;
}

/** The pod's record is there as long as anybody may use its address. */
async function putPod({ store }: World, name: string, node: string): Promise<void> {
  await store.create("Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: { nodeName: node, containers: [{ name: "main" }] },
  });
}

/** A controller that gives back unused blocks of whatever node. */
async function controllerStory(story: Story): Promise<void> {
  const { world, schedule } = story;
  const actor = schedule.actor("controller", world.store);
  const ipam = new Ipam({ client: actor.client, clock: world.clock });
  while (story.ended < HOSTS.length) {
    for (let idle = 0; idle < 8; idle++) await actor.client.list("IPPool");
    await ipam.releaseHostAffinities(schedule.pick(HOSTS), { mustBeEmpty: true }).catch(() => undefined);
  }
}

/** A cluster whose old controller has not ended when the new one starts: two collectors at the same time. */
async function collectorStory(story: Story, name: string): Promise<void> {
  const { world, schedule } = story;
  const actor = schedule.actor(name, world.store);
  const collector = new Collector({ client: actor.client, clock: world.clock, grace: { leakMs: 60_000 } });
  while (story.ended < HOSTS.length) {
    for (let idle = schedule.choose(8); idle > 0; idle--) await actor.client.list("IPPool");
    await collector.pass().catch(() => undefined);
    await world.clock.advance(30_000);
  }
}

async function play(seed: number): Promise<void> {
  const schedule = new Schedule({ seed });
  const strictAffinity = schedule.chance(0.3);
  const cidr = schedule.pick(["10.0.0.0/28", "10.0.0.0/29", "10.0.0.0/26"]);
  const records = schedule.pick<HandleRecords>(["borrowed", "all"]);
  const world = await makeWorld({ pools: { small: { cidr, blockSize: 30 } }, config: { strictAffinity } });
  const story: Story = { world, schedule, records, ledger: new Map(), toDelete: new Set(), problems: [], ended: 0 };
  for (const host of HOSTS) schedule.start(() => nodeStory(story, host, 10));
  schedule.start(() => controllerStory(story));
  if (schedule.chance(0.3)) for (const name of ["gc1", "gc2"]) schedule.start(() => collectorStory(story, name));
  await schedule.run(async () => {
    story.problems.push(...(await worldProblems(world.store, { atRest: false })));
    if (story.problems.length > 0) throw new Error(`seed ${seed}: ${story.problems[0]}\n${schedule.trace.join("\n")}`);
  });
  // The kubelets call DEL until it succeeds; every agent starts once more and completes what was begun.
  for (const handle of story.toDelete) await world.ipam.releaseByHandle(handle);
  for (const host of HOSTS) {
    const allocator = world.host(host);
    await allocator.assign({ ...forPod(`last-${host}`), attributes: { node: host } }).catch(() => undefined);
    await allocator.release(`last-${host}`);
  }
  const blocks = listed(await holders(world.store));
  const account = listed(story.ledger);
  if (blocks !== account) story.problems.push(`the blocks say ${blocks}, we say ${account}`);
  story.problems.push(...(await worldProblems(world.store, { atRest: true })));
  if (story.problems.length > 0) throw new Error(`seed ${seed}: ${story.problems[0]}\n${schedule.trace.join("\n")}`);
}

const listed = (held: ReadonlyMap<string, string>): string =>
  [...held]
    .map(([address, handle]) => `${address}=${handle}`)
    .toSorted((a, b) => (a < b ? -1 : 1))
    .join(" ");

describe("interleavings and crashes", () => {
  // More with IPAM_SCHEDULES=10000; a failing seed is named in the message and can be run alone.
  const schedules = Number(process.env["IPAM_SCHEDULES"] ?? 150);
  const first = Number(process.env["IPAM_SEED"] ?? 1);
  test(`${schedules} schedules: no address twice, none lost, the books right at every step`, {
    timeout: 3_600_000,
  }, async () => {
    for (let seed = first; seed < first + schedules; seed++) await play(seed);
    expect(schedules).toBeGreaterThan(0);
  });

  test("a limit of one address for a handle that two nodes assign to at once", { timeout: 120_000 }, async () => {
    for (let seed = 1; seed <= 150; seed++) {
      const schedule = new Schedule({ seed });
      const shared = await makeWorld({ pools: { v4: { cidr: "10.0.0.0/28", blockSize: 30 } }, nodes: {} });
      for (const name of ["a", "b"]) await addNode(shared.store, name);
      const got: string[] = [];
      for (const host of ["a", "b"]) {
        schedule.start(async () => {
          const { client } = schedule.actor(host, shared.store);
          const allocator = new HostAllocator({ client, clock: shared.clock, host });
          const request = {
            handle: "net.vmi.shop.db",
            attributes: { node: host },
            want4: true,
            want6: false,
            maxPerHandle: 1,
          };
          for (let tries = 0; tries < 30; tries++) {
            try {
              const [assigned] = await allocator.assign(request);
              if (assigned !== undefined) got.push(formatAddress(assigned.address));
              return;
            } catch (error) {
              // The other one has raised the count and not written its block yet: what a runtime does is to ask again.
              if (!(error as Error).message.includes("under way")) throw error;
            }
          }
        });
      }
      await schedule.run(async () => {
        const held = await holders(shared.store);
        if (held.size > 1) throw new Error(`seed ${seed}: two addresses\n${schedule.trace.join("\n")}`);
      });
      expect(new Set(got).size, `seed ${seed}`).toBe(1);
      expect(await worldProblems(shared.store, { atRest: true }), `seed ${seed}`).toEqual([]);
    }
  });

  test("a crash between a handle's count and its block does not stop the next assignment", {
    timeout: 120_000,
  }, async () => {
    const schedules = Number(process.env["IPAM_SCHEDULES"] ?? 300);
    for (let seed = 1; seed <= schedules; seed++) {
      const schedule = new Schedule({ seed });
      const shared = await makeWorld({ pools: { v4: { cidr: "10.0.0.0/28", blockSize: 30 } }, nodes: {} });
      for (const name of ["a", "b"]) await addNode(shared.store, name);
      const handle = "net.vmi.shop.db";
      const request = (host: string) => ({
        handle,
        attributes: { node: host },
        want4: true,
        want6: false,
        maxPerHandle: 1,
      });
      /** Assigns, takes back, takes part of a pod's, and dies, in any order. */
      const story = async (host: string): Promise<void> => {
        let actor = schedule.actor(host, shared.store);
        for (let step = 0; step < 4; step++) {
          const allocator = new HostAllocator({ client: actor.client, clock: shared.clock, host });
          const ipam = new Ipam({ client: actor.client, clock: shared.clock });
          const run = schedule.pick([
            async () => void (await allocator.assign(request(host))),
            async () => void (await ipam.releaseAddresses(await ipam.addressesOf(handle).then(all))),
            async () => void (await allocator.assign(forPod(`${host}-${step}`))),
          ]);
          const pending = run().catch(() => undefined);
          for (let after = schedule.choose(12); after > 0; after--) await actor.client.list("IPPool").catch(() => []);
          if (schedule.chance(0.3)) {
            actor.crash();
            actor = schedule.actor(host, shared.store);
          }
          await pending;
        }
      };
      const all = (addresses: readonly IpAddress[]) => addresses.map((address) => ({ address, handle }));
      for (const host of ["a", "b"]) schedule.start(() => story(host));
      await schedule.run(async () => {
        const held = [...(await holders(shared.store)).values()].filter((holder) => holder === handle);
        const problems = await worldProblems(shared.store, { atRest: false });
        if (held.length > 1) problems.push(`${held.length} addresses of one handle`);
        if (problems.length > 0) throw new Error(`seed ${seed}: ${problems[0]}\n${schedule.trace.join("\n")}`);
      });
      const [first] = await shared.host("a").assign(request("a"));
      const [second] = await shared.host("b").assign(request("b"));
      expect(first?.address, `seed ${seed}`).toEqual(second?.address);
      const record = await shared.store.get("IPAMHandle", { name: handle });
      expect(record.spec.block, `seed ${seed}`).toEqual({ [first?.cidr ?? ""]: 1 });
    }
  });
});
