/**
 * What pods' annotations ask of rules, with real packets: packet rates, connection limits, DSCP, floating addresses. Witnesses are counters of `nft` in
 * the namespaces packets arrive in, and what servers say of their callers.
 */
import type { DataplaneMessage, WorkloadEndpoint } from "@calico-ts/dataplane-api";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DataplaneNode } from "../testing/dataplane-node.ts";
import { eventually, Lab, type LabPod, type LabProcess } from "../testing/lab.ts";
import { allow, openProfile, workload } from "../testing/messages.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const CONFIG = { programClusterRoutes: "Disabled", floatingIPs: "Enabled", defaultEndpointToHostAction: "Accept" };
const PATIENCE = 60_000;

class Node extends DataplaneNode {
  constructor(namespace: string) {
    super({ netns: lab.path(namespace), folder: lab.folder, config: CONFIG, routeGraceMs: 200 });
  }
}

const pool = (id: string, cidr: string): DataplaneMessage => ({
  kind: "pool-update",
  id,
  pool: { cidr, natOutgoing: false, ipip: "never", vxlan: "never" },
});
const settings: readonly DataplaneMessage[] = [
  { kind: "config-update", config: CONFIG },
  openProfile,
  pool("v4", "10.65.0.0/16"),
  pool("v6", "fd00:65::/64"),
];

interface World {
  readonly node: string;
  /** Another machine, which knows the way to the pods. */
  readonly outside: string;
  readonly a: LabPod;
  readonly b: LabPod;
}

function makeWorld(): World {
  const [node = "", outside = ""] = lab.nodes(2);
  const a = lab.pod(node, "default/a", "10.65.1.2", "fd00:65::2");
  const b = lab.pod(node, "default/b", "10.65.1.3", "fd00:65::3");
  lab.ip(outside, "route add 10.65.1.0/24 via 192.168.0.1");
  lab.ip(outside, "-6 route add fd00:65::/64 via fd00:10::1");
  return { node, outside, a, b };
}

const endpoint = (pod: LabPod, changes: Partial<WorkloadEndpoint> = {}): DataplaneMessage =>
  workload(pod.interfaceName, pod.address, {
    addresses: [`${pod.address}/32`, `${pod.address.replace("10.65.1.", "fd00:65::")}/128`],
    ...changes,
  });

/** Counts what matches, by default where packets arrive, before anything else sees them. */
function counter(namespace: string, match: string, hook = "prerouting priority -400"): () => number {
  const name = `c${(counted += 1)}`;
  lab.nft(namespace, "add table inet witness");
  lab.nft(namespace, `add chain inet witness ${name} { type filter hook ${hook}; }`);
  lab.nft(namespace, `add rule inet witness ${name} ${match} counter`);
  return () => Number(/packets (\d+)/.exec(lab.nft(namespace, `list chain inet witness ${name}`))?.[1]);
}
let counted = 0;

/** Another process finds everything as it should be. */
async function nothingToWrite(node: string, ...endpoints: readonly DataplaneMessage[]): Promise<void> {
  await using second = new Node(node);
  await second.send(...settings, ...endpoints);
  expect(second.dataplane.table.counts.transactions).toBe(0);
}

/** An echo comes back, if not at the first time. */
const reaches = (from: string, to: string): Promise<number> =>
  eventually(`an echo from ${to}`, () => lab.pings(from, to), PATIENCE);

describe("packet rate", () => {
  const SENT = 1500;
  const LIMIT = { rate: 1, burst: 50 };

  /** Datagrams, one after the other. What comes back for them is ignored. */
  const flood = (from: string, to: string): string =>
    lab.exec(
      from,
      process.execPath,
      "-e",
      `const s=require("node:dgram").createSocket("udp4");s.on("error",()=>{});let n=0;s.connect(9,"${to}",function next(){if(n++===${SENT})return s.close();s.send("x",()=>next())})`,
    );

  test("of all packets in a direction, the burst and then the rate passes, wherever they go", {
    timeout: 120_000,
  }, async () => {
    const { node, outside, a, b } = makeWorld();
    // IPv6 has packets of its own, which count too.
    for (const pod of [a, b]) lab.exec(pod.namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1");
    await using agent = new Node(node);
    await agent.send(...settings, endpoint(a), endpoint(b));
    // Neighbours know each other from now on: nothing waits for one.
    await reaches(a.namespace, "192.168.0.2");
    await reaches(outside, b.address);
    const started = performance.now();
    await agent.send(endpoint(a, { egressPackets: LIMIT }), endpoint(b, { ingressPackets: LIMIT }));
    // What the buckets may have let through by now: they were full at the start. One for a packet between two looks at the clock.
    // The least is without a late answer or two.
    const allowance = (): number => LIMIT.burst + LIMIT.rate * Math.ceil((performance.now() - started) / 1000) + 1;
    const least = LIMIT.burst - 10;
    const atOutside = counter(outside, "udp dport 9");
    const atNode = counter(node, "udp dport 9", "input priority 10");
    const atB = counter(b.namespace, "udp dport 9");

    flood(a.namespace, "192.168.0.2");
    await eventually("the burst", () => atOutside() >= least, PATIENCE);
    expect(atOutside()).toBeLessThanOrEqual(allowance());
    // To the node itself goes through another hook, and the same bucket.
    flood(a.namespace, "192.168.0.1");
    expect(atOutside() + atNode()).toBeLessThanOrEqual(allowance());

    flood(outside, b.address);
    await eventually("the burst", () => atB() >= least, PATIENCE);
    expect(atB()).toBeLessThanOrEqual(allowance());
    expect(lab.nft(node, `list chain inet calico limits-in/${b.interfaceName}`)).toMatch(
      /limit rate over 1\/second burst 50 packets counter packets [1-9]\d* .*drop comment "packet rate of k8s\/default\/cali\w+\/eth0 ingress"/,
    );

    await agent.send(endpoint(a), endpoint(b));
    expect(lab.nft(node, "list table inet calico")).not.toContain("limit");
    const before = atOutside();
    flood(a.namespace, "192.168.0.2");
    await eventually("more than any limit", () => atOutside() - before > allowance(), PATIENCE);
  });

  test("what the sender may not send uses up nothing of the receiver's", { timeout: 120_000 }, async () => {
    const { node, outside, a, b } = makeWorld();
    for (const pod of [a, b]) lab.exec(pod.namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1");
    await using agent = new Node(node);
    await agent.send(...settings, endpoint(a), endpoint(b));
    await reaches(outside, a.address);
    // No profile and no policy lets it send.
    await agent.send(endpoint(a, { ingressPackets: LIMIT }), endpoint(b, { profiles: [] }));
    const atA = counter(a.namespace, "udp dport 9");
    flood(b.namespace, a.address);
    expect(atA()).toBe(0);
    flood(outside, a.address);
    await eventually("the burst", () => atA() >= LIMIT.burst - 10, PATIENCE);
  });

  test("the node's own packets to a pod are not limited", async () => {
    const { node, a } = makeWorld();
    await using agent = new Node(node);
    await agent.send(...settings, endpoint(a, { ingressPackets: { rate: 1, burst: 1 } }));
    const atA = counter(a.namespace, "udp dport 9");
    await reaches(node, a.address);
    flood(node, a.address);
    await eventually("most of them", () => atA() > SENT / 2, PATIENCE);
  });
});

describe("connection limit", () => {
  const PORT = 7070;
  const CODE = `s.on("error",e=>console.log(e.code+";"))`;

  /** Holds a connection until it is killed. */
  const hold = (from: string, to: string): Promise<LabProcess> => {
    const script = `const s=require("node:net").connect(${PORT},"${to}",()=>console.log("open"));${CODE}`;
    return lab.start(from, [process.execPath, "-e", script], "open");
  };
  /** "open", or why not. */
  const attempt = (from: string, to: string): string => {
    const script = `const s=require("node:net").connect(${PORT},"${to}",()=>{console.log("open;");s.destroy()});${CODE}`;
    return lab.exec(from, process.execPath, "-e", script).trim();
  };

  /** Who else may call when the pod is full: others may not, whoever they are, and the node is not policed. */
  test.each([
    { direction: "ingress", limit: { ingressConnections: 2 }, others: ["ECONNREFUSED;", "open;"] },
    { direction: "egress", limit: { egressConnections: 2 }, others: ["open;", "open;"] },
  ])(
    "$direction: one more is reset, until another has ended",
    { timeout: 180_000 },
    async ({ direction, limit, others }) => {
      const { node, outside, a, b } = makeWorld();
      await using agent = new Node(node);
      await agent.send(...settings, endpoint(a, limit), endpoint(b));
      const [client, server, address] =
        direction === "ingress" ? [outside, a.namespace, a.address] : [a.namespace, outside, "192.168.0.2"];
      await lab.serve(server, PORT);
      const first = await hold(client, address);
      await hold(client, address);
      expect(attempt(client, address)).toBe("ECONNREFUSED;");
      expect([b.namespace, node].map((from) => attempt(from, address))).toEqual(others);
      // Of TCP only.
      await reaches(client, address);
      // The next process leaves the rule, and with it what it has counted.
      await nothingToWrite(node, endpoint(a, limit), endpoint(b));
      expect(attempt(client, address)).toBe("ECONNREFUSED;");

      await first.kill();
      await eventually("a place is free", () => attempt(client, address) === "open;", PATIENCE);
      await agent.send(endpoint(a));
      await hold(client, address);
      expect(attempt(client, address)).toBe("open;");
    },
  );
});

describe("DSCP", () => {
  const EF = 46;

  test("on what leaves the cluster, both families, answers too", { timeout: 120_000 }, async () => {
    const { node, outside, a, b } = makeWorld();
    await using agent = new Node(node);
    await agent.send(...settings, endpoint(a, { dscp: EF }), endpoint(b));
    const marked = { 4: counter(outside, "ip dscp ef"), 6: counter(outside, "ip6 dscp ef") };
    const within = counter(b.namespace, "ip dscp ef");
    const toNode = counter(node, 'iifname "cali*" ip dscp ef');
    // Answers come back, so checksums are right.
    await reaches(a.namespace, "192.168.0.2");
    await reaches(a.namespace, "fd00:10::2");
    expect(marked[4]()).toBeGreaterThan(0);
    expect(marked[6]()).toBeGreaterThan(0);

    const answers = counter(outside, "ip dscp ef icmp type echo-reply");
    await reaches(outside, a.address);
    expect(answers()).toBeGreaterThan(0);

    const fromB = counter(outside, `ip saddr ${b.address} ip dscp ef`);
    await reaches(b.namespace, "192.168.0.2");
    await reaches(a.namespace, b.address);
    await reaches(a.namespace, "192.168.0.1");
    expect([fromB(), within(), toNode()]).toEqual([0, 0, 0]);

    const other = counter(outside, "ip dscp 10");
    await agent.send(endpoint(a, { dscp: 10 }));
    await reaches(a.namespace, "192.168.0.2");
    expect(other()).toBeGreaterThan(0);

    await nothingToWrite(node, endpoint(a, { dscp: 10 }), endpoint(b));

    // Zero is a value: a pod's own marks are taken off.
    await agent.send(endpoint(a, { dscp: 0 }));
    const own = counter(outside, "ip dscp cs4");
    const markedPing = (): string => lab.exec(a.namespace, "ping", "-n", "-q", "-c", "1", "-Q", "128", "192.168.0.2");
    markedPing();
    expect(own()).toBe(0);
    await agent.send(endpoint(a));
    markedPing();
    expect(own()).toBeGreaterThan(0);
    expect(lab.nft(node, "list table inet calico")).not.toContain("dscp");
  });

  test("on what a host endpoint's addresses send", async () => {
    const { node, outside, a } = makeWorld();
    await using agent = new Node(node);
    const none = { tiers: [], untrackedTiers: [], preDnatTiers: [], forwardTiers: [] };
    const host = { interfaceName: "", expectedAddresses: ["192.168.0.1"], profiles: ["kns.default"], ...none };
    await agent.send(...settings, endpoint(a), {
      kind: "host-endpoint-update",
      name: "h",
      endpoint: { ...host, dscp: EF },
    });
    const marked = counter(outside, "ip dscp ef");
    await reaches(a.namespace, "192.168.0.2");
    expect(marked()).toBe(0);
    await reaches(node, "192.168.0.2");
    expect(marked()).toBeGreaterThan(0);
  });
});

describe("floating addresses", () => {
  const PORT = 7070;
  const FLOATING = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
  const FAMILIES = [4, 6] as const;
  const mappings = (pod: LabPod) => ({
    floatingAddresses: [
      { external: FLOATING[4], internal: pod.address },
      { external: FLOATING[6], internal: pod.address.replace("10.65.1.", "fd00:65::") },
    ],
  });

  /** A server that says who calls, to the caller. */
  async function serve(namespace: string, name: string): Promise<void> {
    const script = `require("node:net").createServer(s=>{s.on("error",()=>{});s.end("${name} called by "+s.remoteAddress.replace("::ffff:",""))}).listen(${PORT},"::",()=>console.log("up"))`;
    await lab.start(namespace, [process.execPath, "-e", script], "up");
  }
  const call = (from: string, to: string): string => {
    const script = `const s=require("node:net").connect(${PORT},"${to}");s.setTimeout(1000,()=>s.destroy(new Error("silent")));s.pipe(process.stdout);s.on("error",e=>console.log(e.code??e.message))`;
    return lab.exec(from, process.execPath, "-e", script).trim();
  };
  /** A first packet may be lost while a neighbour is looked for. */
  const calls = (from: string, to: string, answer: string): Promise<number> =>
    eventually(`${answer} (at ${to})`, () => call(from, to) === answer, PATIENCE);

  test("lead to the pod from everywhere, itself included, and on to another one", { timeout: 180_000 }, async () => {
    const { node, outside, a, b } = makeWorld();
    lab.ip(outside, `route add ${FLOATING[4]}/32 via 192.168.0.1`);
    lab.ip(outside, `-6 route add ${FLOATING[6]}/128 via fd00:10::1`);
    await serve(a.namespace, "a");
    await serve(b.namespace, "b");
    await serve(outside, "outside");
    await using agent = new Node(node);
    await agent.send(...settings, endpoint(a, mappings(a)), endpoint(b));
    await calls(outside, FLOATING[4], "a called by 192.168.0.2");
    await calls(outside, FLOATING[6], "a called by fd00:10::2");
    await calls(b.namespace, FLOATING[4], "a called by 10.65.1.3");
    await calls(b.namespace, FLOATING[6], "a called by fd00:65::3");
    for (const family of FAMILIES) {
      await eventually("the node calls", () => call(node, FLOATING[family]).startsWith("a called by "), PATIENCE);
      // It would not take a packet from itself that comes from outside.
      await calls(a.namespace, FLOATING[family], `a called by ${FLOATING[family]}`);
    }
    // A way in: what the pod sends has its own address.
    await calls(a.namespace, "192.168.0.2", "outside called by 10.65.1.2");

    expect(lab.ip(node, "route show proto 80")).toContain(`${FLOATING[4]} dev ${a.interfaceName}`);
    expect(lab.ip(node, "-6 route show proto 80")).toContain(`${FLOATING[6]} dev ${a.interfaceName}`);
    await nothingToWrite(node, endpoint(a, mappings(a)), endpoint(b));

    await agent.send(endpoint(a), endpoint(b, mappings(b)));
    await calls(outside, FLOATING[4], "b called by 192.168.0.2");
    await calls(a.namespace, FLOATING[6], "b called by fd00:65::2");

    await agent.send(endpoint(b));
    expect(lab.nft(node, "list table inet calico")).not.toContain("floating");
    expect(call(outside, FLOATING[4])).not.toContain("called by");
    expect(lab.ip(node, "route show proto 80")).not.toContain(FLOATING[4]);
  });

  test("policy sees the pod's own address", { timeout: 120_000 }, async () => {
    const { node, outside, a, b } = makeWorld();
    lab.ip(outside, `route add ${FLOATING[4]}/32 via 192.168.0.1`);
    await serve(a.namespace, "a");
    await using agent = new Node(node);
    const id = (name: string) => ({ kind: "NetworkPolicy", namespace: "default", name }) as const;
    const policy = (name: string, destination: string): DataplaneMessage => {
      const rules = [allow({ family: 4, destinationNets: [destination] })];
      const policy = {
        tier: "default",
        ingress: rules,
        egress: rules,
        untracked: false,
        preDnat: false,
        staged: false,
      };
      return { kind: "policy-update", id: id(name), policy };
    };
    const under = (name: string) => ({
      tiers: [{ name: "default", defaultAction: "deny", ingress: [id(name)], egress: [id(name)] }] as const,
    });
    await agent.send(
      ...settings,
      policy("own", `${a.address}/32`),
      policy("floating", `${FLOATING[4]}/32`),
      endpoint(a, { ...mappings(a), ...under("own") }),
      endpoint(b, under("own")),
    );
    await calls(outside, FLOATING[4], "a called by 192.168.0.2");
    await calls(b.namespace, FLOATING[4], "a called by 10.65.1.3");
    await agent.send(endpoint(b, under("floating")));
    expect(call(b.namespace, FLOATING[4])).toBe("silent");
    await agent.send(endpoint(a, { ...mappings(a), ...under("floating") }));
    expect(call(outside, FLOATING[4])).toBe("silent");
  });
});
