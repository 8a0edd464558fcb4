import { parseAddress, parsePrefix } from "@calico-ts/net";
import { describe, expect, test } from "vitest";
import type { KernelEvent } from "../kernel.ts";
import { FakeKernel } from "./fake-kernel.ts";

describe("links", () => {
  test("a name is taken once; a veth goes with its peer", () => {
    const { links } = new FakeKernel();
    const created = links.create({ kind: "veth", name: "a", peer: { name: "b" } });
    expect(created).toMatchObject({ name: "a", info: { kind: "veth" } });
    expect(() => links.create({ kind: "bridge", name: "a" })).toThrow(/EEXIST/);
    expect(links.delete("b")).toBe(true);
    expect(links.get("a")).toBeUndefined();
    expect(links.delete("b")).toBe(false);
  });

  test("what hangs on a link goes with it, and is announced", async () => {
    const kernel = new FakeKernel();
    const events: KernelEvent[] = [];
    using _ = kernel.watch(["link", "route", "address"], (event) => events.push(event));
    const link = kernel.links.create({ kind: "bridge", name: "br", up: true })?.index ?? 0;
    kernel.addresses.add({ link, address: parseAddress("10.0.0.1"), prefixLength: 24 });
    kernel.routes.add({ destination: parsePrefix("10.1.0.0/24"), gateway: parseAddress("10.0.0.2"), link });
    kernel.links.delete("br");
    expect(kernel.routes.list()).toEqual([]);
    expect(kernel.addresses.list()).toEqual([]);
    await Promise.resolve();
    expect(events.map((event) => `${event.kind} ${"gone" in event && event.gone ? "gone" : "new"}`)).toEqual([
      "link new",
      "address new",
      "route new",
      "route gone",
      "address gone",
      "link gone",
    ]);
  });
});

describe("routes", () => {
  test("need a link that is there and up, and a gateway that can be reached", () => {
    const kernel = new FakeKernel();
    const destination = parsePrefix("10.1.0.0/24");
    expect(() => kernel.routes.add({ destination, link: 42 })).toThrow(/ENODEV/);
    const link = kernel.links.create({ kind: "bridge", name: "br" })?.index ?? 0;
    expect(() => kernel.routes.add({ destination, link })).toThrow(/ENETDOWN/);
    kernel.links.set("br", { up: true });
    const gateway = parseAddress("10.0.0.2");
    expect(() => kernel.routes.add({ destination, link, gateway })).toThrow(/ENETUNREACH/);
    kernel.routes.add({ destination, link, gateway, onlink: true });
    expect(() => kernel.routes.add({ destination, link, gateway, onlink: true })).toThrow(/EEXIST/);
    kernel.links.set("br", { up: false });
    expect(kernel.routes.list()).toEqual([]);
  });

  test("many: each stands for itself", () => {
    const kernel = new FakeKernel();
    const results = kernel.routes.many([
      { do: "add", value: { destination: parsePrefix("10.0.0.0/24"), type: "blackhole" } },
      { do: "add", value: { destination: parsePrefix("10.0.1.0/24"), link: 42 } },
      { do: "delete", value: { destination: parsePrefix("10.9.0.0/24") } },
    ]);
    expect([...results].map(([at, error]) => [at, error.detail?.["errnoName"]])).toEqual([[1, "ENODEV"]]);
    expect(kernel.routes.list({ table: 254, family: 4 })).toHaveLength(1);
  });
});

test("sysctls and conntrack", () => {
  const kernel = new FakeKernel();
  kernel.sysctl.set("net.ipv4.ip_forward", 1);
  expect(kernel.sysctl.get("net/ipv4/ip_forward")).toBe("1");
  expect(kernel.sysctl.get("net.ipv4.nothing")).toBeUndefined();
  const [a, b] = [parseAddress("10.0.0.1"), parseAddress("10.0.0.2")];
  kernel.conntrack.flows.push({
    family: 4,
    protocol: 6,
    source: a,
    destination: b,
    replySource: b,
    replyDestination: a,
    mark: 0,
    status: 0,
    zone: 0,
  });
  expect(kernel.conntrack.delete({ addresses: [b] })).toBe(1);
  expect(kernel.conntrack.list()).toEqual([]);
});
