/** Namespaces, sockets and programs in them, conntrack, with `ip netns` and real packets as witnesses. */
import { execFileSync, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, readlinkSync, statSync, writeSync } from "node:fs";
import { createServer, Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { addressAt, parseAddress, parsePrefix } from "@calico-ts/net";
import { accept, type NftTable, rule } from "@calico-ts/netlink";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  createNamespace,
  deleteNamespace,
  inNamespace,
  listNamespaces,
  namespaceExists,
  namespaceInode,
  namespacePath,
} from "./namespace.ts";
import { startProgram } from "./process.ts";
import { awaitConnected, bindUdp, connectTcp, connectUdp, listenTcp, localEndpoint } from "./sockets.ts";
import { openEchoSocket, ping } from "./echo.ts";
import { scratchNamespace } from "./testing/scratch.ts";

const here = (): string => readlinkSync("/proc/thread-self/ns/net");

describe("namespaces", () => {
  const name = `ct-${process.pid}-life`;

  test("made, seen by `ip netns`, entered, deleted", () => {
    const path = createNamespace(name);
    try {
      expect(path).toBe(namespacePath(name));
      expect(listNamespaces()).toContain(name);
      expect(execFileSync("ip", ["netns", "list"], { encoding: "utf8" })).toContain(name);
      const before = here();
      const inside = inNamespace(path, here);
      expect(inside).toBe(`net:[${statSync(path).ino}]`);
      expect(inside).not.toBe(before);
      expect(here()).toBe(before);
      expect(namespaceInode(path)).toMatch(/^\d+:\d+$/);
      expect(execFileSync("ip", ["netns", "exec", name, "ip", "-br", "link"], { encoding: "utf8" })).toMatch(
        /lo\s+UNKNOWN/,
      );
      expect(() => createNamespace(name)).toThrow(expect.objectContaining({ code: "ALREADY_EXISTS" }));
    } finally {
      expect(deleteNamespace(name)).toBe(true);
    }
    expect(namespaceExists(name)).toBe(false);
    expect(deleteNamespace(name)).toBe(false);
  });

  test("those that `ip netns` made are ours to enter and delete, and the other way round", () => {
    execFileSync("ip", ["netns", "add", name]);
    expect(inNamespace(namespacePath(name), here)).not.toBe(here());
    expect(deleteNamespace(name)).toBe(true);
    createNamespace(name, { loopback: false });
    execFileSync("ip", ["netns", "del", name]);
    expect(namespaceExists(name)).toBe(false);
  });

  test("a name that is none is refused before anything happens", () => {
    for (const bad of ["", "a/b", "..", "-x", "a b"]) {
      expect(() => createNamespace(bad)).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
    }
  });

  test("entering nests, survives exceptions and refuses promises", () => {
    using outer = scratchNamespace("nest");
    using inner = scratchNamespace("nest");
    const start = here();
    const seen = inNamespace(outer.path, () => {
      const first = here();
      const second = inNamespace(inner.path, here);
      return [first, second, here()];
    });
    expect(seen[0]).toBe(seen[2]);
    expect(seen[1]).not.toBe(seen[0]);
    const failing = (): never => {
      throw new TypeError("on purpose");
    };
    expect(() => inNamespace(outer.path, failing)).toThrow(TypeError);
    expect(here()).toBe(start);
    expect(() => inNamespace(outer.path, () => Promise.resolve(1))).toThrow(/synchronous/);
    expect(here()).toBe(start);
    expect(() => inNamespace("/run/netns/ct-not-there", here)).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
  });
});

describe("two namespaces and a wire", () => {
  const left = scratchNamespace("wire");
  const right = scratchNamespace("wire");
  const address = {
    left: parseAddress("10.0.0.1"),
    right: parseAddress("10.0.0.2"),
    left6: parseAddress("fd00::1"),
    right6: parseAddress("fd00::2"),
  };

  beforeAll(() => {
    const fd = openSync(right.path, "r");
    left.kernel.links.create({ kind: "veth", name: "w", up: true, peer: { name: "w", up: true, namespaceFd: fd } });
    closeSync(fd);
    for (const [side, v4, v6] of [
      [left, address.left, address.left6],
      [right, address.right, address.right6],
    ] as const) {
      const link = side.kernel.links.get("w")?.index ?? 0;
      side.kernel.addresses.add({ link, address: v4, prefixLength: 24 });
      side.kernel.addresses.add({ link, address: v6, prefixLength: 64, noDad: true });
    }
    // Connections are only tracked where a rule asks for it.
    const table: NftTable = { family: "inet", name: "track" };
    return right.kernel.nft.apply([
      { do: "add-table", table },
      {
        do: "add-chain",
        table,
        chain: { name: "c", base: { type: "filter", hook: "input", priority: 0, policy: "accept" } },
      },
      {
        do: "add-rule",
        table,
        chain: "c",
        rule: rule([
          { kind: "ct", key: "state", dreg: 1 },
          { kind: "cmp", op: "neq", sreg: 1, data: new Uint8Array(4) },
          ...accept(),
        ]),
      },
    ]);
  });
  afterAll(() => {
    left[Symbol.dispose]();
    right[Symbol.dispose]();
  });

  test("ping", async () => {
    expect(await ping({ netns: left.path, address: address.right, timeoutMs: 2000 })).toBeLessThan(2000);
    expect(await ping({ netns: left.path, address: address.right6, timeoutMs: 2000 })).toBeLessThan(2000);
    await expect(ping({ netns: left.path, address: parseAddress("10.0.0.77"), timeoutMs: 50 })).rejects.toMatchObject({
      code: "TIMEOUT",
    });
    await expect(ping({ netns: left.path, address: parseAddress("192.0.2.1"), timeoutMs: 50 })).rejects.toMatchObject({
      detail: { errnoName: "ENETUNREACH" },
    });
    const together = Array.from({ length: 20 }, () =>
      ping({ netns: left.path, address: address.right, timeoutMs: 2000 }),
    );
    expect(await Promise.all(together)).toHaveLength(20);
  });

  test.each(["right", "right6"] as const)(
    "an echo socket asks %s many things before it looks at answers",
    async (to) => {
      using socket = openEchoSocket({ netns: left.path, family: address[to].family });
      for (let sequence = 0; sequence < 50; sequence++) {
        expect(
          socket.send(address[to], { id: 7 + (sequence & 1), sequence, payload: Uint8Array.of(sequence, 9) }),
        ).toBe(true);
      }
      const found: unknown[] = [];
      await vi.waitFor(() => {
        for (let reply = socket.receive(); reply !== undefined; reply = socket.receive()) {
          found.push({ ...reply, payload: [...reply.payload] });
        }
        expect(found).toHaveLength(50);
      }, 10_000);
      const wanted = Array.from({ length: 50 }, (_, n) => ({ id: 7 + (n & 1), sequence: n, payload: [n, 9] }));
      expect(found).toEqual(wanted);
      expect(
        socket.send(parseAddress(to === "right" ? "192.0.2.1" : "2001:db8::1"), {
          id: 1,
          sequence: 1,
          payload: new Uint8Array(),
        }),
      ).toBe(false);
    },
  );

  test.each(["right", "right6"] as const)(
    "TCP to %s: a server there, a client here, this process in neither",
    async (to) => {
      const fd = listenTcp({
        netns: right.path,
        address: to === "right" ? parseAddress("0.0.0.0") : parseAddress("::"),
        port: 0,
      });
      const { port } = localEndpoint(fd);
      const server = createServer((socket) => socket.end(`hello ${socket.remoteAddress}`)).listen({ fd });
      const client = connectTcp({ netns: left.path, address: address[to], port });
      await awaitConnected(client, 2000);
      const answer = await text(new Socket({ fd: client, readable: true, writable: true }));
      expect(answer).toBe(`hello ${to === "right" ? "10.0.0.1" : "fd00::1"}`);
      server.close();
      await once(server, "close");
    },
  );

  test("TCP refused, unanswered, unroutable, from a source address", async () => {
    const refused = connectTcp({
      netns: left.path,
      address: address.right,
      port: 1,
      source: { address: address.left },
    });
    await expect(awaitConnected(refused, 2000)).rejects.toMatchObject({
      code: "KERNEL",
      detail: { errnoName: "ECONNREFUSED" },
    });
    closeSync(refused);
    const silent = connectTcp({ netns: left.path, address: parseAddress("10.0.0.88"), port: 1 });
    await expect(awaitConnected(silent, 50)).rejects.toMatchObject({ code: "TIMEOUT" });
    closeSync(silent);
    expect(() => connectTcp({ netns: left.path, address: parseAddress("192.0.2.1"), port: 1 })).toThrow(/ENETUNREACH/);
    expect(() => listenTcp({ netns: left.path, address: parseAddress("192.0.2.1"), port: 1 })).toThrow(/EADDRNOTAVAIL/);
    for (const address of ["192.0.2.1", "2001:db8::1"]) {
      closeSync(listenTcp({ netns: left.path, address: parseAddress(address), port: 1, freeBind: true }));
    }
  });

  test("UDP both ways", async () => {
    const server = createSocket("udp4");
    server.bind({ fd: bindUdp({ netns: right.path, address: address.right, port: 53 }) });
    server.on("message", (message, from) => server.send(`re: ${message.toString()}`, from.port, from.address));
    const client = createSocket("udp4");
    client.bind({ fd: bindUdp({ netns: left.path, address: parseAddress("0.0.0.0"), port: 0, device: "w" }) });
    client.send("question", 53, "10.0.0.2");
    const [answer] = (await once(client, "message")) as [Buffer];
    expect(answer.toString()).toBe("re: question");
    server.close();
    client.close();
    const connected = connectUdp({ netns: left.path, address: address.right, port: 53 });
    expect(localEndpoint(connected).address).toEqual(address.left);
    closeSync(connected);
  });

  test("conntrack: flows are listed, and those of an address are forgotten", () => {
    const { conntrack } = right.kernel;
    const flows = conntrack.list({ address: address.left });
    expect(flows).toContainEqual(
      expect.objectContaining({ protocol: 17, source: address.left, destination: address.right, destinationPort: 53 }),
    );
    expect(flows.length).toBe(
      right
        .run("conntrack", "-L")
        .trim()
        .split("\n")
        .filter((line) => line.includes("10.0.0.1")).length,
    );
    expect(conntrack.list({ address: address.left6, family: 6 }).length).toBeGreaterThan(0);
    expect(conntrack.delete({ addresses: [] })).toBe(0);
    const unused = parseAddress("192.0.2.99");
    expect(conntrack.delete({ addresses: [unused, address.left] })).toBe(flows.length);
    expect(conntrack.list({ address: address.left })).toEqual([]);
    expect(right.run("conntrack", "-L")).not.toContain("10.0.0.1");
    expect(conntrack.list({ address: address.left6 }).length).toBeGreaterThan(0);
    // Nothing of theirs, by request and by a walk; then what there is of the other family.
    conntrack.forget([unused, address.left]);
    conntrack.forget(Array.from({ length: 40 }, (_, at) => addressAt(parsePrefix("192.0.2.0/24"), at)));
    expect(conntrack.list({ address: address.left6 }).length).toBeGreaterThan(0);
    conntrack.forget([unused, address.left6]);
    expect(conntrack.list({ address: address.left6 })).toEqual([]);
  });

  test("conntrack: a connection is forgotten by whichever of its four ends an address is at", () => {
    const { conntrack } = left.kernel;
    left.run("nft", "add table ip rewrite");
    left.run("nft", "add chain ip rewrite out { type nat hook output priority -100; }");
    left.run("nft", "add chain ip rewrite post { type nat hook postrouting priority 100; }");
    left.run("nft", `add rule ip rewrite out ip daddr 192.0.2.1 dnat to 10.0.0.2`);
    left.run("nft", `add rule ip rewrite post ip daddr 10.0.0.2 udp dport 99 snat to 192.0.2.7`);
    left.run("ip", "route", "add", "192.0.2.1/32", "dev", "w");
    // Original 10.0.0.1 → 192.0.2.1, reply 10.0.0.2 → 192.0.2.7.
    for (const address of ["10.0.0.1", "192.0.2.1", "10.0.0.2", "192.0.2.7"].map(parseAddress)) {
      const fd = connectUdp({ netns: left.path, address: parseAddress("192.0.2.1"), port: 99 });
      writeSync(fd, "x");
      closeSync(fd);
      expect(conntrack.list({ address: parseAddress("192.0.2.7") })).toHaveLength(1);
      conntrack.forget([address]);
      expect(conntrack.list({ address: parseAddress("192.0.2.7") })).toEqual([]);
    }
    left.run("nft", "delete table ip rewrite");
  });

  test("programs are born in the namespace", async () => {
    const program = startProgram("ip", ["-j", "addr", "show", "w"], {
      netns: left.path,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const output = program.stdout === null ? "" : await text(program.stdout);
    expect(output).toContain("10.0.0.1");
    const missing = startProgram("ct-no-such-program", [], { netns: left.path });
    const [error] = (await once(missing, "error")) as [NodeJS.ErrnoException];
    expect(error.code).toBe("ENOENT");
  });

  test("a program can be made to die with its parent, however that ends", async () => {
    const parent = `
      import { startProgram } from ${JSON.stringify(new URL("process.ts", import.meta.url).href)};
      const child = startProgram("sleep", ["300"], { netns: ${JSON.stringify(left.path)}, dieWithParent: true, stdio: "ignore" });
      // The signal is armed by the time the program has been replaced.
      const { readFileSync } = await import("node:fs");
      while (readFileSync("/proc/" + child.pid + "/comm", "utf8").trim() !== "sleep") await new Promise((resolve) => setTimeout(resolve, 5));
      process.stdout.write(String(child.pid), () => process.kill(process.pid, "SIGKILL"));
    `;
    const args = ["--conditions=calico-src", "--input-type=module", "--experimental-strip-types", "-e", parent];
    const { stdout, signal } = spawnSync(process.execPath, args, { encoding: "utf8", cwd: import.meta.dirname });
    expect(signal).toBe("SIGKILL");
    const pid = Number(stdout);
    expect(pid).toBeGreaterThan(1);
    const state = (): string => {
      try {
        return /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "?";
      } catch {
        return "gone";
      }
    };
    for (let tries = 0; tries < 100 && !["gone", "Z"].includes(state()); tries++) await sleep(20);
    expect(["gone", "Z"]).toContain(state());
  });
});
