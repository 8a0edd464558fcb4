/**
 * A node as a container runtime sees it, for tests that kill things: the built agent as a process in a namespace, the built CNI executables, and
 * an API server of our own that is reached inside that namespace only. `npm run build` makes the programs.
 */
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DatastoreClient, openKubernetes, parseKubeconfig } from "@calico-ts/datastore";
import { installDefinitions } from "@calico-ts/datastore/testing";
import { startApiServer } from "@calico-ts/kube-apiserver";
import { listenTcp } from "@calico-ts/linux";
import { crdKinds } from "@calico-ts/model";
import { parseAddress } from "@calico-ts/net";
import type { Lab, LabProcess } from "./lab.ts";
import * as world from "./world.ts";

const PACKAGES = join(import.meta.dirname, "../..");
const AGENT = join(PACKAGES, "agent/dist/bin/calico-agent.mjs");
export const CNI_FOLDER = join(PACKAGES, "cni/dist/bin");
const API_PORT = 6443;

export interface CniCall {
  readonly command: "ADD" | "DEL" | "CHECK" | "STATUS" | "GC" | "VERSION";
  readonly containerId: string;
  readonly pod: string;
  readonly netns: string;
  readonly config?: object;
  readonly type?: string;
}

export interface CniAnswer {
  /** null: killed. */
  readonly code: number | null;
  readonly output: string;
}

export class CniNode implements AsyncDisposable {
  readonly netns: string;
  readonly client: DatastoreClient;
  readonly hostRoot: string;
  readonly #lab: Lab;
  readonly #scope: AsyncDisposableStack;
  readonly #uids = new Map<string, string>();
  #agent: LabProcess | undefined;

  private constructor(
    lab: Lab,
    parts: { netns: string; client: DatastoreClient; hostRoot: string; scope: AsyncDisposableStack },
  ) {
    this.#lab = lab;
    this.netns = parts.netns;
    this.client = parts.client;
    this.hostRoot = parts.hostRoot;
    this.#scope = parts.scope;
  }

  /** The API server runs; the agent does not yet. */
  static async open(lab: Lab): Promise<CniNode> {
    for (const file of [AGENT, join(CNI_FOLDER, "calico")]) {
      if (!existsSync(file)) throw new Error(`${file} is not built: npm run build`);
    }
    await using scope = new AsyncDisposableStack();
    const [netns = ""] = lab.nodes(1);
    const loopback = { netns: lab.path(netns), address: parseAddress("127.0.0.1"), port: API_PORT };
    const server = scope.use(await startApiServer({ listenFds: [listenTcp(loopback)] }));
    const connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
    await installDefinitions(connection, crdKinds);
    const client = scope.use(openKubernetes({ connection }));
    const hostRoot = lab.folder;
    const inside = await server.adminKubeconfig({ server: `https://127.0.0.1:${API_PORT}` });
    writeFileSync(join(hostRoot, "kubeconfig"), inside, { mode: 0o600 });
    const node = new CniNode(lab, { netns, client, hostRoot, scope: scope.move() });
    await world.put(client, world.node(1), world.pool());
    try {
      await client.get("Namespace", { name: "default" });
    } catch {
      await world.put(client, world.namespace("default"));
    }
    return node;
  }

  get socket(): string {
    return join(this.hostRoot, "var/run/calico/cni.sock");
  }

  async startAgent(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    const env = {
      KUBECONFIG: join(this.hostRoot, "kubeconfig"),
      NODENAME: "n1",
      CALICO_HOST_ROOT: this.hostRoot,
      FELIX_IPV6SUPPORT: "false",
      FELIX_HEALTHENABLED: "false",
      ...settings,
    };
    this.#agent = await this.#lab.start(this.netns, [process.execPath, AGENT], "dataplane.in_force", env);
  }

  async killAgent(): Promise<void> {
    await this.#agent?.kill();
    this.#agent = undefined;
  }

  get agentRuns(): boolean {
    return this.#agent !== undefined;
  }

  agentOutput(): string {
    return this.#agent?.output() ?? "";
  }

  async pod(name: string, namespace = "default", annotations: Readonly<Record<string, string>> = {}): Promise<void> {
    const { metadata } = await this.client.create("Pod", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app: name }, annotations },
      // No kubelet says that it has ended: a deleted pod is gone at once.
      spec: { nodeName: "n1", terminationGracePeriodSeconds: 0, containers: [{ name: "main", image: "none" }] },
    });
    this.#uids.set(name, metadata.uid ?? "");
  }

  /** CNI_ARGS as containerd makes them. */
  args({ pod, containerId }: Pick<CniCall, "pod" | "containerId">): string {
    const uid = this.#uids.get(pod) ?? "";
    return `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod};K8S_POD_INFRA_CONTAINER_ID=${containerId};K8S_POD_UID=${uid}`;
  }

  config(more: object = {}): object {
    return {
      cniVersion: "1.0.0",
      name: "net",
      type: "calico",
      agent_socket: this.socket,
      ipam: { type: "calico-ipam" },
      ...more,
    };
  }

  /** Runs the executable as a runtime does. `killAfterMs`: SIGKILL, if it still runs then. */
  cni(call: CniCall, killAfterMs?: number): Promise<CniAnswer> {
    const child = spawn(join(CNI_FOLDER, call.type ?? "calico"), {
      env: {
        CNI_COMMAND: call.command,
        CNI_CONTAINERID: call.containerId,
        CNI_NETNS: call.netns,
        CNI_IFNAME: "eth0",
        CNI_ARGS: this.args(call),
        CNI_PATH: `${CNI_FOLDER}:/usr/lib/cni`,
      },
      stdio: ["pipe", "pipe", "inherit"],
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
    child.stdin.on("error", () => undefined);
    child.stdin.end(JSON.stringify(this.config(call.config)));
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfterMs);
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => {
        clearTimeout(timer);
        resolve({ code, output });
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.killAgent();
    await this.#scope[Symbol.asyncDispose]();
  }
}
