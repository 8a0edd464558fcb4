/**
 * `npm run bench -- sim`: how long clusters take to come up, how long a policy takes from the API write into the kernel of every node, and
 * what the agents weigh. Every time is a median where it was taken more than once; the machine's noise is in the spread.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openKubernetes } from "@calico-ts/datastore";
import { openKernel } from "@calico-ts/linux";
import { Run } from "../test/simulator.ts";

interface Row {
  readonly what: string;
  readonly value: string;
  readonly target: string;
}

const rows: Row[] = [];
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

/** Resident memory in MiB of every process of the run whose command line has the word. */
function memoryOf(run: string, word: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word)) return [];
        if (!readFileSync(`/proc/${pid}/environ`, "latin1").includes(`CALICO_SIM_RUN=${run}\0`)) return [];
        const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        return kib === undefined ? [] : [Number(kib) / 1024];
      } catch {
        return [];
      }
    });
}

/** Milliseconds from the API write of a policy until its rules are in the kernel of every node. */
async function policyLatency(run: Run, nodes: readonly string[], times: number): Promise<number[]> {
  const client = openKubernetes({ kubeconfig: run.kubeconfig });
  const results: number[] = [];
  for (let turn = 0; turn < times; turn++) {
    const waiting = new Set(nodes);
    const { promise, resolve } = Promise.withResolvers<void>();
    using scope = new DisposableStack();
    for (const node of nodes) {
      const kernel = scope.use(openKernel({ netns: `/run/netns/cs-${run.name}-${node}` }));
      scope.use(
        kernel.watch(["nftables"], (event) => {
          if (event.kind !== "nftables" || !event.tables.some((table) => table.name === "calico")) return;
          waiting.delete(node);
          if (waiting.size === 0) resolve();
        }),
      );
    }
    const startedAt = performance.now();
    await client.create("KubernetesNetworkPolicy", {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: `bench-${turn}`, namespace: "default" },
      spec: {
        podSelector: {},
        policyTypes: ["Ingress"],
        ingress: [{ from: [{ ipBlock: { cidr: `10.${turn}.0.0/16` } }] }],
      },
    });
    await Promise.race([
      promise,
      new Promise((_, reject) =>
        setTimeout(() => reject(new Error(`no change on ${[...waiting].join(", ")}`)), 10_000),
      ),
    ]);
    results.push(performance.now() - startedAt);
    await client.delete("KubernetesNetworkPolicy", { namespace: "default", name: `bench-${turn}` });
    await new Promise((wait) => setTimeout(wait, 300));
  }
  await client[Symbol.asyncDispose]();
  return results;
}

const manyPods = (count: number): string =>
  Array.from(
    { length: Math.ceil(count / 50) },
    (_, at) => `apiVersion: apps/v1
kind: Deployment
metadata: { name: load-${at}, namespace: default, labels: { app: load-${at} } }
spec:
  replicas: ${Math.min(50, count - at * 50)}
  selector: { matchLabels: { app: load-${at} } }
  template:
    metadata: { labels: { app: load-${at} } }
    spec: { containers: [{ name: main, image: example/load, ports: [{ containerPort: 8080 }] }] }
`,
  ).join("---\n");

/** A pod on every node, for the policy of the latency measurement to select. */
const ONE_EACH = `apiVersion: apps/v1
kind: DaemonSet
metadata: { name: one-each, namespace: default }
spec:
  selector: { matchLabels: { app: one-each } }
  template:
    metadata: { labels: { app: one-each } }
    spec: { containers: [{ name: main, image: example/one, ports: [{ containerPort: 8080 }] }] }
`;

async function measure(
  title: string,
  run: { readonly name: string; readonly nodes: number; readonly args: readonly string[]; readonly target: string },
): Promise<void> {
  const startedAt = performance.now();
  await using up = await Run.up(run.name, "--nodes", String(run.nodes), ...run.args);
  rows.push({ what: `${title}: up and ready`, value: seconds(performance.now() - startedAt), target: run.target });
  const nodes = Array.from({ length: run.nodes }, (_, at) => `node-${at + 1}`);
  const latencies = await policyLatency(up, nodes, 9);
  rows.push({
    what: `${title}: API write → kernel of every node, median (worst)`,
    value: `${median(latencies).toFixed(0)} ms (${Math.max(...latencies).toFixed(0)} ms)`,
    target: "≤ 100 ms",
  });
  const agents = memoryOf(run.name, "calico-agent");
  rows.push({
    what: `${title}: agent memory, median of ${agents.length}`,
    value: `${median(agents).toFixed(0)} MiB`,
    target: "",
  });
}

const folder = join(tmpdir(), `bench-sim-${process.pid}`);
mkdirSync(folder, { recursive: true });
try {
  writeFileSync(join(folder, "few.yaml"), ONE_EACH);
  writeFileSync(join(folder, "many.yaml"), `${ONE_EACH}---\n${manyPods(490)}`);
  const demo = join(import.meta.dirname, "../../sim/demo");
  await measure("3 nodes with the demo", {
    name: "b-demo",
    nodes: 3,
    args: ["--manifests", demo, "--manifests", join(folder, "few.yaml")],
    target: "≤ 15 s",
  });
  await measure("10 nodes, 500 pods", {
    name: "b-500",
    nodes: 10,
    args: ["--manifests", join(folder, "many.yaml")],
    target: "≤ 60 s",
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const width = Math.max(...rows.map((row) => row.what.length));
for (const row of rows) process.stdout.write(`${row.what.padEnd(width)}  ${row.value.padStart(18)}  ${row.target}\n`);
mkdirSync("artifacts/bench", { recursive: true });
writeFileSync("artifacts/bench/sim.json", `${JSON.stringify(rows, null, 2)}\n`);
