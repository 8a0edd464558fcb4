/**
 * IPIP on a live cluster: three nodes on two subnets, each with the agent, the BGP daemon and calico-node's care for tunnel addresses, all in
 * this process and each in its namespace. The pool's mode is changed under them (none, IPIP, IPIP across subnets, VXLAN, none) and after each
 * change pods must reach each other and the kernel must look as the mode says. Nothing is restarted.
 *
 * Prints a JSON line `{ step, ok, detail }` for each step; exit code 1 when one failed. A kernel without nf_tables' families (Debian's
 * user-mode Linux) gets rules in memory instead: `{ note }` says so. Routes, devices, addresses and packets are the kernel's in both cases.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAgent, SYNC_KINDS } from "@calico-ts/agent";
import { runBgp, syncKinds } from "@calico-ts/bgp-daemon";
import type { DatastoreClient, MemoryDatastore } from "@calico-ts/datastore";
import { openMemory } from "@calico-ts/datastore";
import { Ipam } from "@calico-ts/ipam";
import type { Kernel } from "@calico-ts/linux";
import { createNamespace, deleteNamespace, namespacePath, openKernel, ping, probeCapabilities } from "@calico-ts/linux";
import { FakeNft } from "@calico-ts/linux/testing";
import type { KindMap, KindName } from "@calico-ts/model";
import { prepare } from "@calico-ts/model";
import { formatAddress, parseAddress } from "@calico-ts/net";
import { keepTunnelAddresses } from "@calico-ts/node";
import { createLogger, systemClock } from "@calico-ts/runtime";
import { errorText, sha1Hex } from "@calico-ts/std";
import { openSyncer } from "@calico-ts/sync";

const POOL = "10.65.0.0/16";
/** By index: two on the first subnet, one on the second. */
const NODES = [
  { name: "n1", address: "10.0.1.11", gateway: "10.0.1.1" },
  { name: "n2", address: "10.0.1.12", gateway: "10.0.1.1" },
  { name: "n3", address: "10.0.2.11", gateway: "10.0.2.1" },
] as const;
const CONVERGED_MS = 60_000;

const prefix = `ct-ipip-${process.pid}`;
const ns = (name: string): string => `${prefix}-${name}`;
const ip = (namespace: string, words: string): string =>
  execFileSync("ip", ["-n", ns(namespace), ...words.split(" ")], { encoding: "utf8" });
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

await using scope = new AsyncDisposableStack();
let failed = false;
const stopping = new AbortController();
process.once("SIGTERM", () => {
  stopping.abort();
});

async function step(name: string, check: () => Promise<void>): Promise<void> {
  const startedAt = performance.now();
  try {
    await check();
    say({ step: name, ok: true, detail: `${Math.round(performance.now() - startedAt)} ms` });
  } catch (error) {
    failed = true;
    say({
      step: name,
      ok: false,
      detail: `${errorText(error)}\n${NODES.map((node) => stateOf(node.name)).join("\n")}`,
    });
  }
}

/** Repeats the checks until all hold, or tells the last complaint. */
async function eventually(check: () => Promise<void> | void): Promise<void> {
  const deadline = performance.now() + CONVERGED_MS;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > deadline || stopping.signal.aborted) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function must(what: string, found: unknown, wanted: unknown): void {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, wanted ${b}`);
}

const stateOf = (node: string): string => {
  const show = (words: string): string => {
    try {
      return ip(node, words);
    } catch (error) {
      return errorText(error);
    }
  };
  return `${node}:\n${show("address")}${show("route")}`;
};

// The network: a switch for each subnet, a router between that knows nothing of pods.

function cable(host: string, device: string, to: string): void {
  const port = `p${sha1Hex(`${host} ${device}`).slice(0, 10)}`;
  ip(to, `link add ${port} type veth peer name ${device} netns ${ns(host)}`);
  ip(to, `link set ${port} master br0 up`);
  ip(host, `link set ${device} up`);
}

function namespace(name: string): void {
  createNamespace(ns(name));
  scope.defer(() => void deleteNamespace(ns(name)));
  ip(name, "link set lo up");
}

function buildNetwork(): void {
  for (const subnet of ["a", "b"]) {
    namespace(`switch-${subnet}`);
    ip(`switch-${subnet}`, "link add br0 type bridge");
    ip(`switch-${subnet}`, "link set br0 up");
  }
  namespace("router");
  for (const [index, subnet] of ["a", "b"].entries()) {
    cable("router", `eth${index}`, `switch-${subnet}`);
    ip("router", `address add 10.0.${index + 1}.1/24 dev eth${index}`);
  }
  forward("router");
  for (const { name, address, gateway } of NODES) {
    namespace(name);
    cable(name, "eth0", gateway === "10.0.1.1" ? "switch-a" : "switch-b");
    ip(name, `address add ${address}/24 dev eth0`);
    ip(name, `route add default via ${gateway}`);
    forward(name);
  }
}

function forward(name: string): void {
  using kernel = openKernel({ netns: namespacePath(ns(name)) });
  kernel.sysctl.set("net.ipv4.ip_forward", 1);
}

// The cluster: its resources, and the programs of each node.

interface Draft {
  readonly metadata: { readonly name: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}
/** With defaults, as an API server would store it. */
function put<K extends KindName>(client: DatastoreClient, kind: K, draft: Draft): Promise<KindMap[K]> {
  const prepared = prepare(kind, draft);
  if (prepared.ok) return client.create(kind, prepared.resource);
  throw new Error(
    `${kind} ${draft.metadata.name}: ${prepared.errors.map(({ path, message }) => `${path} ${message}`).join("; ")}`,
  );
}

const V3 = "projectcalico.org/v3";

async function fill(client: MemoryDatastore): Promise<void> {
  await put(client, "Namespace", { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } });
  await put(client, "ClusterInformation", {
    apiVersion: V3,
    kind: "ClusterInformation",
    metadata: { name: "default" },
    spec: { datastoreReady: true },
  });
  await put(client, "IPPool", {
    apiVersion: V3,
    kind: "IPPool",
    metadata: { name: "pool" },
    spec: {
      cidr: POOL,
      blockSize: 26,
      ipipMode: "Never",
      vxlanMode: "Never",
      natOutgoing: false,
      nodeSelector: "all()",
    },
  });
  for (const { name, address } of NODES) {
    await put(client, "Node", {
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name,
        labels: { "kubernetes.io/hostname": name },
        annotations: { "projectcalico.org/IPv4Address": `${address}/24` },
      },
      spec: {},
      status: { addresses: [{ type: "InternalIP", address }] },
    });
  }
}

async function setMode(client: DatastoreClient, ipipMode: string, vxlanMode: string): Promise<void> {
  await client.patch("IPPool", { name: "pool" }, { spec: { ipipMode, vxlanMode } });
}

/** A pod as CNI leaves it: address from IPAM, cable, record. */
async function addPod(client: DatastoreClient, node: string): Promise<string> {
  const name = `pod-${node}`;
  const ipam = new Ipam({ client, clock: systemClock });
  const { assigned, error } = await ipam.autoAssign(node, {
    family: 4,
    count: 1,
    handle: `k8s-pod-network.${name}`,
    attributes: { node, namespace: "default", pod: name },
    use: "Workload",
    pools: [],
  });
  const [first] = assigned;
  if (first === undefined) throw new Error(`no address for ${name}`, { cause: error });
  const address = formatAddress(first.address);
  const device = `cali${sha1Hex(`default.${name}`).slice(0, 11)}`;
  namespace(name);
  ip(node, `link add ${device} type veth peer name eth0 netns ${ns(name)}`);
  ip(node, `link set ${device} address ee:ee:ee:ee:ee:ee up`);
  ip(name, "link set eth0 up");
  ip(name, `address add ${address}/32 dev eth0`);
  ip(name, "route add 169.254.1.1 dev eth0 scope link");
  ip(name, "route add default via 169.254.1.1");
  ip(name, "neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0");
  await put(client, "Pod", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      ...{ namespace: "default", labels: { app: name } },
      annotations: { "cni.projectcalico.org/podIP": `${address}/32`, "cni.projectcalico.org/podIPs": `${address}/32` },
    },
    spec: { nodeName: node, containers: [{ name: "main" }] },
    status: { phase: "Running" },
  });
  return address;
}

/** Its own methods on itself: they use private fields. */
function withRulesInMemory(kernel: Kernel): Kernel {
  const nft = new FakeNft();
  return new Proxy(kernel, {
    get: (target, name) => {
      if (name === "nft") return nft;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

function startNode(name: string, { client, hasRules }: { client: DatastoreClient; hasRules: boolean }): void {
  const netns = namespacePath(ns(name));
  const hostRoot = mkdtempSync(join(tmpdir(), `${prefix}-`));
  scope.defer(() => rmSync(hostRoot, { recursive: true, force: true }));
  for (const folder of ["var/run/calico", "var/lib/calico"]) mkdirSync(join(hostRoot, folder), { recursive: true });
  const real = scope.use(openKernel({ netns }));
  const kernel = hasRules ? real : withRulesInMemory(real);
  const log = createLogger({ component: name, stream: process.stderr });
  const life = new AbortController();
  const clock = systemClock;
  const common = { client, clock, log };
  const untilTold = async (): Promise<void> => {
    const outcome = await runAgent(
      {
        ...common,
        node: name,
        hostRoot,
        kernel,
        localConfig: { ipv6Support: "false", healthEnabled: "false" },
        openSyncer: (signal) => openSyncer({ client, kinds: SYNC_KINDS, signal, log }),
      },
      life.signal,
    );
    if (!life.signal.aborted) throw new Error(`the agent of ${name} wants to be started again: ${outcome}`);
  };
  const running = [
    untilTold(),
    runBgp(
      {
        ...common,
        local: { nodeName: name },
        hostRoot,
        namespace: "kube-system",
        version: "scenario",
        kernel,
        netns,
        openSyncer: (signal) => openSyncer({ client, kinds: syncKinds(name), signal, log }),
      },
      life.signal,
    ),
    keepTunnelAddresses({ ...common, nodeName: name }, life.signal),
  ].map((program) =>
    program.catch((error: unknown) => {
      if (life.signal.aborted) return;
      failed = true;
      say({ step: `programs of ${name} keep running`, ok: false, detail: errorText(error) });
    }),
  );
  scope.defer(async () => {
    life.abort();
    await Promise.all(running);
  });
}

// What the kernel shows.

interface LinkShown {
  readonly ifname: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly stats64?: { readonly tx: { readonly packets: number } };
}

function link(node: string, name: string): LinkShown | undefined {
  try {
    return (JSON.parse(ip(node, `-j -s link show ${name}`)) as LinkShown[])[0];
  } catch {
    return undefined;
  }
}

const isUp = (node: string, name: string): boolean => link(node, name)?.flags.includes("UP") ?? false;

const addressesOn = (node: string, device: string): string[] => {
  const shown = JSON.parse(ip(node, "-j -4 address")) as {
    readonly ifname: string;
    readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[];
  }[];
  return shown
    .filter(({ ifname }) => ifname === device)
    .flatMap(({ addr_info: list }) => list.map(({ local, prefixlen }) => `${local}/${prefixlen}`));
};

/** The device that leads from a node to an address; "" when none does. */
const wayTo = (node: string, address: string): string => {
  try {
    return (JSON.parse(ip(node, `-j route get ${address}`)) as { readonly dev?: string }[])[0]?.dev ?? "";
  } catch {
    return "";
  }
};

interface Cluster {
  readonly client: DatastoreClient;
  /** By index, as `NODES`. */
  readonly pods: readonly string[];
}

const reach = async (pods: readonly string[], from: number, to: number): Promise<void> => {
  const netns = namespacePath(ns(`pod-${NODES[from]?.name ?? ""}`));
  await ping({ netns, address: parseAddress(pods[to] ?? ""), timeoutMs: 2000 });
};

const everybodyReaches = async (pods: readonly string[]): Promise<void> => {
  for (const from of pods.keys()) for (const to of pods.keys()) if (from !== to) await reach(pods, from, to);
};

const annotationOf = async (client: DatastoreClient, node: string): Promise<string | undefined> =>
  (await client.get("Node", { name: node })).metadata.annotations?.["projectcalico.org/IPv4IPIPTunnelAddr"];

const devicesTo = ({ pods }: Cluster, device: (from: number, to: number) => string): void => {
  for (const from of pods.keys()) {
    for (const to of pods.keys()) {
      const node = NODES[from]?.name ?? "";
      if (from !== to) must(`way from ${node} to pod ${to + 1}`, wayTo(node, pods[to] ?? ""), device(from, to));
    }
  }
};

/** The first two nodes share a subnet. */
const near = (from: number, to: number): boolean => from < 2 && to < 2;

async function tunnelIsMade(cluster: Cluster): Promise<void> {
  for (const { name } of NODES) {
    const own = await annotationOf(cluster.client, name);
    must(`${name} has a tunnel address`, typeof own, "string");
    must(`tunl0 of ${name} is up`, isUp(name, "tunl0"), true);
    must(`addresses of tunl0 of ${name}`, addressesOn(name, "tunl0"), [`${own ?? ""}/32`]);
    must(`MTU of tunl0 of ${name}`, link(name, "tunl0")?.mtu, 1480);
  }
}

const packets = (node: string, device: string): number => link(node, device)?.stats64?.tx.packets ?? 0;

async function steps(cluster: Cluster): Promise<void> {
  const { client, pods } = cluster;
  await step("none: neighbours reach each other as they are, and tunl0 is left alone", () =>
    eventually(async () => {
      must("way", wayTo("n1", pods[1] ?? ""), "eth0");
      await reach(pods, 0, 1);
      must("tunl0 is up", isUp("n1", "tunl0"), false);
    }),
  );
  await step("none → IPIP: tunl0 is made, addressed from the pool, up, and 20 bytes smaller", async () => {
    await setMode(client, "Always", "Never");
    await eventually(() => tunnelIsMade(cluster));
  });
  await step("IPIP: every pod reaches every other, through tunl0", async () => {
    await eventually(async () => {
      devicesTo(cluster, () => "tunl0");
      await everybodyReaches(pods);
    });
    const before = packets("n1", "tunl0");
    await reach(pods, 0, 1);
    must("tunl0 carried it", packets("n1", "tunl0") > before, true);
  });
  await step("IPIP: what is done to tunl0 behind our back is repaired", async () => {
    const own = addressesOn("n1", "tunl0")[0] ?? "";
    ip("n1", "address flush dev tunl0");
    ip("n1", "link set tunl0 down mtu 1300");
    await eventually(async () => {
      must("addresses", addressesOn("n1", "tunl0"), [own]);
      await tunnelIsMade(cluster);
      devicesTo(cluster, () => "tunl0");
      await everybodyReaches(pods);
    });
  });
  await step("IPIP → across subnets only: plain to the neighbour, tunl0 to the others", async () => {
    await setMode(client, "CrossSubnet", "Never");
    await eventually(async () => {
      devicesTo(cluster, (from, to) => (near(from, to) ? "eth0" : "tunl0"));
      await everybodyReaches(pods);
    });
    const before = packets("n1", "tunl0");
    await reach(pods, 0, 1);
    must("packets of tunl0 to the neighbour", packets("n1", "tunl0") - before, 0);
    await reach(pods, 0, 2);
    must("tunl0 carries to the other subnet", packets("n1", "tunl0") > before, true);
  });
  await step("IPIP → VXLAN: the other device takes over, and tunl0 has no address any more", async () => {
    await setMode(client, "Never", "Always");
    await eventually(async () => {
      devicesTo(cluster, () => "vxlan.calico");
      await everybodyReaches(pods);
      for (const { name } of NODES) {
        must(`addresses of tunl0 of ${name}`, addressesOn(name, "tunl0"), []);
        must(`tunnel address of ${name}`, await annotationOf(client, name), undefined);
      }
    });
  });
  await step("VXLAN → IPIP → none: both devices are given up, neighbours are reached as they are", async () => {
    await setMode(client, "Always", "Never");
    await eventually(async () => {
      await tunnelIsMade(cluster);
      devicesTo(cluster, () => "tunl0");
      must("vxlan.calico is there", link("n1", "vxlan.calico"), undefined);
    });
    await setMode(client, "Never", "Never");
    await eventually(async () => {
      must("way", wayTo("n1", pods[1] ?? ""), "eth0");
      for (const { name } of NODES) must(`addresses of tunl0 of ${name}`, addressesOn(name, "tunl0"), []);
      must("tunl0 is up", isUp("n1", "tunl0"), false);
      await reach(pods, 0, 1);
    });
  });
}

const capabilities = await probeCapabilities();
const hasRules = capabilities.has("nft:inet");
if (!hasRules) say({ note: "this kernel has no nf_tables family inet: rules are kept in memory" });
buildNetwork();
const client = openMemory();
await fill(client);
const pods: string[] = [];
for (const { name } of NODES) pods.push(await addPod(client, name));
for (const { name } of NODES) startNode(name, { client, hasRules });
await steps({ client, pods });
await scope.disposeAsync();
process.exit(failed ? 1 : 0);
