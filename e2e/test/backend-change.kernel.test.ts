import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { eventually, Run, traces } from "./simulator.ts";

// A cluster that gives up BGP before its un-encapsulated pool has another mode, and then gets VXLAN: pods reach each other at every station.
// And a Node object that is deleted and comes back, as the kubelet makes it again: its tunnel has an address that IPAM holds for it.

const NAME = `t-backend-${process.pid}`;
const FIXTURE = join(import.meta.dirname, "fixtures/two-pods.yaml");
const WITHIN_MS = 90_000;

afterEach(() => expect(traces(NAME)).toEqual([]));

const routes = (node: string): string =>
  execFileSync("ip", ["-n", `cs-${NAME}-${node}`, "-4", "route", "show"], { encoding: "utf8" });
const changed = (what: string, accept: (routes: string) => boolean): Promise<string> =>
  eventually(what, () => Promise.resolve(routes("node-1")), accept, WITHIN_MS);

interface NodeObject {
  readonly metadata: { readonly uid: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string }[] };
}

test("backend bird → vxlan, then the pool's mode, then a Node made again", { timeout: 300_000 }, async () => {
  await using run = await Run.up(NAME, "--topology", "bgp-mesh", "--manifests", FIXTURE);
  const address = await run.must("-n", "lab", "get", "pod", "two", "-o", "jsonpath={.status.podIP}");
  const reaches = async (): Promise<void> => {
    const ping = (): Promise<number> =>
      run.sim("exec", "lab/one", "--", "ping", "-nqc1", "-W2", address).then(({ code }) => code);
    await eventually("pods reach each other", ping, (code) => code === 0, WITHIN_MS);
  };
  expect(routes("node-1")).toMatch(/\/26 via \S+ dev eth0 proto bird/);
  await reaches();

  const health = (check: string): readonly string[] => ["calico-node", "health", check];
  const container = {
    name: "calico-node",
    livenessProbe: { exec: { command: health("--felix-live") } },
    readinessProbe: { exec: { command: health("--felix-ready") } },
  };
  const template = { metadata: { annotations: { backend: "vxlan" } }, spec: { containers: [container] } };
  const data = { calico_backend: "vxlan" };
  await run.must("-n", "kube-system", "patch", "configmap", "calico-config", "-p", JSON.stringify({ data }));
  await run.must("-n", "kube-system", "patch", "ds", "calico-node", "-p", JSON.stringify({ spec: { template } }));
  const rollout = (): Promise<number> =>
    run.kubectl("-n", "kube-system", "rollout", "status", "ds/calico-node", "--timeout=5s").then(({ code }) => code);
  await eventually("all nodes have the new backend", rollout, (code) => code === 0, 2 * WITHIN_MS);
  await changed("the agent has taken the routes over", (text) => !text.includes("proto bird"));
  expect(routes("node-1").match(/^10\.244\.\S+\/26 via 172\.30\.1\.\d+ dev eth0 proto 80/gm)).not.toBeNull();
  await reaches();

  const spec = { vxlanMode: "Always" };
  await run.must("patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", JSON.stringify({ spec }));
  await changed("VXLAN", (text) => /\/26 via \S+ dev vxlan\.calico/.test(text));
  await reaches();

  const nodeObject = async (): Promise<NodeObject> =>
    JSON.parse(await run.must("get", "node", "node-2", "-o", "json")) as NodeObject;
  const { uid } = (await nodeObject()).metadata;
  await run.must("delete", "node", "node-2");
  const ANNOTATION = "projectcalico.org/IPv4VXLANTunnelAddr";
  const again = async (): Promise<string> => {
    const found = await run.kubectl("get", "node", "node-2", "-o", "json");
    if (found.code !== 0) return "no node";
    const { metadata, status } = JSON.parse(found.stdout) as NodeObject;
    if (metadata.uid === uid) return "the old node";
    const tunnel = metadata.annotations?.[ANNOTATION] ?? "";
    const available = status.conditions.some((one) => one.type === "NetworkUnavailable" && one.status === "False");
    if (tunnel === "" || !available || metadata.annotations?.["projectcalico.org/IPv4Address"] === undefined)
      return "bare";
    const report = await run.sim("exec", "node-1", "--", "ip", "-4", "route", "show", `${tunnel}/32`);
    const handle = await run.kubectl("get", "ipamhandle", "vxlan-tunnel-addr-node-2", "-o", "name");
    return report.stdout.includes("vxlan.calico") && handle.code === 0 ? "whole" : "not held or not known";
  };
  await eventually("the node is whole again", again, (state) => state === "whole", WITHIN_MS);
});
