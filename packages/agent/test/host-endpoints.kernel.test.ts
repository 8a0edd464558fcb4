/**
 * Host endpoints on a node whose interfaces and addresses come and go: resources through the compiler into the dataplane, and real
 * connections between a neighbour, the node and a pod behind it. What the forms mean in detail is tested with
 * the policy compiler; here it is that the agent knows its interfaces, at start and later.
 */
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import { globalPolicy, namespace, node, pod, resource } from "@calico-ts/policy-compiler/testing";
import { CalicoError } from "@calico-ts/std";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CompiledNode } from "../testing/dataplane-node.ts";
import { eventually, Lab, type LabPod } from "../testing/lab.ts";

const CONFIG = { ipv6Support: "false", programClusterRoutes: "Disabled" };
const PORTS = [22, 80, 81, 6443];
const NODE = "192.168.0.1";
const OUTSIDE = "192.168.0.2";

let lab: Lab;
let n1: string;
let outside: string;
let behind: LabPod;
beforeAll(async () => {
  lab = new Lab();
  [n1 = "", outside = ""] = lab.nodes(2);
  behind = lab.pod(n1, "default/behind", "10.65.1.2");
  lab.ip(outside, `route add 10.65.1.0/24 via ${NODE}`);
  const servers = `for (const port of [${PORTS.join(",")}]) require("node:net").createServer((s) => s.on("error", () => {}).pipe(s)).listen(port, "0.0.0.0");`;
  for (const where of [n1, outside, behind.namespace])
    await lab.start(where, [process.execPath, "-e", `${servers}setTimeout(() => console.log("up"), 100)`], "up");
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

class Agent extends CompiledNode {
  /** So many of the next rules transactions are refused. */
  refusals = 0;

  constructor(config: Readonly<Record<string, string>> = {}) {
    super({ netns: lab.path(n1), folder: lab.folder, config: { ...CONFIG, ...config } });
    const { nft } = this.kernel;
    const apply = nft.apply.bind(nft);
    nft.apply = async (commands) => {
      if (this.refusals > 0) {
        this.refusals--;
        throw new CalicoError("KERNEL", "Operation not supported");
      }
      await apply(commands);
    };
    const local = pod("default/behind", { ips: [behind.address], node: "n1" });
    for (const update of [namespace("default"), node("n1", { ipv4: `${NODE}/24` }), local])
      this.compiler.update(update);
  }
}

const endpoint = (spec: object, name = "uplink"): CompilerUpdate =>
  resource("HostEndpoint", name, { metadata: { labels: { host: "yes" } }, spec: { node: "n1", ...spec } });
const to80 = { action: "Allow", protocol: "TCP", destination: { ports: [80] } };
const deny81 = { action: "Deny", protocol: "TCP", destination: { ports: [81] } };

const DENY_BOTH = { ingress: [{ action: "Deny" }], egress: [{ action: "Deny" }] };

const inbound = (port: number): boolean => lab.connects(outside, NODE, port);
const outbound = (port: number): boolean => lab.connects(n1, OUTSIDE, port);
const through = (port: number): boolean => lab.connects(outside, behind.address, port);
const seen = () => ({ in80: inbound(80), in22: inbound(22), out80: outbound(80), out6443: outbound(6443) });
const OPEN = { in80: true, in22: true, out80: true, out6443: true };
const FAILSAFES_ONLY = { ...OPEN, in80: false, out80: false };

describe("which interface is whose", () => {
  test("by name: only failsafes pass, in both directions, and forwarding is not its business", async () => {
    await using agent = await new Agent().know();
    expect(seen()).toEqual(OPEN);
    await agent.know(endpoint({ interfaceName: "eth0" }));
    expect(seen()).toEqual(FAILSAFES_ONLY);
    expect(through(80)).toBe(true);
    expect(await agent.dataplane.dump()).toMatchObject({
      hostInterfaces: { eth0: expect.arrayContaining([NODE]) as [] },
    });
  });

  test("for all interfaces: one that appears later too, never the loopback", async () => {
    await using agent = await new Agent().know(endpoint({ interfaceName: "*" }));
    expect(seen()).toEqual(FAILSAFES_ONLY);
    expect(lab.connects(n1, "127.0.0.1", 80)).toBe(true);
    await agent.know();
  });

  test("an interface that appears after its endpoint, and one that is excluded", async () => {
    const spare = lab.namespace("spare");
    const connects = (): boolean => lab.connects(spare, "192.0.2.1", 80);
    const plug = (): void => {
      lab.ip(n1, "link add late0 type veth peer name peer0");
      lab.ip(n1, `link set peer0 netns ${spare}`);
      lab.ip(n1, "address add 192.0.2.1/24 dev late0");
      lab.ip(n1, "link set late0 up");
      lab.ip(spare, "address add 192.0.2.2/24 dev peer0");
      lab.ip(spare, "link set peer0 up");
    };
    {
      await using _agent = await new Agent().know(endpoint({ interfaceName: "late0" }));
      plug();
      await eventually("closed", () => !connects());
      expect([lab.connects(spare, "192.0.2.1", 22), inbound(80)]).toEqual([true, true]);
      lab.ip(n1, "link del late0");
      await eventually("forgotten", () => !lab.nft(n1, "list", "table", "inet", "calico").includes('"late0"'));
    }
    plug();
    await using _agent = await new Agent({ interfaceExclude: "kube-ipvs0,/^late/" }).know(
      endpoint({ interfaceName: "late0" }),
    );
    expect(connects()).toBe(true);
    lab.ip(n1, "link del late0");
  });

  test("by an expected address that appears and goes", async () => {
    await using agent = await new Agent().know(endpoint({ expectedIPs: ["192.168.0.77"] }));
    expect(seen()).toEqual(OPEN);
    lab.ip(n1, "address add 192.168.0.77/24 dev eth0");
    await eventually("closed", () => !inbound(80));
    expect(seen()).toEqual(FAILSAFES_ONLY);
    lab.ip(n1, "address del 192.168.0.77/24 dev eth0");
    await eventually("open again", () => inbound(80));
    expect(seen()).toEqual(OPEN);
    await agent.know(endpoint({ expectedIPs: [NODE] }));
    expect(seen()).toEqual(FAILSAFES_ONLY);
  });
});

describe("forms of policy", () => {
  const rules = { selector: "has(host)", applyOnForward: true, types: ["Ingress"] };

  test("applyOnForward judges what passes through, preDNAT what comes in before anything else", async () => {
    const uplink = endpoint({ interfaceName: "eth0" });
    await using agent = await new Agent().know(
      uplink,
      globalPolicy("p", { ...rules, ingress: [deny81, { action: "Allow" }] }),
    );
    expect([through(80), through(81)]).toEqual([true, false]);
    await agent.know(globalPolicy("p", { ...rules, types: undefined, preDNAT: true, ingress: [deny81, to80] }));
    expect([through(80), through(81), inbound(80), inbound(81)]).toEqual([true, false, true, false]);
  });

  test("doNotTrack: the connection works and the tracker does not know it", async () => {
    const answers = { action: "Allow", protocol: "TCP", source: { ports: [80] } };
    await using _agent = await new Agent().know(
      endpoint({ interfaceName: "eth0" }),
      globalPolicy("raw", {
        ...rules,
        types: ["Ingress", "Egress"],
        doNotTrack: true,
        ingress: [to80],
        egress: [answers],
      }),
    );
    lab.exec(n1, "conntrack", "-F");
    expect([inbound(80), inbound(81), inbound(22)]).toEqual([true, false, true]);
    expect(lab.exec(n1, "conntrack", "-L", "-p", "tcp", "--dport", "80")).toBe("");
  });
});

test.each([
  ["no policy at all", []],
  ["a preDNAT policy that denies all", [{ preDNAT: true, ingress: [{ action: "Deny" }] }]],
  ["a doNotTrack policy that denies all", [{ doNotTrack: true, types: ["Ingress", "Egress"], ...DENY_BOTH }]],
])("failsafes are open over IPv6 too, for who has to find the node first: %s", async (_what, policies) => {
  const [inside6, outside6] = ["fd00:10::1", "fd00:10::2"];
  const server = `const n=require("node:net");for(const p of [22,80,6443])n.createServer(()=>{}).listen({port:p,host:"::",ipv6Only:true});setTimeout(()=>console.log("up"),100)`;
  const servers = await Promise.all(
    [n1, outside].map((where) => lab.start(where, [process.execPath, "-e", server], "up")),
  );
  await using _agent = await new Agent({ ipv6Support: "true" }).know(
    endpoint({ interfaceName: "eth0" }),
    ...policies.map((spec) => globalPolicy("p", { selector: "has(host)", applyOnForward: true, ...spec })),
  );
  const forget = (): void => [n1, outside].forEach((where) => lab.ip(where, "-6 neighbour flush all"));
  forget();
  expect([lab.connects(outside, inside6, 22), lab.connects(outside, inside6, 80)]).toEqual([true, false]);
  forget();
  expect(lab.connects(n1, outside6, 6443)).toBe(true);
  for (const each of servers) await each.kill();
});

describe("a node that has them already", () => {
  const world = [
    endpoint({ interfaceName: "eth0" }),
    endpoint({ interfaceName: "*" }, "others"),
    globalPolicy("p", { selector: "has(host)", applyOnForward: true, types: ["Ingress", "Egress"], ingress: [to80] }),
    globalPolicy("before", { selector: "has(host)", applyOnForward: true, preDNAT: true, ingress: [deny81] }),
    globalPolicy("raw", { selector: "has(host)", applyOnForward: true, doNotTrack: true, ingress: [deny81] }),
  ];

  test("a new process writes nothing", async () => {
    {
      await using _first = await new Agent().know(...world);
    }
    await using second = await new Agent().know(...world);
    expect(second.dataplane.table.counts).toMatchObject({ transactions: 0, readings: 1 });
    expect([inbound(80), inbound(81)]).toEqual([true, false]);
  });

  test("what is changed behind its back is repaired", async () => {
    await using _agent = await new Agent().know(...world);
    const table = (): string => lab.nft(n1, "-s", "list", "table", "inet", "calico");
    const right = table();
    const maps = [...right.matchAll(/map (host-\S+) \{/g)].map(([, name = ""]) => name);
    const chains = [...right.matchAll(/chain (host-\S+|failsafe-\S+) \{/g)].map(([, name = ""]) => name);
    expect([maps.length, chains.length > 10]).toEqual([7, true]);
    const tampering: Readonly<Record<string, () => void>> = {
      ...Object.fromEntries(
        chains.map((name) => [`${name} emptied`, () => lab.nft(n1, "flush", "chain", "inet", "calico", name)]),
      ),
      "an interface out of its map": () =>
        lab.nft(n1, "delete", "element", "inet", "calico", "host-host-in-dispatch", "{ eth0 }"),
      "a rule that lets all in": () => lab.nft(n1, "insert", "rule", "inet", "calico", "host-input", "accept"),
    };
    for (const [what, tamper] of Object.entries(tampering)) {
      tamper();
      await eventually(`repaired: ${what}`, () => table() === right);
    }
  });

  test("a flow that both versions allow loses no packet while everything is replaced, again and again", async () => {
    const count = 1500;
    const server = `require("node:dgram").createSocket("udp4").on("message",()=>{}).bind(9000,()=>console.log("up"))`;
    // What the rules let through, whether or not the server had room for it at that moment (RFC 4113: udpInDatagrams, udpInErrors).
    const arrived = (): number => {
      const [names = "", values = ""] = lab.exec(n1, "cat", "/proc/net/snmp").match(/^Udp: .*$/gm) ?? [];
      const value = (name: string): number => Number(values.split(" ")[names.split(" ").indexOf(name)]);
      return value("InDatagrams") + value("InErrors");
    };
    // A new socket for each datagram, so that each asks the rules and none rides on a known connection.
    const client = `const d=require("node:dgram");let n=0;const t=setInterval(()=>{if(n++>=${count}){clearInterval(t);return}const s=d.createSocket("udp4");s.send("x",9000,"${NODE}",()=>s.close())},1);console.log("sending")`;
    const version = (at: number): CompilerUpdate[] => [
      resource("Tier", at % 2 === 0 ? "even" : "odd", { spec: { order: at } }),
      globalPolicy(at % 2 === 0 ? "even.p" : "odd.p", {
        tier: at % 2 === 0 ? "even" : "odd",
        selector: "has(host)",
        types: ["Ingress"],
        ingress: [
          { action: "Allow", protocol: "UDP", source: { nets: [`${OUTSIDE}/32`, `203.0.113.${at % 250}/32`] } },
        ],
      }),
      { ...globalPolicy(at % 2 === 0 ? "odd.p" : "even.p", { tier: "x" }), resource: undefined },
      resource("FelixConfiguration", "default", { spec: { nftablesMarkMask: at % 2 === 0 ? 0xffff0000 : 0xff00 } }),
    ];
    await using agent = await new Agent().know(endpoint({ interfaceName: "eth0" }), ...version(0));
    const receiving = await lab.start(n1, [process.execPath, "-e", server], "up");
    const arrivedBefore = arrived();
    const sending = await lab.start(outside, [process.execPath, "-e", client], "sending");
    const before = agent.dataplane.table.counts.transactions;
    const sender = { ended: false };
    void sending.exited.then(() => (sender.ended = true));
    let rebuilt = 0;
    for (let at = 1; !sender.ended; at++) {
      if (at % 10 === 1) {
        // After three refusals the table is built anew.
        agent.refusals = 3;
        agent.hear(...version(at));
        const isDone = (): boolean => agent.refusals === 0 && agent.dataplane.failures().size === 0;
        await eventually("built anew", isDone, 20_000);
        rebuilt++;
      }
      await agent.know(...version(at));
      if (at % 5 === 0) agent.dataplane.table.markForResync("a test");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await eventually(`all of ${count}`, () => arrived() - arrivedBefore >= count, 20_000);
    expect(agent.dataplane.table.counts.transactions - before).toBeGreaterThan(10);
    expect(rebuilt).toBeGreaterThan(0);
    expect(agent.dataplane.table.counts).toMatchObject({ refusals: 3 * rebuilt, rebuilds: rebuilt });
    expect(lab.nft(n1, "list", "tables").trim()).toBe("table inet calico");
    await receiving.kill();
  });
});
