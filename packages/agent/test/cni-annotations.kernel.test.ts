/** Annotations of pods whose effect only the kernel can show. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { CniNode } from "../testing/cni-node.ts";
import { eventually, Lab } from "../testing/lab.ts";

let lab: Lab;
let node: CniNode;
beforeEach(async () => {
  lab = new Lab();
  node = await CniNode.open(lab);
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

interface PodPlace {
  readonly space: string;
  readonly address: string;
}

async function addPod(
  pod: string,
  annotations: Readonly<Record<string, string>> = {},
  config: object = {},
): Promise<PodPlace> {
  const space = lab.namespace(pod);
  await node.pod(pod, "default", annotations);
  const { code, output } = await node.cni({
    command: "ADD",
    containerId: `c-${pod}`,
    pod,
    netns: lab.path(space),
    config,
  });
  expect({ code, output }).toMatchObject({ code: 0 });
  const { ips } = JSON.parse(output) as { ips: readonly { address: string }[] };
  return { space, address: ips[0]?.address.replace("/32", "") ?? "" };
}

/** Counts packets that arrive in the pod, by source. */
function countIn({ space }: PodPlace, sources: readonly string[]): (source: string) => number {
  lab.nft(space, "add table ip seen");
  lab.nft(space, "add chain ip seen in { type filter hook prerouting priority -300; }");
  for (const source of sources) lab.nft(space, `add rule ip seen in ip saddr ${source} counter`);
  return (source) => {
    const rule = lab
      .nft(space, "list chain ip seen in")
      .split("\n")
      .find((line) => line.includes(`saddr ${source} `));
    return Number(/packets (\d+)/.exec(rule ?? "")?.[1]);
  };
}

/** One packet from each source, and then an honest one, which overtakes none of them. */
function sendFrom(from: PodPlace, to: PodPlace, sources: readonly string[]): void {
  for (const source of sources) {
    lab.ip(from.space, `address replace ${source}/32 dev lo`);
    lab.exec(from.space, "sh", "-c", `ping -n -q -c 1 -W 0.05 -I ${source} ${to.address} || true`);
  }
  expect(lab.pings(from.space, to.address, { count: 5 })).toBe(true);
}

const SOURCES = { allowed: "10.9.0.5", notAllowed: "10.10.0.5" };
const PREFIXES = { "cni.projectcalico.org/allowedSourcePrefixes": '["10.9.0.0/24"]' };

test("allowedSourcePrefixes: packets from these sources leave the pod, when workloadSourceSpoofing is Any", {
  timeout: 240_000,
}, async () => {
  const sources = Object.values(SOURCES);
  await node.startAgent({ FELIX_WORKLOADSOURCESPOOFING: "Any" });
  const router = await addPod("router", PREFIXES);
  const honest = await addPod("honest");
  const target = await addPod("target");
  const count = countIn(target, [router.address, honest.address, ...sources]);
  sendFrom(honest, target, sources);
  expect(count(SOURCES.allowed)).toBe(0);
  sendFrom(router, target, sources);
  expect(count(SOURCES.allowed)).toBe(1);
  expect(count(SOURCES.notAllowed)).toBe(0);

  // The same pods under an agent that does not allow it: the annotation alone opens nothing.
  await node.killAgent();
  await node.startAgent();
  sendFrom(router, target, sources);
  expect(count(SOURCES.allowed)).toBe(1);
  expect(count(SOURCES.notAllowed)).toBe(0);
});

/** More than any queue here holds, at once: however slow the sender is, a shaper must drop of it. */
function flood(from: PodPlace, to: PodPlace): void {
  const script = `const s=require("node:dgram").createSocket("udp4");const b=Buffer.alloc(1200);let n=0;s.connect(9,${JSON.stringify(to.address)},function next(){if(n++===4000)return s.close();s.send(b,()=>next())})`;
  lab.exec(from.space, process.execPath, "-e", script);
}

const shapers = (): string[] =>
  lab
    .exec(node.netns, "tc", "-s", "qdisc", "show")
    .split("qdisc ")
    .filter((text) => text.startsWith("tbf ca11:"));
const rate = (text: string): string => /rate (\S+)/.exec(text)?.[1] ?? "";
const dropped = (device: string): number =>
  Number(/dropped (\d+)/.exec(shapers().find((text) => text.includes(`dev ${device}`)) ?? "")?.[1]);

test("bandwidth annotations: shapers in both directions, from the first packet, followed live, repaired, and gone with the pod", {
  timeout: 240_000,
}, async () => {
  await node.startAgent();
  const limited = await addPod("limited", {
    "qos.projectcalico.org/ingressBandwidth": "1M",
    "qos.projectcalico.org/ingressBurst": "800k",
    "kubernetes.io/egress-bandwidth": "2M",
    "qos.projectcalico.org/egressBurst": "800k",
  });
  const free = await addPod("free");
  const [own = "", helper = ""] = shapers().map((text) => /dev (\S+)/.exec(text)?.[1] ?? "");
  expect([own, helper]).toEqual([expect.stringMatching(/^cali/), expect.stringMatching(/^bw/)]);
  expect(shapers().map(rate)).toEqual(["1Mbit", "2Mbit"]);
  flood(free, limited);
  expect(dropped(own)).toBeGreaterThan(0);
  expect(dropped(helper)).toBe(0);
  flood(limited, free);
  expect(dropped(helper)).toBeGreaterThan(0);
  expect(lab.pings(limited.space, free.address, { count: 5 })).toBe(true);

  const annotate = (annotations: Readonly<Record<string, string | null>>): Promise<unknown> =>
    node.client.patch("Pod", { namespace: "default", name: "limited" }, { metadata: { annotations } });
  await annotate({ "qos.projectcalico.org/ingressBandwidth": "5M", "qos.projectcalico.org/ingressPeakrate": "6M" });
  await eventually("the new rate", () => shapers().map(rate).includes("5Mbit"), 60_000);
  // One packet at a time at the peak's rate, whatever the burst is.
  expect(shapers().join()).toMatch(/peakrate 6Mbit minburst 1[45]\d\db/);

  // Behind the agent's back, and while there is none.
  lab.ip(node.netns, `link del ${helper}`);
  await eventually("the helper is back", () => shapers().map(rate).includes("2Mbit"), 60_000);
  await node.killAgent();
  const none = ["Bandwidth", "Burst", "Peakrate"].map((limit) => [`qos.projectcalico.org/ingress${limit}`, null]);
  await annotate(Object.fromEntries(none));
  await node.startAgent();
  await eventually("one direction is free", () => shapers().map(rate).join() === "2Mbit", 60_000);
  expect(lab.pings(limited.space, free.address, { count: 5 })).toBe(true);

  const del = { command: "DEL", containerId: "c-limited", pod: "limited", netns: lab.path(limited.space) } as const;
  expect(await node.cni(del)).toMatchObject({ code: 0 });
  await eventually("nothing is left", () => shapers().length === 0, 60_000);
  expect(lab.ip(node.netns, "-o link show type ifb")).toBe("");
});

test("floating addresses and limits: from the first packet, followed live and over a restart, gone with the pod", {
  timeout: 240_000,
}, async () => {
  const env = { FELIX_FLOATINGIPS: "Enabled" };
  await node.startAgent(env);
  const held = await addPod(
    "held",
    {
      "cni.projectcalico.org/floatingIPs": '["192.0.2.7"]',
      "qos.projectcalico.org/ingressMaxConnections": "1",
      "qos.projectcalico.org/egressPacketRate": "9000",
      "qos.projectcalico.org/dscp": "AF11",
    },
    { feature_control: { floating_ips: true } },
  );
  const free = await addPod("free");
  await lab.serve(held.space, 7070);
  const attempt = (address: string): string => {
    const script = `const s=require("node:net").connect(7070,"${address}",()=>{console.log("open");s.destroy()});s.setTimeout(1000,()=>s.destroy(new Error("silent")));s.on("error",e=>console.log(e.code??e.message))`;
    return lab.exec(free.space, process.execPath, "-e", script).trim();
  };
  const hold = `require("node:net").connect(7070,"192.0.2.7",()=>console.log("open"))`;
  await lab.start(free.space, [process.execPath, "-e", hold], "open");
  expect(attempt("192.0.2.7")).toBe("ECONNREFUSED");
  const table = (): string => lab.nft(node.netns, "list table inet calico");
  expect(table()).toContain("limit rate over 9000/second");
  expect(table()).toContain("dscp set af11");

  const annotate = (annotations: Readonly<Record<string, string | null>>): Promise<unknown> =>
    node.client.patch("Pod", { namespace: "default", name: "held" }, { metadata: { annotations } });
  await annotate({
    "cni.projectcalico.org/floatingIPs": '["192.0.2.8"]',
    "qos.projectcalico.org/ingressMaxConnections": null,
    "qos.projectcalico.org/dscp": "64",
  });
  await eventually("the new address, and no limit", () => attempt("192.0.2.8") === "open", 60_000);
  expect(attempt("192.0.2.7")).not.toBe("open");
  expect(table()).not.toContain("dscp");

  await node.killAgent();
  await annotate({
    "cni.projectcalico.org/floatingIPs": '["192.0.2.7"]',
    "qos.projectcalico.org/egressPacketRate": null,
  });
  await node.startAgent(env);
  await eventually("the first address again", () => attempt("192.0.2.7") === "open", 60_000);
  expect(table()).not.toMatch(/limit|192\.0\.2\.8/);

  const del = { command: "DEL", containerId: "c-held", pod: "held", netns: lab.path(held.space) } as const;
  expect(await node.cni(del)).toMatchObject({ code: 0 });
  await eventually("nothing is left", () => !table().includes("floating"), 60_000);
  expect(lab.ip(node.netns, "route show")).not.toContain("192.0.2.");
});
