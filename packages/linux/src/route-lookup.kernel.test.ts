/** Asking the kernel what it would do with a packet: routes, refusals, the reverse-path filter; and who is at the end of a veth. */
import { closeSync, openSync } from "node:fs";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scratchNamespace } from "./testing/scratch.ts";
import { FakeKernel } from "./testing/fake-kernel.ts";
import type { Kernel } from "./kernel.ts";
import { peerNamespace } from "./peer-namespace.ts";

const node = scratchNamespace("lookup");
const pod = scratchNamespace("lookup");
const POD = parseAddress("10.67.0.1");
let index = 0;

beforeAll(() => {
  const fd = openSync(pod.path, "r");
  node.kernel.links.create({
    kind: "veth",
    name: "cali1",
    up: true,
    peer: { name: "eth0", up: true, namespaceFd: fd },
  });
  closeSync(fd);
  index = prepare(node.kernel);
  node.kernel.sysctl.set("net.ipv4.ip_forward", 1);
  node.kernel.sysctl.set("net.ipv4.conf.all.rp_filter", 1);
});
afterAll(() => {
  node[Symbol.dispose]();
  pod[Symbol.dispose]();
});

function prepare(kernel: Kernel): number {
  const link =
    kernel.links.get("cali1")?.index ??
    kernel.links.create({ kind: "veth", name: "cali1", up: true, peer: { name: "p", up: true } })?.index ??
    0;
  kernel.links.create({ kind: "veth", name: "eth0", up: true, peer: { name: "away", up: true } });
  const uplink = kernel.links.get("eth0")?.index ?? 0;
  kernel.addresses.add({ link: uplink, address: parseAddress("192.0.2.1"), prefixLength: 24 });
  kernel.routes.add({ destination: parsePrefix("10.67.0.1/32"), link });
  kernel.routes.add({ destination: parsePrefix("10.68.0.0/16"), type: "blackhole" });
  kernel.routes.add({ destination: parsePrefix("10.69.0.0/16"), type: "unreachable" });
  kernel.routes.add({ destination: parsePrefix("10.70.0.0/16"), type: "prohibit" });
  return link;
}

const fake = new FakeKernel();
prepare(fake);

describe.each([
  ["kernel", node.kernel],
  ["fake", fake],
])("%s", (_name, kernel) => {
  test.each([
    ["10.68.1.1", "EINVAL"],
    ["10.69.1.1", "EHOSTUNREACH"],
    ["10.70.1.1", "EACCES"],
    ["198.51.100.1", "ENETUNREACH"],
  ])("%s is refused with %s", (text, errnoName) => {
    expect(kernel.routes.lookup({ destination: parseAddress(text) })).toMatchObject({ errnoName });
  });

  test("a route is found, and an own address is local", () => {
    const link = kernel.links.get("cali1")?.index;
    expect(kernel.routes.lookup({ destination: POD })).toMatchObject({ route: { type: "unicast", link } });
    expect(kernel.routes.lookup({ destination: parseAddress("192.0.2.1") })).toMatchObject({
      route: { type: "local" },
    });
  });
});

test("a packet from outside: let in by the link its sender is behind, refused by another", () => {
  const destination = parseAddress("192.0.2.7");
  const source = POD;
  expect(node.kernel.routes.lookup({ destination, source, input: index })).toMatchObject({
    route: { type: "unicast" },
  });
  const uplink = node.kernel.links.get("eth0")?.index ?? 0;
  const wrong = { destination: parseAddress("192.0.2.1"), source, input: uplink };
  const answer = node.kernel.routes.lookup(wrong);
  // EXDEV up to Linux 6.12; later kernels have one answer for all that comes in and is refused.
  expect(["EXDEV", "EINVAL"]).toContain(answer.route === undefined ? answer.errnoName : "found");
});

test("the other end of a veth", () => {
  const { linkNamespace } = node.kernel.links.get("cali1") ?? {};
  expect(node.kernel.namespaceIdOf(pod.path)).toBe(linkNamespace);
  expect(node.kernel.namespaceIdOf(node.path)).toBeUndefined();
  const [link, lo] = ["cali1", "lo"].map((name) => node.kernel.links.get(name));
  if (link === undefined || lo === undefined) throw new Error("no links");
  expect(peerNamespace(node.kernel, link)).toBe(pod.path);
  expect(peerNamespace(node.kernel, lo)).toBeUndefined();
});
