/** Real packets through the rendered table: what no policy decides, and random worlds against the oracle. */
import { hostInterfaceName } from "@calico-ts/model";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import {
  applyChange,
  createCompiler,
  createOracle,
  diffRulesets,
  NftPolicyRenderer,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";
import { readTable } from "./kernel-table.ts";
import { LAB_PODS, NODE_ADDRESS, OUTSIDE, PacketLab } from "./packet-lab.ts";
import { randomWorld } from "@calico-ts/policy-compiler/testing";
import { namespace, node, pod, policy, pool, resource } from "@calico-ts/policy-compiler/testing";

const PORTS = [80, 81];
let lab: PacketLab;

beforeAll(() => {
  lab = new PacketLab(`ct-${process.pid}`);
  for (const where of ["out", "node", ...LAB_PODS.map(({ name }) => name)])
    for (const port of PORTS) lab.listen(where, port);
});
afterAll(() => lab[Symbol.dispose]());

const pods = LAB_PODS.map((spec) =>
  pod(`${spec.namespace}/${spec.name}`, { ips: [spec.address], labels: { app: spec.name } }),
);
const base = [namespace("a"), namespace("b"), ...pods, node("n1", { ipv4: `${NODE_ADDRESS}/24` })];

async function program(...world: readonly CompilerUpdate[]): Promise<void> {
  const renderer = new NftPolicyRenderer();
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of world) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const observed = await readTable(lab.kernel).catch(() => EMPTY);
  await applyChange(diffRulesets(observed, renderer.desired()), new NodePlanKernel(lab.kernel));
}
const EMPTY = { ...new NftPolicyRenderer().desired(), chains: new Map(), sets: new Map() };

test("a workload interface nobody knows is closed, also for connections that exist", async () => {
  await program(...base);
  expect(await lab.connects("p0", "10.0.0.2", 80)).toBe(true);
  await program(...base.filter((update) => update.key.name !== "p1"));
  expect(await lab.connects("p0", "10.0.0.2", 80)).toBe(false);
  expect(await lab.pings("p1", "10.0.0.1")).toBe(false);
});

test("a pod sends from its own addresses only", async () => {
  await program(...base);
  lab.exec("p0", "ip", "addr", "add", "10.0.0.9/32", "dev", "eth0");
  lab.exec("node", "ip", "route", "add", "10.0.0.9/32", "dev", hostInterfaceName("a", "p0"));
  expect(await lab.pings("p0", "10.0.0.2")).toBe(true);
  const forged = (): string =>
    lab.exec("p0", "sh", "-c", "ping -c1 -W1 -I 10.0.0.9 10.0.0.2 >/dev/null 2>&1; echo $?").trim();
  expect(forged()).not.toBe("0");
});

test("traffic that leaves the pools is masqueraded; the node's own pods are always within its reach", async () => {
  await program(...base);
  expect(await lab.connects("p0", OUTSIDE, 80)).toBe(false); // no way back
  const isolate = policy("a/isolate", { selector: "all()", types: ["Ingress"] });
  await program(...base, isolate, pool("p", { cidr: "10.0.0.0/16", natOutgoing: true }));
  expect(await lab.connects("p0", OUTSIDE, 80)).toBe(true);
  expect(await lab.connects("p2", "10.0.0.1", 80)).toBe(false);
  expect(await lab.connects("node", "10.0.0.1", 80)).toBe(true);
});

test.each([
  ["Drop", false],
  ["Accept", true],
  ["Return", true],
])("a pod to its node: egress policy, then DefaultEndpointToHostAction %s", async (action, open) => {
  const felix = resource("FelixConfiguration", "default", { spec: { defaultEndpointToHostAction: action } });
  await program(
    ...base,
    felix,
    policy("a/no-81", {
      selector: "all()",
      types: ["Egress"],
      egress: [{ action: "Deny", protocol: "TCP", destination: { ports: [81] } }, { action: "Allow" }],
    }),
  );
  expect(await lab.connects("p0", NODE_ADDRESS, 80)).toBe(open);
  expect(await lab.connects("p0", NODE_ADDRESS, 81)).toBe(false);
});

test("IPv6: neighbour discovery, policy and forged sources", async () => {
  for (const { name } of LAB_PODS) lab.listen(name, 90, "::");
  const six = LAB_PODS.map((spec) =>
    pod(`${spec.namespace}/${spec.name}`, { ips: [spec.address6], labels: { app: spec.name } }),
  );
  const world = [namespace("a"), namespace("b"), ...six, node("n1", { ipv6: "fd01::1/64" })];
  await program(...world);
  // The first packet waits for the pod's link-local address to be usable.
  await expect.poll(async () => lab.pings("p0", "fd00::2"), { timeout: 5000 }).toBe(true);
  expect(await lab.connects("p0", "fd00::2", 90)).toBe(true);
  await program(
    ...world,
    policy("a/from-p0", {
      selector: "app == 'p1'",
      ingress: [{ action: "Allow", source: { selector: "app == 'p0'" } }],
    }),
  );
  expect([await lab.connects("p0", "fd00::2", 90), await lab.connects("p2", "fd00::2", 90)]).toEqual([true, false]);
  await program(...world.filter((update) => update.key.name !== "p0"), pod("a/p0", { ips: ["fd00::77"] }));
  expect(await lab.pings("p0", "fd00::1:1")).toBe(false);
});

test("random worlds: the kernel says what the oracle says", { timeout: 120_000 }, async () => {
  let verdicts = 0;
  let allowed = 0;
  await fc.assert(
    fc.asyncProperty(randomWorld, async (random) => {
      // The lab's pods with the random pods' labels and ports.
      const found = random.filter((update) => update.kind === "Pod");
      const ours = LAB_PODS.map((spec, at) => {
        const like = found[at % found.length]?.resource;
        const ports = (like?.spec.containers[0]?.ports ?? []).map((port) => ({ ...port, name: port.name ?? "" }));
        return pod(`${spec.namespace}/${spec.name}`, {
          ips: [spec.address],
          labels: like?.metadata.labels ?? {},
          serviceAccount: like?.spec.serviceAccountName ?? "default",
          ports: ports.map(({ name, containerPort, protocol = "TCP" }) => ({ name, containerPort, protocol })),
        });
      });
      const world = [...random.filter((update) => update.kind !== "Pod"), ...ours];
      await program(...world);
      const oracle = createOracle(world);
      const flows = LAB_PODS.flatMap((from) =>
        [...LAB_PODS, undefined].flatMap((to) => (from === to ? [] : PORTS.map((port) => ({ from, to, port })))),
      );
      const seen = await Promise.all(
        flows.map(async ({ from, to, port }) => {
          // Towards the outside there is a way back for p2 only.
          const inbound = to === undefined;
          const wanted = inbound
            ? oracle.verdict({
                from: { address: OUTSIDE },
                to: { pod: "b/p2" },
                protocol: 6,
                destinationPort: port,
                sourcePort: 40_000,
              })
            : oracle.verdict({
                from: { pod: `${from.namespace}/${from.name}` },
                to: { pod: `${to.namespace}/${to.name}` },
                protocol: 6,
                destinationPort: port,
                sourcePort: 40_000,
              });
          const kernel = await lab.connects(inbound ? "out" : from.name, inbound ? "10.0.1.1" : to.address, port, 200);
          verdicts++;
          if (kernel) allowed++;
          return {
            flow: `${inbound ? "out" : from.name} → ${to?.name ?? "p2"}:${port}`,
            kernel,
            wanted: wanted.allowed,
            decision: wanted.decision,
          };
        }),
      );
      expect(seen.filter(({ kernel, wanted }) => kernel !== wanted)).toEqual([]);
    }),
    { numRuns: 60, endOnFailure: true },
  );
  expect(allowed).toBeGreaterThan(verdicts / 10);
  expect(allowed).toBeLessThan(verdicts);
});
