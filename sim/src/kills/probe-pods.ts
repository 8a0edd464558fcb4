/** Pods on every node for streams to run between: put into a running cluster, and taken out of it again. */
import { tryParseAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { PodView } from "../cluster/cluster-port.ts";
import { askDaemon } from "../daemon/control-client.ts";
import type { ApiConnection } from "../manifests/api-connection.ts";
import { answerText } from "../manifests/api-connection.ts";
import type { Flow } from "./streams.ts";

const NAMESPACE = "kill-each";
const POLL_MS = 100;
/** With two pods on each, addresses differ enough for every path of a multipath route to carry some flow. */
const MANY_NODES = 6;

export interface ProbePodsOptions {
  readonly run: string;
  readonly api: ApiConnection;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Applies them and waits until all have addresses. @throws CalicoError TIMEOUT, or what the API server said */
export async function startProbePods(options: ProbePodsOptions): Promise<PodView[]> {
  const { run, api } = options;
  const { nodes } = await askDaemon(run, { op: "status" });
  const names = nodes.length > MANY_NODES ? ["a"] : ["a", "b"];
  await put(api, `/api/v1/namespaces/${NAMESPACE}`, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: NAMESPACE },
  });
  for (const name of names) {
    await put(api, `/apis/apps/v1/namespaces/${NAMESPACE}/daemonsets/${name}`, daemonSet(name));
  }
  const isUp = (pods: readonly PodView[]): boolean =>
    pods.length === names.length * nodes.length && pods.every(({ ready, netns }) => ready && netns !== undefined);
  return await untilPods(options, isUp, `pods of ${NAMESPACE} are not ready`);
}

/** Removes them with their namespace and waits until they are gone. */
export async function stopProbePods(options: ProbePodsOptions): Promise<void> {
  await options.api.send({ method: "DELETE", path: `/api/v1/namespaces/${NAMESPACE}` });
  await untilPods(options, (pods) => pods.length === 0, `pods of ${NAMESPACE} do not go`);
}

async function untilPods(
  { run, timeoutMs, signal }: ProbePodsOptions,
  accept: (pods: readonly PodView[]) => boolean,
  trouble: string,
): Promise<PodView[]> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    signal.throwIfAborted();
    const pods = await askDaemon(run, { op: "pods", namespace: NAMESPACE });
    if (accept(pods)) return [...pods];
    if (performance.now() > giveUpAt) {
      const states = pods.map(
        ({ name, node, phase, ready }) => `${name} on ${node ?? "no node"}: ${phase}${ready ? "" : ", not ready"}`,
      );
      throw new CalicoError("TIMEOUT", `${trouble} after ${Math.round(timeoutMs / 1000)} s: ${states.join("; ")}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function put(api: ApiConnection, path: string, body: unknown): Promise<void> {
  const answer = await api.send({
    method: "PATCH",
    path: `${path}?fieldManager=calico-sim&force=true`,
    body,
    contentType: "application/apply-patch+yaml",
  });
  if (answer.status >= 300)
    throw new CalicoError("UNAVAILABLE", `the API server refuses ${path}: ${answerText(answer)}`);
}

function daemonSet(name: string): unknown {
  const labels = { app: `${NAMESPACE}-${name}` };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name, namespace: NAMESPACE },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          tolerations: [{ operator: "Exists" }],
          terminationGracePeriodSeconds: 0,
          containers: [{ name: "main", image: "example/kill-each", ports: [{ containerPort: 8080 }] }],
        },
      },
    },
  };
}

/** From every pod to every later one, in each family both have: requests go one way, answers the other. */
export function flowsBetween(pods: readonly PodView[]): Flow[] {
  const sorted = pods.toSorted((a, b) => (a.node ?? "").localeCompare(b.node ?? "", "en", { numeric: true }));
  return sorted.flatMap((from, index) =>
    sorted.slice(index + 1).flatMap((to) => {
      const families = new Set(from.ips.map((ip) => tryParseAddress(ip)?.family));
      return to.ips.flatMap((ip): Flow[] => {
        const address = tryParseAddress(ip);
        if (address === undefined || from.netns === undefined || !families.has(address.family)) return [];
        return [
          { name: `${from.node ?? "?"} ↔ ${to.node ?? "?"} (IPv${address.family})`, netns: from.netns, to: address },
        ];
      });
    }),
  );
}
