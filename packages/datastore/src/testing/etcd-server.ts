/** A real etcd (Debian package `etcd-server`) for a test: on loopback, free ports, its data in a temporary folder that goes with it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CalicoError } from "@calico-ts/std";
import type { EtcdConfig } from "../etcd/config.ts";
import { EtcdConnection } from "../etcd/connection.ts";

export interface EtcdServer extends AsyncDisposable {
  readonly endpoint: string;
  /** With `tls`, the certificate it made itself, which clients trust and show. */
  readonly config: EtcdConfig;
  readonly tlsFiles: { readonly cert: string; readonly key: string } | undefined;
  /** Deletes every key. */
  clear(): Promise<void>;
  /** Kills it, keeps its data. */
  kill(): Promise<void>;
  /** Starts it again after `kill`, on the same ports. */
  start(): Promise<void>;
}

export interface EtcdServerOptions {
  /** A certificate of its own, and only clients that have one it trusts. */
  readonly tls?: boolean;
}

/** Another process may take a port between the look and the start. */
const ATTEMPTS = 5;
const START_TIMEOUT_MS = 60_000;

/** @throws CalicoError UNAVAILABLE when etcd is not installed or does not start */
export async function startEtcd(options: EtcdServerOptions = {}): Promise<EtcdServer> {
  for (let attempt = 1; ; attempt++) {
    const server = new Server(await mkdtemp(join(tmpdir(), "ct-etcd-")), options);
    try {
      await server.start();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

class Server implements EtcdServer {
  readonly #folder: string;
  readonly #options: EtcdServerOptions;
  #ports: readonly number[] | undefined;
  #process: ChildProcess | undefined;
  #config: EtcdConfig | undefined;

  constructor(folder: string, options: EtcdServerOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  get endpoint(): string {
    return `${this.#options.tls === true ? "https" : "http"}://127.0.0.1:${this.#ports?.[0] ?? 0}`;
  }

  get config(): EtcdConfig {
    return this.#config ?? { endpoints: [this.endpoint] };
  }

  get tlsFiles(): { readonly cert: string; readonly key: string } | undefined {
    if (this.#options.tls !== true) return undefined;
    const folder = join(this.#folder, "data/fixtures/client");
    return { cert: join(folder, "cert.pem"), key: join(folder, "key.pem") };
  }

  async start(): Promise<void> {
    this.#ports ??= await Promise.all([freePort(), freePort()]);
    const peer = `http://127.0.0.1:${this.#ports[1] ?? 0}`;
    const output: string[] = [];
    const child = spawn(
      "etcd",
      [
        ["--data-dir", join(this.#folder, "data")],
        ["--listen-client-urls", this.endpoint, "--advertise-client-urls", this.endpoint],
        ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", `default=${peer}`],
        ["--unsafe-no-fsync"],
        this.#options.tls === true ? ["--auto-tls"] : [],
      ].flat(),
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => output.push(String(chunk)));
    const failed = new Promise<never>((_, reject) => {
      const say = (why: string): void => {
        const detail = output.join("").split("\n").slice(-5).join("\n");
        reject(new CalicoError("UNAVAILABLE", `etcd (Debian package etcd-server) ${why}: ${detail}`));
      };
      child.once("error", (error) => say(error.message));
      child.once("exit", (code) => say(`ended with ${code ?? "a signal"}`));
    });
    failed.catch(() => undefined);
    await Promise.race([failed, this.#answers()]);
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  }

  async clear(): Promise<void> {
    await this.#with((connection) =>
      connection.txn("clear", {
        compare: [],
        success: [{ requestDeleteRange: { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) } }],
        failure: [],
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #answers(): Promise<void> {
    const until = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      try {
        if (this.tlsFiles !== undefined) {
          const [cert, key] = await Promise.all([readFile(this.tlsFiles.cert), readFile(this.tlsFiles.key)]);
          this.#config = { endpoints: [this.endpoint], ca: cert, cert, key };
        }
        await this.#with((connection) => connection.txn("start", { compare: [], success: [], failure: [] }));
        return;
      } catch (error) {
        if (Date.now() > until) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async #with(run: (connection: EtcdConnection) => Promise<unknown>): Promise<void> {
    const connection = new EtcdConnection(this.config);
    try {
      await run(connection);
    } finally {
      await connection.close();
    }
  }
}

/** Below the ports that the kernel gives to connections, so that nobody takes it while the server is down. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const server = createServer();
    const outcome = Promise.race([once(server, "listening").then(() => true), once(server, "error").then(() => false)]);
    server.listen(port, "127.0.0.1");
    if (!(await outcome)) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
