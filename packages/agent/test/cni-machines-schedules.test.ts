/**
 * Addresses of virtual machines under every interleaving: pods that come and go, live migrations, agents that crash between two operations of the datastore, and garbage
 * collection beside them. A pod that runs owns its machine's address at every step; a machine has one address; when the machine has gone nothing is left.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { Collector, HostAllocator, Ipam, machineHandle } from "@calico-ts/ipam";
import { addNode, makeWorld, Schedule, type World, worldProblems } from "@calico-ts/ipam/testing";
import { formatAddress } from "@calico-ts/net";
import { silentLogger } from "@calico-ts/runtime";
import { expect, test } from "vitest";
import { IpamMachineAddresses } from "../src/cni/machine-addresses.ts";

const NODES = ["a", "b"] as const;
const MACHINES = ["db", "web"] as const;
const SEEDS = Number(process.env["MACHINE_SCHEDULES"] ?? 60);

interface Story {
  readonly world: World;
  readonly schedule: Schedule;
  readonly ipam: Ipam;
  /** Pods that run, by our own account: machine and address. */
  readonly running: Map<string, { readonly machine: string; readonly address: string }>;
  ended: number;
}

/** An agent's address management; a crash ends it, and the next call is a new agent's. */
function agentOf({ schedule, world }: Story, node: string) {
  const start = () => {
    const actor = schedule.actor(node, world.store);
    const { client } = actor;
    const { clock } = world;
    const allocator = new HostAllocator({ client, clock, host: node });
    const ipam = new Ipam({ client, clock });
    return { actor, machines: new IpamMachineAddresses({ client, ipam, allocator, node, clock, log: silentLogger }) };
  };
  let current = start();
  return {
    get machines() {
      return current.machines;
    },
    crash() {
      current.actor.crash();
      current = start();
    },
  };
}

type Agent = ReturnType<typeof agentOf>;

async function machineStory(story: Story, machine: string, agents: ReadonlyMap<string, Agent>): Promise<void> {
  const { running, schedule, world } = story;
  const key = { namespace: "shop", name: machine };
  /** While it asks, others go on. */
  const idler = schedule.actor(`idle ${machine}`, world.store);
  let serial = 0;
  const put = () =>
    world.store.create("VirtualMachine", {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachine",
      metadata: { ...key, finalizers: ["hold"] },
    });
  const add = async (node: string, migrationUid?: string): Promise<{ pod: string; node: string } | undefined> => {
    const pod = `virt-launcher-${machine}-${serial++}`;
    const spec = { nodeName: node, containers: [{ name: "compute" }] };
    await world.store.create("Pod", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: pod, namespace: "shop" },
      spec,
    });
    for (let tries = 0; tries < 4; tries++) {
      if (schedule.chance(0.1)) agents.get(node)?.crash();
      try {
        const lease = await agents.get(node)?.machines.assign({
          network: "net",
          pod: { namespace: "shop", name: pod },
          containerId: `c-${pod}`,
          machine: { name: machine, instanceUid: "i", machineUid: "m", migrationUid },
          exact: [],
          namespaceLabels: {},
          want4: true,
          want6: false,
          pools4: [],
          pools6: [],
          signal: new AbortController().signal,
        });
        const [address] = lease?.addresses ?? [];
        if (address === undefined) continue;
        running.set(pod, { machine, address: formatAddress(address) });
        return { pod, node };
      } catch {
        // The runtime asks again.
      }
    }
    await del({ pod, node });
    return undefined;
  };
  const del = async ({ node, pod }: { readonly pod: string; readonly node: string }): Promise<void> => {
    running.delete(pod);
    let work = agents.get(node)?.machines.end({ namespace: "shop", name: pod }, `c-${pod}`);
    for (let tries = 0; tries < 50; tries++) {
      if (schedule.chance(0.1)) {
        agents.get(node)?.crash();
        work = agents.get(node)?.machines.end({ namespace: "shop", name: pod }, `c-${pod}`);
      }
      const done = await work?.().then(
        () => true,
        () => false,
      );
      if (done === true) break;
    }
    await world.store.delete("Pod", { namespace: "shop", name: pod });
  };
  const rounds = async (): Promise<void> => {
    for (let round = 0; round < 3; round++) {
      const source = await add(schedule.pick(NODES));
      if (source === undefined) continue;
      const pods = [source];
      if (schedule.chance(0.6)) {
        const target = await add(source.node === "a" ? "b" : "a", `migration-${round}`);
        if (target !== undefined) pods.push(target);
        if (target !== undefined && schedule.chance(0.5)) {
          await story.ipam.promoteOwner(machineHandle("net", "shop", machine), { namespace: "shop", pod: target.pod });
        }
      }
      await Promise.all(pods.map(del));
    }
  };
  for (let life = 0; life < 3; life++) {
    await put();
    await rounds();
    const last = await add("a");
    await world.store.delete("VirtualMachine", key);
    if (last !== undefined && schedule.chance(0.5)) await del(last);
    else if (last !== undefined) {
      // Nobody tells CNI of its end: its note stays until it is collected, or the machine comes back under its name.
      running.delete(last.pod);
      await world.store.delete("Pod", { namespace: "shop", name: last.pod });
    }
    await world.store.patch("VirtualMachine", key, { metadata: { finalizers: null } });
    for (let idle = schedule.choose(120); idle > 0; idle--) await idler.client.list("Node");
  }
  story.ended++;
}

async function collectorStory(story: Story, client: DatastoreClient): Promise<void> {
  const { world } = story;
  const collector = new Collector({ client, clock: world.clock, grace: { leakMs: 60_000, recordMs: 120_000 } });
  while (story.ended < MACHINES.length) {
    await collector.pass().catch(() => undefined);
    await world.clock.advance(70_000);
  }
}

/** What a pod that runs must find, from the blocks themselves. */
async function problemsOf({ ipam, running, world }: Story): Promise<string[]> {
  const problems = await worldProblems(world.store, { atRest: false });
  for (const machine of MACHINES) {
    const owned = (await ipam.ownedBy({ namespace: "shop" })).filter(
      ({ handle }) => handle === machineHandle("net", "shop", machine),
    );
    if (owned.length > 1) problems.push(`${machine} has ${owned.length} addresses`);
    for (const [pod, { address, machine: of }] of running) {
      if (of !== machine) continue;
      const mine = owned.find((one) => formatAddress(one.address) === address);
      if (mine?.active?.["pod"] !== pod && mine?.alternate?.["pod"] !== pod) problems.push(`${pod} lost ${address}`);
    }
  }
  return problems;
}

async function play(seed: number): Promise<void> {
  const schedule = new Schedule({ seed });
  const world = await makeWorld({ pools: { small: { cidr: "10.0.0.0/28", blockSize: 30 } }, nodes: {} });
  for (const node of NODES) await addNode(world.store, node);
  const ipam = new Ipam({ client: world.store, clock: world.clock });
  const story: Story = { world, schedule, ipam, running: new Map(), ended: 0 };
  const agents = new Map(NODES.map((node) => [node, agentOf(story, node)]));
  for (const machine of MACHINES) schedule.start(() => machineStory(story, machine, agents));
  schedule.start(() => collectorStory(story, schedule.actor("gc", world.store).client));
  await schedule.run(async () => {
    const [problem] = await problemsOf(story);
    if (problem !== undefined) throw new Error(`seed ${seed}: ${problem}\n${schedule.trace.join("\n")}`);
  });
  const collector = new Collector({
    client: world.store,
    clock: world.clock,
    grace: { leakMs: 60_000, recordMs: 120_000 },
  });
  for (let at = 0; at < 12; at++) {
    await collector.pass();
    await world.clock.advance(70_000);
  }
  const left = (await world.store.list("IPAMBlock")).items.flatMap(({ spec }) => spec.attributes);
  expect({ seed, left, handles: (await world.store.list("IPAMHandle")).items }).toEqual({
    seed,
    left: [],
    handles: [],
  });
}

test(`${SEEDS} stories of two machines end well`, { timeout: 120_000 + SEEDS * 2000 }, async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await play(seed);
});
