/** Containers started by runtimes nobody here wrote: the executables as containerd's `ctr` and podman call them, chained before a reference plugin. */
import { holders } from "@calico-ts/ipam/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { CniNode } from "../testing/cni-node.ts";
import { eventually, Lab } from "../testing/lab.ts";
import { type RunningContainer, Runtimes } from "../testing/runtimes.ts";
import * as world from "../testing/world.ts";

let lab: Lab;
let node: CniNode;
let runtimes: Runtimes;
beforeEach(async () => {
  lab = new Lab();
  node = await CniNode.open(lab);
  await node.startAgent();
  runtimes = new Runtimes();
  await eventually("containerd listens", () => runtimes.ready, 20_000);
});
afterEach(async () => {
  await runtimes[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

const conflist = (calico: object) => ({
  cniVersion: "0.4.0",
  name: "calico",
  plugins: [
    { type: "calico", agent_socket: node.socket, ipam: { type: "calico-ipam" }, ...calico },
    { type: "tuning", sysctl: { "net.core.somaxconn": "321" } },
  ],
});

const SERVER = ["/bin/sh", "-c", "cat /proc/sys/net/core/somaxconn; httpd -f -p 8080 -h /www"];
const asks = (address: string): string[] => [
  "/bin/sh",
  "-c",
  `printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 3 ${address} 8080`,
];

async function addressOf(namespace: string, name: string): Promise<string> {
  const pod = await node.client.get("Pod", { namespace, name });
  return pod.metadata.annotations?.["cni.projectcalico.org/podIP"]?.replace("/32", "") ?? "";
}

/** The address of a pod, when its container has one. */
async function addressWhen(pod: string, container: RunningContainer, namespace = "default"): Promise<string> {
  const there = eventually(`${pod} has an address`, async () => (await addressOf(namespace, pod)) !== "", 30_000);
  await there.catch((error: unknown) => {
    throw new Error(`${String(error)}\n${container.output()}\n${node.agentOutput()}`);
  });
  return addressOf(namespace, pod);
}

test("containerd: ctr starts containers that reach each other, as far as policy goes", {
  timeout: 120_000,
}, async () => {
  // ctr names no pod in CNI_ARGS: the configuration does.
  const of = (name: string): object =>
    conflist({ args: { cni: { K8S_POD_NAMESPACE: "default", K8S_POD_NAME: name } } });
  for (const name of ["web", "friend", "other"]) await node.pod(name);
  await world.put(node.client, world.allowOnly("web", "web", { app: "friend" }));
  const web = runtimes.ctr("web", of("web"), SERVER);
  const address = await addressWhen("web", web);
  const friend = runtimes.ctr("friend", of("friend"), asks(address));
  expect({ code: await friend.ended, said: friend.output() }).toMatchObject({ code: 0 });
  expect(friend.output()).toContain("this is web");
  expect(web.output()).toContain("321"); // the plugin after us did its part
  const other = runtimes.ctr("other", of("other"), asks(address));
  await other.ended;
  expect(other.output()).not.toContain("this is web");
  // It had one, and ctr gave it back.
  await eventually("other's address is taken back", async () => (await addressOf("default", "other")) === "");
  await web.stop();
  await eventually("every address is back", async () => (await holders(node.client)).size === 0, 20_000);
  expect(lab.ip(node.netns, "-o link show")).not.toContain("cali");
});

test("podman: likewise, with the names it gives", { timeout: 120_000 }, async () => {
  for (const name of ["front", "back"]) {
    await world.put(node.client, world.namespace(name));
    await node.pod(name, name);
  }
  // podman names the pod in CNI_ARGS, but no namespace.
  const of = (namespace: string) => conflist({ args: { cni: { K8S_POD_NAMESPACE: namespace } } });
  const back = runtimes.podman("back", of("back"), SERVER);
  const address = await addressWhen("back", back, "back");
  const front = runtimes.podman("front", of("front"), asks(address));
  expect({ code: await front.ended, said: front.output() }).toMatchObject({ code: 0 });
  expect(front.output()).toContain("this is back");
  await back.stop();
  await eventually("every address is back", async () => (await holders(node.client)).size === 0, 20_000);
});
