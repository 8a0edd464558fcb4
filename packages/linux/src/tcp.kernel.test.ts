import { closeSync, readSync, writeSync } from "node:fs";
import { type IpAddress, parseAddress } from "@calico-ts/net";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { awaitConnected, connectTcp, listenTcp } from "./sockets.ts";
import {
  type AcceptedTcp,
  acceptTcp,
  interfaceName,
  resetTcpTtl,
  setTcpPassword,
  setTcpTtl,
  type TcpTerms,
} from "./tcp.ts";
import { type ScratchNamespace, scratchNamespace } from "./testing/scratch.ts";

let here: ScratchNamespace;
let there: ScratchNamespace;

beforeAll(() => {
  here = scratchNamespace("tcp-a");
  there = scratchNamespace("tcp-b");
  here.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", there.name);
  for (const [at, last] of [
    [here, 1],
    [there, 2],
  ] as const) {
    at.run("ip", "addr", "add", `192.0.2.${last}/24`, "dev", "eth0");
    at.run("ip", "addr", "add", `2001:db8::${last}/64`, "dev", "eth0", "nodad");
    at.run("ip", "addr", "add", `fe80::${last}/64`, "dev", "eth0", "nodad");
    at.run("ip", "link", "set", "eth0", "up");
  }
});
afterAll(() => {
  here[Symbol.dispose]();
  there[Symbol.dispose]();
});

const eventually = { timeout: 20_000, interval: 20 };

/** A counter of TcpExt in /proc/net/netstat, as the namespace has it. */
function counter(at: ScratchNamespace, name: string): number {
  const [names = "", values = ""] = at.run("grep", "^TcpExt:", "/proc/self/net/netstat").split("\n");
  return Number(values.split(" ")[names.split(" ").indexOf(name)]);
}

/** A listener in `here`, and what has come in. */
class Accepting implements Disposable {
  readonly fd: number;
  readonly connections: AcceptedTcp[] = [];
  readonly address: IpAddress;
  readonly #accepting: Disposable;
  constructor(address: string) {
    this.address = parseAddress(address);
    this.fd = listenTcp({ netns: here.path, address: { ...this.address, value: 0n }, port: 1790, ttl: 255 });
    this.#accepting = acceptTcp(
      this.fd,
      (one) => this.connections.push(one),
      (error) => {
        throw error;
      },
    );
  }
  connect(
    terms: TcpTerms & { readonly device?: string; readonly source?: { readonly address: IpAddress } } = {},
  ): number {
    return connectTcp({ netns: there.path, address: this.address, port: 1790, ...terms });
  }
  /** Waits for both ends. */
  async join(
    terms: Parameters<Accepting["connect"]>[0] = {},
  ): Promise<{ readonly near: AcceptedTcp; readonly far: number }> {
    const far = this.connect(terms);
    await awaitConnected(far, 20_000);
    const near = await vi.waitFor(() => {
      const one = this.connections.shift();
      if (one === undefined) throw new Error("nothing has come in");
      return one;
    }, eventually);
    return { near, far };
  }
  [Symbol.dispose](): void {
    this.#accepting[Symbol.dispose]();
    for (const { fd } of this.connections) closeSync(fd);
  }
}

async function carries(from: number, to: number): Promise<void> {
  writeSync(from, "hello");
  const buffer = Buffer.alloc(5);
  await vi.waitFor(() => expect(readSync(to, buffer)).toBe(5), eventually);
  expect(buffer.toString()).toBe("hello");
}

const PEERS = { "192.0.2.1": "192.0.2.2", "2001:db8::1": "2001:db8::2" } as const;
const addresses = Object.keys(PEERS) as (keyof typeof PEERS)[];

describe.each(addresses)("a connection to %s", (address) => {
  const peer = parseAddress(PEERS[address]);

  test("with the same password on both ends stands; with another or none it does not", async () => {
    using listener = new Accepting(address);
    setTcpPassword(listener.fd, peer, "secret");
    const { near, far } = await listener.join({ password: "secret" });
    await carries(far, near.fd);
    await carries(near.fd, far);

    const [wrong, missing] = [counter(here, "TCPMD5Failure"), counter(here, "TCPMD5NotFound")];
    const others = [listener.connect({ password: "guess" }), listener.connect()];
    await vi.waitFor(() => {
      expect(counter(here, "TCPMD5Failure")).toBeGreaterThan(wrong);
      expect(counter(here, "TCPMD5NotFound")).toBeGreaterThan(missing);
    }, eventually);
    expect(listener.connections).toEqual([]);

    // The listener's new password is for new connections; the standing one keeps its own until it is given another.
    setTcpPassword(listener.fd, peer, "changed");
    await carries(far, near.fd);
    setTcpPassword(near.fd, peer, "changed");
    setTcpPassword(far, listener.address, "changed");
    await carries(far, near.fd);
    await carries(near.fd, far);
    const second = await listener.join({ password: "changed" });
    setTcpPassword(listener.fd, peer, undefined);
    setTcpPassword(listener.fd, peer, undefined);
    const third = await listener.join();
    for (const fd of [near.fd, far, ...others, second.far, second.near.fd, third.far, third.near.fd]) closeSync(fd);
  });

  test("from too far away is not heard", async () => {
    using listener = new Accepting(address);
    const { near, far } = await listener.join({ ttl: 64, minTtl: 255 });
    const dropped = counter(here, "TCPMinTTLDrop");
    setTcpTtl(near.fd, peer.family, { ttl: 255, minTtl: 255 });
    writeSync(far, "hello");
    await vi.waitFor(() => expect(counter(here, "TCPMinTTLDrop")).toBeGreaterThan(dropped), eventually);
    expect(() => readSync(near.fd, Buffer.alloc(5))).toThrow(/EAGAIN/);
    setTcpTtl(far, peer.family, { ttl: 255 });
    await vi.waitFor(() => expect(readSync(near.fd, Buffer.alloc(5))).toBe(5), eventually);
    resetTcpTtl(near.fd, peer.family);
    setTcpTtl(far, peer.family, { ttl: 1 });
    await carries(far, near.fd);
    closeSync(far);
    closeSync(near.fd);
  });
});

test("link-local peers come in by an interface", async () => {
  using listener = new Accepting("fe80::1");
  const { near, far } = await listener.join({ device: "eth0", source: { address: parseAddress("fe80::2") } });
  expect(near).toMatchObject({ address: parseAddress("fe80::2") });
  expect(interfaceName(listener.fd, near.link)).toBe("eth0");
  closeSync(far);
  closeSync(near.fd);
});

test("what cannot be is refused with a reason", () => {
  using listener = new Accepting("192.0.2.1");
  const peer = parseAddress("192.0.2.2");
  expect(() => setTcpPassword(listener.fd, peer, "")).toThrow("1 to 80 bytes, this one has 0");
  expect(() => setTcpPassword(listener.fd, peer, "é".repeat(41))).toThrow("this one has 82");
  expect(() => setTcpTtl(listener.fd, 4, { ttl: 0 })).toThrow("a TTL is 1 to 255, not 0");
  expect(() => setTcpPassword(listener.fd, parseAddress("2001:db8::2"), "x")).toThrow(/EINVAL/);
});
