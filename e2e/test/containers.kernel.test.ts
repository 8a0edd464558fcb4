/**
 * Real containers on two nodes of the simulator, started by runtimes nobody here wrote: they reach each other across nodes and runtimes, as far as
 * policy goes, and give their addresses back. The pods are the cluster's; its kubelets leave them alone.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Container, NodeRuntimes, type PodContainer } from "./runtimes.ts";
import { command, eventually, Run, traces } from "./simulator.ts";

const NAME = `t-containers-${process.pid}`;
const NODES = ["node-1", "node-2"] as const;
type NodeName = (typeof NODES)[number];

let run: Run;
const runtimes = new Map<NodeName, NodeRuntimes>();

beforeAll(async () => {
  run = await Run.up(NAME, "--nodes", String(NODES.length));
  for (const node of NODES) {
    runtimes.set(
      node,
      new NodeRuntimes({
        netns: `/run/netns/cs-${NAME}-${node}`,
        hostRoot: `/var/lib/calico-sim/${NAME}/nodes/${node}`,
        chained: [{ type: "tuning", sysctl: { "net.core.somaxconn": "321" } }],
      }),
    );
  }
  const listening = () => Promise.resolve([...runtimes.values()].every(({ ready }) => ready));
  await eventually("containerd listens on both nodes", listening, (yes) => yes, 60_000);
}, 240_000);
afterAll(async () => {
  for (const one of runtimes.values()) await one[Symbol.asyncDispose]();
  await run?.[Symbol.asyncDispose]();
  expect(traces(NAME)).toEqual([]);
}, 120_000);

const SERVER = ["/bin/sh", "-c", "cat /proc/sys/net/core/somaxconn; httpd -f -p 8080 -h /www"];
const asks = (address: string): string[] => [
  "/bin/sh",
  "-c",
  `printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ${address} 8080`,
];

const apply = async (object: object): Promise<void> => {
  const result = await command("kubectl", ["apply", "-f", "-"], {
    env: { KUBECONFIG: run.kubeconfig },
    input: JSON.stringify(object),
  });
  if (result.code !== 0) throw new Error(`kubectl apply of ${JSON.stringify(object)} failed:\n${result.stderr}`);
};

const namespace = (name: string): Promise<void> => apply({ apiVersion: "v1", kind: "Namespace", metadata: { name } });

const pod = (node: NodeName, { namespace, name }: Pick<PodContainer, "namespace" | "name">): Promise<void> =>
  apply({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace, name, labels: { app: name }, annotations: { "sim.calico-ts.io/external": "true" } },
    spec: { nodeName: node, terminationGracePeriodSeconds: 0, containers: [{ name: "main", image: "busybox" }] },
  });

/** `web` takes packets from `friend` alone. */
const onlyFriends = (namespace: string): Promise<void> =>
  apply({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace, name: "friends" },
    spec: {
      podSelector: { matchLabels: { app: "web" } },
      policyTypes: ["Ingress"],
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "friend" } } }] }],
    },
  });

const IP = "jsonpath={.metadata.annotations.cni\\.projectcalico\\.org/podIP}";
const podIp = async (namespace: string, name: string): Promise<string> =>
  (await run.must("-n", namespace, "get", "pod", name, "-o", IP)).replace("/32", "");

/** The address of a container that is starting. */
async function addressOf(server: Container, { namespace, name }: { namespace: string; name: string }): Promise<string> {
  try {
    return await eventually(
      `${name} has an address`,
      () => podIp(namespace, name),
      (text) => text !== "",
      60_000,
    );
  } catch (error) {
    throw new Error(`${String(error)}\n${server.output()}`, { cause: error });
  }
}

const on = (node: NodeName): NodeRuntimes => {
  const found = runtimes.get(node);
  if (found === undefined) throw new Error(`no runtimes on ${node}`);
  return found;
};

/** Allocations of pods in this namespace that IPAM still holds. */
async function heldAddresses(of: string): Promise<number> {
  const text = await run.must("get", "ipamblocks.projectcalico.org", "-o", "json");
  const { items } = JSON.parse(text) as {
    items: { spec: { allocations: (number | null)[]; attributes: { secondary?: Record<string, string> }[] } }[];
  };
  return items.flatMap(({ spec: { allocations, attributes } }) =>
    allocations.filter((at) => at !== null && attributes[at]?.secondary?.["namespace"] === of),
  ).length;
}

/** The runtime starts a server on one node; another runtime's, or the same one's, clients come from the other. */
async function story(
  of: string,
  start: {
    readonly server: "ctr" | "podman";
    readonly client: "ctr" | "podman";
    readonly at: readonly [NodeName, NodeName];
  },
): Promise<void> {
  const [here, there] = start.at;
  await namespace(of);
  await onlyFriends(of);
  await pod(here, { namespace: of, name: "web" });
  for (const name of ["friend", "other"]) await pod(there, { namespace: of, name });

  const web = on(here)[start.server]({ namespace: of, name: "web", command: SERVER });
  const address = await addressOf(web, { namespace: of, name: "web" });
  await eventually(
    "the server's first word",
    () => Promise.resolve(web.output()),
    (text) => text.includes("321"),
    60_000,
  );

  const client = (name: string): Container => on(there)[start.client]({ namespace: of, name, command: asks(address) });
  // httpd may still be starting when the first client comes.
  const said = await eventually(
    "friend is answered",
    async () => {
      const friend = client("friend");
      return { code: await friend.ended, text: friend.output() };
    },
    ({ text }) => text.includes("this is web"),
    60_000,
  );
  expect(said.code).toBe(0);
  const other = client("other");
  await other.ended;
  expect(other.output()).not.toContain("this is web");

  await web.stop();
  await eventually(
    "every address is back",
    () => heldAddresses(of),
    (count) => count === 0,
    60_000,
  );
}

test("containerd on both nodes", { timeout: 240_000 }, async () => {
  await story("both-containerd", { server: "ctr", client: "ctr", at: ["node-1", "node-2"] });
});

test("podman on one node, containerd on the other", { timeout: 240_000 }, async () => {
  await story("podman-serves", { server: "podman", client: "ctr", at: ["node-2", "node-1"] });
});

test("containerd on one node, podman on the other", { timeout: 240_000 }, async () => {
  await story("podman-asks", { server: "ctr", client: "podman", at: ["node-1", "node-2"] });
});
