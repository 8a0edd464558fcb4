/** The parts together, against the embedded API server: what a user of kubectl would see, and what is left afterwards. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import type { KubeObject } from "../../src/cluster/kube/objects.ts";
import { execInNamespace, spawnInNamespace } from "../../src/cluster/process.ts";
import type { NodeProgram } from "../../src/cluster/program.ts";
import { namespacePrefix } from "../../src/names.ts";
import { askTcp, podIn } from "./ask.ts";
import { ClusterBench, eventually } from "./bench-cluster.ts";

// A machine with everything else to do.
vi.setConfig({ testTimeout: 180_000 });

const benches: ClusterBench[] = [];
afterEach(async () => {
  for (const bench of benches.splice(0)) await bench[Symbol.asyncDispose]();
});

async function start(...args: Parameters<typeof ClusterBench.start>): Promise<ClusterBench> {
  const bench = await ClusterBench.start(...args);
  benches.push(bench);
  return bench;
}

const workload = (
  name: string,
  spec: Readonly<Record<string, unknown>>,
  podSpec: Readonly<Record<string, unknown>> = {},
): KubeObject =>
  ({
    metadata: { name, namespace: "default" },
    spec: {
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: {
          containers: [{ name: "c", image: "none", ports: [{ name: "http", containerPort: 8080 }] }],
          ...podSpec,
        },
      },
      ...spec,
    },
  }) as KubeObject;

const service = (name: string): KubeObject =>
  ({
    metadata: { name, namespace: "default" },
    spec: { selector: { app: name }, ports: [{ port: 80, targetPort: "http" }] },
  }) as KubeObject;

test("a deployment becomes ready, answers on its pods and its service, rolls, and leaves nothing", async () => {
  const bench = await start(2);
  const { client, cluster, nodes, run } = bench;
  await client.create("Deployment", workload("web", { replicas: 4 }));
  await client.create("Service", service("web"));
  const progress = await cluster.whenReady({ timeoutMs: 40_000 });
  expect(progress).toMatchObject({ nodesReady: 2, podsReady: 4 });
  const pods = cluster.pods().filter((pod) => pod.labels["app"] === "web");
  expect(pods.map((pod) => pod.node ?? "").toSorted()).toEqual(["node-1", "node-1", "node-2", "node-2"]);
  for (const pod of pods) expect(pod.netns).toContain(`/${namespacePrefix(run)}pod-`);
  const [first] = pods.filter((pod) => pod.node === "node-1");
  const from = nodes[0].netns;
  expect(podIn(await askTcp({ from, to: first.ips[0], port: 8080 }))).toBe(`default/${first.name}`);
  const [vip] = cluster.services().find((each) => each.name === "web")?.clusterIPs ?? [];
  // Half of the backends are on a node that this one has no network to.
  const answers = new Set<string>();
  for (let at = 0; at < 12; at++) answers.add(podIn(await askTcp({ from, to: vip, port: 80 })));
  expect([...answers].filter((each) => each.startsWith("default/web-")).length).toBeGreaterThan(0);

  await client.patch(
    "Deployment",
    { namespace: "default", name: "web" },
    { spec: { template: { metadata: { annotations: { v: "2" } } } } },
  );
  await eventually(
    () => cluster.progress(),
    ({ podsReady, waitingFor }) => podsReady === 4 && waitingFor.length === 0,
  );
  const deployment = await eventually(
    () => client.get("Deployment", { namespace: "default", name: "web" }),
    ({ status, metadata }) =>
      status?.observedGeneration === metadata.generation && status?.updatedReplicas === 4 && status.replicas === 4,
  );
  expect(deployment.metadata.annotations?.["deployment.kubernetes.io/revision"]).toBe("2");

  await client.delete("Deployment", { namespace: "default", name: "web" });
  await eventually(
    () => cluster.pods().length,
    (count) => count === 0,
  );
  expect(bench.podNamespaces()).toEqual([]);
  for (const node of nodes) {
    const calls = node.calls();
    expect(calls.filter((call) => call.startsWith("ADD")).length).toBe(
      calls.filter((call) => call.startsWith("DEL")).length,
    );
  }
});

test("a network that refuses is told in an event and tried again", async () => {
  const bench = await start(1);
  const { client, cluster, nodes } = bench;
  nodes[0].breakNetwork(true);
  await client.create("Deployment", workload("web", { replicas: 1 }));
  const events = await eventually(
    () => client.list("Event", { namespace: "default" }),
    ({ items }) => items.some((event) => (event as { reason?: string }).reason === "FailedCreatePodSandBox"),
  );
  expect(JSON.stringify(events)).toContain("the test broke it");
  await expect(cluster.whenReady({ timeoutMs: 500 })).rejects.toThrow(/the test broke it/);
  // Another attempt may be under way: each takes its namespace away again.
  await eventually(
    () => bench.podNamespaces(),
    (names) => names.length === 0,
  );
  nodes[0].breakNetwork(false);
  await cluster.whenReady({ timeoutMs: 40_000 });
});

const SCRIPT = `echo started $MODE; trap 'echo stopping; exit 0' TERM; while :; do sleep 0.05; done`;

const program: NodeProgram = {
  image: /^example\.org\/agent:/,
  start: (context) =>
    spawnInNamespace(context, ["/bin/sh", "-c", context.command[0] === "install" ? "env >$ROOT/installed" : SCRIPT], {
      ROOT: context.hostRoot,
    }),
  exec: (context, signal) =>
    execInNamespace(context, ["/bin/sh", "-c", context.command.join(" ")], { signal, env: { ROOT: context.hostRoot } }),
};

test("a program runs on every node with its environment, token and probes, and is started again", async () => {
  const bench = await start(2, { programs: [program] });
  const { client, cluster, nodes, stateDir } = bench;
  await client.create("ConfigMap", {
    metadata: { name: "conf", namespace: "default" },
    data: { mode: "fast" },
  } as KubeObject);
  await client.create(
    "DaemonSet",
    workload(
      "agent",
      {},
      {
        hostNetwork: true,
        tolerations: [{ operator: "Exists" }],
        initContainers: [{ name: "install", image: "example.org/agent:1", command: ["install"] }],
        containers: [
          {
            name: "agent",
            image: "example.org/agent:1",
            env: [
              { name: "NODENAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
              { name: "MODE", valueFrom: { configMapKeyRef: { name: "conf", key: "mode" } } },
            ],
            readinessProbe: { exec: { command: ["test", "-e", "$ROOT/installed"] }, periodSeconds: 1 },
          },
        ],
      },
    ),
  );
  await cluster.whenReady({ timeoutMs: 40_000 });
  const installed = readFileSync(join(nodes[0].hostRoot, "installed"), "utf8");
  expect(installed).toContain("KUBERNETES_SERVICE_HOST=127.0.0.1");
  const [view] = cluster.nodes();
  expect(view.programs).toHaveLength(1);
  const { pid, pod } = view.programs[0];
  expect(readFileSync(`/proc/${pid}/environ`, "utf8")).toContain(`CALICO_SIM_RUN=${bench.run}`);
  const object = await client.get("Pod", { namespace: "default", name: pod });
  const accountDir = join(stateDir, "pods", object.metadata.uid ?? "", "serviceaccount");
  expect(readFileSync(join(accountDir, "token"), "utf8").split(".")).toHaveLength(3);
  expect(readFileSync(join(accountDir, "ca.crt"), "utf8")).toContain("BEGIN CERTIFICATE");

  await cluster.killProgram("node-1", "agent");
  const restarted = await eventually(
    () => cluster.nodes()[0].programs[0],
    (found) => found !== undefined && found.pid !== pid,
  );
  expect(restarted.restarts).toBe(1);
  let log = "";
  for await (const line of cluster.logs({ namespace: "default", pod })) log += line;
  expect(log).toBe("started fast\n");
  await client.delete("DaemonSet", { namespace: "default", name: "agent" });
  await eventually(
    () => cluster.pods().length,
    (count) => count === 0,
  );
  expect(() => process.kill(restarted.pid, 0)).toThrow("ESRCH");
});

test("a node that loses power comes back with new sandboxes", async () => {
  const bench = await start(1);
  const { client, cluster } = bench;
  await client.create("Deployment", workload("web", { replicas: 3 }));
  await cluster.whenReady({ timeoutMs: 40_000 });
  const before = bench.podNamespaces();
  await cluster.stopNode("node-1");
  expect(bench.podNamespaces()).toEqual([]);
  await cluster.startNode("node-1");
  await eventually(
    () => bench.podNamespaces().length,
    (count) => count === 3,
  );
  expect(bench.podNamespaces().some((name) => before.includes(name))).toBe(false);
  const pod = await eventually(
    () => client.list("Pod", { namespace: "default" }).then(({ items }) => items[0]),
    (each) => each.status?.containerStatuses?.[0]?.restartCount === 1 && each.status.containerStatuses[0].ready,
  );
  expect(pod.status?.podIP).toMatch(/^10\.77\.1\./);
});

test("a pod's own command runs in its namespace when it asks for it", async () => {
  const { client, cluster } = await start(1);
  const pod = {
    metadata: { name: "runner", namespace: "default", annotations: { "sim.calico-ts.io/run": "true" } },
    spec: {
      restartPolicy: "Never",
      containers: [{ name: "c", image: "none", command: ["sh", "-c", "ip -4 -o addr show dev eth0; exit 3"] }],
    },
  } as KubeObject;
  await client.create("Pod", pod);
  const done = await eventually(
    () => client.get("Pod", { namespace: "default", name: "runner" }),
    (each) => each.status?.phase === "Failed",
  );
  expect(done.status?.containerStatuses?.[0]?.state?.terminated?.exitCode).toBe(3);
  let log = "";
  for await (const line of cluster.logs({ namespace: "default", pod: "runner" })) log += line;
  expect(log).toContain(`inet ${done.status?.podIP}`);
});

test("the log of a stub says who called, and can be followed", async () => {
  const { client, cluster, nodes } = await start(1);
  await client.create("Deployment", workload("web", { replicas: 1 }));
  await cluster.whenReady({ timeoutMs: 40_000 });
  const pod = cluster.findPod("default", "web");
  const call = (): Promise<string> => askTcp({ from: nodes[0].netns, to: pod?.ips[0] ?? "", port: 8080 });
  await call();
  const stop = new AbortController();
  const request = { namespace: "default", pod: pod?.name ?? "", follow: true, tailLines: 1, signal: stop.signal };
  const lines: string[] = [];
  const reading = (async () => {
    for await (const line of cluster.logs(request)) if (lines.push(line) === 2) stop.abort();
  })();
  await eventually(
    () => lines.length,
    (count) => count === 1,
  );
  await call();
  await reading;
  for (const line of lines) expect(line).toMatch(/^\S+:\d+ -> :8080 tcp\n$/);
  const unknown = cluster.logs({ namespace: "default", pod: "nobody" });
  await expect(unknown[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "NOT_FOUND" });
});
