/** The rule helpers judged by packets: each match lets the right connection through a drop policy, and its negation stops it. */
import { closeSync, openSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import {
  accept,
  addressElement,
  addressKey,
  concatKey,
  dnat,
  interfaceKey,
  jump,
  lookup,
  matchAddressType,
  matchCtState,
  matchCtStatus,
  matchDestinationAddress,
  matchDestinationPort,
  matchFamily,
  matchIcmp,
  matchIifname,
  matchMark,
  matchProtocol,
  matchSourceAddress,
  matchSourcePort,
  type NftCommand,
  type NftExpr,
  type NftSet,
  type NftTable,
  portKey,
  prefixElement,
  protocolKey,
  randomVerdict,
  rule,
  setMark,
  verdictElement,
  verdictMap,
  hostUint32,
} from "@calico-ts/netlink";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ping } from "./echo.ts";
import { awaitConnected, connectTcp, listenTcp } from "./sockets.ts";
import { scratchNamespace } from "./testing/scratch.ts";

const client = scratchNamespace("pkt");
const server = scratchNamespace("pkt");
const table: NftTable = { family: "inet", name: "judge" };
const TCP = 6;
const PORT = 8080;
let listener: Server;

beforeAll(() => {
  const fd = openSync(server.path, "r");
  client.kernel.links.create({
    kind: "veth",
    name: "cali0",
    up: true,
    peer: { name: "cali1", up: true, namespaceFd: fd },
  });
  closeSync(fd);
  for (const [side, link, end] of [
    [client, "cali0", 1],
    [server, "cali1", 2],
  ] as const) {
    const index = side.kernel.links.get(link)?.index ?? 0;
    side.kernel.addresses.add({ link: index, address: parseAddress(`10.65.77.${end}`), prefixLength: 24 });
    side.kernel.addresses.add({ link: index, address: parseAddress(`fd65::77:${end}`), prefixLength: 64, noDad: true });
  }
  listener = createServer((socket) => socket.destroy()).listen({
    fd: listenTcp({ netns: server.path, address: parseAddress("0.0.0.0"), port: PORT }),
  });
});
afterAll(() => {
  listener.close();
  client[Symbol.dispose]();
  server[Symbol.dispose]();
});

const ips: NftSet = { name: "ips", keyTypes: ["ipv4_addr"] };
const nets: NftSet = { name: "nets", keyTypes: ["ipv4_addr"], interval: true };
const service: NftSet = { name: "service", keyTypes: ["ipv4_addr", "inet_proto", "inet_service"] };
const ranges: NftSet = { name: "ranges", keyTypes: ["ipv4_addr", "inet_service"], interval: true };
const dispatch: NftSet = { name: "dispatch", keyTypes: ["ifname"], mapTo: "verdict" };
const choice: NftSet = { name: "choice", keyTypes: ["integer"], mapTo: "verdict" };
const filled: readonly (readonly [NftSet, Extract<NftCommand, { do: "add-elements" }>["elements"]])[] = [
  [ips, [addressElement(parseAddress("10.65.77.1"))]],
  [nets, [prefixElement(parsePrefix("10.64.0.0/11"))]],
  [service, [{ key: concatKey(addressKey(parseAddress("10.65.77.2")), protocolKey(TCP), portKey(PORT)) }]],
  [
    ranges,
    [
      {
        key: concatKey(addressKey(parseAddress("10.65.0.0")), portKey(8000)),
        keyEnd: concatKey(addressKey(parseAddress("10.65.255.255")), portKey(8099)),
      },
    ],
  ],
  [dispatch, [verdictElement(interfaceKey("cali1"), { kind: "goto", chain: "yes" })]],
  [choice, [verdictElement(hostUint32(0), { kind: "jump", chain: "yes" })]],
];

/** A drop policy on input and one rule that lets a new connection through if its matches say so. */
async function judge(rules: readonly (readonly NftExpr[])[]): Promise<void> {
  await server.kernel.nft.apply([
    { do: "delete-table", table, ifExists: true },
    { do: "add-table", table },
    ...filled.map(([set]): NftCommand => ({ do: "add-set", table, set })),
    {
      do: "add-chain",
      table,
      chain: { name: "in", base: { type: "filter", hook: "input", priority: 0, policy: "drop" } },
    },
    { do: "add-chain", table, chain: { name: "yes" } },
    { do: "add-rule", table, chain: "yes", rule: rule(accept()) },
    ...filled.map(([set, elements]): NftCommand => ({ do: "add-elements", table, set, elements })),
    ...rules.map((exprs): NftCommand => ({ do: "add-rule", table, chain: "in", rule: rule(exprs) })),
  ]);
}

/** A drop has to be waited for; an answer on a busy machine, too, but longer. */
async function connects(expected: boolean, port = PORT): Promise<boolean> {
  const fd = connectTcp({ netns: client.path, address: parseAddress("10.65.77.2"), port });
  try {
    await awaitConnected(fd, expected ? 5000 : 150);
    return true;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}

const v4tcp = [...matchFamily(4), ...matchProtocol(TCP)];
const from = (text: string, not = false) => matchSourceAddress(parsePrefix(text), { not });
const to = (text: string, not = false) => matchDestinationAddress(parsePrefix(text), { not });

const cases: readonly (readonly [name: string, exprs: readonly NftExpr[], allowed: boolean])[] = [
  ["nothing matches by itself", [...matchFamily(6)], false],
  ["family", matchFamily(4), true],
  ["family negated", matchFamily(4, { not: true }), false],
  ["protocol", matchProtocol(TCP), true],
  ["protocol negated", matchProtocol(TCP, { not: true }), false],
  ["source /32", [...matchFamily(4), ...from("10.65.77.1/32")], true],
  ["source /11, not on a byte boundary", [...matchFamily(4), ...from("10.64.0.0/11")], true],
  ["source another /11", [...matchFamily(4), ...from("10.96.0.0/11")], false],
  ["source negated /16", [...matchFamily(4), ...from("10.65.0.0/16", true)], false],
  ["source negated /11", [...matchFamily(4), ...from("10.96.0.0/11", true)], true],
  ["source negated everything", [...matchFamily(4), ...from("0.0.0.0/0", true)], false],
  ["source everything", [...matchFamily(4), ...from("0.0.0.0/0")], true],
  ["destination", [...matchFamily(4), ...to("10.65.77.2/31")], true],
  ["destination negated", [...matchFamily(4), ...to("10.65.77.2/32", true)], false],
  ["destination port", [...v4tcp, ...matchDestinationPort({ first: PORT, last: PORT })], true],
  ["destination port range", [...v4tcp, ...matchDestinationPort({ first: 8000, last: 8080 })], true],
  ["destination port range ending before", [...v4tcp, ...matchDestinationPort({ first: 8000, last: 8079 })], false],
  [
    "destination port range negated",
    [...v4tcp, ...matchDestinationPort({ first: 8000, last: 8090 }, { not: true })],
    false,
  ],
  ["source port range", [...v4tcp, ...matchSourcePort({ first: 1024, last: 65_535 })], true],
  ["interface", matchIifname("cali1"), true],
  ["interface wildcard", matchIifname("cali*"), true],
  ["interface that only begins alike", matchIifname("cali"), false],
  ["interface wildcard negated", matchIifname("cali*", { not: true }), false],
  ["set of addresses", [...matchFamily(4), ...lookup("ips", ["ip saddr"])], true],
  ["set of addresses negated", [...matchFamily(4), ...lookup("ips", ["ip saddr"], { not: true })], false],
  ["set of prefixes", [...matchFamily(4), ...lookup("nets", ["ip daddr"])], true],
  ["concatenation", [...v4tcp, ...lookup("service", ["ip daddr", "l4proto", "th dport"])], true],
  ["concatenation of the other end", [...v4tcp, ...lookup("service", ["ip saddr", "l4proto", "th dport"])], false],
  ["ranges over a concatenation", [...v4tcp, ...lookup("ranges", ["ip saddr", "th dport"])], true],
  ["verdict map by interface", verdictMap("dispatch", ["iifname"]), true],
  ["random choice among one", randomVerdict("choice", 1), true],
  ["connection state", matchCtState(["new", "established"]), true],
  ["connection state that is not", matchCtState(["related"]), false],
  ["connection status", matchCtStatus(["dnat"]), false],
  ["address type", matchAddressType("daddr", "local"), true],
  ["address type of the other end", matchAddressType("saddr", "local"), false],
  [
    "mark set and tested under masks",
    [...setMark(0x50, 0xf0), ...setMark(0x3, 0xf), ...matchMark(0x53), ...matchMark(0x50, 0xf0)],
    true,
  ],
  ["mark that is another", [...setMark(0x50, 0xf0), ...matchMark(0x40, 0xf0)], false],
];

describe("matches", () => {
  test.each(cases)("%s", async (_, exprs, allowed) => {
    await judge([[...exprs, ...accept()]]);
    expect(await connects(allowed)).toBe(allowed);
  });
});

test("ICMP types", async () => {
  const answers = async (expected: boolean): Promise<boolean> => {
    try {
      await ping({ netns: client.path, address: parseAddress("10.65.77.2"), timeoutMs: expected ? 5000 : 150 });
      return true;
    } catch {
      return false;
    }
  };
  await judge([[...matchProtocol(1), ...matchIcmp({ type: 8, code: 0 }), ...accept()]]);
  expect(await answers(true)).toBe(true);
  await judge([[...matchProtocol(1), ...matchIcmp({ type: 8, code: 1 }), ...accept()]]);
  expect(await answers(false)).toBe(false);
  await judge([[...matchProtocol(1), ...matchIcmp({ type: 0 }, { not: true }), ...accept()]]);
  expect(await answers(true)).toBe(true);
});

test("chains are called and return", async () => {
  await judge([jump("yes")]);
  expect(await connects(true)).toBe(true);
});

test("a destination is rewritten, and the status says so", async () => {
  await judge([[...matchCtStatus(["dnat"]), ...accept()]]);
  expect(await connects(false, 80)).toBe(false);
  await server.kernel.nft.apply([
    {
      do: "add-chain",
      table,
      chain: { name: "nat-in", base: { type: "nat", hook: "prerouting", priority: -100, policy: "accept" } },
    },
    {
      do: "add-chain",
      table,
      chain: { name: "nat-out", base: { type: "nat", hook: "postrouting", priority: 100, policy: "accept" } },
    },
    {
      do: "add-rule",
      table,
      chain: "nat-in",
      rule: rule([
        ...v4tcp,
        ...matchDestinationPort({ first: 80, last: 80 }),
        ...dnat({ address: parseAddress("10.65.77.2"), port: PORT }),
      ]),
    },
  ]);
  expect(await connects(true, 80)).toBe(true);
});
