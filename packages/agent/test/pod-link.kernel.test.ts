import { execFileSync } from "node:child_process";
import { createNamespace, deleteNamespace, openKernel } from "@calico-ts/linux";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkPodLink, createPodLink, deletePodLink, KernelPodLinks, podInterfaceName } from "../src/cni/pod-link.ts";
import type { PodLinkSpec } from "../src/cni/pod-link.ts";

const node = `ct-node-${process.pid}`;
const pods = [`ct-pod-a-${process.pid}`, `ct-pod-b-${process.pid}`];
const path = (name: string): string => `/run/netns/${name}`;
const ip = (netns: string, ...args: string[]): string =>
  execFileSync("ip", ["-n", netns, ...args], { encoding: "utf8" });

beforeEach(() => {
  for (const name of [node, ...pods]) createNamespace(name);
  ip(node, "link", "set", "lo", "up");
  execFileSync("ip", [
    "netns",
    "exec",
    node,
    "sysctl",
    "-qw",
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
  ]);
});
afterEach(() => {
  for (const name of [node, ...pods]) deleteNamespace(name);
});

const spec = (at: number, change: Partial<PodLinkSpec> = {}): PodLinkSpec => ({
  hostInterface: podInterfaceName("shop", `pod-${at}`),
  podInterface: "eth0",
  containerId: `container-${at}`,
  netns: path(pods[at] ?? ""),
  mtu: 1450,
  addresses: [parseAddress(`10.65.0.${at + 2}`), parseAddress(`fd00:65::${at + 2}`)],
  allowIpForwarding: false,
  ...change,
});

describe("the veth pair of a pod", () => {
  test("connects pods of a node that has no default route, on the first packet, over both families", () => {
    using kernel = openKernel({ netns: path(node) });
    createPodLink(kernel, spec(0));
    createPodLink(kernel, spec(1));
    for (const address of ["10.65.0.3", "fd00:65::3"]) {
      const output = execFileSync("ip", ["netns", "exec", pods[0] ?? "", "ping", "-c1", "-W1", address], {
        encoding: "utf8",
      });
      expect(output).toContain("1 received");
    }
  });

  test("is what upstream makes: names, MAC, addresses, routes", () => {
    using kernel = openKernel({ netns: path(node) });
    const mac = createPodLink(kernel, spec(0));
    const name = podInterfaceName("shop", "pod-0");
    expect(name).toMatch(/^cali[0-9a-f]{11}$/);
    expect(ip(node, "-o", "link", "show", name)).toContain("ee:ee:ee:ee:ee:ee");
    expect(ip(node, "-o", "link", "show", name)).toContain("mtu 1450");
    expect(ip(node, "route", "show", "10.65.0.2")).toMatch(new RegExp(`dev ${name} proto 80 scope link`));
    expect(ip(pods[0] ?? "", "-o", "link", "show", "eth0")).toContain(mac);
    expect(ip(pods[0] ?? "", "route")).toContain("default via 169.254.1.1 dev eth0");
    expect(ip(pods[0] ?? "", "-6", "route", "show", "default")).toContain("via fe80::ecee:eeff:feee:eeee dev eth0");
    expect(ip(pods[0] ?? "", "-o", "addr", "show", "eth0")).not.toContain("tentative");
  });

  test("leads no route to the target of a live migration, which has its address all the same", () => {
    using kernel = openKernel({ netns: path(node) });
    createPodLink(kernel, spec(0));
    // The machine moves within the node: both pods have its address, and what comes goes to the source.
    const target = spec(1, { addresses: spec(0).addresses, routed: false });
    createPodLink(kernel, target);
    expect(ip(node, "route", "show", "10.65.0.2")).toContain(podInterfaceName("shop", "pod-0"));
    expect(ip(node, "route")).not.toContain(target.hostInterface);
    expect(ip(pods[1] ?? "", "-o", "addr", "show", "eth0")).toContain("10.65.0.2/32");
    expect(checkPodLink(kernel, target)).toEqual([]);
    expect(checkPodLink(kernel, { ...target, routed: true })).not.toEqual([]);
  });

  test("forwards packets in the pod when the configuration says so, and not otherwise", () => {
    using kernel = openKernel({ netns: path(node) });
    const forwards = (pod: string): string =>
      execFileSync("ip", ["netns", "exec", pod, "cat", "/proc/sys/net/ipv4/ip_forward"], { encoding: "utf8" }).trim();
    createPodLink(kernel, spec(0));
    createPodLink(kernel, spec(1, { allowIpForwarding: true }));
    expect(pods.map(forwards)).toEqual(["0", "1"]);
  });

  test("has the routes and the queues that the configuration names", () => {
    using kernel = openKernel({ netns: path(node) });
    const routes = ["10.0.0.0/8", "fd00::/8"].map((text) => parsePrefix(text));
    const custom = spec(0, { routes, queues: 3 });
    createPodLink(kernel, custom);
    const [pod = ""] = pods;
    expect(ip(pod, "route")).toContain("10.0.0.0/8 via 169.254.1.1 dev eth0");
    expect(ip(pod, "-6", "route")).toContain("fd00::/8 via fe80::ecee:eeff:feee:eeee dev eth0");
    expect(ip(pod, "route") + ip(pod, "-6", "route")).not.toContain("default");
    for (const [netns, name] of [
      [node, custom.hostInterface],
      [pod, "eth0"],
    ] as const) {
      expect(ip(netns, "-d", "-o", "link", "show", name)).toContain("numtxqueues 3 numrxqueues 3");
    }
    expect(checkPodLink(kernel, custom)).toEqual([]);
    expect(checkPodLink(kernel, spec(0))).toEqual([
      "the pod has no route to 0.0.0.0/0",
      "the pod has no route to ::/0",
    ]);
  });

  test("is not made in the node's own namespace, nor in what is none", () => {
    using kernel = openKernel({ netns: path(node) });
    for (const netns of ["/proc/self/ns/net", "/etc/hostname", "/run/netns/nowhere"]) {
      expect(() => createPodLink(kernel, spec(0, { netns, podInterface: "ct-pod0" }))).toThrow(
        expect.objectContaining({ code: 4, message: expect.stringMatching(/^CNI_NETNS: .*\//) as string }),
      );
    }
    expect(ip(node, "link")).not.toContain("cali");
  });

  test("takes over a route to its address that an earlier pod left", () => {
    using kernel = openKernel({ netns: path(node) });
    createPodLink(kernel, spec(1, { addresses: [parseAddress("10.65.0.2")] }));
    createPodLink(kernel, spec(0));
    const name = podInterfaceName("shop", "pod-0");
    expect(ip(node, "route", "show", "10.65.0.2").trim().split("\n")).toEqual([
      expect.stringContaining(`10.65.0.2 dev ${name} proto 80`),
    ]);
  });

  test("is replaced by the pod's next sandbox, and the old sandbox's DEL leaves the new one alone", () => {
    using kernel = openKernel({ netns: path(node) });
    createPodLink(kernel, spec(0, { containerId: "old" }));
    createPodLink(kernel, spec(0, { containerId: "new", netns: path(pods[1] ?? "") }));
    const name = podInterfaceName("shop", "pod-0");
    expect(deletePodLink(kernel, name, "old")).toBe(false);
    expect(kernel.links.get(name)?.alias).toBe("new");
    expect(deletePodLink(kernel, name, "new")).toBe(true);
    expect(deletePodLink(kernel, name, "new")).toBe(false);
  });

  test("half made, without its owner's name, belongs to whoever has its other end", () => {
    using kernel = openKernel({ netns: path(node) });
    createPodLink(kernel, spec(0));
    const name = podInterfaceName("shop", "pod-0");
    ip(node, "link", "set", name, "alias", "");
    const links = new KernelPodLinks(kernel);
    expect(links.delete(name, "c", path(pods[1] ?? ""))).toBe(false);
    expect(links.delete(name, "c", "/run/netns/nowhere")).toBe(false);
    expect(links.podEnd(name, "c", path(pods[0] ?? ""))?.name).toBe("eth0");
    expect(links.delete(name, "c", path(pods[0] ?? ""))).toBe(true);
  });

  test("that cannot be made leaves nothing", () => {
    using kernel = openKernel({ netns: path(node) });
    expect(() => createPodLink(kernel, spec(0, { netns: "/run/netns/nowhere" }))).toThrow(
      expect.objectContaining({ code: 4 }),
    );
    ip(pods[0] ?? "", "link", "add", "eth0", "type", "bridge");
    expect(() => createPodLink(kernel, spec(0))).toThrow(
      expect.objectContaining({ code: 4, message: expect.stringContaining("already an interface eth0") }),
    );
    expect(kernel.links.list({ kind: "veth" })).toEqual([]);
  });

  test("is checked: every piece that is missing is named", () => {
    using kernel = openKernel({ netns: path(node) });
    createPodLink(kernel, spec(0));
    expect(checkPodLink(kernel, spec(0))).toEqual([]);
    ip(node, "route", "del", "10.65.0.2");
    ip(pods[0] ?? "", "route", "del", "default");
    expect(checkPodLink(kernel, spec(0))).toEqual([
      `no route to 10.65.0.2 through ${spec(0).hostInterface}`,
      "the pod has no route to 0.0.0.0/0",
    ]);
    expect(checkPodLink(kernel, spec(0, { containerId: "other" }))[0]).toContain("belongs to another sandbox");
    expect(checkPodLink(kernel, spec(1))[0]).toContain("is gone");
    expect(checkPodLink(kernel, spec(0, { mac: "02:00:00:00:00:07" })).at(-2)).toContain("not 02:00:00:00:00:07");
    createPodLink(kernel, spec(1));
    expect(checkPodLink(kernel, spec(0, { netns: spec(1).netns }))).toEqual([
      expect.stringContaining("no route to 10.65.0.2"),
      `eth0 is not the other end of ${spec(0).hostInterface}`,
      "eth0 lost the address 10.65.0.2",
      "eth0 lost the address fd00:65::2",
    ]);
  });
});
