/**
 * A small real network for kernel tests: a node's namespace in the middle, pods' namespaces around it, one veth each.
 *
 * Pod n has 10.77.0.n/32 (and fd77::n) and reaches everything through the node, as Calico's pods do. Made with `ip`, which is
 * an independent witness here.
 */
import { execFileSync } from "node:child_process";

let sequence = 0;

export interface StarPod {
  readonly name: string;
  readonly netns: string;
  readonly ip: string;
  readonly ip6: string;
}

export class Star implements Disposable {
  readonly node: { readonly name: string; readonly netns: string; readonly ip: string };
  readonly #prefix: string;
  readonly #namespaces: string[] = [];

  constructor() {
    sequence += 1;
    this.#prefix = `ct-${process.pid}-${sequence}`;
    const name = `${this.#prefix}-node`;
    this.#add(name);
    run(name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
    // An address for the node, and a default route, without which nothing is sent to a service address.
    run(name, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1");
    run(name, "ip", "link", "set", "up0", "up");
    run(name, "ip", "link", "set", "up1", "up");
    run(name, "ip", "addr", "add", "172.31.7.1/24", "dev", "up0");
    run(name, "ip", "route", "add", "default", "via", "172.31.7.254");
    this.node = { name, netns: `/run/netns/${name}`, ip: "172.31.7.1" };
  }

  pod(index: number): StarPod {
    const name = `${this.#prefix}-pod${index}`;
    this.#add(name);
    const [ip, ip6] = [`10.77.0.${index}`, `fd77::${index}`];
    const side = `v${index}`;
    run(name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", side, "netns", this.node.name);
    run(name, "ip", "addr", "add", `${ip}/32`, "dev", "eth0");
    run(name, "ip", "addr", "add", `${ip6}/128`, "dev", "eth0", "nodad");
    run(name, "ip", "link", "set", "eth0", "up");
    run(this.node.name, "ip", "addr", "add", "169.254.1.1/32", "dev", side);
    run(this.node.name, "ip", "addr", "add", "fe80::1/64", "dev", side, "nodad");
    run(this.node.name, "ip", "link", "set", side, "up");
    run(this.node.name, "ip", "route", "add", `${ip}/32`, "dev", side);
    run(this.node.name, "ip", "-6", "route", "add", `${ip6}/128`, "dev", side);
    run(name, "ip", "route", "add", "169.254.1.1", "dev", "eth0");
    run(name, "ip", "route", "add", "default", "via", "169.254.1.1");
    run(name, "ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0");
    return { name, netns: `/run/netns/${name}`, ip, ip6 };
  }

  [Symbol.dispose](): void {
    for (const name of this.#namespaces.toReversed()) execFileSync("ip", ["netns", "del", name]);
  }

  #add(name: string): void {
    execFileSync("ip", ["netns", "add", name]);
    this.#namespaces.push(name);
    run(name, "ip", "link", "set", "lo", "up");
  }
}

export function run(namespace: string, ...command: readonly string[]): string {
  return execFileSync("ip", ["netns", "exec", namespace, ...command], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}
