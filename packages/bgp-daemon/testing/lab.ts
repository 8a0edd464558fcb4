/**
 * Namespaces on one LAN, for speakers that talk to each other: station n has 192.0.2.n, 2001:db8::n and fe80::n on eth0. Each station's loopback has 172.16.n.1 and
 * fd00:n::1, which are what stations announce and ping.
 */
import { execFileSync } from "node:child_process";
import { createNamespace, deleteNamespace, type Kernel, openKernel, ping } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { errorText } from "@calico-ts/std";

export interface Station {
  readonly number: number;
  readonly name: string;
  readonly netns: string;
  readonly kernel: Kernel;
  readonly address: string;
  readonly address6: string;
  readonly linkLocal: string;
}

export class Lab implements Disposable {
  readonly stations: readonly Station[];
  readonly #switch: string;

  constructor(label: string, count: number) {
    const prefix = `ct-${process.pid}-${label}`;
    this.#switch = `${prefix}-lan`;
    createNamespace(this.#switch);
    ip("-n", this.#switch, "link", "add", "lan", "type", "bridge");
    ip("-n", this.#switch, "link", "set", "lan", "up");
    this.stations = Array.from({ length: count }, (_, index) => this.#station(prefix, index + 1));
  }

  /** Station number n, from 1. */
  station(n: number): Station {
    const station = this.stations[n - 1];
    if (station === undefined) throw new RangeError(`the lab has no station ${n}`);
    return station;
  }

  #station(prefix: string, number: number): Station {
    const name = `${prefix}-${number}`;
    const netns = createNamespace(name);
    const addresses = { address: `192.0.2.${number}`, address6: `2001:db8::${number}`, linkLocal: `fe80::${number}` };
    ip("link", "add", `port${number}`, "netns", this.#switch, "type", "veth", "peer", "name", "eth0", "netns", name);
    ip("-n", this.#switch, "link", "set", `port${number}`, "master", "lan", "up");
    // Without addresses that the kernel makes up, the ones below are all there are.
    ip("-n", name, "link", "set", "eth0", "addrgenmode", "none");
    for (const [address, device] of [
      [`${addresses.address}/24`, "eth0"],
      [`${addresses.address6}/64`, "eth0"],
      [`${addresses.linkLocal}/64`, "eth0"],
      [`172.16.${number}.1/32`, "lo"],
      [`fd00:${number}::1/128`, "lo"],
    ] as const) {
      ip("-n", name, "addr", "add", address, "dev", device, ...(address.includes(":") ? ["nodad"] : []));
    }
    ip("-n", name, "link", "set", "eth0", "up");
    const kernel = openKernel({ netns });
    kernel.sysctl.set("net.ipv6.conf.all.forwarding", "1");
    kernel.sysctl.set("net.ipv4.ip_forward", "1");
    return { number, name, netns, kernel, ...addresses };
  }

  [Symbol.dispose](): void {
    for (const { kernel, name } of this.stations) {
      kernel[Symbol.dispose]();
      deleteNamespace(name);
    }
    deleteNamespace(this.#switch);
  }
}

export const ip = (...args: readonly string[]): string =>
  execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

/** Pings one after the other until stopped, each with plenty of time to come back: what is lost is lost, and not merely late. */
export class Traffic {
  readonly #from: Station;
  readonly #to: string;
  #running = true;
  readonly #done: Promise<void>;
  answered = 0;
  readonly lost: string[] = [];

  constructor(from: Station, to: string) {
    this.#from = from;
    this.#to = to;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }

  async #run(): Promise<void> {
    const target = { netns: this.#from.netns, address: parseAddress(this.#to), timeoutMs: 10_000 };
    while (this.#running) {
      try {
        await ping(target);
        this.answered++;
      } catch (error) {
        this.lost.push(`${new Date().toISOString()} ${errorText(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
