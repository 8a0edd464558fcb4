import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DatastoreClient, openKubernetes, parseKubeconfig } from "@calico-ts/datastore";
import { installForeignDefinitions } from "@calico-ts/datastore/testing";
import { HostAllocator } from "@calico-ts/ipam";
import { formatAddress } from "@calico-ts/net";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { command, type CommandResult, Run, traces } from "./simulator.ts";

// A cluster of two nodes with a few pods, and what an operator does with addresses: every `calicoctl ipam` command against the live cluster, and
// kube-controllers collecting what was lost.

const NAME = `t-ipam-${process.pid}`;
const CALICOCTL = join(import.meta.dirname, "../../packages/cli/dist/bin/calicoctl.mjs");
const FIXTURES = join(import.meta.dirname, "fixtures");
const PATIENCE = { timeout: 120_000, interval: 500 };

let run: Run;
let client: DatastoreClient;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ct-ipam-"));
  run = await Run.up(NAME, "--nodes", "2");
  client = openKubernetes({ kubeconfig: run.kubeconfig });
  await run.must("apply", "-f", join(FIXTURES, "echo.yaml"));
  await run.must("-n", "echo", "rollout", "status", "deployment/echo", "--timeout=120s");
}, 300_000);

afterAll(async () => {
  await client?.[Symbol.asyncDispose]();
  await run?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
  expect(traces(NAME)).toEqual([]);
}, 120_000);

const calicoctl = (...args: readonly string[]): Promise<CommandResult> =>
  command(process.execPath, [CALICOCTL, ...args], { env: { KUBECONFIG: run.kubeconfig } });

async function ipam(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await calicoctl("ipam", ...args);
  expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: "" });
  return stdout;
}

/** An address for a pod that is not there, as an agent that died between two writes leaves it. */
async function lose(pod: string): Promise<string> {
  const host = new HostAllocator({ client, host: "node-1" });
  const attributes = { node: "node-1", pod, namespace: "default", timestamp: new Date().toISOString() };
  const [assigned] = await host.assign({ handle: `k8s-pod-network.${pod}`, attributes, want4: true, want6: false });
  if (assigned === undefined) throw new Error("no address");
  return formatAddress(assigned.address);
}

test("show, check, explain, configure and forecast", { timeout: 180_000 }, async () => {
  const [address = ""] = (await run.must("-n", "echo", "get", "pods", "-o", "jsonpath={.items[0].status.podIP}")).split(
    " ",
  );
  expect(await ipam("show")).toMatch(/\| IP Pool\s+\| 10\.244\.0\.0\/16 \|\s+65536 \|/);
  expect((await ipam("show", "--show-blocks")).match(/\| Block /g)?.length).toBeGreaterThanOrEqual(1);
  expect(await ipam("show", "--show-borrowed")).toContain("BORROWING-NODE");
  expect(await ipam("show", "--ip", address)).toMatch(
    /is in use\nHandle ID: k8s-pod-network\.\w+\nActive Owner Attributes:\n {2}namespace: echo\n/,
  );
  expect(await ipam("check", "--show-all-ips")).toContain("found 0 problems");
  expect(await ipam("explain", address)).toContain("It is in use: its pod exists and has it.");
  expect(await ipam("forecast", "--window", "1h")).toMatch(/\| default-ipv4-ippool \|.*\| in .* \|/);
  expect(await ipam("configure", "--max-blocks-per-host", "5", "--strictaffinity", "true")).toContain("StrictAffinity");
  expect(await ipam("configure", "show")).toMatch(/MaxBlocksPerHost\s+\|\s+5 \|/);
  expect(await ipam("show", "--show-configuration")).toMatch(/StrictAffinity\s+\| true/);
  await ipam("configure", "--max-blocks-per-host", "0", "--strictaffinity", "false");
  expect((await calicoctl("ipam", "split", "4", "--name", "default-ipv4-ippool")).stderr).toContain("not locked");
  expect((await calicoctl("ipam", "release")).code).toBe(1);
});

test("a service of type LoadBalancer gets an address from a pool for load balancers, and gives it back", {
  timeout: 240_000,
}, async () => {
  const meta = { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name: "balancers" } } as const;
  const spec = { cidr: "192.0.2.0/28", blockSize: 30, nodeSelector: "all()", allowedUses: ["LoadBalancer"] as const };
  await client.create("IPPool", { ...meta, spec: { ...spec, allowedUses: [...spec.allowedUses] } });
  await run.must("create", "service", "loadbalancer", "balanced", "--tcp=80:80");
  const address = async (): Promise<string> =>
    (await run.must("get", "service", "balanced", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")).trim();
  await vi.waitFor(async () => expect(await address()).toMatch(/^192\.0\.2\.\d+$/), PATIENCE);
  expect(await ipam("explain", await address())).toContain("the load-balancer controller releases it");
  expect(await ipam("check")).toContain("found 0 problems");
  const given = await address();
  await run.must("delete", "service", "balanced");
  await vi.waitFor(async () => expect(await ipam("explain", given)).toContain("is assigned to nobody"), PATIENCE);
  await client.delete("IPPool", { name: "balancers" });
});

test("a virtual machine keeps its address over pods and nodes, and gives it back at its end", {
  timeout: 240_000,
}, async () => {
  const connection = parseKubeconfig(readFileSync(run.kubeconfig, "utf8"), { file: run.kubeconfig });
  await installForeignDefinitions(connection, ["VirtualMachine", "VirtualMachineInstance"]);
  const key = { name: "db", namespace: "default" };
  const kubevirt = { apiVersion: "kubevirt.io/v1" } as const;
  const owner = (kind: string, { metadata }: { readonly metadata: { readonly uid?: string } }) => [
    { ...kubevirt, kind, name: key.name, uid: metadata.uid ?? "", controller: true },
  ];
  const machine = await client.create("VirtualMachine", { ...kubevirt, kind: "VirtualMachine", metadata: key });
  const instance = await client.create("VirtualMachineInstance", {
    ...kubevirt,
    kind: "VirtualMachineInstance",
    metadata: { ...key, ownerReferences: owner("VirtualMachine", machine) },
  });
  const launch = async (pod: string, nodeName: string): Promise<string> => {
    await client.create("Pod", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: pod, namespace: "default", ownerReferences: owner("VirtualMachineInstance", instance) },
      spec: { nodeName, containers: [{ name: "compute", image: "launcher" }] },
    });
    return vi.waitFor(async () => {
      const { status } = await client.get("Pod", { namespace: "default", name: pod });
      if (status?.podIP === undefined || status.podIP === "") throw new Error(`${pod} has no address yet`);
      return status.podIP;
    }, PATIENCE);
  };
  const first = await launch("virt-launcher-db-aaaaa", "node-1");
  await run.must("delete", "pod", "virt-launcher-db-aaaaa", "--wait=true");
  expect(await ipam("explain", first)).toMatch(/kept for its virtual machine, which does not run|in use/);
  expect(await launch("virt-launcher-db-bbbbb", "node-2")).toBe(first);
  expect(await ipam("show", "--show-borrowed")).toMatch(/\| vmi\s+\| default\/db\s/);
  expect(await ipam("check")).toContain("found 0 problems");
  await client.delete("VirtualMachine", key);
  await client.delete("VirtualMachineInstance", key).catch(() => undefined);
  await run.must("delete", "pod", "virt-launcher-db-bbbbb", "--ignore-not-found", "--wait=true");
  await vi.waitFor(async () => expect(await ipam("explain", first)).toContain("is assigned to nobody"), PATIENCE);
});

test("locked: a report, a release from it, and a split; pods start in the new pools", {
  timeout: 240_000,
}, async () => {
  const lost = await lose("lost");
  const report = join(folder, "report.json");
  expect(await ipam("check", "-o", report)).toContain("found 1 problems");
  expect((await calicoctl("ipam", "release", "--from-report", report)).code).toBe(1);
  expect((await calicoctl("datastore", "migrate", "lock")).stdout).toBe("Datastore locked.\n");
  expect(await ipam("check", "--show-problem-ips", "-o", report)).toContain(
    `${lost} leaked; attrs Main:k8s-pod-network.lost`,
  );
  expect(await ipam("release", "--from-report", report)).toContain("Released 1 IPs successfully");
  expect(await ipam("split", "4", "--cidr", "10.244.0.0/16")).toContain("was successfully split into 4 smaller pools.");
  expect((await calicoctl("datastore", "migrate", "unlock")).stdout).toBe("Datastore unlocked.\n");
  expect((await ipam("show")).match(/10\.244\.\d+\.0\/18/g)).toHaveLength(4);
  await run.must("-n", "echo", "scale", "deployment/echo", "--replicas=4");
  await run.must("-n", "echo", "rollout", "status", "deployment/echo", "--timeout=120s");
  const again = await lose("again");
  expect(await ipam("release", "--ip", again)).toBe(`Successfully released IP address ${again}\n`);
  expect((await calicoctl("ipam", "release", "--from-report", report)).code).toBe(1);
  expect(await ipam("release", "--from-report", report, "--force")).toContain("Released 0 IPs successfully");
  expect(await ipam("check")).toContain("found 0 problems");
});

test("kube-controllers starts again with a new configuration, and collects what is lost", {
  timeout: 240_000,
}, async () => {
  const lost = await lose("leaked");
  const node = { node: { leakGracePeriod: "2s", reconcilerPeriod: "5s" } };
  const patch = JSON.stringify({ spec: { controllers: node } });
  await run.must("patch", "kubecontrollersconfigurations", "default", "--type=merge", "-p", patch);
  await vi.waitFor(async () => expect(await ipam("show", "--ip", lost)).toContain("is not assigned"), PATIENCE);
  await vi.waitFor(async () => {
    const pods = await run.must("-n", "kube-system", "get", "pods", "-l", "k8s-app=calico-kube-controllers");
    expect(pods).toMatch(/1\/1\s+Running\s+1 /);
  }, PATIENCE);
  expect(await ipam("check")).toContain("found 0 problems");
});
