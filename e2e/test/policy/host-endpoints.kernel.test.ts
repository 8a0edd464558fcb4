/** Host endpoints with real packets: a node with an uplink to a neighbour, and pods behind it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import {
  applyChange,
  createCompiler,
  diffRulesets,
  NftPolicyRenderer,
  NodePlanKernel,
} from "@calico-ts/policy-compiler";
import { readTable } from "./kernel-table.ts";
import { LAB_PODS, NODE_ADDRESS, OUTSIDE, PacketLab } from "./packet-lab.ts";
import { globalPolicy, namespace, node, pod, resource } from "@calico-ts/policy-compiler/testing";

const PORTS = [80, 81, 6443];
let lab: PacketLab;

beforeAll(() => {
  lab = new PacketLab(`ct-${process.pid}h`);
  for (const where of ["out", "node", ...LAB_PODS.map(({ name }) => name)]) {
    for (const port of PORTS) lab.listen(where, port);
  }
});
afterAll(() => lab[Symbol.dispose]());

const pods = LAB_PODS.map((spec) => pod(`${spec.namespace}/${spec.name}`, { ips: [spec.address] }));
const base = [namespace("a"), namespace("b"), ...pods, node("n1", { ipv4: `${NODE_ADDRESS}/24` })];
const hep = (name: string, spec: object): CompilerUpdate =>
  resource("HostEndpoint", name, { metadata: { labels: { host: "yes" } }, spec: { node: "n1", ...spec } });
const onUplink = hep("uplink", { interfaceName: "eth0" });
const to80 = { action: "Allow", protocol: "TCP", destination: { ports: [80] } };

async function program(...world: readonly CompilerUpdate[]): Promise<void> {
  const renderer = new NftPolicyRenderer();
  renderer.setHostInterfaces(new Map([["eth0", [NODE_ADDRESS]]]));
  const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
  for (const update of [...base, ...world]) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  const observed = await readTable(lab.kernel).catch(() => EMPTY);
  await applyChange(diffRulesets(observed, renderer.desired()), new NodePlanKernel(lab.kernel));
}
const EMPTY = { ...new NftPolicyRenderer().desired(), chains: new Map(), sets: new Map() };

const inbound = (port: number): Promise<boolean> => lab.connects("out", NODE_ADDRESS, port);
const outbound = (port: number): Promise<boolean> => lab.connects("node", OUTSIDE, port);
const through = (port: number): Promise<boolean> => lab.connects("out", "10.0.1.1", port);

async function seen(): Promise<Record<string, boolean>> {
  const flows = {
    in80: inbound(80),
    in81: inbound(81),
    in6443: inbound(6443),
    out80: outbound(80),
    out6443: outbound(6443),
    through80: through(80),
  };
  const results = await Promise.all(Object.entries(flows).map(async ([name, flow]) => [name, await flow] as const));
  return Object.fromEntries(results);
}

const OPEN = { in80: true, in81: true, in6443: true, out80: true, out6443: true, through80: true };

test("without one, hosts are open", async () => {
  await program();
  expect(await seen()).toEqual(OPEN);
});

describe.each([
  ["by name", onUplink],
  ["by address", hep("uplink", { expectedIPs: [NODE_ADDRESS] })],
  ["for all interfaces", hep("uplink", { interfaceName: "*" })],
])("%s", (_, endpoint) => {
  test("no policy and no profile: only failsafes, in both directions; forwarding is not its business", async () => {
    await program(endpoint);
    expect(await seen()).toEqual({ ...OPEN, in80: false, in81: false, out80: false });
  });

  test("a profile that allows everything", async () => {
    const open = resource("HostEndpoint", "uplink", {
      spec: {
        ...(endpoint.kind === "HostEndpoint" ? endpoint.resource?.spec : {}),
        profiles: ["projectcalico-default-allow"],
      },
    });
    await program(open);
    expect(await seen()).toEqual(OPEN);
  });

  test("policies of both directions", async () => {
    await program(
      endpoint,
      globalPolicy("p", {
        selector: "has(host)",
        types: ["Ingress", "Egress"],
        ingress: [to80],
        egress: [{ action: "Deny" }],
      }),
    );
    expect(await seen()).toEqual({ ...OPEN, in81: false, out80: false });
  });

  test("applyOnForward judges what passes through", async () => {
    const forward = (ingress: object[]): CompilerUpdate =>
      globalPolicy("p", { selector: "has(host)", applyOnForward: true, types: ["Ingress"], ingress });
    await program(
      endpoint,
      forward([{ action: "Deny", protocol: "TCP", destination: { ports: [81] } }, { action: "Allow" }]),
    );
    expect([await through(80), await through(81)]).toEqual([true, false]);
    await program(endpoint, forward([]));
    expect([await through(80), await through(6443)]).toEqual([false, false]);
  });

  test("preDNAT denies before anything else, and an Allow of it spares the packet normal policy", async () => {
    const before = globalPolicy("p", {
      selector: "has(host)",
      applyOnForward: true,
      preDNAT: true,
      ingress: [{ action: "Deny", protocol: "TCP", destination: { ports: [81] } }, to80],
    });
    await program(endpoint, before);
    expect(await seen()).toEqual({ ...OPEN, in81: false, out80: false });
    expect(await through(81)).toBe(false);
  });
});

test("doNotTrack: the connection works and the tracker does not know it", async () => {
  const tracked = (): boolean => lab.exec("node", "conntrack", "-L", "-p", "tcp", "--dport", "80") !== "";
  const rules = { selector: "has(host)", applyOnForward: true, types: ["Ingress", "Egress"] };
  await program(
    onUplink,
    globalPolicy("raw", {
      ...rules,
      doNotTrack: true,
      ingress: [to80],
      egress: [{ action: "Allow", protocol: "TCP", source: { ports: [80] } }],
    }),
  );
  lab.exec("node", "conntrack", "-F");
  expect(await inbound(80)).toBe(true);
  expect(tracked()).toBe(false);
  expect([await inbound(81), await inbound(6443)]).toEqual([false, true]);
});

test("all interfaces: the node still reaches its own pods and itself, pods still reach each other", async () => {
  await program(hep("all", { interfaceName: "*" }));
  lab.exec("node", "ip", "link", "set", "lo", "up");
  expect(await lab.connects("node", "10.0.0.1", 80)).toBe(true);
  expect(await lab.connects("node", "127.0.0.1", 80)).toBe(true);
  expect(await lab.connects("p0", "10.0.0.2", 80)).toBe(true);
});

// Where the rewritten destination is known the kernel takes no reject: there a deny drops.
test.each(["Drop", "Reject"])(
  "what the node sends to a service is judged by where it really goes, %s",
  async (deny) => {
    const serve = (port: number, address: string, to: number): string =>
      `add rule ip svc out ip daddr 203.0.113.1 tcp dport ${port} dnat to ${address}:${to};`;
    const services = [serve(8000, OUTSIDE, 80), serve(8001, OUTSIDE, 81), serve(8002, "10.0.0.1", 81)].join(" ");
    const hook = "type nat hook output priority -100;";
    lab.exec("node", "nft", `add table ip svc; add chain ip svc out { ${hook} }; flush chain ip svc out; ${services}`);
    const denyAction = resource("FelixConfiguration", "default", { spec: { nftablesFilterDenyAction: deny } });
    await program(
      onUplink,
      denyAction,
      globalPolicy("p", { selector: "has(host)", types: ["Egress"], egress: [to80] }),
    );
    const reaches = (port: number): Promise<boolean> => lab.connects("node", "203.0.113.1", port);
    // Before it was rewritten the last was on its way through the uplink, which denies it; a pod of the node's own is always within reach.
    expect([await reaches(8000), await reaches(8001), await reaches(8002)]).toEqual([true, false, true]);
    lab.exec("node", "nft", "delete table ip svc");
  },
);

test("failsafes can be limited to prefixes and switched off", async () => {
  const felix = (spec: object): CompilerUpdate => resource("FelixConfiguration", "default", { spec });
  await program(
    onUplink,
    felix({
      failsafeInboundHostPorts: [
        { protocol: "TCP", port: 81, net: "192.0.2.0/24" },
        { protocol: "TCP", port: 80, net: "198.51.100.0/24" },
      ],
    }),
  );
  expect([await inbound(80), await inbound(81), await inbound(6443)]).toEqual([false, true, false]);
  await program(onUplink, felix({ failsafeInboundHostPorts: [] }));
  expect([await inbound(81), await inbound(6443)]).toEqual([false, false]);
});
