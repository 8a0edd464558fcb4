import { parseAddress, parsePrefix } from "@calico-ts/net";
import { expect, test } from "vitest";
import {
  accept,
  connectionCount,
  counter,
  dnat,
  drop,
  jump,
  limit,
  lookup,
  masquerade,
  matchAddressType,
  matchCtState,
  matchDestinationAddress,
  matchDestinationPort,
  matchFamily,
  matchIcmp,
  matchIifname,
  matchMark,
  matchProtocol,
  matchSourceAddress,
  matchSourcePort,
  natByMap,
  randomVerdict,
  reject,
  rule,
  setDscp,
  setMark,
  verdictMap,
} from "./build.ts";
import { concatKey, hostUint32, interfaceKey, portKey, prefixElement, protocolKey, verdictElement } from "./bytes.ts";
import { renderCommand, renderElement, renderRule } from "./render.ts";
import type { NftTable } from "./values.ts";

test("rules read like nft", () => {
  const text = (...parts: Parameters<typeof rule>[0][]): string => renderRule(rule(parts.flat()));
  expect(text(matchFamily(4), matchSourceAddress(parsePrefix("10.0.0.0/8")), accept())).toBe(
    "meta nfproto ipv4 ip saddr 10.0.0.0/8 accept",
  );
  expect(text(matchDestinationAddress(parsePrefix("10.0.0.0/13"), { not: true }))).toBe(
    "ip daddr & 255.248.0.0 != 10.0.0.0",
  );
  expect(text(matchSourceAddress(parsePrefix("fd00::1")))).toBe("ip6 saddr fd00::1");
  expect(text(matchSourceAddress(parsePrefix("0.0.0.0/0")))).toBe("");
  expect(
    text(matchProtocol(6), matchDestinationPort({ first: 80, last: 90 }), matchSourcePort({ first: 1, last: 1 })),
  ).toBe("meta l4proto tcp th dport 80-90 th sport 1");
  expect(text(matchProtocol(1), matchIcmp({ type: 8 }))).toBe("meta l4proto icmp icmp type 8");
  expect(text(matchIifname("cali*"), matchIifname("eth0", { not: true }))).toBe('iifname "cali*" iifname != "eth0"');
  expect(text(matchCtState(["established", "related"]))).toBe("ct state & established,related != 0");
  expect(text(lookup("s", ["ip saddr", "l4proto", "th dport"], { not: true }))).toBe(
    "ip saddr . meta l4proto . th dport != @s",
  );
  expect(text(verdictMap("dispatch", ["iifname"]))).toBe("iifname vmap @dispatch");
  expect(text(setMark(0x10, 0xf0), matchMark(0x10, 0xf0))).toBe(
    "meta mark set meta mark & 0xffffff0f | 0x10 meta mark & 0xf0 0x10",
  );
  expect(text(matchAddressType("daddr", "local"))).toBe("fib daddr type local");
  expect(text(dnat({ address: parseAddress("10.0.0.9"), port: 80 }))).toBe("dnat ip to 10.0.0.9:80");
  expect(text(natByMap("dnat", 4, { map: "m", fields: ["ip daddr"] }))).toBe("dnat ip to map @m");
  // What nft 1.0.6 makes of `ip dscp set ef` and `ip6 dscp set ef`.
  expect(text(setDscp(4, 46))).toBe("@network,0,16 set @network,0,16 & 0xff03 | 0x00b8");
  expect(text(setDscp(6, 46))).toBe("@network,0,16 set @network,0,16 & 0xf03f | 0x0b80");
  expect(text(limit({ rate: 10, burst: 7, over: true }), connectionCount(3), reject("tcp-reset"))).toBe(
    "limit rate over 10/1s burst 7 packets ct count over 3 reject with tcp-reset",
  );
  expect(text(randomVerdict("m", 3))).toBe("numgen random mod 3 vmap @m");
  expect(text(counter(), masquerade({ fullyRandom: true }), reject(), jump("c"), drop())).toBe(
    "counter masquerade flags 0x10 reject with icmpx 1 jump c drop",
  );
});

test("elements and commands read like nft", () => {
  const table: NftTable = { family: "inet", name: "calico" };
  const nets = { name: "nets", keyTypes: ["ipv4_addr"] as const, interval: true };
  expect(renderElement(nets, prefixElement(parsePrefix("10.0.0.0/24")))).toBe("10.0.0.0-10.0.0.255");
  const service = { name: "svc", keyTypes: ["inet_proto", "inet_service"] as const, mapTo: "verdict" as const };
  expect(
    renderElement(service, verdictElement(concatKey(protocolKey(6), portKey(443)), { kind: "jump", chain: "c" })),
  ).toBe("tcp . 443 : jump c");
  const marks = { name: "m", keyTypes: ["mark"] as const, mapTo: "mark" as const };
  expect(renderElement(marks, { key: hostUint32(1), value: hostUint32(16) })).toBe("0x1 : 0x10");
  expect(renderCommand({ do: "add-set", table, set: nets })).toBe(
    "add set inet calico nets { type ipv4_addr; flags interval; }",
  );
  expect(
    renderCommand({
      do: "add-chain",
      table,
      chain: { name: "f", base: { type: "filter", hook: "forward", priority: 0, policy: "drop" } },
    }),
  ).toBe("add chain inet calico f { type filter hook forward priority 0; policy drop; }");
  const names = { name: "d", keyTypes: ["ifname"] as const, mapTo: "verdict" as const };
  expect(
    renderCommand({
      do: "add-elements",
      table,
      set: names,
      elements: [verdictElement(interfaceKey("cali1"), { kind: "goto", chain: "x" })],
    }),
  ).toBe('add element inet calico d { "cali1" : goto x }');
  expect(renderCommand({ do: "add-rule", table, chain: "c", rule: rule(accept(), 'say "why"') })).toBe(
    'add rule inet calico c accept comment "say \\"why\\""',
  );
});
