/**
 * A whole cluster for kernel tests: the embedded API server, node namespaces without a network between them, and a CNI plugin of
 * fifteen lines of shell that is nobody's product. Pods of one node reach each other; that is all these tests need.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiServer, startApiServer } from "@calico-ts/kube-apiserver";
import { createLogger } from "@calico-ts/runtime";
import { startCluster } from "../../src/cluster/cluster.ts";
import type { Cluster, ClusterNode, ClusterOptions } from "../../src/cluster/cluster-port.ts";
import { KubeClient } from "../../src/cluster/kube/client.ts";
import { namespacePrefix } from "../../src/names.ts";

const PLUGIN = `#!/bin/sh
# CNI: one veth pair, the next address of the node's /24, the node as gateway.
set -e
root=$(dirname "$(dirname "$(dirname "$(dirname "$0")")")")
echo "$CNI_COMMAND $CNI_ARGS" >>"$root/calls"
if [ -e "$root/broken" ]; then echo '{"cniVersion":"0.3.1","code":11,"msg":"the test broke it"}'; exit 1; fi
host=v$(echo "$CNI_CONTAINERID" | cut -c1-12)
if [ "$CNI_COMMAND" = DEL ]; then ip link del "$host" 2>/dev/null || true; exit 0; fi
n=$(flock "$root/lock" sh -c "n=\\$(cat $root/next); echo \\$((n+1)) >$root/next; echo \\$n")
ip="$(cat "$root/subnet").$n"
ip link add "$host" type veth peer name "$CNI_IFNAME" netns "$(basename "$CNI_NETNS")"
ip addr add 169.254.1.1/32 dev "$host"; ip link set "$host" up; ip route add "$ip/32" dev "$host"
ip netns exec "$(basename "$CNI_NETNS")" sh -c "ip addr add $ip/32 dev $CNI_IFNAME; ip link set $CNI_IFNAME up;
  ip route add 169.254.1.1 dev $CNI_IFNAME; ip route add default via 169.254.1.1"
echo "{\\"cniVersion\\":\\"0.3.1\\",\\"ips\\":[{\\"version\\":\\"4\\",\\"address\\":\\"$ip/32\\"}]}"
`;

export interface TestNode extends ClusterNode {
  /** What the plugin was called with. */
  calls(): readonly string[];
  breakNetwork(broken: boolean): void;
}

let sequence = 0;

export class ClusterBench implements AsyncDisposable {
  readonly run: string;
  readonly api: ApiServer;
  readonly client: KubeClient;
  readonly cluster: Cluster;
  readonly nodes: readonly TestNode[];
  readonly stateDir: string;
  readonly #namespaces: readonly string[];

  private constructor(
    parts: Pick<ClusterBench, "run" | "api" | "client" | "cluster" | "nodes" | "stateDir">,
    namespaces: readonly string[],
  ) {
    this.run = parts.run;
    this.api = parts.api;
    this.client = parts.client;
    this.cluster = parts.cluster;
    this.nodes = parts.nodes;
    this.stateDir = parts.stateDir;
    this.#namespaces = namespaces;
  }

  static async start(nodeCount: number, options: Partial<ClusterOptions> = {}): Promise<ClusterBench> {
    sequence += 1;
    const run = `t${process.pid}-${sequence}`;
    const stateDir = mkdtempSync(join(tmpdir(), "ct-cluster-"));
    const cluster: { value?: Cluster } = {};
    const api = await startApiServer({
      podLogs: ({ sinceSeconds, tailLines, limitBytes, ...request }) => {
        if (cluster.value === undefined) throw new Error("not started");
        return cluster.value.logs({
          ...request,
          ...(tailLines === undefined ? {} : { tailLines }),
          ...(limitBytes === undefined ? {} : { limitBytes }),
          ...(sinceSeconds === undefined ? {} : { sinceTime: new Date(Date.now() - sinceSeconds * 1000) }),
        });
      },
    });
    const kubeconfig = join(stateDir, "kubeconfig");
    writeFileSync(kubeconfig, await api.adminKubeconfig());
    const namespaces: string[] = [];
    const nodes = Array.from({ length: nodeCount }, (_, at) => makeNode({ run, stateDir, index: at + 1 }, namespaces));
    cluster.value = await startCluster({
      run,
      stateDir,
      kubeconfig,
      nodes,
      programs: [],
      apiServer: { host: "127.0.0.1", port: api.port },
      log: createLogger({
        component: "cluster",
        stream: process.stderr,
        level: process.env["CT_LOG"] === undefined ? "None" : "Debug",
      }),
      ...options,
    });
    return new ClusterBench(
      { run, api, client: KubeClient.open(kubeconfig), cluster: cluster.value, nodes, stateDir },
      namespaces,
    );
  }

  /** Network namespaces of pods that are there now. */
  podNamespaces(): readonly string[] {
    const prefix = `${namespacePrefix(this.run)}pod-`;
    return execFileSync("ls", ["/run/netns"], { encoding: "utf8" })
      .split("\n")
      .filter((name) => name.startsWith(prefix));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
    this.client[Symbol.dispose]();
    await this.api.close();
    for (const name of this.#namespaces) execFileSync("ip", ["netns", "del", name]);
    rmSync(this.stateDir, { recursive: true });
  }
}

function makeNode(
  { run, stateDir, index }: { readonly run: string; readonly stateDir: string; readonly index: number },
  namespaces: string[],
): TestNode {
  const netns = `ct-${run}-n${index}`;
  const inside = (...command: readonly string[]): string =>
    execFileSync("ip", ["netns", "exec", netns, ...command], { encoding: "utf8" });
  execFileSync("ip", ["netns", "add", netns]);
  namespaces.push(netns);
  inside(
    "sh",
    "-c",
    "ip link set lo up; ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up",
  );
  inside(
    "sh",
    "-c",
    `ip addr add 172.31.7.${index}/24 dev up0; ip route add default via 172.31.7.254; sysctl -qw net.ipv4.ip_forward=1`,
  );
  const hostRoot = join(stateDir, "nodes", `node-${index}`);
  mkdirSync(join(hostRoot, "opt/cni/bin"), { recursive: true });
  mkdirSync(join(hostRoot, "etc/cni/net.d"), { recursive: true });
  writeFileSync(join(hostRoot, "opt/cni/bin/shell"), PLUGIN);
  chmodSync(join(hostRoot, "opt/cni/bin/shell"), 0o755);
  writeFileSync(join(hostRoot, "next"), "10\n");
  writeFileSync(join(hostRoot, "subnet"), `10.77.${index}\n`);
  writeFileSync(
    join(hostRoot, "etc/cni/net.d/10-test.conflist"),
    JSON.stringify({ name: "test", cniVersion: "0.3.1", plugins: [{ type: "shell" }] }),
  );
  return {
    name: `node-${index}`,
    netns: `/run/netns/${netns}`,
    hostRoot,
    addresses: [`172.31.7.${index}`],
    calls: () =>
      existsSync(join(hostRoot, "calls")) ? readFileSync(join(hostRoot, "calls"), "utf8").trim().split("\n") : [],
    breakNetwork: (broken) => {
      if (broken) writeFileSync(join(hostRoot, "broken"), "");
      else rmSync(join(hostRoot, "broken"));
    },
  };
}

/** Looks until it sees something, or tells what it saw last. */
export async function eventually<T>(
  look: () => T | Promise<T>,
  good: (value: T) => boolean,
  timeoutMs = 40_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await look();
    if (good(value)) return value;
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms; last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
