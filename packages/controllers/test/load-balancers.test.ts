/** The load-balancer controller, in memory and on an API server: services get addresses, tell them, and give them back. */
import { type DatastoreClient, openKubernetes, openMemory, parseKubeconfig } from "@calico-ts/datastore";
import { installDefinitions } from "@calico-ts/datastore/testing";
import { Collector, Ipam } from "@calico-ts/ipam";
import { type ApiServer, startApiServer } from "@calico-ts/kube-apiserver";
import type { IPPoolSpec, Service } from "@calico-ts/model";
import { formatAddress } from "@calico-ts/net";
import { createLogger, systemClock } from "@calico-ts/runtime";
import { FakeClock } from "@calico-ts/runtime/testing";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { loadBalancerHandle } from "../src/loadbalancer/plan.ts";
import { type Outcome, runControllers } from "../src/run.ts";
import { readControllersSettings } from "../src/settings.ts";
import { StatusFile } from "../src/status-file.ts";

const PATIENCE = { timeout: 60_000, interval: 20 };

interface Place {
  readonly name: string;
  open(): Promise<DatastoreClient>;
  close?(): Promise<void>;
}

function apiServer(): Place {
  let server: ApiServer | undefined;
  let client: DatastoreClient | undefined;
  const start = async (): Promise<DatastoreClient> => {
    server = await startApiServer();
    const connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
    await installDefinitions(connection);
    return openKubernetes({ connection });
  };
  return {
    name: "an API server",
    open: async () => {
      client ??= await start();
      const kinds = [
        "Service",
        "IPAMBlock",
        "IPAMHandle",
        "BlockAffinity",
        "IPPool",
        "KubeControllersConfiguration",
      ] as const;
      for (const kind of kinds) {
        for (const { metadata } of (await client.list(kind)).items) {
          if (kind !== "Service" || metadata.namespace !== "default") await client.delete(kind, metadata);
        }
      }
      return client;
    },
    close: async () => {
      await client?.[Symbol.asyncDispose]();
      await server?.close();
    },
  };
}

const memory: Place = { name: "memory", open: async () => openMemory({ clock: new FakeClock() }) };

describe.each([memory, apiServer()])("in $name", (place) => {
  let client: DatastoreClient;
  let ipam: Ipam;
  let stop: AbortController;
  let running: Promise<Outcome>;
  let folder: string;
  let lines: string[];

  beforeAll(async () => void (await place.open()), 120_000);
  afterAll(async () => place.close?.(), 60_000);
  beforeEach(async () => {
    client = await place.open();
    ipam = new Ipam({ client });
    folder = mkdtempSync(join(tmpdir(), "ct-balancers-"));
    lines = [];
    await client
      .create("Namespace", {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name: "shop", labels: { team: "shop" } },
      })
      .catch(() => undefined);
    start();
  }, 60_000);
  afterEach(async () => {
    await end();
    rmSync(folder, { recursive: true, force: true });
  });

  function start(mode?: "RequestedServicesOnly"): void {
    stop = new AbortController();
    const log = createLogger({
      component: "test",
      level: "Info",
      stream: { write: (line: string) => lines.push(line) > 0 },
    });
    running = (async () => {
      if (mode !== undefined) {
        const { spec, ...rest } = await client.get("KubeControllersConfiguration", { name: "default" });
        await client.update("KubeControllersConfiguration", {
          ...rest,
          spec: { ...spec, controllers: { ...spec.controllers, loadBalancer: { assignIPs: mode } } },
        });
      }
      return runControllers(
        {
          client,
          settings: readControllersSettings({ ENABLED_CONTROLLERS: "loadbalancer", HEALTH_ENABLED: "false" }),
          environmentVars: {},
          clock: systemClock,
          log,
          setLogLevel: () => undefined,
          statusFile: new StatusFile(join(folder, "status.json")),
          metricsPort: 0,
          passGapMs: 10,
        },
        stop.signal,
      );
    })();
    running.catch(() => undefined);
  }

  async function end(): Promise<void> {
    stop.abort();
    await running.catch(() => undefined);
  }

  const pool = (name: string, cidr: string, spec: Partial<IPPoolSpec> = {}): Promise<unknown> =>
    client.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name },
      spec: { cidr, blockSize: 30, nodeSelector: "all()", allowedUses: ["LoadBalancer"], ...spec },
    });

  async function service(
    name: string,
    spec: object = {},
    annotations: Readonly<Record<string, string>> = {},
  ): Promise<Service> {
    return client.create("Service", {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "shop", annotations },
      spec: {
        type: "LoadBalancer",
        ports: [{ name: "http", port: 80, protocol: "TCP" }],
        ipFamilies: ["IPv4"],
        ...spec,
      },
    });
  }

  const ingress = async (name: string): Promise<(string | undefined)[]> =>
    ((await client.get("Service", { namespace: "shop", name })).status?.loadBalancer?.ingress ?? []).map(
      ({ ip }) => ip,
    );
  const has = (name: string, expected: unknown): Promise<void> =>
    vi.waitFor(async () => expect(await ingress(name)).toEqual(expected), PATIENCE);
  const held = async (of: Service): Promise<string[]> =>
    (await ipam.addressesOf(loadBalancerHandle(of))).map(formatAddress);
  const annotate = (name: string, annotations: Readonly<Record<string, string | null>>): Promise<unknown> =>
    client.patch("Service", { namespace: "shop", name }, { metadata: { annotations } });
  const IN_POOL: unknown = [expect.stringMatching(/^192\.0\.2\.\d+$/)];

  test("a service gets an address, says so, and keeps it over a restart; its end gives it back", async () => {
    await pool("lb", "192.0.2.0/24");
    const web = await service("web");
    await has("web", IN_POOL);
    const [address] = await ingress("web");
    const [block] = (await client.list("IPAMBlock")).items;
    expect(block?.spec.affinity).toBe("virtual:load-balancer");
    expect(block?.spec.attributes[0]).toMatchObject({
      handle_id: loadBalancerHandle(web),
      secondary: { service: "web", namespace: "shop", type: "LoadBalancer" },
    });
    await end();
    start();
    await service("other");
    await has("other", IN_POOL);
    expect(await ingress("web")).toEqual([address]);
    expect(await held(web)).toEqual([address]);
    await client.delete("Service", { namespace: "shop", name: "web" });
    await vi.waitFor(async () => expect(await held(web)).toEqual([]), PATIENCE);
    expect(await ingress("other")).toEqual(IN_POOL);
  });

  test("a service that is there before any pool waits for one, and nothing is taken from it meanwhile", async () => {
    const early = await service("early");
    await client.patch(
      "Service",
      { namespace: "shop", name: "early" },
      { status: { loadBalancer: { ingress: [{ ip: "203.0.113.9" }] } } },
      { status: true },
    );
    await pool("pods", "10.0.0.0/24", { allowedUses: ["Workload"] });
    await service("told", { loadBalancerIP: "192.0.2.7" });
    expect(await ingress("early")).toEqual(["203.0.113.9"]);
    await pool("lb", "192.0.2.0/24");
    await has("early", IN_POOL);
    await has("told", ["192.0.2.7"]);
    expect(await held(early)).toHaveLength(1);
    // The last pool goes: so do its addresses.
    await client.delete("IPPool", { name: "lb" });
    await has("early", []);
    expect(await held(early)).toEqual([]);
  });

  test("particular addresses; one that is taken is given when it becomes free", async () => {
    await pool("lb", "192.0.2.0/24");
    const IPS = "projectcalico.org/loadBalancerIPs";
    const first = await service("first", {}, { [IPS]: '["192.0.2.5"]' });
    await has("first", ["192.0.2.5"]);
    const second = await service("second", {}, { [IPS]: '["192.0.2.5"]' });
    await vi.waitFor(() => expect(lines.join("\n")).toMatch(/load_balancer\.not_assigned.*shop\/second/), PATIENCE);
    expect(await held(second)).toEqual([]);
    await annotate("first", { [IPS]: '["192.0.2.77"]' });
    await has("first", ["192.0.2.77"]);
    expect(await held(first)).toEqual(["192.0.2.77"]);
    await has("second", ["192.0.2.5"]);
    await annotate("first", { [IPS]: null });
    await has("first", IN_POOL);
  });

  test("pools by annotation and by namespace; a change of them moves the service", async () => {
    await pool("any", "192.0.2.0/25", { namespaceSelector: 'team == "other"' });
    await pool("shop", "192.0.2.128/25", { namespaceSelector: 'team == "shop"' });
    await pool("manual", "198.51.100.0/24", { assignmentMode: "Manual" });
    const web = await service("web");
    await has("web", [expect.stringMatching(/^192\.0\.2\.(1(2[89]|[3-9]\d)|2\d\d)$/)]);
    await annotate("web", { "projectcalico.org/ipv4pools": '["manual"]' });
    await has("web", [expect.stringMatching(/^198\.51\.100\./)]);
    await annotate("web", { "projectcalico.org/ipv4pools": "not a list" });
    await vi.waitFor(() => expect(lines.join("\n")).toMatch(/load_balancer\.not_understood/), PATIENCE);
    expect(await held(web)).toEqual(await ingress("web"));
    await annotate("web", { "projectcalico.org/ipv4pools": null });
    await has("web", IN_POOL);
  });

  test("a service waits until a pool selects its namespace", async () => {
    await pool("gold", "192.0.2.0/24", { namespaceSelector: 'tier == "gold"' });
    const web = await service("web");
    await vi.waitFor(() => expect(lines.join("\n")).toMatch(/load_balancer\.not_assigned.*shop\/web/), PATIENCE);
    expect(await held(web)).toEqual([]);
    const label = (tier: string | null) =>
      client.patch("Namespace", { name: "shop" }, { metadata: { labels: { tier } } });
    await label("gold");
    await has("web", IN_POOL);
    await label(null);
  });

  test("a service that changes type gives its address back", async () => {
    await pool("lb", "192.0.2.0/24");
    const web = await service("web");
    await has("web", IN_POOL);
    await client.patch("Service", { namespace: "shop", name: "web" }, { spec: { type: "ClusterIP" } });
    await vi.waitFor(async () => expect(await held(web)).toEqual([]), PATIENCE);
  });

  test("only services that ask, where it is configured so", async () => {
    await pool("lb", "192.0.2.0/24");
    const quiet = await service("quiet");
    await has("quiet", IN_POOL);
    await end();
    start("RequestedServicesOnly");
    await has("quiet", []);
    expect(await held(quiet)).toEqual([]);
    await service("asks", {}, { "projectcalico.org/ipv4pools": '["lb"]' });
    await has("asks", IN_POOL);
    expect(await ingress("quiet")).toEqual([]);
  });

  test("an address whose service went while nobody looked is given back; garbage collection leaves the others alone", async () => {
    await pool("lb", "192.0.2.0/24");
    const web = await service("web");
    const gone = await service("gone");
    await has("web", IN_POOL);
    await has("gone", IN_POOL);
    await end();
    await client.delete("Service", { namespace: "shop", name: "gone" });
    // One of the same name is another service.
    const anew = await service("gone");
    start();
    await has("gone", IN_POOL);
    expect(await held(gone)).toEqual([]);
    expect(await held(anew)).toHaveLength(1);
    const clock = new FakeClock();
    const collector = new Collector({ client, clock, grace: { leakMs: 1000 } });
    for (let at = 0; at < 4; at++) {
      await collector.pass();
      await clock.advance(60_000);
    }
    expect(await held(web)).toEqual(await ingress("web"));
  });

  test("more services than addresses: those that are left wait", async () => {
    await pool("small", "192.0.2.0/30");
    for (let at = 0; at < 5; at++) await service(`s${at}`);
    const told = async (): Promise<(string | undefined)[]> =>
      (await Promise.all(Array.from({ length: 5 }, (_, at) => ingress(`s${at}`)))).flat();
    await vi.waitFor(async () => expect(new Set(await told()).size).toBe(4), PATIENCE);
    const without = (
      await Promise.all(
        Array.from({ length: 5 }, async (_, at) => ((await ingress(`s${at}`)).length === 0 ? [`s${at}`] : [])),
      )
    ).flat();
    const victim = without[0] === "s0" ? "s1" : "s0";
    await client.delete("Service", { namespace: "shop", name: victim });
    await vi.waitFor(async () => expect(await ingress(without[0] ?? "")).toHaveLength(1), PATIENCE);
  });
});
