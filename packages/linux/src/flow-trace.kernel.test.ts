/** Real packets through real rules, seen step by step; and the tracer's table, which nobody has to sweep. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { hostPrefix, parseAddress } from "@calico-ts/net";
import {
  accept,
  counter,
  drop,
  jump,
  matchDestinationPort,
  matchProtocol,
  type NftCommand,
  rule,
} from "@calico-ts/netlink";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { TracedPacket } from "./flow-trace.ts";
import { traceFlow } from "./flow-trace.ts";
import { ping } from "./echo.ts";
import { awaitConnected, connectTcp, listenTcp } from "./sockets.ts";
import { scratchNamespace } from "./testing/scratch.ts";

const client = scratchNamespace("trace");
const server = scratchNamespace("trace");
const CLIENT = parseAddress("10.66.1.1");
const SERVER = parseAddress("10.66.1.2");
const TCP = 6;
const table = { family: "inet", name: "judge" } as const;
let listener = -1;

beforeAll(async () => {
  const fd = openSync(server.path, "r");
  client.kernel.links.create({ kind: "veth", name: "c", up: true, peer: { name: "s", up: true, namespaceFd: fd } });
  closeSync(fd);
  for (const [side, link, address] of [
    [client, "c", CLIENT],
    [server, "s", SERVER],
  ] as const) {
    const index = side.kernel.links.get(link)?.index ?? 0;
    side.kernel.addresses.add({ link: index, address, prefixLength: 24 });
  }
  listener = listenTcp({ netns: server.path, address: parseAddress("0.0.0.0"), port: 80 });
  const port = (number: number) => [...matchProtocol(TCP), ...matchDestinationPort({ first: number, last: number })];
  const commands: NftCommand[] = [
    { do: "add-table", table },
    { do: "add-chain", table, chain: { name: "web" } },
    {
      do: "add-chain",
      table,
      chain: { name: "in", base: { type: "filter", hook: "input", priority: 0, policy: "accept" } },
    },
    { do: "add-rule", table, chain: "in", rule: rule([...port(80), ...jump("web")], "to web") },
    { do: "add-rule", table, chain: "in", rule: rule([...port(81), ...counter(), ...drop()], "closed") },
    { do: "add-rule", table, chain: "web", rule: rule([...port(82), ...drop()], "never") },
    { do: "add-rule", table, chain: "web", rule: rule([...counter(), ...accept()], "open") },
  ];
  await server.kernel.nft.apply(commands);
});
afterAll(() => {
  closeSync(listener);
  client[Symbol.dispose]();
  server[Symbol.dispose]();
});

const tables = async (): Promise<string[]> => (await server.kernel.nft.listTables()).map(({ name }) => name);
let packets: TracedPacket[] = [];
beforeEach(() => {
  packets = [];
});
const note = (packet: TracedPacket): void => void packets.push(packet);

async function connect(port: number, timeoutMs: number): Promise<boolean> {
  const fd = connectTcp({ netns: client.path, address: SERVER, port });
  try {
    await awaitConnected(fd, timeoutMs);
    return true;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}
const seen = (wanted: () => void): Promise<void> => vi.waitFor(wanted, { timeout: 20_000 });

test("every rule a packet meets, in order, with its comment; and where it came in", async () => {
  const pattern = { source: CLIENT, destination: SERVER, protocol: TCP, destinationPort: 80 };
  await using trace = await traceFlow({ netns: server.path, patterns: [pattern] }, note);
  expect(await connect(80, 20_000)).toBe(true);
  await seen(() => expect(packets.length).toBeGreaterThan(1));
  const [syn] = packets;
  expect(syn?.headers).toMatchObject({
    family: 4,
    source: CLIENT,
    destination: SERVER,
    destinationPort: 80,
    tcpFlags: 2,
  });
  expect(syn).toMatchObject({ input: "s", hooks: ["prerouting", "input"] });
  expect(syn?.steps.map(({ chain, comment, verdict }) => [chain, comment, verdict.kind])).toEqual([
    ["in", "to web", "jump"],
    ["web", "open", "accept"],
  ]);
  expect(trace.overruns).toBe(0);
});

test("a drop is the end, told at once; other flows are not traced", async () => {
  const patterns = [{ destination: SERVER, protocol: TCP, destinationPort: 81 }];
  await using _trace = await traceFlow({ netns: server.path, patterns }, note);
  expect(await connect(80, 20_000)).toBe(true);
  await connect(81, 50);
  await seen(() => expect(packets.length).toBeGreaterThan(0));
  expect(packets[0]?.steps.map(({ comment, verdict }) => [comment, verdict.kind])).toEqual([["closed", "drop"]]);
  expect(packets.every(({ headers }) => headers.destinationPort === 81)).toBe(true);
});

test("packets of this namespace's own are seen on their way out, and a rule that is replaced is read again", async () => {
  const icmp = { type: 8 };
  await using _trace = await traceFlow(
    { netns: client.path, patterns: [{ destination: SERVER, protocol: 1, icmp }] },
    note,
  );
  await ping({ netns: client.path, address: SERVER, timeoutMs: 20_000 });
  await seen(() => expect(packets).toHaveLength(1));
  expect(packets[0]).toMatchObject({
    headers: { icmp: { type: 8, code: 0 } },
    output: "c",
    hooks: ["output", "postrouting"],
    steps: [],
  });
  const own = { family: "inet", name: "later" } as const;
  await client.kernel.nft.apply([
    { do: "add-table", table: own },
    {
      do: "add-chain",
      table: own,
      chain: { name: "out", base: { type: "filter", hook: "output", priority: 0, policy: "accept" } },
    },
    { do: "add-rule", table: own, chain: "out", rule: rule([...counter()], "first") },
  ]);
  await ping({ netns: client.path, address: SERVER, timeoutMs: 20_000 });
  await seen(() => expect(packets).toHaveLength(2));
  expect(packets[1]?.steps).toMatchObject([
    { chain: "out", type: "rule", comment: "first", verdict: { kind: "continue" } },
    { chain: "out", type: "policy", verdict: { kind: "accept" } },
  ]);
});

test("two at once: each has its own flow, and neither sees the other's table", async () => {
  const others: TracedPacket[] = [];
  const to = (destinationPort: number) => [{ destination: SERVER, protocol: TCP, destinationPort }];
  await using _first = await traceFlow({ netns: server.path, patterns: to(80) }, note);
  await using _other = await traceFlow({ netns: server.path, patterns: to(81) }, (packet) => void others.push(packet));
  await using _same = await traceFlow({ netns: server.path, patterns: to(80) }, () => {});
  await connect(81, 50);
  expect(await connect(80, 20_000)).toBe(true);
  await seen(() => expect([packets.length, others.length].every((count) => count > 0)).toBe(true));
  expect(packets.every(({ headers }) => headers.destinationPort === 80)).toBe(true);
  expect(others.every(({ headers }) => headers.destinationPort === 81)).toBe(true);
  const tablesSeen = [...packets, ...others].flatMap(({ steps }) => steps.map((step) => step.table.name));
  expect(new Set(tablesSeen)).toEqual(new Set(["judge"]));
});

test("IPv6", async () => {
  const [from, to] = [parseAddress("fd66::1"), parseAddress("fd66::2")];
  for (const [side, link, address] of [
    [client, "c", from],
    [server, "s", to],
  ] as const) {
    side.kernel.addresses.add({
      link: side.kernel.links.get(link)?.index ?? 0,
      address,
      prefixLength: 64,
      noDad: true,
    });
  }
  const patterns = [{ source: from, destination: to, protocol: 58 }];
  await using _trace = await traceFlow({ netns: server.path, patterns }, note);
  await ping({ netns: client.path, address: to, timeoutMs: 20_000 });
  await seen(() => expect(packets.some(({ headers }) => headers.icmp?.type === 128)).toBe(true));
  const echo = packets.find(({ headers }) => headers.icmp?.type === 128);
  expect(echo).toMatchObject({ headers: { family: 6, source: from, destination: to }, hooks: ["prerouting", "input"] });
});

test("a packet that routing stops has not come far", async () => {
  const beyond = parseAddress("10.99.0.1");
  await using _trace = await traceFlow(
    { netns: server.path, patterns: [{ destination: beyond, protocol: TCP }] },
    note,
  );
  const uplink = client.kernel.links.get("c")?.index ?? 0;
  client.kernel.routes.add({ destination: hostPrefix(beyond), link: uplink, gateway: SERVER });
  const fd = connectTcp({ netns: client.path, address: beyond, port: 80 });
  await seen(() => expect(packets.length).toBeGreaterThan(0));
  closeSync(fd);
  expect(packets[0]).toMatchObject({ input: "s", hooks: ["prerouting"], steps: [] });
});

test("the table is there while tracing, and gone afterwards", async () => {
  const before = await tables();
  const trace = await traceFlow({ netns: server.path, patterns: [{ source: CLIENT, protocol: TCP }] }, note);
  expect(await tables()).toHaveLength(before.length + 1);
  await trace[Symbol.asyncDispose]();
  expect(await tables()).toEqual(before);
});

test("a tracer that is killed leaves nothing: the kernel removes what belongs to its socket", async () => {
  const before = await tables();
  const program = `import { traceFlow } from ${JSON.stringify(join(import.meta.dirname, "flow-trace.ts"))};
    await traceFlow({ netns: ${JSON.stringify(server.path)}, patterns: [{ source: { family: 4, value: 1n }, protocol: 6 }] }, () => {});
    console.log("ready"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--conditions=calico-src", "--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => void child.on("close", resolve));
  await new Promise((resolve) => void child.stdout.once("data", resolve));
  expect(await tables()).toHaveLength(before.length + 1);
  child.kill("SIGKILL");
  await ended;
  await seen(async () => expect(await tables()).toEqual(before));
});

test("a pattern needs an address", async () => {
  await expect(traceFlow({ patterns: [{ protocol: TCP }] }, note)).rejects.toMatchObject({ code: "BAD_INPUT" });
});
