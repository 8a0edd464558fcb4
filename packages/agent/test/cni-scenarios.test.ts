/**
 * The CNI service over the memory store, scenario by scenario (packages/cni/SCENARIOS.md says which list each is from and which are elsewhere): real service, real
 * allocator, a kernel that only remembers.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import { intercept } from "@calico-ts/datastore";
import { holders, makeWorld, type World, worldProblems } from "@calico-ts/ipam/testing";
import type { KindMap } from "@calico-ts/model";
import { formatPrefix } from "@calico-ts/net";
import { silentLogger } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CniFailure } from "../src/cni/cni-failure.ts";
import { DatastorePods } from "../src/cni/datastore-pods.ts";
import { IpamAddresses } from "../src/cni/ipam-addresses.ts";
import type { PluginCall } from "../src/cni/ports.ts";
import { parseRequest } from "../src/cni/request.ts";
import { CniService } from "../src/cni/service.ts";
import { FakeLinks, openGate } from "../testing/cni-fakes.ts";

let world: World;
let links: FakeLinks;
let service: CniService;
let stop: AbortController;
let failing: (operation: string) => boolean;
/** Why the node takes no pods now. */
let unready: string | undefined;
let pluginCalls: PluginCall[];

beforeEach(async () => {
  world = await makeWorld({
    pools: {
      v4: { cidr: "10.0.0.0/24", blockSize: 28 },
      extra: { cidr: "10.1.0.0/30", blockSize: 30, nodeSelector: "!all()" },
      off: { cidr: "10.2.0.0/24", disabled: true },
      tunnels: { cidr: "10.3.0.0/24", allowedUses: ["Tunnel"] },
      v6: { cidr: "fd00::/112", blockSize: 122 },
    },
    nodes: {},
  });
  await create("Node", { metadata: { name: "a" }, spec: { podCIDRs: ["10.9.0.0/24", "fd09::/64"] } });
  await create("Namespace", { metadata: { name: "shop" } });
  failing = () => false;
  unready = undefined;
  restartAgent(true);
});
afterEach(() => stop.abort());

/** Also what a restart does: nothing is remembered but what is in the kernel and the datastore. */
function restartAgent(fresh = false): void {
  if (!fresh) stop.abort();
  stop = new AbortController();
  links = fresh ? new FakeLinks() : links;
  pluginCalls = [];
  const { clock } = world;
  const client = intercept(world.store, {
    before: ({ verb, kind }) => {
      if (failing(`${verb} ${kind}`)) throw new CalicoError("UNAVAILABLE", "the API server does not answer");
    },
  });
  service = new CniService({
    links,
    plugins: {
      run: async (call) => {
        pluginCalls.push(call);
        if (call.request.command !== "ADD") return undefined;
        const told = { dns: { nameservers: ["192.0.2.53"] }, routes: [{ dst: "10.1.0.0/16" }] };
        return { cniVersion: "1.0.0", ips: [{ address: "10.9.0.7/24" }], ...told };
      },
    },
    addresses: new IpamAddresses({ client, node: "a", clock, log: silentLogger }),
    pods: new DatastorePods({ client, node: "a" }),
    endpoints: {
      ...openGate,
      notReady: () => unready,
      ready: async () => {
        if (unready !== undefined) throw new CalicoError("TIMEOUT", unready);
      },
    },
    clock,
    log: silentLogger,
    mtu: () => 1450,
  });
  void service.run(stop.signal);
}

const create = (kind: "Node" | "Namespace" | "Pod", resource: object): Promise<unknown> =>
  world.store.create(kind, { apiVersion: "v1", kind, ...resource } as KindMap[typeof kind]);

const FLOATING = { feature_control: { floating_ips: true } };
const CNI = "cni.projectcalico.org/";
const named = (annotations: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(annotations).map(([key, value]) => [CNI + key, value]));

async function pod(name: string, annotations: Readonly<Record<string, string>> = {}): Promise<void> {
  const metadata = { name, namespace: "shop", annotations: named(annotations) };
  await create("Pod", { metadata, spec: { nodeName: "a", containers: [{ name: "main" }] } });
}

async function annotateNamespace(annotations: Readonly<Record<string, string>>): Promise<void> {
  await world.store.patch("Namespace", { name: "shop" }, { metadata: { annotations: named(annotations) } });
}

interface Call {
  readonly containerId?: string;
  readonly ifName?: string;
  readonly netns?: string;
  readonly program?: string;
  readonly config?: object;
  readonly ipam?: object;
  readonly args?: object;
}

interface Result {
  readonly cniVersion: string;
  readonly ips: readonly { readonly address: string; readonly interface?: number }[];
  readonly interfaces: readonly { readonly name: string; readonly mac?: string; readonly mtu?: number }[];
}

async function cni(command: string, name: string, call: Call = {}): Promise<Result> {
  const { containerId = `c-${name}`, ifName = "eth0", netns = "/run/netns/x", program = "calico", args = {} } = call;
  const line = JSON.stringify({
    version: 1,
    command,
    program,
    containerId,
    netns,
    ifName,
    args: { K8S_POD_NAMESPACE: "shop", K8S_POD_NAME: name, ...args },
    path: "/opt/cni/bin",
    config: {
      cniVersion: "1.0.0",
      name: "net",
      type: "calico",
      ipam: { type: "calico-ipam", ...call.ipam },
      ...call.config,
    },
  });
  return (await service.handle(parseRequest(line), new AbortController().signal)) as Result;
}

async function refusal(running: Promise<unknown>): Promise<{ code: number; message: string }> {
  try {
    await running;
  } catch (error) {
    if (error instanceof CniFailure) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("it was not refused");
}

const addressesIn = ({ ips }: Result): string[] => ips.map(({ address }) => address);
const settled = (): Promise<void> => world.clock.advance(60_000);
/** Who holds addresses. */
const handles = async (client: DatastoreClient = world.store): Promise<string[]> =>
  [...new Set((await holders(client)).values())].toSorted((a, b) => (a < b ? -1 : 1));

describe("addresses", () => {
  test.each<[string, object, RegExp[]]>([
    ["no configuration: IPv4", {}, [/^10\.0\.0\.\d+\/32$/]],
    ["IPv4 said explicitly", { assign_ipv4: "true", assign_ipv6: "false" }, [/^10\.0\.0\.\d+\/32$/]],
    ["IPv6 only", { assign_ipv4: "false", assign_ipv6: "true" }, [/^fd00::[0-9a-f]*\/128$/]],
    ["dual stack", { assign_ipv4: "true", assign_ipv6: "true" }, [/^10\.0\.0\./, /^fd00::/]],
    ["a pool by name", { ipv4_pools: ["extra"] }, [/^10\.1\.0\./]],
    ["a pool by CIDR", { ipv4_pools: ["10.1.0.0/30"] }, [/^10\.1\.0\./]],
  ])("%s", async (_what, ipam, expected) => {
    await pod("web");
    const addresses = addressesIn(await cni("ADD", "web", { ipam }));
    expect(addresses).toHaveLength(expected.length);
    for (const [at, pattern] of expected.entries()) expect(addresses[at]).toMatch(pattern);
  });

  test.each<[string, object, number]>([
    ["a disabled pool is never used", { ipv4_pools: ["off"] }, 101],
    ["a pool nobody knows", { ipv4_pools: ["nowhere"] }, 101],
    ["a pool that is not for workloads", { ipv4_pools: ["tunnels"] }, 101],
    ["no family at all", { assign_ipv4: "false" }, 7],
    ["no IPv6 pool left: IPv4 is given back", { assign_ipv6: "true", ipv6_pools: ["nowhere"] }, 101],
    ["no IPv4 pool left: IPv6 is given back", { assign_ipv6: "true", ipv4_pools: ["off"] }, 101],
  ])("%s", async (_what, ipam, code) => {
    await pod("web");
    expect(await refusal(cni("ADD", "web", { ipam }))).toMatchObject({ code });
    await settled();
    expect(await handles()).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("several pools: a full one falls through to the second, and a full list says what would free space", async () => {
    const several = { ipam: { ipv4_pools: ["extra", "v4"] } };
    const given: string[] = [];
    for (const name of ["a", "b", "c", "d", "e"]) {
      await pod(name);
      given.push(...addressesIn(await cni("ADD", name, several)));
    }
    expect(given.map((address) => address.slice(0, 5)).toSorted()).toEqual([
      "10.0.",
      "10.1.",
      "10.1.",
      "10.1.",
      "10.1.",
    ]);
    await pod("q");
    const full = { ipam: { ipv4_pools: ["extra"] } };
    expect(await refusal(cni("ADD", "q", full))).toMatchObject({
      code: 101,
      message: expect.stringMatching(/in pool extra: every block of extra is claimed.*add a pool/),
    });
  });

  test("pod annotations win over the namespace's, both over the configuration", async () => {
    await annotateNamespace({ ipv4pools: '["extra"]' });
    await pod("ours");
    await pod("mine", { ipv4pools: '["10.0.0.0/24"]' });
    expect(addressesIn(await cni("ADD", "ours", { ipam: { ipv4_pools: ["v4"] } }))[0]).toMatch(/^10\.1\.0\./);
    expect(addressesIn(await cni("ADD", "mine", { ipam: { ipv4_pools: ["extra"] } }))[0]).toMatch(/^10\.0\.0\./);
  });

  test("ipFamilies", async () => {
    await pod("six", { ipFamilies: '["IPv6"]' });
    await pod("both", { ipFamilies: '["IPv4","IPv6"]' });
    expect(addressesIn(await cni("ADD", "six"))).toEqual([expect.stringMatching(/^fd00::/)]);
    expect(addressesIn(await cni("ADD", "both"))).toHaveLength(2);
    await annotateNamespace({ ipFamilies: '["IPv6"]' });
    await pod("ours");
    await pod("mine", { ipFamilies: '["IPv4"]' });
    expect(addressesIn(await cni("ADD", "ours"))).toEqual([expect.stringMatching(/^fd00::/)]);
    expect(addressesIn(await cni("ADD", "mine"))).toEqual([expect.stringMatching(/^10\.0\.0\./)]);
  });

  test("annotations that are empty ask for nothing", async () => {
    await pod("web", {
      ipv4pools: "",
      ipFamilies: "",
      ipAddrs: "",
      ipAddrsNoIpam: "",
      hwAddr: "",
      floatingIPs: "",
      allowedSourcePrefixes: "",
    });
    expect(addressesIn(await cni("ADD", "web"))).toHaveLength(1);
  });

  test("ipAddrs: exactly these, from IPAM, and taken is taken", async () => {
    await pod("web", { ipAddrs: '["10.0.0.77", "fd00::77"]' });
    await pod("twin", { ipAddrs: '["10.0.0.77"]' });
    expect(addressesIn(await cni("ADD", "web"))).toEqual(["10.0.0.77/32", "fd00::77/128"]);
    expect(await refusal(cni("ADD", "twin"))).toMatchObject({
      code: 101,
      message: expect.stringContaining("10.0.0.77"),
    });
    await cni("DEL", "web");
    await settled();
    expect(addressesIn(await cni("ADD", "twin"))).toEqual(["10.0.0.77/32"]);
  });

  test("ipAddrs of which one cannot be had: none is kept", async () => {
    await pod("web", { ipAddrs: '["10.0.0.77", "fd77::1"]' });
    expect(await refusal(cni("ADD", "web"))).toMatchObject({ code: 101 });
    await settled();
    expect(await handles()).toEqual([]);
  });

  test("IP in CNI_ARGS: again after DEL, and not twice", async () => {
    const call = { program: "calico-ipam", args: { IP: "10.0.0.50" } };
    for (const name of ["one", "two"]) await pod(name);
    expect(addressesIn(await cni("ADD", "one", call))).toEqual(["10.0.0.50/32"]);
    expect(await refusal(cni("ADD", "two", call))).toMatchObject({ code: 101 });
    await cni("DEL", "one", call);
    await settled();
    expect(addressesIn(await cni("ADD", "one", { ...call, containerId: "again" }))).toEqual(["10.0.0.50/32"]);
    const wrong = refusal(cni("ADD", "two", { args: { IP: "10.0.0" } }));
    expect(await wrong).toEqual({ code: 4, message: "CNI_ARGS: IP=10.0.0 is not an address" });
  });

  test("ipAddrsNoIpam: when it is allowed, IPAM hears nothing of it", async () => {
    await pod("web", { ipAddrsNoIpam: '["192.0.2.1"]' });
    const config = { feature_control: { ip_addrs_no_ipam: true } };
    expect(addressesIn(await cni("ADD", "web", { config }))).toEqual(["192.0.2.1/32"]);
    expect(await handles()).toEqual([]);
    await cni("DEL", "web", { config });
  });

  test.each<[string, Record<string, string>, object, string]>([
    ["ipAddrsNoIpam without leave", { ipAddrsNoIpam: '["192.0.2.1"]' }, {}, "feature_control.ip_addrs_no_ipam"],
    [
      "too many without IPAM",
      { ipAddrsNoIpam: '["192.0.2.1","192.0.2.2"]' },
      { feature_control: { ip_addrs_no_ipam: true } },
      "a pod has one",
    ],
    ["no address", { ipAddrs: "[]" }, {}, "lists no address"],
    ["not an address", { ipAddrs: '["web"]' }, {}, '"web" is not an address'],
    ["no list", { ipv4pools: "default" }, {}, "JSON list"],
    ["a family nobody knows", { ipFamilies: '["IPX"]' }, {}, "IPX"],
    ["floating addresses without leave", { floatingIPs: '["192.0.2.1"]' }, {}, "feature_control.floating_ips"],
    ["floating addresses that are none", { floatingIPs: '["web"]' }, FLOATING, '"web" is not an address'],
    ["floating addresses that are no list", { floatingIPs: "192.0.2.1" }, FLOATING, "JSON list"],
    [
      "a floating address of a family that the pod has not",
      { floatingIPs: '["192.0.2.1","2001:db8::1"]' },
      FLOATING,
      "2001:db8::1 needs an IPv6 address of the pod",
    ],
    ["a bad MAC", { hwAddr: "nonsense" }, {}, "is not a MAC address"],
    [
      "source prefixes that are none",
      { allowedSourcePrefixes: '["10.9.0.0/33"]' },
      {},
      '"10.9.0.0/33" is not a prefix',
    ],
    ["source prefixes that are no list", { allowedSourcePrefixes: "10.9.0.0/24" }, {}, "JSON list"],
    ["ipAddrs with another IPAM", { ipAddrs: '["10.0.0.1"]' }, { ipam: { type: "host-local" } }, "host-local"],
    [
      "ipAddrsNoIpam with another IPAM",
      { ipAddrsNoIpam: '["10.0.0.1"]' },
      { ipam: { type: "host-local" }, feature_control: { ip_addrs_no_ipam: true } },
      "host-local",
    ],
  ])("refused with code 7: %s", async (_what, annotations, config, message) => {
    await pod("web", annotations);
    expect(await refusal(cni("ADD", "web", { config }))).toMatchObject({
      code: 7,
      message: expect.stringContaining(message),
    });
    expect(links.list()).toEqual([]);
    await settled();
    expect(await handles()).toEqual([]);
  });

  test("floatingIPs: allowed by the network configuration, of both families where the pod has both", async () => {
    await pod("web", { floatingIPs: '["192.0.2.1"]' });
    expect(addressesIn(await cni("ADD", "web", { config: FLOATING }))).toHaveLength(1);
    await pod("both", { floatingIPs: '["192.0.2.2","2001:db8::2"]' });
    const dual = { config: FLOATING, ipam: { assign_ipv6: "true" } };
    expect(addressesIn(await cni("ADD", "both", dual))).toHaveLength(2);
  });

  test("what the configuration says of the interface: MTU, queues, forwarding; and what it does not", async () => {
    const specOf = async (name: string, config: object): Promise<object | undefined> => {
      await pod(name);
      const { interfaces } = await cni("ADD", name, { config });
      return links.specOf(interfaces[0]?.name ?? "");
    };
    const asked = { mtu: 1300, num_queues: 2, container_settings: { allow_ip_forwarding: true } };
    expect(await specOf("asks", asked)).toMatchObject({ mtu: 1300, queues: 2, allowIpForwarding: true });
    expect(await specOf("not", {})).toMatchObject({ mtu: 1450, queues: 1, allowIpForwarding: false, routes: [] });
  });

  test("device_type netkit: a veth pair, as on kernels without netkit", async () => {
    await pod("web");
    expect(addressesIn(await cni("ADD", "web", { config: { device_type: "netkit" } }))).toHaveLength(1);
    expect(links.list()).toHaveLength(1);
  });

  test("hwAddr becomes the pod's MAC", async () => {
    await pod("web", { hwAddr: "1A:2b:3c:4d:5e:6f" });
    const { interfaces } = await cni("ADD", "web");
    expect(interfaces[1]?.mac).toBe("1a:2b:3c:4d:5e:6f");
  });
});

describe("configuration refused with code 7", () => {
  test.each<[string, object, string]>([
    ["dataplane_options", { dataplane_options: { type: "grpc" } }, "dataplane_options.type"],
    ["device_type", { device_type: "macvlan" }, 'must be "veth" or "netkit"'],
    ["floating addresses neither on nor off", { feature_control: { floating_ips: "yes" } }, "floating_ips"],
    ["a plugin that is a path", { ipam: { type: "../../bin/sh" } }, "not the name of a plugin"],
  ])("%s", async (_what, config, message) => {
    await pod("web");
    expect(await refusal(cni("ADD", "web", { config }))).toMatchObject({
      code: 7,
      message: expect.stringContaining(message),
    });
  });
});

describe("sandboxes", () => {
  test("DEL with nothing, twice, with and without a namespace", async () => {
    for (const netns of ["", "/run/netns/x"]) await cni("DEL", "nobody", { netns });
    expect(await handles()).toEqual([]);
  });

  test("a second ADD, by a new container, gets a new address; the old one's DEL leaves it alone", async () => {
    await pod("web");
    const first = addressesIn(await cni("ADD", "web", { containerId: "c1" }));
    const second = addressesIn(await cni("ADD", "web", { containerId: "c2" }));
    expect(second).not.toEqual(first);
    await cni("DEL", "web", { containerId: "c1" });
    await settled();
    expect(links.list().map(({ containerId }) => containerId)).toEqual(["c2"]);
    expect(await handles()).toEqual(["net.c2"]);
  });

  test("a repeated ADD of one container is answered with what it has, also by another interface name, also after a restart", async () => {
    await pod("web");
    const first = await cni("ADD", "web");
    expect(await cni("ADD", "web")).toEqual(first);
    restartAgent();
    const other = await cni("ADD", "web", { ifName: "net1" });
    expect(other.ips).toEqual(first.ips);
    expect(other.interfaces.map(({ name }) => name)).toEqual(first.interfaces.map(({ name }) => name));
    expect(await handles()).toEqual(["net.c-web"]);
  });

  test("a repeated ADD that fails keeps the running container's address and interface", async () => {
    await pod("web");
    await cni("ADD", "web");
    failing = (operation) => operation === "patch Pod";
    expect(await refusal(cni("ADD", "web"))).toMatchObject({ code: 11 });
    failing = () => false;
    await settled();
    expect(await handles()).toEqual(["net.c-web"]);
    expect(links.list()).toHaveLength(1);
  });

  test("an ADD that fails gives everything back", async () => {
    await pod("web");
    failing = (operation) => operation === "patch Pod";
    expect(await refusal(cni("ADD", "web"))).toMatchObject({ code: 11 });
    await settled();
    expect(links.list()).toEqual([]);
    expect(await handles()).toEqual([]);
    expect(await worldProblems(world.store, { atRest: true })).toEqual([]);
  });

  test("a DEL while the API server is down is done at once; the address goes back when it can", async () => {
    await pod("web");
    await cni("ADD", "web");
    failing = () => true;
    await cni("DEL", "web");
    expect(links.list()).toEqual([]);
    expect(await handles()).toEqual(["net.c-web"]);
    failing = () => false;
    await settled();
    expect(await handles()).toEqual([]);
  });

  test("a pod the cluster does not know", async () => {
    expect(await refusal(cni("ADD", "nobody"))).toMatchObject({
      code: 4,
      message: expect.stringContaining("shop/nobody"),
    });
  });

  test.each([{ K8S_POD_NAME: "" }, { K8S_POD_NAMESPACE: "" }])("no pod at all: %j", async (args) => {
    const refused = { code: 4, message: expect.stringMatching(/^CNI_ARGS names no pod/) as string };
    expect(await refusal(cni("ADD", "web", { args }))).toMatchObject(refused);
  });

  test("the datastore is down: try again later", async () => {
    await pod("web");
    failing = () => true;
    expect(await refusal(cni("ADD", "web"))).toMatchObject({ code: 11 });
  });

  test("readiness gates: one that answers, and one that does not", async () => {
    const { createServer } = await import("node:http");
    const server = createServer((request, response) => {
      response.statusCode = request.url === "/ready" ? 200 : 503;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await pod("web");
    const gates = (path: string) => ({ config: { readiness_gates: [`http://127.0.0.1:${port}${path}`] } });
    await cni("ADD", "web", gates("/ready"));
    const waiting = refusal(cni("ADD", "web", gates("/bogus")));
    for (let at = 0; at < 40; at++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      await world.clock.advance(5000);
    }
    expect(await waiting).toMatchObject({ code: 11, message: expect.stringContaining("it answers 503") });
    await new Promise((resolve) => server.close(resolve));
  });
});

describe("other IPAM plugins", () => {
  test("are run for ADD and DEL with what they expect; usePodCidr is replaced", async () => {
    await pod("web");
    const config = {
      ipam: { type: "host-local", ranges: [[{ subnet: "usePodCidr" }], [{ subnet: "usePodCidrIPv6" }]] },
    };
    expect(addressesIn(await cni("ADD", "web", { config }))).toEqual(["10.9.0.7/32"]);
    await cni("DEL", "web", { config });
    expect(pluginCalls.map(({ type, request }) => `${type} ${request.command}`)).toEqual([
      "host-local ADD",
      "host-local DEL",
    ]);
    expect(pluginCalls[0]?.config["ipam"]).toEqual({
      type: "host-local",
      ranges: [[{ subnet: "10.9.0.0/24" }], [{ subnet: "fd09::/64" }]],
    });
    expect(await handles()).toEqual([]);
  });

  test("say which routes the pod has, and what stands in the result with them; annotations about pools are not theirs", async () => {
    await pod("web", { ipv4pools: "nonsense" });
    const ipam = { type: "host-local", subnet: "10.9.0.0/24", routes: [{ dst: "10.1.0.0/16" }] };
    const result = await cni("ADD", "web", { config: { ipam } });
    expect(result).toMatchObject({ routes: [{ dst: "10.1.0.0/16" }], dns: { nameservers: ["192.0.2.53"] } });
    const routes = (): string[] => (links.specOf(result.interfaces[0]?.name ?? "")?.routes ?? []).map(formatPrefix);
    expect(routes()).toEqual(["10.1.0.0/16"]);
    await cni("DEL", "web", { config: { ipam } });
    await cni("ADD", "web", { config: { ipam, include_default_routes: true } });
    expect(routes()).toEqual(["0.0.0.0/0", "::/0", "10.1.0.0/16"]);
  });

  test("hear of STATUS and GC, where they may know of them", async () => {
    for (const cniVersion of ["1.0.0", "1.1.0"]) {
      const config = { cniVersion, ipam: { type: "host-local" }, "cni.dev/valid-attachments": [] };
      for (const command of ["STATUS", "GC"]) await cni(command, "", { config });
    }
    const commands = pluginCalls.map(({ request }) => `${request.command} ${request.config.cniVersion}`);
    expect(commands).toEqual(["STATUS 1.1.0", "GC 1.1.0"]);
  });

  test("get a DEL when the ADD fails after them", async () => {
    await pod("web");
    failing = (operation) => operation === "patch Pod";
    await refusal(cni("ADD", "web", { config: { ipam: { type: "host-local", subnet: "usePodCidr" } } }));
    await settled();
    expect(pluginCalls.map(({ request }) => request.command)).toEqual(["ADD", "DEL"]);
  });
});

describe("results", () => {
  test.each<[string, (address: string) => object]>([
    ["0.2.0", (address) => ({ cniVersion: "0.2.0", ip4: { ip: address }, dns: {} })],
    ["0.3.1", (address) => ({ cniVersion: "0.3.1", ips: [{ version: "4", address, interface: 1 }] })],
    ["0.4.0", (address) => ({ cniVersion: "0.4.0", ips: [{ version: "4", address, interface: 1 }] })],
    ["1.0.0", (address) => ({ cniVersion: "1.0.0", ips: [{ address, interface: 1 }] })],
    [
      "1.1.0",
      (address) => ({ cniVersion: "1.1.0", ips: [{ address, interface: 1 }], interfaces: [{}, { mtu: 1450 }] }),
    ],
  ])("in version %s", async (cniVersion, expected) => {
    await pod("web");
    const result = await cni("ADD", "web", { config: { cniVersion } });
    const [address = ""] = (await holders(world.store)).keys();
    expect(result).toMatchObject(expected(`${address}/32`));
  });

  test("interfaces and addresses of plugins before us stay, and ours are counted after them", async () => {
    await pod("web");
    const prevResult = {
      cniVersion: "1.0.0",
      interfaces: [{ name: "lo", sandbox: "/run/netns/x" }],
      ips: [{ address: "127.0.0.1/8", interface: 0 }],
      dns: { nameservers: ["192.0.2.53"] },
    };
    const result = await cni("ADD", "web", { config: { prevResult } });
    expect(result.interfaces).toHaveLength(3);
    expect(result.ips[1]?.interface).toBe(2);
    expect(result).toMatchObject({ dns: { nameservers: ["192.0.2.53"] } });
  });

  test("CHECK compares with what ADD answered", async () => {
    await pod("web");
    const result = await cni("ADD", "web");
    await cni("CHECK", "web", { config: { prevResult: result } });
    const lies: [object, string][] = [
      [{ ips: [{ address: "10.0.0.99/32", interface: 1 }] }, "ADD answered 10.0.0.99"],
      [{ ips: [...result.ips, { address: "10.0.0.99/32", interface: 1 }] }, "10.0.0.99"],
      [
        { interfaces: [result.interfaces[0], { ...result.interfaces[1], mac: "02:00:00:00:00:77" }] },
        "02:00:00:00:00:77",
      ],
      [{ interfaces: [{ name: "cali0" }, result.interfaces[1]] }, "ADD answered the interfaces cali0, eth0"],
    ];
    for (const [lie, message] of lies) {
      expect(await refusal(cni("CHECK", "web", { config: { prevResult: { ...result, ...lie } } }))).toMatchObject({
        code: 103,
        message: expect.stringContaining(message),
      });
    }
    const others = {
      interfaces: [...result.interfaces, { name: "lo" }],
      ips: [...result.ips, { address: "127.0.0.1/8", interface: 2 }],
    };
    await cni("CHECK", "web", { config: { prevResult: { ...result, ...others } } });
    await cni("DEL", "web");
    await settled();
    expect(await refusal(cni("CHECK", "web"))).toMatchObject({ code: 103 });
  });

  test("CHECK finds that the allocation is gone while interface and answer are as they were", async () => {
    await pod("web");
    const prevResult = await cni("ADD", "web");
    await world.ipam.releaseByHandle("net.c-web");
    for (const program of ["calico", "calico-ipam"]) {
      expect(await refusal(cni("CHECK", "web", { program, config: { prevResult } }))).toMatchObject({
        code: 103,
        message: expect.stringContaining("no address is assigned"),
      });
    }
  });

  test("CHECK of a pod whose addresses are not IPAM's goes by its annotation", async () => {
    await pod("web", { ipAddrsNoIpam: '["192.0.2.1"]' });
    const config = { feature_control: { ip_addrs_no_ipam: true } };
    const prevResult = await cni("ADD", "web", { config });
    await cni("CHECK", "web", { config: { ...config, prevResult } });
    const lie = { ...prevResult, ips: [{ address: "192.0.2.2/32", interface: 1 }] };
    expect(await refusal(cni("CHECK", "web", { config: { ...config, prevResult: lie } }))).toMatchObject({ code: 103 });
  });

  test("GC returns what no valid attachment names", async () => {
    for (const name of ["keep", "drop"]) {
      await pod(name);
      await cni("ADD", name);
    }
    await cni("GC", "", { config: { "cni.dev/valid-attachments": [{ containerID: "c-keep", ifname: "eth0" }] } });
    await settled();
    expect(await handles()).toEqual(["net.c-keep"]);
    expect(links.list().map(({ containerId }) => containerId)).toEqual(["c-keep"]);
  });

  test("GC leaves other networks alone, whose names may begin like this one's", async () => {
    for (const [name, network] of [
      ["mine", "net"],
      ["other", "net-2"],
      ["dotted", "net.b"],
    ] as const) {
      await pod(name);
      await cni("ADD", name, { config: { name: network } });
    }
    await cni("GC", "", { config: { "cni.dev/valid-attachments": [] } });
    await settled();
    expect((await handles()).toSorted()).toEqual(["net-2.c-other", "net.b.c-dotted"]);
    expect(links.list().map(({ containerId }) => containerId)).toEqual(["c-other", "c-dotted"]);
  });

  test("STATUS is fine when the node can take pods, and says why when it cannot; then an ADD is for later, a DEL is not", async () => {
    for (const program of ["calico", "calico-ipam"]) expect(await cni("STATUS", "", { program })).toBeUndefined();
    unready = "it waits for the first list of Tier";
    await pod("web");
    for (const [command, code] of [
      ["STATUS", 50],
      ["ADD", 11],
    ] as const) {
      expect(await refusal(cni(command, "web"))).toEqual({ code, message: expect.stringContaining(unready) });
    }
    await cni("DEL", "web");
  });
});
