/** Against an API server in this process, through a wire that can be cut. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type DatastoreClient, openKubernetes, parseKubeconfig } from "@calico-ts/datastore";
import { startApiServer } from "@calico-ts/kube-apiserver";
import { expect, test } from "vitest";
import { openSyncer, type Syncer } from "./syncer.ts";

/** Forwards TCP to a port while it is up. */
class Wire implements AsyncDisposable {
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#forward(socket));
  #port = 0;

  constructor(target: number) {
    this.#target = target;
  }

  async up(): Promise<number> {
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
    return this.#port;
  }

  /** Cuts what is connected and refuses what comes. */
  async cut(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.cut();
  }

  #forward(socket: Socket): void {
    const upstream = connect(this.#target, "127.0.0.1");
    for (const [from, to] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}

async function follow(syncer: Syncer, world: Map<string, string>): Promise<void> {
  for await (const { updates } of syncer) {
    for (const { kind, key, resource } of updates) {
      if (resource === undefined) world.delete(`${kind} ${key.name}`);
      else world.set(`${kind} ${key.name}`, resource.metadata.resourceVersion ?? "");
    }
  }
}

async function present(client: DatastoreClient): Promise<Map<string, string>> {
  const world = new Map<string, string>();
  for (const kind of ["Namespace", "ConfigMap"] as const) {
    for (const { metadata } of (await client.list(kind)).items)
      world.set(`${kind} ${metadata.name}`, metadata.resourceVersion ?? "");
  }
  return world;
}

const configMap = (name: string, data: Record<string, string> = {}) => ({
  apiVersion: "v1" as const,
  kind: "ConfigMap" as const,
  metadata: { name, namespace: "default" },
  data,
});

test("survives a server that cannot be reached for a while, with and without its history", {
  timeout: 120_000,
}, async () => {
  await using server = await startApiServer({ bookmarkIntervalMs: 100 });
  await using wire = new Wire(server.port);
  const port = await wire.up();
  const kubeconfig = await server.adminKubeconfig({ server: `https://127.0.0.1:${port}` });
  await using remote = openKubernetes({ connection: parseKubeconfig(kubeconfig, { file: "remote" }) });
  await using local = openKubernetes({
    connection: parseKubeconfig(await server.adminKubeconfig(), { file: "local" }),
  });
  const controller = new AbortController();
  const backoff = { firstMs: 20, maxMs: 200 };
  const syncer = openSyncer({ client: remote, kinds: ["Namespace", "ConfigMap"], signal: controller.signal, backoff });
  const world = new Map<string, string>();
  const following = follow(syncer, world);

  await local.create("ConfigMap", configMap("kept"));
  await local.create("ConfigMap", configMap("doomed"));
  await expect.poll(() => world.has("ConfigMap doomed"), { timeout: 20_000 }).toBe(true);
  for (const forgetful of [false, true]) {
    await wire.cut();
    await expect.poll(() => syncer.status.every(({ connected }) => !connected), { timeout: 20_000 }).toBe(true);
    expect(syncer.status[0]?.problem).toMatch(/cannot reach|broke/);
    await local.delete("ConfigMap", { name: "doomed", namespace: "default" });
    const kept = await local.get("ConfigMap", { name: "kept", namespace: "default" });
    await local.update("ConfigMap", { ...kept, data: { forgetful: String(forgetful) } });
    await local.create("ConfigMap", configMap(forgetful ? "later" : "doomed", { again: "yes" }));
    if (forgetful) server.store.compact();
    const now = await present(local);
    await wire.up();
    await expect.poll(() => world, { timeout: 20_000 }).toEqual(now);
  }
  controller.abort();
  await following;
});
