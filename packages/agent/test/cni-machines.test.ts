/**
 * KubeVirt's virtual machines: upstream's scenarios (packages/cni/SCENARIOS.md), with the real CNI service and allocator, over the memory store and over an API server
 * that knows KubeVirt's kinds as plain custom resources.
 */
import { type DatastoreClient, openKubernetes, parseKubeconfig } from "@calico-ts/datastore";
import { installDefinitions, installForeignDefinitions } from "@calico-ts/datastore/testing";
import { Ipam, machineHandle } from "@calico-ts/ipam";
import { makeWorld } from "@calico-ts/ipam/testing";
import { type ApiServer, startApiServer } from "@calico-ts/kube-apiserver";
import type { KindMap, KindName } from "@calico-ts/model";
import { formatAddress } from "@calico-ts/net";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { DatastorePods } from "../src/cni/datastore-pods.ts";
import { IpamAddresses } from "../src/cni/ipam-addresses.ts";
import { parseRequest } from "../src/cni/request.ts";
import { CniService } from "../src/cni/service.ts";
import { podInterfaceName } from "../src/cni/pod-link.ts";
import { FakeLinks, openGate } from "../testing/cni-fakes.ts";

const PATIENCE = { timeout: 60_000, interval: 20 };
let serial = 0;
const HANDLE = machineHandle("net", "shop", "db");

interface Store {
  readonly name: string;
  open(): Promise<DatastoreClient>;
  close?(): Promise<void>;
}

const inMemory: Store = { name: "memory", open: async () => (await makeWorld({ pools: {}, nodes: {} })).store };

/** What is emptied before each test. Pods stay, as without a kubelet they would: each has a name of its own. */
const WRITTEN = [
  "VirtualMachineInstance",
  "VirtualMachine",
  "IPAMBlock",
  "IPAMHandle",
  "BlockAffinity",
  "IPAMConfiguration",
  "IPPool",
  "Node",
] as const;

function apiServer(): Store {
  let server: ApiServer | undefined;
  let client: DatastoreClient | undefined;
  const start = async (): Promise<DatastoreClient> => {
    server = await startApiServer();
    const connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
    await installDefinitions(connection, [
      "IPPool",
      "IPReservation",
      "IPAMBlock",
      "IPAMHandle",
      "IPAMConfiguration",
      "BlockAffinity",
    ]);
    await installForeignDefinitions(connection, ["VirtualMachine", "VirtualMachineInstance"]);
    return openKubernetes({ connection });
  };
  return {
    name: "an API server",
    open: async () => {
      client ??= await start();
      for (const kind of WRITTEN)
        for (const { metadata } of (await client.list(kind)).items) await remove(client, kind, metadata);
      return client;
    },
    close: async () => {
      await client?.[Symbol.asyncDispose]();
      await server?.close();
    },
  };
}

/** Whatever holds it back. */
async function remove(
  client: DatastoreClient,
  kind: KindName,
  metadata: { readonly name: string; readonly namespace?: string },
): Promise<void> {
  if (kind === "VirtualMachine" || kind === "VirtualMachineInstance") {
    await client.patch(kind, metadata, { metadata: { finalizers: null } });
  }
  await client.delete(kind, metadata).catch(() => undefined);
}

describe.each([inMemory, apiServer()])("virtual machines, in $name", (where) => {
  let store: DatastoreClient;
  let ipam: Ipam;
  let stop: AbortController;
  let nodes: Map<string, { service: CniService; links: FakeLinks; withheld: Set<string> }>;

  beforeAll(async () => void (await where.open()), 120_000);
  afterAll(async () => where.close?.(), 60_000);
  beforeEach(async () => {
    store = await where.open();
    ipam = new Ipam({ client: store });
    for (const [name, cidr] of [
      ["v4", "10.0.0.0/24"],
      ["v6", "fd00::/112"],
    ] as const) {
      await put("IPPool", { metadata: { name }, spec: { cidr } });
    }
    for (const name of ["a", "b"]) await put("Node", { metadata: { name } });
    await put("Namespace", { metadata: { name: "shop" } }).catch(() => undefined);
    stop = new AbortController();
    nodes = new Map(["a", "b"].map((name) => [name, agent(name)]));
  }, 60_000);
  afterEach(() => stop.abort());

  function agent(node: string, links = new FakeLinks(), withheld = new Set<string>()) {
    const withholdRoutes = (name: string): Disposable => {
      withheld.add(name);
      return { [Symbol.dispose]: () => void withheld.delete(name) };
    };
    const common = { clock: systemClock, log: silentLogger };
    const service = new CniService({
      ...common,
      links,
      plugins: { run: async () => undefined },
      addresses: new IpamAddresses({ ...common, client: store, node }),
      pods: new DatastorePods({ client: store, node }),
      endpoints: { ...openGate, withholdRoutes },
      mtu: () => 1450,
    });
    void service.run(stop.signal);
    return { service, links, withheld };
  }

  async function put<K extends KindName>(kind: K, resource: object): Promise<KindMap[K]> {
    const group = kind === "IPPool" ? "projectcalico.org/v3" : kind.startsWith("Virtual") ? "kubevirt.io/v1" : "v1";
    return store.create(kind, { apiVersion: group, kind, ...resource } as KindMap[K]);
  }

  const held = (kind: KindName, name: string) => ({
    metadata: { name, namespace: "shop", finalizers: ["kubevirt.io/hold"] },
    kind,
  });

  /** A machine and its instance; or an instance alone. */
  async function machine(options: { readonly alone?: boolean } = {}): Promise<void> {
    if (options.alone !== true) await put("VirtualMachine", held("VirtualMachine", "db"));
    await instance(options.alone);
  }

  async function instance(alone = false): Promise<void> {
    const owner = alone ? undefined : await store.get("VirtualMachine", { namespace: "shop", name: "db" });
    const { metadata } = held("VirtualMachineInstance", "db");
    const ownerReferences =
      owner === undefined
        ? []
        : [{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "db", uid: owner.metadata.uid ?? "" }];
    await put("VirtualMachineInstance", { metadata: { ...metadata, ownerReferences } });
  }

  async function launcher(name: string, node: string, migration?: string): Promise<string> {
    const { metadata } = await store.get("VirtualMachineInstance", { namespace: "shop", name: "db" });
    const pod = `virt-launcher-db-${name}-${serial++}`;
    const owner = {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachineInstance",
      name: "db",
      uid: metadata.uid ?? "",
      controller: true,
    };
    const labels = migration === undefined ? {} : { "kubevirt.io/migrationJobUID": migration };
    const containers = [{ name: "compute", image: "launcher" }];
    await put("Pod", {
      metadata: { name: pod, namespace: "shop", labels, ownerReferences: [owner] },
      spec: { nodeName: node, containers },
    });
    return pod;
  }

  interface Call {
    readonly node?: string;
    readonly containerId?: string;
    readonly program?: string;
    readonly dual?: boolean;
    readonly config?: object;
  }

  async function cni(command: string, pod: string, call: Call = {}): Promise<string[]> {
    const { node = "a", containerId = `c-${pod}`, program = "calico", dual = true } = call;
    const line = JSON.stringify({
      version: 1,
      command,
      program,
      containerId,
      netns: "/run/netns/x",
      ifName: "eth0",
      args: { K8S_POD_NAMESPACE: "shop", K8S_POD_NAME: pod },
      path: "/opt/cni/bin",
      config: {
        cniVersion: "1.0.0",
        name: "net",
        type: "calico",
        ipam: { type: "calico-ipam", assign_ipv6: dual },
        ...call.config,
      },
    });
    const result = await nodes.get(node)?.service.handle(parseRequest(line), new AbortController().signal);
    const { ips = [] }: { ips?: { address: string }[] } = result ?? {};
    return ips.map(({ address }) => address.split("/", 1)[0] ?? "");
  }

  const owners = async (): Promise<(string | undefined)[][]> =>
    (await ipam.heldBy(HANDLE)).map(({ active, alternate }) => [active?.["pod"], alternate?.["pod"]]);
  const addresses = async (): Promise<string[]> =>
    (await ipam.heldBy(HANDLE)).map(({ address }) => formatAddress(address));
  /** DEL answers before everything is written. */
  const until = (check: () => Promise<void>): Promise<void> => vi.waitFor(check, PATIENCE);
  /** Of both families. */
  const both = (active?: string, alternate?: string): (string | undefined)[][] => [
    [active, alternate],
    [active, alternate],
  ];
  const untilOwned = (active?: string, alternate?: string): Promise<void> =>
    until(async () => expect(await owners()).toEqual(both(active, alternate)));
  const deleting = (kind: "VirtualMachine" | "VirtualMachineInstance"): Promise<void> =>
    store.delete(kind, { namespace: "shop", name: "db" });
  /** As if it had been deleted and its finalizers were done. */
  const gone = (kind: "VirtualMachine" | "VirtualMachineInstance"): Promise<void> =>
    remove(store, kind, { namespace: "shop", name: "db" });

  const arrivesAtB = (): Promise<unknown> =>
    store.patch(
      "VirtualMachineInstance",
      { namespace: "shop", name: "db" },
      { status: { nodeName: "b" } },
      { status: true },
    );

  test("the handle names the machine, and its pod is the owner", async () => {
    await machine();
    const pod = await launcher("1", "a");
    const given = await cni("ADD", pod);
    expect(given).toHaveLength(2);
    expect(await addresses()).toEqual(given);
    const [{ metadata }, { metadata: vm }] = await Promise.all([
      store.get("VirtualMachineInstance", { namespace: "shop", name: "db" }),
      store.get("VirtualMachine", { namespace: "shop", name: "db" }),
    ]);
    const facts = { pod, namespace: "shop", node: "a", "vmi-name": "db", "vmi-uid": metadata.uid, "vm-uid": vm.uid };
    for (const { active, alternate } of await ipam.heldBy(HANDLE)) {
      expect(active).toMatchObject(facts);
      expect(alternate).toBeUndefined();
    }
    await cni("CHECK", pod);
    expect(await cni("ADD", pod)).toEqual(given);
  });

  test("a pod that is made anew gets the machine's addresses, on whichever node; so does a new instance", async () => {
    await machine();
    const first = await launcher("1", "a");
    const given = await cni("ADD", first);
    await cni("DEL", first);
    await untilOwned();
    const second = await launcher("2", "b");
    expect(await cni("ADD", second, { node: "b" })).toEqual(given);
    await cni("DEL", second, { node: "b" });
    await untilOwned();
    await gone("VirtualMachineInstance");
    await instance();
    const third = await launcher("3", "a");
    expect(await cni("ADD", third)).toEqual(given);
    expect(await owners()).toEqual(both(third));
  });

  test("a live migration: the target has the same addresses and no routes until the machine is there", async () => {
    await machine();
    const source = await launcher("1", "a");
    const given = await cni("ADD", source);
    const target = await launcher("2", "b", "migration-1");
    expect(await cni("ADD", target, { node: "b" })).toEqual(given);
    expect(await owners()).toEqual(both(source, target));
    expect((await ipam.heldBy(HANDLE))[0]?.alternate).toMatchObject({ "vmim-uid": "migration-1", node: "b" });
    const { links, withheld } = nodes.get("b") ?? {};
    const hostInterface = podInterfaceName("shop", target);
    expect(links?.specOf(hostInterface)?.routed).toBe(false);
    expect([...(withheld ?? [])]).toEqual([hostInterface]);
    await cni("CHECK", target, { node: "b" });
    await arrivesAtB();
    await untilOwned(target, source);
    await until(async () => expect(withheld?.size).toBe(0));
    await cni("DEL", source);
    await untilOwned(target);
    expect(await addresses()).toEqual(given);
  });

  test("an agent that starts during a migration goes on waiting for the machine", async () => {
    await machine();
    const source = await launcher("1", "a");
    await cni("ADD", source);
    const target = await launcher("2", "b", "migration-1");
    await cni("ADD", target, { node: "b" });
    const labels = { "kubevirt.io/migrationTargetNodeName": "b" };
    await store.patch("VirtualMachineInstance", { namespace: "shop", name: "db" }, { metadata: { labels } });
    stop.abort();
    stop = new AbortController();
    const restarted = agent("b", nodes.get("b")?.links);
    nodes.set("a", agent("a", nodes.get("a")?.links));
    nodes.set("b", restarted);
    await until(async () => expect([...restarted.withheld]).toEqual([podInterfaceName("shop", target)]));
    await arrivesAtB();
    await untilOwned(target, source);
    await until(async () => expect(restarted.withheld.size).toBe(0));
  });

  test("a migration that fails: its target goes, the source keeps the addresses", async () => {
    await machine();
    const source = await launcher("1", "a");
    const given = await cni("ADD", source);
    const target = await launcher("2", "b", "migration-1");
    await cni("ADD", target, { node: "b" });
    await cni("DEL", target, { node: "b" });
    await untilOwned(source);
    await until(async () => expect(nodes.get("b")?.withheld.size).toBe(0));
    expect(await addresses()).toEqual(given);
  });

  test("a migration of a machine that has no address, and one where addresses are not kept, fail", async () => {
    await machine();
    const early = await launcher("1", "b", "migration-1");
    await expect(cni("ADD", early, { node: "b" })).rejects.toThrow(/no address to take along/);
    await ipam.setConfig({ ...(await ipam.config()), machinesKeepAddresses: false });
    const target = await launcher("2", "b", "migration-2");
    await expect(cni("ADD", target, { node: "b" })).rejects.toThrow(/kubeVirtVMAddressPersistence is Disabled/);
    expect(await addresses()).toEqual([]);
  });

  test("where addresses are not kept, a machine's pod is one like any other", async () => {
    await ipam.setConfig({ ...(await ipam.config()), machinesKeepAddresses: false });
    await machine();
    const pod = await launcher("1", "a");
    expect(await cni("ADD", pod, { dual: false })).toHaveLength(1);
    expect(await addresses()).toEqual([]);
    await cni("DEL", pod);
    await until(async () => {
      const blocks = (await store.list("IPAMBlock")).items;
      expect(blocks.flatMap(({ spec }) => spec.attributes)).toEqual([]);
    });
  });

  test("an instance that is missing, or another one of its name, fails the pod", async () => {
    await machine();
    const orphan = await launcher("1", "a");
    await gone("VirtualMachineInstance");
    await expect(cni("ADD", orphan)).rejects.toThrow(/VirtualMachineInstance db, which does not exist/);
    await instance();
    await expect(cni("ADD", orphan)).rejects.toThrow(/has uid .*, not /);
    expect(await addresses()).toEqual([]);
  });

  test.each([
    { what: "the source goes while the machine stays", ends: [] as const, kept: true },
    { what: "the instance alone is being deleted", ends: ["VirtualMachineInstance"] as const, kept: true },
    { what: "the machine is being deleted", ends: ["VirtualMachine"] as const, kept: false },
    {
      what: "an instance without a machine is being deleted",
      ends: ["VirtualMachineInstance"] as const,
      alone: true,
      kept: false,
    },
    { what: "an instance without a machine stays", ends: [] as const, alone: true, kept: true },
  ])("$what: addresses kept: $kept", async ({ alone = false, ends, kept }) => {
    await machine({ alone });
    const pod = await launcher("1", "a");
    const given = await cni("ADD", pod);
    for (const kind of ends) await deleting(kind);
    await cni("DEL", pod);
    const after = kept
      ? [
          [undefined, undefined],
          [undefined, undefined],
        ]
      : [];
    await until(async () => expect(await owners()).toEqual(after));
    expect(await addresses()).toEqual(kept ? given : []);
  });

  test.each([
    ["source first", ["source", "target"]],
    ["target first", ["target", "source"]],
  ])("two owners of a machine that is being deleted, %s: released with the second", async (_what, order) => {
    await machine();
    const source = await launcher("1", "a");
    const given = await cni("ADD", source);
    const target = await launcher("2", "b", "migration-1");
    await cni("ADD", target, { node: "b" });
    await deleting("VirtualMachine");
    const end = (which: string | undefined) =>
      which === "source" ? cni("DEL", source) : cni("DEL", target, { node: "b" });
    await end(order[0]);
    const left = order[0] === "source" ? [undefined, target] : [source, undefined];
    await until(async () => expect(await owners()).toEqual([left, left]));
    expect(await addresses()).toEqual(given);
    await end(order[1]);
    await until(async () => expect(await addresses()).toEqual([]));
    await until(async () => expect((await store.list("IPAMHandle")).items).toEqual([]));
  });

  test("both owners at the same moment", async () => {
    await machine();
    const source = await launcher("1", "a");
    await cni("ADD", source);
    const target = await launcher("2", "b", "migration-1");
    await cni("ADD", target, { node: "b" });
    await deleting("VirtualMachine");
    await Promise.all([cni("DEL", source), cni("DEL", target, { node: "b" })]);
    await until(async () => expect(await addresses()).toEqual([]));
  });

  test("a late DEL of a pod's earlier sandbox leaves the later one its addresses", async () => {
    await machine();
    const pod = await launcher("1", "a");
    const given = await cni("ADD", pod, { containerId: "old" });
    expect(await cni("ADD", pod, { containerId: "new" })).toEqual(given);
    await cni("DEL", pod, { containerId: "old" });
    // The end of something that comes after it in the queue tells that it is done.
    await deleting("VirtualMachine");
    await cni("DEL", pod, { containerId: "other" });
    await until(async () => expect((await ipam.heldBy(HANDLE))[0]?.active?.["container-id"]).toBe("new"));
    expect(await addresses()).toEqual(given);
    await cni("DEL", pod, { containerId: "new" });
    await until(async () => expect(await addresses()).toEqual([]));
  });

  test("an ADD that fails takes its note back, and the machine keeps its addresses", async () => {
    await machine();
    const pod = await launcher("1", "a");
    const { links } = nodes.get("a") ?? {};
    if (links === undefined) throw new Error("node a");
    links.refuseNext = true;
    await expect(cni("ADD", pod)).rejects.toThrow(/the kernel says no/);
    await untilOwned();
    const kept = await addresses();
    expect(await cni("ADD", pod)).toEqual(kept);
  });

  test("the runtime's GC clears the note of a container that is gone, and releases no machine's address", async () => {
    await machine();
    const pod = await launcher("1", "a");
    const given = await cni("ADD", pod);
    await cni("GC", pod, { config: { "cni.dev/valid-attachments": [{ containerID: `c-${pod}`, ifname: "eth0" }] } });
    await cni("GC", pod, { config: { "cni.dev/valid-attachments": [] } });
    await untilOwned();
    expect(await addresses()).toEqual(given);
  });
});
