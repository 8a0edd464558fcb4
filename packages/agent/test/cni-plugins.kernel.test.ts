/** Our executables among the reference plugins: their IPAM below ours, our IPAM below theirs, and in a list before them. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { holders } from "@calico-ts/ipam/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CniCall, CniNode } from "../testing/cni-node.ts";
import { eventually, Lab } from "../testing/lab.ts";
import { type CniResult, type ReferenceCall, runReference } from "../testing/reference-plugins.ts";

let lab: Lab;
let node: CniNode;
beforeEach(async () => {
  lab = new Lab();
  node = await CniNode.open(lab);
  await node.startAgent();
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

async function ok(call: CniCall): Promise<CniResult> {
  const { code, output } = await node.cni(call);
  expect({ code, output }).toMatchObject({ code: 0 });
  return (output === "" ? {} : JSON.parse(output)) as CniResult;
}

/** A reference plugin on the node, which must succeed. */
async function reference(type: string, call: ReferenceCall): Promise<CniResult> {
  const { code, output } = await runReference(lab.path(node.netns), type, call);
  expect({ code, output }).toMatchObject({ code: 0 });
  return (output === "" ? {} : JSON.parse(output)) as CniResult;
}

const addressOf = ({ ips }: CniResult): string => ips[0]?.address.split("/", 1)[0] ?? "";

test("host-local on the node's pod CIDR: two pods reach each other, and DEL returns what it gave", {
  timeout: 180_000,
}, async () => {
  await node.client.patch(
    "Node",
    { name: "n1" },
    { spec: { podCIDRs: ["10.65.200.0/24"], podCIDR: "10.65.200.0/24" } },
  );
  const dataDir = join(node.hostRoot, "host-local");
  const config = { ipam: { type: "host-local", ranges: [[{ subnet: "usePodCidr" }]], dataDir } };
  const calls = ["one", "two"].map((pod) => ({
    containerId: `c-${pod}`,
    pod,
    netns: lab.path(lab.namespace(pod)),
    config,
  }));
  const addresses: string[] = [];
  for (const call of calls) {
    await node.pod(call.pod);
    const prevResult = await ok({ ...call, command: "ADD" });
    addresses.push(addressOf(prevResult));
    await ok({ ...call, command: "CHECK", config: { ...config, prevResult } });
  }
  expect(addresses).toEqual([expect.stringMatching(/^10\.65\.200\./), expect.stringMatching(/^10\.65\.200\./)]);
  expect(lab.pings(`${node.netns.replace("n1", "")}one`, addresses[1] ?? "", { count: 5 })).toBe(true);
  expect([...(await holders(node.client))]).toEqual([]);
  for (const call of calls) for (let twice = 0; twice < 2; twice++) await ok({ ...call, command: "DEL" });
  expect(readdirSync(join(dataDir, "net")).filter((name) => name.startsWith("10."))).toEqual([]);
});

test("static, and a plugin that is not there", { timeout: 180_000 }, async () => {
  const netns = lab.path(lab.namespace("pod"));
  await node.pod("web");
  const call = { containerId: "c", pod: "web", netns };
  const { code, output } = await node.cni({ ...call, command: "ADD", config: { ipam: { type: "nowhere" } } });
  expect({ code, error: JSON.parse(output) }).toMatchObject({
    code: 1,
    error: { code: 7, msg: expect.stringContaining("nowhere is not in CNI_PATH") },
  });
  const config = { ipam: { type: "static", addresses: [{ address: "10.65.77.7/32" }] } };
  expect(addressOf(await ok({ ...call, command: "ADD", config }))).toBe("10.65.77.7");
  expect(lab.ip(node.netns, "route")).toContain("10.65.77.7 dev cali");
  await ok({ ...call, command: "DEL", config });
});

test("calico-ipam below the bridge plugin", { timeout: 180_000 }, async () => {
  const netns = lab.path(lab.namespace("pod"));
  const config = { bridge: "br9", agent_socket: node.socket, ipam: { type: "calico-ipam" } };
  const call = { containerId: "c-bridge", netns, config };
  const address = addressOf(await reference("bridge", { ...call, command: "ADD" }));
  expect([...(await holders(node.client))]).toEqual([[address, "net.c-bridge"]]);
  await reference("bridge", { ...call, command: "DEL" });
  await eventually("the address is back", async () => (await holders(node.client)).size === 0, 60_000);
});

test("a list with tuning after it: ADD, CHECK, STATUS, GC and DEL as a runtime of CNI 1.1 does them", {
  timeout: 180_000,
}, async () => {
  const netns = lab.path(lab.namespace("pod"));
  await node.pod("web");
  const call = { containerId: "c", pod: "web", netns };
  const first = await ok({ ...call, command: "ADD" });
  const tuning = { sysctl: { "net.core.somaxconn": "444" } };
  const last = await reference("tuning", {
    command: "ADD",
    containerId: "c",
    netns,
    config: { ...tuning, prevResult: first },
  });
  expect(last.interfaces).toHaveLength(2);
  await ok({ ...call, command: "CHECK", config: { prevResult: last } });
  await ok({ ...call, command: "STATUS", config: { cniVersion: "1.1.0" } });
  const valid = [{ containerID: "c", ifname: "eth0" }];
  await ok({ ...call, command: "GC", config: { cniVersion: "1.1.0", "cni.dev/valid-attachments": valid } });
  await ok({ ...call, command: "CHECK", config: { prevResult: last } });
  await ok({ ...call, command: "GC", config: { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] } });
  await eventually("the address is back", async () => (await holders(node.client)).size === 0, 60_000);
  expect(await node.cni({ ...call, command: "CHECK", config: { prevResult: last } })).toMatchObject({ code: 1 });
  await ok({ ...call, command: "DEL", config: { prevResult: last } });
  await node.killAgent();
  const { output } = await node.cni({ ...call, command: "STATUS", config: { cniVersion: "1.1.0" } });
  expect(JSON.parse(output)).toMatchObject({ code: 50 });
  expect(existsSync(node.socket)).toBe(true); // left by kill -9: the next agent takes it over
  await node.startAgent();
  await ok({ ...call, command: "STATUS", config: { cniVersion: "1.1.0" } });
});
