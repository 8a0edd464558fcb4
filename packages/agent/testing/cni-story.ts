/**
 * Address management as a whole, under the deterministic scheduler: the real CNI service, allocator and garbage collection on every node of a small
 * cluster, over the memory store. Only the kernel (which keeps what it is told, also over a crash) and the policy side (always ready) are fakes.
 *
 * The kubelets of the story are careless: they lose answers, repeat ADDs with new sandboxes before deleting the old one, forget DELs when their
 * node reboots, and reuse pod names. When all is over, garbage collection runs until it settles; then every address has exactly the owner it
 * should have, handles count what blocks hold, and affinities and blocks agree.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { Collector, type HandleRecords } from "@calico-ts/ipam";
import { holders, makeWorld, Schedule, type ScheduleOptions, type World, worldProblems } from "@calico-ts/ipam/testing";
import type { KindMap } from "@calico-ts/model";
import { silentLogger } from "@calico-ts/runtime";
import { CniFailure } from "../src/cni/cni-failure.ts";
import { DatastorePods } from "../src/cni/datastore-pods.ts";
import { IpamAddresses } from "../src/cni/ipam-addresses.ts";
import { parseRequest } from "../src/cni/request.ts";
import { CniService } from "../src/cni/service.ts";
import { FakeLinks, openGate } from "./cni-fakes.ts";

export interface Verdict {
  readonly problems: readonly string[];
  readonly trace: readonly string[];
  readonly choices: readonly number[];
}

const NODES = ["n1", "n2"];
const NETWORK = "net";

interface Agent {
  readonly service: CniService;
  crash(): void;
}

interface Sandbox {
  readonly pod: string;
  readonly containerId: string;
}

interface NodeState {
  readonly name: string;
  readonly links: FakeLinks;
  /** Sandboxes that run, as the kubelet sees it. */
  readonly running: Map<string, Sandbox>;
  /** Sandboxes the kubelet has to delete: ended, or their ADD failed. */
  readonly toDelete: Map<string, Sandbox>;
  /** Pods whose ADD is under way. */
  readonly starting: Set<string>;
  gone: boolean;
}

class Story {
  readonly schedule: Schedule;
  readonly world: World;
  readonly nodes: readonly NodeState[];
  readonly problems: string[] = [];
  /** Which sandbox has each address, by the kubelets' account. */
  readonly ledger = new Map<string, string>();
  readonly dualStack: boolean;
  readonly #handleRecords: HandleRecords;
  #ended = 0;
  #serial = 0;

  constructor(schedule: Schedule, world: World, options: { dualStack: boolean; handleRecords: HandleRecords }) {
    const { dualStack, handleRecords } = options;
    this.schedule = schedule;
    this.#handleRecords = handleRecords;
    this.dualStack = dualStack;
    this.world = world;
    this.nodes = NODES.map((name) => ({
      name,
      links: new FakeLinks(),
      running: new Map(),
      toDelete: new Map(),
      starting: new Set(),
      gone: false,
    }));
  }

  agent(node: NodeState, client: DatastoreClient, onCrash: () => void): Agent {
    const { clock } = this.world;
    const handleRecords = this.#handleRecords;
    const service = new CniService({
      links: node.links,
      plugins: { run: async () => undefined },
      addresses: new IpamAddresses({ client, node: node.name, clock, log: silentLogger, handleRecords }),
      pods: new DatastorePods({ client, node: node.name }),
      endpoints: openGate,
      clock,
      log: silentLogger,
      mtu: () => 1500,
    });
    const stop = new AbortController();
    void service.run(stop.signal);
    return {
      service,
      crash: () => {
        onCrash();
        stop.abort();
      },
    };
  }

  async tellNode(node: NodeState, steps: number): Promise<void> {
    const { schedule, world } = this;
    const faults = schedule.pick([0, 0, 0.02]);
    const start = (): Agent => {
      const actor = schedule.actor(node.name, world.store, faults);
      return this.agent(node, actor.client, () => actor.crash());
    };
    let agent = start();
    const busy: Promise<void>[] = [];
    for (let step = 0; step < steps && !node.gone; step++) {
      const what = schedule.choose(20);
      if (what < 9) busy.push(this.#startPod(node, agent));
      else if (what < 14) busy.push(this.#endPod(node, agent));
      else if (what < 16) busy.push(this.#restartSandbox(node, agent));
      else if (what < 18) {
        agent.crash();
        agent = start();
      } else if (what === 18) {
        agent.crash();
        this.#reboot(node);
        agent = start();
      } else if (step > steps / 2 && this.nodes.filter(({ gone }) => !gone).length > 1) {
        await Promise.all(busy.splice(0));
        agent.crash();
        await this.#removeNode(node);
      }
      if (schedule.chance(0.5)) await Promise.all(busy.splice(0));
    }
    await Promise.all(busy);
    this.#ended++;
  }

  /** The controller: passes, crashes, time. */
  async tellCollector(): Promise<void> {
    const { schedule, world } = this;
    const start = () => {
      const actor = schedule.actor("gc", world.store);
      return { actor, collector: new Collector({ client: actor.client, clock: world.clock }) };
    };
    let running = start();
    while (this.#ended < this.nodes.length) {
      for (let idle = schedule.choose(6); idle > 0; idle--)
        await running.actor.client.list("IPPool").catch(() => undefined);
      const what = schedule.choose(10);
      if (what < 6) await running.collector.pass().catch(() => undefined);
      else if (what < 9) await world.clock.advance(schedule.pick([1000, 60_000, 500_000]));
      else {
        running.actor.crash();
        running = start();
      }
    }
  }

  #claim(address: string, containerId: string): void {
    const other = this.ledger.get(address);
    if (other !== undefined) this.problems.push(`${address} was given to ${containerId} while ${other} has it`);
    this.ledger.set(address, containerId);
  }

  /** Its processes are dead: whatever is still recorded, nobody uses the address. */
  #stop(node: NodeState, sandbox: Sandbox): void {
    node.running.delete(sandbox.containerId);
    for (const [address, owner] of this.ledger) if (owner === sandbox.containerId) this.ledger.delete(address);
  }

  async #startPod(node: NodeState, agent: Agent): Promise<void> {
    const pod = `p${this.schedule.choose(4)}-${node.name}`;
    if (node.starting.has(pod) || [...node.running.values()].some((sandbox) => sandbox.pod === pod)) return;
    node.starting.add(pod);
    await this.#putPod(pod, node.name);
    await this.#add(node, agent, pod);
    node.starting.delete(pod);
  }

  async #add(node: NodeState, agent: Agent, pod: string): Promise<void> {
    const sandbox = { pod, containerId: `c${this.#serial++}` };
    this.schedule.note(`${node.name}: kubelet ADD ${pod} ${sandbox.containerId}`);
    try {
      const result = (await agent.service.handle(
        request("ADD", sandbox, this.dualStack),
        new AbortController().signal,
      )) as {
        readonly ips: readonly { readonly address: string }[];
      };
      if (node.gone) return;
      for (const { address } of result.ips) this.#claim(address.split("/", 1)[0] ?? "", sandbox.containerId);
      node.running.set(sandbox.containerId, sandbox);
      this.schedule.note(`${node.name}: ${sandbox.containerId} has ${result.ips.map(({ address }) => address).join()}`);
      await this.#tellStatus(
        pod,
        result.ips.map(({ address }) => address.split("/", 1)[0] ?? ""),
      );
    } catch (error) {
      if (!(error instanceof CniFailure)) this.problems.push(`ADD failed without a CNI error: ${String(error)}`);
      node.toDelete.set(sandbox.containerId, sandbox);
    }
  }

  async #endPod(node: NodeState, agent: Agent): Promise<void> {
    const [sandbox] = node.running.values();
    if (sandbox === undefined) return;
    this.#stop(node, sandbox);
    node.toDelete.set(sandbox.containerId, sandbox);
    const recordFirst = this.schedule.chance(0.5);
    if (recordFirst) await this.#removePod(sandbox.pod);
    await this.#del(node, agent, sandbox);
    if (!recordFirst) await this.#removePod(sandbox.pod);
  }

  /** The new sandbox may be started before the old one is deleted. */
  async #restartSandbox(node: NodeState, agent: Agent): Promise<void> {
    const [sandbox] = node.running.values();
    if (sandbox === undefined || node.starting.has(sandbox.pod)) return;
    node.starting.add(sandbox.pod);
    this.#stop(node, sandbox);
    node.toDelete.set(sandbox.containerId, sandbox);
    const late = this.schedule.chance(0.5);
    if (!late) await this.#del(node, agent, sandbox);
    await this.#add(node, agent, sandbox.pod);
    node.starting.delete(sandbox.pod);
    if (late) await this.#del(node, agent, sandbox);
  }

  async #del(node: NodeState, agent: Agent, sandbox: Sandbox): Promise<void> {
    this.schedule.note(`${node.name}: kubelet DEL ${sandbox.containerId}`);
    try {
      await agent.service.handle(request("DEL", sandbox, this.dualStack), new AbortController().signal);
      node.toDelete.delete(sandbox.containerId);
    } catch {
      // The kubelet will try again.
    }
  }

  /** Everything that ran is over, and the kubelet has forgotten what it wanted to delete. */
  #reboot(node: NodeState): void {
    this.schedule.note(`${node.name} reboots`);
    for (const sandbox of [...node.running.values()]) this.#stop(node, sandbox);
    node.toDelete.clear();
    node.links.reboot();
  }

  async #removeNode(node: NodeState): Promise<void> {
    this.schedule.note(`${node.name} is removed from the cluster`);
    node.gone = true;
    this.#reboot(node);
    await this.world.store.delete("Node", { name: node.name });
    for (const { metadata, spec } of (await this.world.store.list("Pod")).items) {
      if (spec?.nodeName === node.name) await this.#removePod(metadata.name);
    }
  }

  async #putPod(name: string, node: string): Promise<void> {
    await this.#removePod(name);
    const resource = { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default" } };
    await this.world.store.create("Pod", {
      ...resource,
      spec: { nodeName: node, containers: [{ name: "main" }] },
    } as KindMap["Pod"]);
  }

  async #removePod(name: string): Promise<void> {
    await this.world.store.delete("Pod", { namespace: "default", name }).catch(() => undefined);
  }

  async #tellStatus(name: string, addresses: readonly string[]): Promise<void> {
    // A cluster that knows one family only reports one address (upstream #5044).
    const told = this.schedule.chance(0.2) ? addresses.slice(0, 1) : addresses;
    const status = { phase: "Running", podIPs: told.map((ip) => ({ ip })) };
    const key = { namespace: "default", name };
    await this.world.store.patch("Pod", key, { status }, { status: true }).catch(() => undefined);
  }

  /**
   * Pods that do not run are deleted (as long as a record says that a pod is about to start, nobody may take its address),
   * kubelets call DEL until it succeeds, every agent starts once more, and garbage collection runs until nothing is left to do. */
  async settle(): Promise<void> {
    const { world } = this;
    const running = new Set(this.nodes.flatMap((node) => [...node.running.values()].map(({ pod }) => pod)));
    for (const { metadata } of (await world.store.list("Pod")).items) {
      if (!running.has(metadata.name)) await this.#removePod(metadata.name);
    }
    for (const node of this.nodes) {
      if (node.gone) continue;
      const agent = this.agent(node, world.store, () => undefined);
      for (const sandbox of node.toDelete.values()) await this.#del(node, agent, sandbox);
      const last = { pod: `last-${node.name}`, containerId: `last-${node.name}` };
      await this.#putPod(last.pod, node.name);
      await agent.service
        .handle(request("ADD", last, this.dualStack), new AbortController().signal)
        .catch(() => undefined);
      await agent.service.handle(request("DEL", last, this.dualStack), new AbortController().signal);
      await this.#removePod(last.pod);
      await world.clock.advance(60_000);
      agent.crash();
    }
    const collector = new Collector({ client: world.store, clock: world.clock });
    for (let round = 0; round < 6; round++) {
      const { failures } = await collector.pass();
      this.problems.push(...failures.map((error) => `garbage collection failed: ${String(error)}`));
      await world.clock.advance(16 * 60_000);
    }
    await this.#judge();
  }

  async #judge(): Promise<void> {
    const { store } = this.world;
    const listed = (held: ReadonlyMap<string, string>): string =>
      [...held]
        .map(([address, owner]) => `${address}=${owner}`)
        .toSorted()
        .join(" ");
    const blocks = new Map(
      [...(await holders(store))].map(([address, handle]) => [address, handle.slice(NETWORK.length + 1)]),
    );
    if (listed(blocks) !== listed(this.ledger)) {
      this.problems.push(`the blocks say "${listed(blocks)}", the kubelets say "${listed(this.ledger)}"`);
    }
    this.problems.push(...(await worldProblems(store, { atRest: true })));
    for (const { name, gone, links, running } of this.nodes) {
      const extra = links.list().filter(({ containerId }) => !running.has(containerId));
      if (!gone && extra.length > 0)
        this.problems.push(`${name} has an interface of ${extra[0]?.containerId ?? ""}, which is over`);
      if (!gone) continue;
      const left = (await store.list("BlockAffinity")).items.filter(({ spec }) => spec.node === name);
      if (left.length > 0) this.problems.push(`${name} is gone and still owns ${left[0]?.spec.cidr ?? ""}`);
    }
  }
}

function request(command: "ADD" | "DEL", { pod, containerId }: Sandbox, dualStack: boolean) {
  return parseRequest(
    JSON.stringify({
      version: 1,
      command,
      program: "calico",
      containerId,
      netns: "/run/netns/x",
      ifName: "eth0",
      args: { K8S_POD_NAMESPACE: "default", K8S_POD_NAME: pod },
      config: {
        cniVersion: "1.0.0",
        name: NETWORK,
        type: "calico",
        ipam: { type: "calico-ipam", assign_ipv6: dualStack },
      },
    }),
  );
}

/** One story from beginning to end. */
export async function play(options: ScheduleOptions): Promise<Verdict> {
  const schedule = new Schedule(options);
  const strictAffinity = schedule.chance(0.3);
  const cidr = schedule.pick(["10.0.0.0/28", "10.0.0.0/29", "10.0.0.0/27"]);
  const ipCooldown = schedule.pick([0, 0, 30]);
  const dualStack = schedule.chance(0.3);
  const handleRecords = schedule.pick<HandleRecords>(["borrowed", "borrowed", "all"]);
  const world = await makeWorld({
    pools: { small: { cidr, blockSize: 30 }, six: { cidr: "fd00::/123", blockSize: 126 } },
    nodes: Object.fromEntries(NODES.map((name) => [name, {}])),
    config: { strictAffinity, cooldownSeconds: ipCooldown },
  });
  const space = { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } };
  await world.store.create("Namespace", space as KindMap["Namespace"]);
  const story = new Story(schedule, world, { dualStack, handleRecords });
  for (const node of story.nodes) schedule.start(() => story.tellNode(node, 9));
  schedule.start(() => story.tellCollector());
  await schedule.run(async () => {
    const held = await holders(world.store);
    for (const [address, owner] of story.ledger) {
      const handle = held.get(address);
      if (handle !== `${NETWORK}.${owner}` && story.problems.length === 0) {
        story.problems.push(`${owner} uses ${address}, which is recorded for ${handle ?? "nobody"}`);
      }
    }
  });
  if (story.problems.length === 0) await story.settle();
  return { problems: story.problems, trace: schedule.trace, choices: schedule.choices };
}
