/**
 * Three pods on one node and a neighbour outside, as namespaces with real interfaces. `ip` builds it: it is the test's tool,
 * not the product's. Disposing it removes everything.
 */
import { execFileSync } from "node:child_process";
import { closeSync } from "node:fs";
import { hostInterfaceName } from "@calico-ts/model";
import { parseAddress } from "@calico-ts/net";
import type { Kernel } from "@calico-ts/linux";
import { awaitConnected, connectTcp, listenTcp, namespacePath, openKernel, ping } from "@calico-ts/linux";

export interface LabPod {
  readonly namespace: string;
  readonly name: string;
  readonly address: string;
  readonly address6: string;
}

export const LAB_PODS: readonly LabPod[] = [
  { namespace: "a", name: "p0", address: "10.0.0.1", address6: "fd00::1" },
  { namespace: "a", name: "p1", address: "10.0.0.2", address6: "fd00::2" },
  { namespace: "b", name: "p2", address: "10.0.1.1", address6: "fd00::1:1" },
];
export const OUTSIDE = "192.0.2.2";
export const NODE_ADDRESS = "192.0.2.1";

export class PacketLab implements Disposable {
  readonly kernel: Kernel;
  readonly #prefix: string;
  readonly #fds: number[] = [];

  constructor(prefix: string) {
    this.#prefix = prefix;
    for (const place of ["node", "out", ...LAB_PODS.map(({ name }) => name)]) ip("netns", "add", this.#name(place));
    const node = this.#name("node");
    ip("-n", node, "link", "set", "lo", "up");
    this.#sysctl(node, "net.ipv4.ip_forward=1");
    this.#sysctl(node, "net.ipv6.conf.all.forwarding=1");
    ip("link", "add", "eth0", "netns", node, "type", "veth", "peer", "name", "eth0", "netns", this.#name("out"));
    ip("-n", node, "addr", "add", `${NODE_ADDRESS}/24`, "dev", "eth0");
    ip("-n", node, "link", "set", "eth0", "up");
    // Proxy ARP answers for 169.254.1.1 only when the node has a route to it elsewhere, as every node with a default route has.
    ip("-n", node, "route", "add", "default", "via", OUTSIDE);
    ip("-n", this.#name("out"), "addr", "add", `${OUTSIDE}/24`, "dev", "eth0");
    ip("-n", this.#name("out"), "link", "set", "eth0", "up");
    // The neighbour knows the way to one pod only: whoever else gets an answer was masqueraded.
    ip("-n", this.#name("out"), "route", "add", "10.0.1.1/32", "via", NODE_ADDRESS);
    for (const pod of LAB_PODS) this.#addPod(pod);
    this.kernel = openKernel({ netns: namespacePath(node) });
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) closeSync(fd);
    this.kernel[Symbol.dispose]();
    for (const place of ["node", "out", ...LAB_PODS.map(({ name }) => name)]) ip("netns", "delete", this.#name(place));
  }

  /** `where`: a pod's name, `node` or `out`. */
  netns(where: string): string {
    return namespacePath(this.#name(where));
  }

  exec(where: string, ...command: readonly string[]): string {
    return execFileSync("ip", ["netns", "exec", this.#name(where), ...command], { encoding: "utf8" });
  }

  listen(where: string, port: number, any: "0.0.0.0" | "::" = "0.0.0.0"): void {
    this.#fds.push(listenTcp({ netns: this.netns(where), address: parseAddress(any), port, backlog: 512 }));
  }

  async connects(where: string, address: string, port: number, timeoutMs = 250): Promise<boolean> {
    const fd = connectTcp({ netns: this.netns(where), address: parseAddress(address), port });
    try {
      await awaitConnected(fd, timeoutMs);
      return true;
    } catch {
      return false;
    } finally {
      closeSync(fd);
    }
  }

  async pings(where: string, address: string, timeoutMs = 250): Promise<boolean> {
    try {
      await ping({ netns: this.netns(where), address: parseAddress(address), timeoutMs });
      return true;
    } catch {
      return false;
    }
  }

  #addPod({ namespace, name, address, address6 }: LabPod): void {
    const node = this.#name("node");
    const link = hostInterfaceName(namespace, name);
    ip("link", "add", link, "netns", node, "type", "veth", "peer", "name", "eth0", "netns", this.#name(name));
    this.#sysctl(node, `net.ipv4.conf.${link}.proxy_arp=1`);
    this.#sysctl(node, `net.ipv4.neigh.${link}.proxy_delay=0`);
    ip("-n", node, "link", "set", link, "up");
    ip("-n", node, "route", "add", `${address}/32`, "dev", link);
    ip("-n", this.#name(name), "addr", "add", `${address}/32`, "dev", "eth0");
    ip("-n", this.#name(name), "link", "set", "eth0", "up");
    ip("-n", this.#name(name), "route", "add", "169.254.1.1", "dev", "eth0");
    ip("-n", this.#name(name), "route", "add", "default", "via", "169.254.1.1", "dev", "eth0");
    ip("-n", node, "addr", "add", "fe80::1/64", "dev", link, "nodad");
    ip("-n", node, "route", "add", `${address6}/128`, "dev", link);
    ip("-n", this.#name(name), "addr", "add", `${address6}/128`, "dev", "eth0", "nodad");
    ip("-n", this.#name(name), "route", "add", "default", "via", "fe80::1", "dev", "eth0");
  }

  #sysctl(netns: string, setting: string): void {
    execFileSync("ip", ["netns", "exec", netns, "sysctl", "-qw", setting]);
  }

  #name(place: string): string {
    return `${this.#prefix}-${place}`;
  }
}

const ip = (...args: readonly string[]): void => {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
};
