/**
 * A cluster for tests of the process: an API server with Calico's kinds and the roles of manifests/calico.yaml, nodes on a lab's stations with a block each, and
 * `calico-bgp` (src/main.ts) running in each station's namespace under the service account that it has on a real node.
 */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PeerReport, StatusReply, StatusRequest, StatusResults } from "@calico-ts/bgp";
import { type DatastoreClient, openKubernetes, parseKubeconfig } from "@calico-ts/datastore";
import { installDefinitions } from "@calico-ts/datastore/testing";
import { type ApiServer, startApiServer } from "@calico-ts/kube-apiserver";
import { listenTcp, startProgram } from "@calico-ts/linux";
import { formatAddress, formatPrefix, parseAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { parseAllDocuments } from "yaml";
import type { Lab, Station } from "./lab.ts";

const root = join(import.meta.dirname, "../../..");
const API_PORT = 6443;
const KINDS = [
  "BGPConfiguration",
  "BGPFilter",
  "BGPPeer",
  "BlockAffinity",
  "CalicoNodeStatus",
  "ClusterInformation",
  "IPPool",
] as const;
const ACCOUNT = { user: "system:serviceaccount:kube-system:calico-node", groups: ["system:serviceaccounts"] };

export class BgpCluster implements AsyncDisposable {
  readonly client: DatastoreClient;
  readonly nodes: readonly BgpNode[];
  readonly #server: ApiServer;
  readonly #folder: string;
  readonly #more: BgpNode[] = [];

  private constructor(server: ApiServer, client: DatastoreClient, folder: string, nodes: readonly BgpNode[]) {
    this.#server = server;
    this.client = client;
    this.#folder = folder;
    this.nodes = nodes;
  }

  /** Nodes `n1`, `n2`… on the lab's stations, each with the block 172.16.<n>.0/26 of an un-encapsulated pool. Nothing runs yet. */
  static async start(lab: Lab): Promise<BgpCluster> {
    const listenFds = lab.stations.map(({ netns }) =>
      listenTcp({ netns, address: parseAddress("127.0.0.1"), port: API_PORT }),
    );
    const server = await startApiServer({ listenFds });
    const folder = mkdtempSync(join(tmpdir(), "ct-bgp-"));
    const connection = parseKubeconfig(await server.adminKubeconfig(), { file: "admin" });
    await installDefinitions(connection, KINDS);
    await applyRoles(server);
    const client = openKubernetes({ connection });
    const kubeconfig = join(folder, "kubeconfig");
    writeFileSync(kubeconfig, await server.kubeconfig(ACCOUNT, { server: `https://127.0.0.1:${API_PORT}` }));
    writeFileSync(join(folder, "admin"), await server.adminKubeconfig());
    const nodes = lab.stations.map((station) => new BgpNode(station, { folder, kubeconfig }));
    const cluster = new BgpCluster(server, client, folder, nodes);
    await client.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name: "default" },
      spec: { cidr: "172.16.0.0/16", ipipMode: "Never", vxlanMode: "Never", natOutgoing: false, nodeSelector: "all()" },
    } as never);
    for (const { station } of nodes) await cluster.#addNode(station);
    return cluster;
  }

  /** Of a member of system:masters, outside the lab's namespaces. */
  get adminKubeconfig(): string {
    return join(this.#folder, "admin");
  }

  node(number: number): BgpNode {
    const node = this.nodes[number - 1];
    if (node === undefined) throw new RangeError(`the cluster has no node ${number}`);
    return node;
  }

  /** calico-node may read this Secret of its namespace, and no other. */
  async allowSecret(name: string): Promise<void> {
    const apiVersion = "rbac.authorization.k8s.io/v1";
    const metadata = { name: "secret-access", namespace: "kube-system" };
    const rules = [{ apiGroups: [""], resources: ["secrets"], resourceNames: [name], verbs: ["get", "list", "watch"] }];
    const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: metadata.name };
    const subjects = [{ kind: "ServiceAccount", name: "calico-node", namespace: "kube-system" }];
    const [role, binding] = [
      { apiVersion, kind: "Role", metadata, rules },
      { apiVersion, kind: "RoleBinding", metadata, roleRef, subjects },
    ];
    await createRole(this.#server, "namespaces/kube-system/roles", role);
    await createRole(this.#server, "namespaces/kube-system/rolebindings", binding);
  }

  /** One more daemon for a node that has one. */
  anotherProcess(number: number): BgpNode {
    const more = this.node(number).twin();
    this.#more.push(more);
    return more;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of [...this.nodes, ...this.#more]) await node.kill();
    await this.client[Symbol.asyncDispose]();
    await this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #addNode({ address, number }: Station): Promise<void> {
    const annotations = { "projectcalico.org/IPv4Address": `${address}/24` };
    await this.client.create("Node", {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: `n${number}`, annotations, labels: { number: String(number) } },
    });
    await this.client.create("BlockAffinity", {
      apiVersion: "projectcalico.org/v3",
      kind: "BlockAffinity",
      metadata: { name: `n${number}-172-16-${number}-0-26` },
      spec: { cidr: `172.16.${number}.0/26`, node: `n${number}`, state: "confirmed", type: "host", deleted: false },
    });
  }
}

/** `calico-bgp` of one node. */
export class BgpNode {
  readonly station: Station;
  readonly hostRoot: string;
  readonly #place: { readonly folder: string; readonly kubeconfig: string };
  #child: ChildProcess | undefined;
  #output = "";

  constructor(station: Station, place: { readonly folder: string; readonly kubeconfig: string }) {
    this.station = station;
    this.hostRoot = join(place.folder, `n${station.number}`);
    this.#place = place;
  }

  twin(): BgpNode {
    return new BgpNode(this.station, this.#place);
  }

  get name(): string {
    return `n${this.station.number}`;
  }

  /** Everything that it has written, over all its lives. */
  get output(): string {
    return this.#output;
  }

  start(env: Readonly<Record<string, string>> = {}, ...args: readonly string[]): void {
    const child = startProgram(
      process.execPath,
      ["--conditions=calico-src", join(import.meta.dirname, "../src/main.ts"), ...args],
      {
        netns: this.station.netns,
        stdio: ["ignore", "pipe", "pipe"],
        dieWithParent: true,
        env: {
          ...process.env,
          NODENAME: this.name,
          NAMESPACE: "kube-system",
          CALICO_HOST_ROOT: this.hostRoot,
          KUBECONFIG: this.#place.kubeconfig,
          ...env,
        },
      },
    );
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (bytes: Buffer) => {
        this.#output += bytes.toString();
      });
    }
  }

  /** The exit code when it has ended by itself; null: by a signal. */
  async exited(): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
  }

  /** Resolves to the exit code when it is gone; null: by the signal. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    return new Promise((resolve) => {
      child.once("exit", (code) => resolve(code));
      child.kill(signal);
    });
  }

  /** @throws CalicoError with the daemon's code, or UNAVAILABLE when nobody answers */
  async ask<R extends StatusRequest>(what: R): Promise<StatusResults[R["command"]]> {
    const text = await exchange(join(this.hostRoot, "var/run/calico/bgp.sock"), JSON.stringify(what));
    const reply = JSON.parse(text) as StatusReply<R["command"]>;
    if (!reply.ok) throw new CalicoError(reply.error.code, reply.error.message);
    return reply.result;
  }

  /** Undefined: the daemon does not answer. */
  async peers(): Promise<readonly PeerReport[] | undefined> {
    return this.ask({ command: "peers" }).catch(() => undefined);
  }

  /** Routes of the daemon in the kernel, `172.16.2.0/26 via 192.0.2.2`, sorted. */
  kernelRoutes(): string[] {
    return this.station.kernel.routes
      .list({ protocol: 12 })
      .map(({ destination, gateway, type }) => {
        const how = gateway === undefined ? type : `via ${formatAddress(gateway)}`;
        return `${formatPrefix(destination)} ${how}`;
      })
      .toSorted();
  }
}

async function applyRoles(server: ApiServer): Promise<void> {
  const text = readFileSync(join(root, "manifests/calico.yaml"), "utf8");
  const wanted: Readonly<Record<string, string>> = {
    ClusterRole: "clusterroles",
    ClusterRoleBinding: "clusterrolebindings",
  };
  for (const document of parseAllDocuments(text)) {
    const object = document.toJS() as { readonly kind: string };
    const plural = wanted[object.kind];
    if (plural !== undefined) await createRole(server, plural, object);
  }
}

/** `where`: `clusterroles`, `namespaces/kube-system/roles`. */
async function createRole(server: ApiServer, where: string, object: { readonly kind: string }): Promise<void> {
  const admin = await server.issueClientCertificate({ user: "admin", groups: ["system:masters"] });
  await new Promise<void>((resolve, reject) => {
    const sent = request(
      {
        host: "127.0.0.1",
        port: server.port,
        method: "POST",
        path: `/apis/rbac.authorization.k8s.io/v1/${where}`,
        ca: server.ca,
        cert: admin.certificate,
        key: admin.key,
        headers: { "content-type": "application/json" },
      },
      (response) => {
        response.resume();
        response.on("end", () => {
          if (response.statusCode === 201) resolve();
          else reject(new Error(`${object.kind}: the API server answers ${response.statusCode ?? 0}`));
        });
      },
    );
    sent.on("error", reject);
    sent.end(JSON.stringify(object));
  });
}

function exchange(path: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect({ path });
    socket.on("connect", () => socket.write(`${line}\n`));
    socket.on("data", (chunk: Buffer) => (answer += chunk.toString()));
    socket.on("error", (cause) => reject(new CalicoError("UNAVAILABLE", `nobody answers at ${path}`, { cause })));
    socket.on("end", () => resolve(answer));
  });
}
