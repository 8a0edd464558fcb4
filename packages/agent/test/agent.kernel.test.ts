/** The whole agent, from a datastore to packets: policies enforced, the gate, configuration, CNI's door, a killed process. */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { intercept, type MemoryDatastore, openMemory } from "@calico-ts/datastore";
import { type Kernel, openKernel } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { createLogger, systemClock } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { openSyncer, type SyncBatch } from "@calico-ts/sync";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runAgent } from "../src/agent.ts";
import type { AgentDeps, CniNeeds, Outcome } from "../src/agent-deps.ts";
import { SYNC_KINDS } from "../src/intake/kinds.ts";
import { eventually, Lab, type LabProcess } from "../testing/lab.ts";
import * as world from "../testing/world.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const LOCAL = { programClusterRoutes: "Enabled", ipv6Support: "false" };

class RunningAgent implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #kernel: Disposable;
  readonly ended: Promise<Outcome>;
  readonly lines: string[] = [];
  door: CniNeeds | undefined;

  /** Set: the kernel refuses every rules transaction, in these words. */
  refusal: string | undefined;

  constructor(namespace: string, client: MemoryDatastore, changes: Partial<AgentDeps> = {}) {
    const real = openKernel({ netns: lab.path(namespace) });
    this.#kernel = real;
    const refuses = (): CalicoError | undefined =>
      this.refusal === undefined ? undefined : new CalicoError("KERNEL", this.refusal);
    const nft = new Proxy(real.nft, {
      get: (target, name): unknown => {
        if (name === "apply" && this.refusal !== undefined) return () => Promise.reject(refuses() ?? new Error());
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
    const kernel: Kernel = { ...real, nft };
    const log = createLogger({
      component: "felix",
      stream: { write: (line) => this.lines.push(line) },
      level: "Info",
    });
    this.ended = runAgent(
      {
        node: "n1",
        hostRoot: lab.folder,
        localConfig: LOCAL,
        kernel,
        clock: systemClock,
        log,
        openSyncer: (signal) => openSyncer({ client, kinds: SYNC_KINDS, signal }),
        openCni: (needs) => {
          this.door = needs;
          return Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() });
        },
        ...changes,
      },
      this.#stop.signal,
    );
  }

  /** Until the first pass is done. */
  ready(): Promise<number> {
    return eventually(
      "the agent is ready",
      () => this.door?.endpoints.notReady() === undefined && this.door !== undefined,
    );
  }

  /** The port from a log line. */
  async port(event: string): Promise<number> {
    const line = (): string | undefined => this.lines.find((text) => text.includes(event));
    await eventually(event, () => line() !== undefined);
    return Number(/port=(\d+)/.exec(line() ?? "")?.[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.ended;
    this.#kernel[Symbol.dispose]();
  }
}

async function smallCluster(): Promise<MemoryDatastore> {
  const client = openMemory();
  await world.put(client, world.node(1), world.pool(), world.block(1), world.namespace("default"));
  return client;
}

describe("from the datastore to packets", () => {
  test("a NetworkPolicy is enforced, changed and lifted", async () => {
    const [n1 = ""] = lab.nodes(1);
    const web = lab.pod(n1, "default/web", "10.65.1.2");
    const friend = lab.pod(n1, "default/friend", "10.65.1.3");
    const other = lab.pod(n1, "default/other", "10.65.1.4");
    const client = await smallCluster();
    for (const [name, { address }] of Object.entries({ web, friend, other })) {
      await world.put(client, world.pod({ name, node: "n1", address }));
    }
    await lab.serve(web.namespace, 8080);
    await using agent = new RunningAgent(n1, client);
    await agent.ready();
    const seen = (): readonly boolean[] =>
      [friend, other].map((from) => lab.connects(from.namespace, web.address, 8080));
    expect(seen()).toEqual([true, true]);

    await world.put(client, world.allowOnly("web", "web", { app: "friend" }));
    await eventually("policy is in force", () => !lab.connects(other.namespace, web.address, 8080));
    expect(seen()).toEqual([true, false]);
    await world.put(client, world.allowOnly("web", "web", { app: "other" }));
    await eventually("the change is in force", () => lab.connects(other.namespace, web.address, 8080));
    expect(seen()).toEqual([false, true]);
    await world.remove(client, world.allowOnly("web", "web", undefined));
    await eventually("all is allowed again", () => lab.connects(friend.namespace, web.address, 8080));
    expect(lab.nft(n1, "list", "table", "inet", "calico")).not.toContain("KubernetesNetworkPolicy/default/web");
  });

  test("a pod that is deleted and a pod that takes over its address", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    const first = lab.pod(n1, "default/first", "10.65.1.2");
    const peer = lab.pod(n1, "default/peer", "10.65.1.3");
    await world.put(client, world.pod({ name: "first", node: "n1", address: first.address }));
    await world.put(client, world.pod({ name: "peer", node: "n1", address: peer.address }));
    await using agent = new RunningAgent(n1, client);
    await agent.ready();
    expect(lab.pings(peer.namespace, "10.65.1.2")).toBe(true);
    expect(lab.exec(n1, "conntrack", "-L", "-d", "10.65.1.2")).toContain("dst=10.65.1.2");
    await world.remove(client, world.pod({ name: "first", node: "n1" }));
    await eventually("the route is gone", () => !lab.ip(n1, "route").includes(`10.65.1.2 dev`));
    expect(lab.exec(n1, "conntrack", "-L", "-d", "10.65.1.2")).not.toContain("dst=10.65.1.2");
    expect(lab.pings(peer.namespace, "10.65.1.2")).toBe(false);
    const second = lab.pod(n1, "default/second", "10.65.1.2");
    await world.put(client, world.pod({ name: "second", node: "n1", address: second.address }));
    await eventually("its route", () => lab.ip(n1, "route").includes(`10.65.1.2 dev ${second.interfaceName}`));
    expect(lab.pings(peer.namespace, "10.65.1.2")).toBe(true);
  });
});

describe("the gate", () => {
  test("nothing is programmed while one kind has not been listed, and everything once it has", async () => {
    const [n1 = ""] = lab.nodes(1);
    const pod = lab.pod(n1, "default/web", "10.65.1.2");
    const client = await smallCluster();
    await world.put(client, world.pod({ name: "web", node: "n1", address: pod.address }));
    const release = Promise.withResolvers<void>();
    const slow = intercept(client, {
      before: async (operation) => {
        if (operation.verb === "list" && operation.kind === "Tier") await release.promise;
      },
    }) as MemoryDatastore;
    await using agent = new RunningAgent(n1, slow);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(agent.door?.endpoints.notReady()).toContain("not seen all");
    expect(lab.nft(n1, "list", "ruleset")).toBe("");
    expect(lab.ip(n1, "route")).not.toContain("proto 80");
    expect(existsSync(join(lab.folder, "var/lib/calico/mtu"))).toBe(false);
    release.resolve();
    await agent.ready();
    expect(lab.nft(n1, "list", "ruleset")).toContain(pod.interfaceName);
    expect(lab.ip(n1, "route")).toContain("10.65.1.2 dev");
  });

  test("a datastore that says it is not ready is waited for", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    const information = (datastoreReady: boolean): world.Entry => ({
      kind: "ClusterInformation",
      resource: {
        apiVersion: "projectcalico.org/v3",
        kind: "ClusterInformation",
        metadata: { name: "default" },
        spec: { datastoreReady },
      },
    });
    await world.put(client, information(false));
    await using agent = new RunningAgent(n1, client);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(lab.nft(n1, "list", "ruleset")).toBe("");
    await world.put(client, information(true));
    await agent.ready();
    expect(lab.nft(n1, "list", "ruleset")).toContain("table inet calico");
    await world.put(client, information(false));
    expect(await agent.ended).toBe("restart");
  });
});

describe("configuration", () => {
  test("per-node beats selector beats global, the environment beats all, and a change asks for a restart", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    await world.put(
      client,
      world.felixConfiguration("default", { vxlanVNI: 10, vxlanPort: 10, vxlanMTU: 1310, ipv4NormalRoutePriority: 10 }),
      world.felixConfiguration("by-label", {
        nodeSelector: "kubernetes.io/hostname == 'n1'",
        vxlanVNI: 20,
        vxlanPort: 20,
        vxlanMTU: 1320,
      }),
      world.felixConfiguration("node.n1", { vxlanVNI: 30, vxlanPort: 30 }),
      world.felixConfiguration("node.n2", { vxlanVNI: 99 }),
    );
    await world.put(client, world.pool({ vxlanMode: "Always" }));
    await using agent = new RunningAgent(n1, client, { localConfig: { ...LOCAL, vxlanVNI: "40" } });
    await agent.ready();
    await eventually("the device", () => lab.ip(n1, "link").includes("vxlan.calico"));
    expect(lab.ip(n1, "-d link show vxlan.calico")).toMatch(/mtu 1320 .*vxlan id 40 .*dstport 30 /s);
    expect(lab.ip(n1, "route")).toContain("blackhole 10.65.1.0/26 proto 80 metric 10");
    await world.put(
      client,
      world.felixConfiguration("node.n1", { vxlanVNI: 31, vxlanPort: 30, logSeverityScreen: "Debug" }),
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    await world.put(client, world.felixConfiguration("node.n1", { vxlanPort: 31 }));
    expect(await agent.ended).toBe("restart");
    expect(agent.lines.join("")).toContain("config.restart: changed=vxlanPort");
  });
});

describe("CNI's door", () => {
  const announced = (uid: string) => ({
    pod: { namespace: "default", name: "web" },
    uid,
    containerId: "c1",
    hostInterface: "",
    addresses: [parseAddress("10.65.1.2")],
  });

  test("an announced pod is programmed before the API server knows its address, and gone with its withdrawal", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    await using agent = new RunningAgent(n1, client);
    await agent.ready();
    await world.put(client, world.pod({ name: "web", node: "n1" }));
    const uid = (await client.get("Pod", { namespace: "default", name: "web" })).metadata.uid ?? "";
    const pod = lab.pod(n1, "default/web", "10.65.1.2");
    const endpoints = agent.door!.endpoints;
    endpoints.announce({ ...announced(uid), hostInterface: pod.interfaceName });
    await endpoints.programmed(announced(uid).pod, AbortSignal.timeout(30_000));
    expect(lab.ip(n1, "route")).toContain(`10.65.1.2 dev ${pod.interfaceName} proto 80 scope link`);
    expect(lab.nft(n1, "list", "table", "inet", "calico")).toContain(pod.interfaceName);

    endpoints.withdraw(announced(uid).pod, "c1");
    await eventually("the route is gone", () => !lab.ip(n1, "route").includes("10.65.1.2 dev"));
    expect(lab.nft(n1, "list", "table", "inet", "calico")).not.toContain("10.65.1.2");
  });

  test("waiting ends with the caller's patience, and says why", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    await using agent = new RunningAgent(n1, client);
    await agent.ready();
    const endpoints = agent.door!.endpoints;
    endpoints.announce(announced("nobody"));
    const waiting = endpoints.programmed(announced("nobody").pod, AbortSignal.timeout(100));
    await expect(waiting).rejects.toMatchObject({
      code: "TIMEOUT",
      message: expect.stringContaining("watch") as string,
    });
  });
});

describe("what it says about itself", () => {
  const url = (port: number, path: string): Promise<Response> => fetch(`http://localhost:${port}${path}`);
  const LISTENING = {
    ...LOCAL,
    healthEnabled: "true",
    healthPort: "0",
    prometheusMetricsEnabled: "true",
    prometheusMetricsHost: "localhost",
    prometheusMetricsPort: "0",
  };

  test("health, metrics and the dump", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    const pod = lab.pod(n1, "default/web", "10.65.1.2");
    await world.put(client, world.pod({ name: "web", node: "n1", address: pod.address }));
    await using agent = new RunningAgent(n1, client, { localConfig: LISTENING });
    const health = await agent.port("health.listening");
    await agent.ready();
    await eventually("ready", async () => (await url(health, "/readiness")).status === 200);
    expect(await (await url(health, "/liveness")).text()).toMatch(
      /FelixStartup.*CalculationGraph.*InternalDataplaneMainLoop/s,
    );
    const metrics = await (await url(await agent.port("metrics.listening"), "/metrics")).text();
    expect(metrics).toContain("felix_active_local_endpoints 1");
    expect(metrics).toContain("felix_resync_state 3");
    expect(metrics).toMatch(/felix_int_dataplane_apply_time_seconds_count [1-9]/);
    expect(metrics).toContain('felix_host{host="n1"} 1');
    const dump = JSON.parse(await readSocket(join(lab.folder, "var/run/calico/agent-debug.sock"))) as Record<
      string,
      unknown
    >;
    expect(dump).toMatchObject({
      node: "n1",
      config: { programClusterRoutes: "Enabled" },
      dataplane: {
        rules: { difference: { chains: [], sets: [] } },
        routes: { toWrite: [], toRemove: [], conflicts: {} },
        sysctls: { difference: {} },
      },
    });
  });

  test("a kernel that refuses: old rules stay, red with its words, and no packet lost when the table is built anew", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    const [web, friend, other] = ["web", "friend", "other"].map((name, at) =>
      lab.pod(n1, `default/${name}`, `10.65.1.${at + 2}`),
    );
    for (const [name, pod] of Object.entries({ web, friend, other })) {
      await world.put(client, world.pod({ name, node: "n1", address: pod.address }));
    }
    await world.put(client, world.allowOnly("web", "web", { app: "friend" }));
    await using agent = new RunningAgent(n1, client, { localConfig: LISTENING });
    const health = await agent.port("health.listening");
    await agent.ready();
    const pings = (from: string): Promise<LabProcess> =>
      lab.start(from, ["ping", "-n", "-i", "0.005", "-w", "4", web.address], "PING");
    const allowed = await pings(friend.namespace);
    const denied = await pings(other.namespace);

    agent.refusal = "command 3 (add-rule): No such file or directory";
    await world.put(client, world.allowOnly("late", "other", undefined));
    await eventually("three refusals", () => agent.lines.filter((line) => line.includes("phase.failed")).length >= 3);
    const readiness = await url(health, "/readiness");
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toContain("command 3 (add-rule): No such file or directory");
    expect((await url(health, "/liveness")).status).toBe(200);
    expect(agent.lines.join("")).toContain("command 3 (add-rule): No such file or directory");
    expect(agent.door?.endpoints.notReady()).toContain("refuses");
    expect(lab.nft(n1, "list", "table", "inet", "calico")).toContain("KubernetesNetworkPolicy/default/web");

    agent.refusal = undefined;
    await eventually("recovery", async () => (await url(health, "/readiness")).status === 200, 8000);
    expect(agent.lines.join("")).toContain("rules.rebuild");
    expect(lab.nft(n1, "list", "table", "inet", "calico")).toContain("KubernetesNetworkPolicy/default/late");
    await Promise.all([allowed.exited, denied.exited]);
    expect(allowed.output()).toMatch(/ 0% packet loss/);
    expect(denied.output()).toMatch(/ 100% packet loss/);
  });

  test("an unreadable policy in the datastore closes what it selects, is said once, and stays in the dump until it is mended", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    const web = lab.pod(n1, "default/web", "10.65.1.2");
    const friend = lab.pod(n1, "default/friend", "10.65.1.3");
    for (const [name, { address }] of Object.entries({ web, friend })) {
      await world.put(client, world.pod({ name, node: "n1", address }));
    }
    await lab.serve(web.namespace, 8080);
    await using agent = new RunningAgent(n1, client, {
      openSyncer: (signal) => spoiling(openSyncer({ client, kinds: SYNC_KINDS, signal })),
    });
    await agent.ready();
    const reaches = (): boolean => lab.connects(friend.namespace, web.address, 8080);
    const problems = async (): Promise<unknown> =>
      (JSON.parse(await readSocket(join(lab.folder, "var/run/calico/agent-debug.sock"))) as { problems: unknown })
        .problems;
    const said = (event: string): string[] => agent.lines.filter((line) => line.includes(event));
    expect([reaches(), await problems()]).toEqual([true, []]);

    await world.put(client, spoiledPolicy("app == 'nobody' &&"));
    await eventually("what it may select is closed", () => !reaches(), 20_000);
    // Whatever else changes, and the policy itself as long as the same is wrong with it, is no reason to say it again.
    await world.put(client, world.namespace("default", { team: "a" }), world.allowOnly("late", "other", undefined));
    await world.put(client, spoiledPolicy("app == 'nobody' &&", { touched: "yes" }));
    await world.put(
      client,
      world.pod({ name: "friend", node: "n1", address: friend.address, labels: { app: "other" } }),
    );
    const late = "KubernetesNetworkPolicy/default/late";
    await eventually("a later change", () => lab.nft(n1, "list", "table", "inet", "calico").includes(late), 20_000);
    expect(await problems()).toEqual([
      { kind: "NetworkPolicy", namespace: "default", name: "spoiled", messages: [expect.stringContaining("selector")] },
    ]);
    expect(said("resource.problem")).toEqual([expect.stringMatching(/spoiled.*selector is not understood/)]);
    expect(reaches()).toBe(false);

    await world.put(client, spoiledPolicy("app == 'nobody'"));
    await eventually("open again", reaches, 20_000);
    expect(await problems()).toEqual([]);
    expect([said("resource.problem").length, said("resource.mended").length]).toEqual([1, 1]);
  });

  test("a tunnel this kernel cannot make is named, and nothing else suffers", async () => {
    const [n1 = ""] = lab.nodes(1);
    const client = await smallCluster();
    await world.put(client, world.pool({ ipipMode: "Always" }));
    const node = world.node(1);
    const annotations = { ...node.resource.metadata.annotations, "projectcalico.org/IPv4IPIPTunnelAddr": "10.65.1.1" };
    const metadata = { ...node.resource.metadata, annotations };
    await world.put(client, { ...node, resource: { ...node.resource, metadata } });
    const pod = lab.pod(n1, "default/web", "10.65.1.2");
    await world.put(client, world.pod({ name: "web", node: "n1", address: pod.address }));
    await using agent = new RunningAgent(n1, client, { localConfig: LISTENING });
    await agent.ready();
    const made = lab.ip(n1, "link").includes("tunl0");
    const named = agent.lines.some((line) => line.includes("tunnel.unsupported") && line.includes("tunl0"));
    expect(made !== named).toBe(true);
    expect(lab.ip(n1, "route")).toContain("10.65.1.2 dev");
    expect((await url(await agent.port("health.listening"), "/readiness")).status).toBe(200);
  });
});

const SELECTOR = "test/selector";

const spoiledPolicy = (selector: string, labels: Readonly<Record<string, string>> = {}): world.Entry => ({
  kind: "NetworkPolicy",
  resource: {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name: "spoiled", namespace: "default", labels, annotations: { [SELECTOR]: selector } },
    spec: { types: ["Ingress"] },
  },
});

/** A datastore that holds what ours would not take: the annotation is the selector, whatever it says. */
function spoiling(syncer: AsyncIterable<SyncBatch> & AsyncDisposable): AsyncIterable<SyncBatch> & AsyncDisposable {
  const spoil = (update: SyncBatch["updates"][number]): SyncBatch["updates"][number] => {
    const selector = update.kind === "NetworkPolicy" && update.resource?.metadata.annotations?.[SELECTOR];
    if (update.kind !== "NetworkPolicy" || update.resource === undefined || typeof selector !== "string") return update;
    return { ...update, resource: { ...update.resource, spec: { ...update.resource.spec, selector } } };
  };
  return {
    async *[Symbol.asyncIterator]() {
      for await (const batch of syncer) yield { ...batch, updates: batch.updates.map(spoil) };
    },
    [Symbol.asyncDispose]: () => syncer[Symbol.asyncDispose](),
  };
}

function readSocket(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(path);
    socket.on("data", (chunk) => (text += chunk.toString()));
    socket.on("end", () => resolve(text));
    socket.on("error", reject);
  });
}

describe("killed and started again", () => {
  test("an allowed flow loses no packet, a denied one never passes, what changed meanwhile is in force", async () => {
    const [n1 = ""] = lab.nodes(1);
    const pods = Object.fromEntries(
      ["web", "friend", "other", "late"].map((name, at) => [name, lab.pod(n1, `default/${name}`, `10.65.1.${at + 2}`)]),
    );
    const { friend, late, other, web } = pods as Record<string, (typeof pods)[string]>;
    const base = [
      ...[world.node(1), world.pool(), world.block(1), world.namespace("default")],
      ...Object.entries(pods).map(([name, { address }]) => world.pod({ name, node: "n1", address })),
      world.allowOnly("web", "web", { app: "friend" }),
    ];
    const file = join(lab.folder, "entries.json");
    const write = (entries: readonly world.Entry[]): void => {
      writeFileSync(`${file}.new`, JSON.stringify(entries));
      renameSync(`${file}.new`, file);
    };
    const start = (): Promise<LabProcess> =>
      lab.start(
        n1,
        [
          process.execPath,
          "--conditions=calico-src",
          join(import.meta.dirname, "../testing/file-agent.ts"),
          file,
          "n1",
          lab.folder,
        ],
        "dataplane.in_force",
        { FELIX_PROGRAMCLUSTERROUTES: "Enabled", FELIX_IPV6SUPPORT: "false" },
      );
    write(base);
    await lab.serve(web.namespace, 8080);
    const first = await start();
    expect(lab.connects(friend.namespace, web.address, 8080)).toBe(true);
    expect(lab.connects(other.namespace, web.address, 8080)).toBe(false);

    const pings = (from: string): Promise<LabProcess> =>
      lab.start(from, ["ping", "-n", "-i", "0.005", "-w", "6", web.address], "PING");
    const allowed = await pings(friend.namespace);
    const denied = await pings(other.namespace);
    await first.kill("SIGKILL");
    write([...base.slice(0, -1), world.allowOnly("web", "web", { app: "late" })]);
    lab.nft(n1, "add", "chain", "inet", "calico", "leftover");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const second = await start();
    await eventually("the new policy", () => lab.connects(late.namespace, web.address, 8080));
    expect(lab.connects(friend.namespace, web.address, 8080)).toBe(false);
    expect(lab.nft(n1, "list", "table", "inet", "calico")).not.toContain("leftover");
    await Promise.all([allowed.exited, denied.exited]);
    expect(allowed.output()).toMatch(/ 0% packet loss/);
    expect(denied.output()).toMatch(/ 100% packet loss/);
    await second.kill("SIGTERM");
    expect(await second.exited).toBe(0);
  });
});
