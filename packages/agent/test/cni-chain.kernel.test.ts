/**
 * Lists of plugins as operators write them: ours behind `loopback`, `tuning`, `portmap` and `bandwidth`, and before them. A small runner does what libcni does:
 * each plugin gets the result of the one before, DEL goes backwards with the whole result. Kernel and traffic are the witnesses.
 */
import { execFileSync } from "node:child_process";
import { holders } from "@calico-ts/ipam/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CniCall, CniNode } from "../testing/cni-node.ts";
import { eventually, Lab } from "../testing/lab.ts";
import { type CniResult, runReference } from "../testing/reference-plugins.ts";
import * as world from "../testing/world.ts";

let lab: Lab;
let node: CniNode;
let outside: string;
beforeEach(async () => {
  lab = new Lab();
  node = await CniNode.open(lab);
  // Somebody who is no pod and no node, one hop away.
  outside = lab.namespace("outside");
  lab.ip(node.netns, `link add out0 type veth peer name eth0 netns ${outside}`);
  lab.ip(node.netns, "address add 192.0.2.1/24 dev out0");
  lab.ip(node.netns, "link set out0 up");
  lab.ip(outside, "address add 192.0.2.2/24 dev eth0");
  lab.ip(outside, "link set eth0 up");
  lab.ip(outside, "route add default via 192.0.2.1");
  await node.startAgent();
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

interface Plugin {
  readonly type: string;
  readonly [key: string]: unknown;
}

type Target = Pick<CniCall, "containerId" | "pod" | "netns">;

function runPlugin(
  { type, ...config }: Plugin,
  { command, ...target }: Target & Pick<CniCall, "command">,
  prevResult: CniResult | undefined,
): ReturnType<CniNode["cni"]> {
  const whole = { ...config, ...(prevResult !== undefined && { prevResult }) };
  if (type === "calico") return node.cni({ ...target, command, config: whole });
  return runReference(lab.path(node.netns), type, { ...target, command, config: whole });
}

/** A plugin of the list refused. */
class Refusal extends Error {}

async function addList(list: readonly Plugin[], target: Target): Promise<CniResult> {
  let result: CniResult | undefined;
  for (const plugin of list) {
    const { code, output } = await runPlugin(plugin, { ...target, command: "ADD" }, result);
    if (code !== 0) throw new Refusal(`${plugin.type}: ${output}`);
    result = JSON.parse(output) as CniResult;
  }
  if (result === undefined) throw new Error("an empty list");
  return result;
}

async function forAll(
  command: "CHECK" | "DEL",
  list: readonly Plugin[],
  target: Target,
  result: CniResult,
): Promise<void> {
  for (const plugin of command === "DEL" ? list.toReversed() : list) {
    const { code, output } = await runPlugin(plugin, { ...target, command }, result);
    if (code !== 0) throw new Refusal(`${command} of ${plugin.type}: ${output}`);
  }
}

const inPod = (result: CniResult): { readonly address: string; readonly hostInterface: string } => {
  const at = result.interfaces.findIndex(({ name }) => name === "eth0");
  const ip = result.ips.find((one) => one.interface === at);
  const hostInterface = result.interfaces.find(({ name }) => name.startsWith("cali"))?.name ?? "";
  return { address: ip?.address.split("/", 1)[0] ?? "", hostInterface };
};

const portmap = (hostPort: number, containerPort: number): Plugin => ({
  type: "portmap",
  snat: true,
  runtimeConfig: { portMappings: [{ hostPort, containerPort, protocol: "tcp" }] },
});
const TUNING: Plugin = { type: "tuning", sysctl: { "net.core.somaxconn": "444" } };

async function podNamespace(pod: string): Promise<Target & { readonly space: string }> {
  await node.pod(pod);
  const space = lab.namespace(pod);
  return { containerId: `c-${pod}`, pod, netns: lab.path(space), space };
}

test("behind loopback, tuning, portmap and bandwidth, and before tuning: all results are kept, CHECK and DEL of each succeed", {
  timeout: 180_000,
}, async () => {
  const { space, ...target } = await podNamespace("web");
  const early: Plugin = { type: "tuning", sysctl: { "net.ipv4.ip_local_port_range": "20000\t20999" } };
  const list = [{ type: "loopback" }, early, { type: "portmap" }, { type: "bandwidth" }, { type: "calico" }, TUNING];
  const result = await addList(list, target);
  expect(result.interfaces.map(({ name }) => name)).toEqual(["lo", expect.stringMatching(/^cali/), "eth0"]);
  const { address } = inPod(result);
  expect(address).toMatch(/^10\.65\./);
  expect(lab.exec(space, "cat", "/proc/sys/net/core/somaxconn").trim()).toBe("444");
  expect(lab.exec(space, "cat", "/proc/sys/net/ipv4/ip_local_port_range").trim()).toBe("20000\t20999");
  // bandwidth 1.1 panics in a CHECK without limits.
  const checked = list.filter(({ type }) => type !== "bandwidth");
  await forAll("CHECK", checked, target, result);
  await forAll("DEL", list, target, result);
  await forAll("DEL", list, target, result);
  await eventually("the address is back", async () => (await holders(node.client)).size === 0, 60_000);
  expect(lab.ip(node.netns, "-o link show")).not.toContain("cali");
});

const reaches = (from: string, address: string, port: number): Promise<number> =>
  eventually(`${from} reaches ${address}:${port}`, () => lab.connects(from, address, port), 30_000);

test("portmap after us: a host port leads into the pod, from outside and from a pod, as far as the pod's policy goes", {
  timeout: 180_000,
}, async () => {
  const web = await podNamespace("web");
  const friend = await podNamespace("friend");
  const list = [{ type: "calico" }, portmap(8081, 80)];
  const webResult = await addList(list, web);
  const friendResult = await addList([{ type: "calico" }], friend);
  await lab.serve(web.space, 80);
  await reaches(outside, "192.0.2.1", 8081);
  await reaches(friend.space, "192.0.2.1", 8081);

  await world.put(node.client, world.allowOnly("friends", "web", { app: "friend" }));
  await eventually("policy holds for the host port", () => !lab.connects(outside, "192.0.2.1", 8081), 60_000);
  await reaches(friend.space, "192.0.2.1", 8081);
  await reaches(friend.space, inPod(webResult).address, 80);

  await node.killAgent();
  expect(lab.connects(outside, "192.0.2.1", 8081)).toBe(false);
  await reaches(friend.space, "192.0.2.1", 8081);
  await node.startAgent();
  // portmap 1.1 wants IPv6 rules in a CHECK, whatever addresses there are.
  await forAll("CHECK", [{ type: "calico" }], web, webResult);
  await forAll("DEL", list, web, webResult);
  await forAll("DEL", [{ type: "calico" }], friend, friendResult);
  expect(lab.nft(node.netns, "list", "ruleset")).not.toContain("8081");
  await eventually("the addresses are back", async () => (await holders(node.client)).size === 0, 60_000);
});

/** Sends this much at once from the namespace; a shaper with a small queue must drop of it, however slow the sender is. */
const flood = (from: string, address: string): void => {
  const script = `const s=require("node:dgram").createSocket("udp4");const b=Buffer.alloc(1200);let n=0;s.connect(9,${JSON.stringify(address)},function next(){if(n++===4000)return s.close();s.send(b,()=>next())})`;
  lab.exec(from, process.execPath, "-e", script);
};

const LIMITS = { ingressRate: 1_000_000, ingressBurst: 100_000, egressRate: 2_000_000, egressBurst: 100_000 };

test("bandwidth after us: its shapers are on our interface and work; before us without limits it passes", {
  timeout: 180_000,
}, async () => {
  const web = await podNamespace("web");
  const list = [{ type: "loopback" }, { type: "bandwidth" }, { type: "calico" }, { type: "bandwidth", ...LIMITS }];
  const result = await addList(list, web);
  const { address, hostInterface } = inPod(result);
  const shaper = (device: string): string => lab.exec(node.netns, "tc", "-s", "qdisc", "show", "dev", device);
  const dropped = (device: string): number => Number(/ tbf [^]*?dropped (\d+)/.exec(shaper(device))?.[1]);
  expect(shaper(hostInterface)).toMatch(/qdisc tbf .* rate 1Mbit/);
  flood(outside, address);
  expect(dropped(hostInterface)).toBeGreaterThan(0);
  const ifb = result.interfaces.find(({ name }) => name.startsWith("bwp"))?.name ?? "";
  expect(shaper(ifb)).toMatch(/qdisc tbf .* rate 2Mbit/);
  flood(web.space, "192.0.2.2");
  expect(dropped(ifb)).toBeGreaterThan(0);
  await forAll("CHECK", list.slice(2), web, result);
  await forAll("DEL", list, web, result);
  await eventually("the address is back", async () => (await holders(node.client)).size === 0, 60_000);
});

test("a plugin after us that fails: the runtime's DEL of the list takes everything back", {
  timeout: 180_000,
}, async () => {
  const web = await podNamespace("web");
  const list = [{ type: "calico" }, { type: "tuning", sysctl: { "net.core.no_such_setting": "1" } }];
  await expect(addList(list, web)).rejects.toThrow(Refusal);
  const ours = await runPlugin({ type: "calico" }, { ...web, command: "DEL" }, undefined);
  expect(ours).toMatchObject({ code: 0 });
  await eventually("the address is back", async () => (await holders(node.client)).size === 0, 60_000);
  expect(lab.ip(node.netns, "-o link show")).not.toContain("cali");
  expect(execFileSync("ip", ["-n", web.space, "-o", "link"], { encoding: "utf8" })).not.toContain("eth0");
});
