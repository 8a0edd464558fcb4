/** The rtnetlink tables, sysctls and notifications against the kernel, with `ip -j` and `bridge -j` as witnesses. */
import { closeSync, openSync } from "node:fs";
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import { hasCode } from "@calico-ts/std";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KernelEvent } from "./kernel.ts";
import { openKernel } from "./open-kernel.ts";
import { scratchNamespace } from "./testing/scratch.ts";

const one = scratchNamespace("rt");
const two = scratchNamespace("rt");
afterAll(() => {
  one[Symbol.dispose]();
  two[Symbol.dispose]();
});
const { kernel } = one;
const { links, addresses, routes, rules, neighbours } = kernel;
const indexOf = (name: string): number => links.get(name)?.index ?? 0;
type Json = Record<string, unknown>;
const ip = (...args: string[]): Json[] => one.json("ip", "-j", "-d", ...args) as Json[];

beforeAll(() => {
  const fd = openSync(two.path, "r");
  links.create({ kind: "bridge", name: "br0", up: true, mac: "02:00:00:00:00:aa" });
  links.create({
    kind: "veth",
    name: "v0",
    mtu: 1400,
    up: true,
    mac: "02:00:00:00:00:01",
    peer: { name: "eth0", mac: "02:00:00:00:00:02", mtu: 1400, up: true, namespaceFd: fd },
  });
  closeSync(fd);
  addresses.add({ link: indexOf("br0"), address: parseAddress("10.0.0.1"), prefixLength: 24 });
  addresses.add({ link: indexOf("br0"), address: parseAddress("fd00::1"), prefixLength: 64, noDad: true });
});

describe("links", () => {
  test("are removed on another thread, several at once, while this one works on", async () => {
    const names = Array.from({ length: 8 }, (_, at) => `gone${at}`);
    for (const name of names) links.create({ kind: "veth", name, peer: { name: `${name}p` } });
    const removed = Promise.all([...names, "nobody", "a-name-that-is-too-long"].map((name) => links.remove(name)));
    expect(links.get("v0")?.name).toBe("v0");
    expect(await removed).toEqual([...names.map(() => true), false, false]);
    for (const name of names) expect(links.get(name)).toBeUndefined();
    await expect(links.remove("lo")).rejects.toMatchObject({ code: "KERNEL" });
  });

  test("a veth pair across namespaces", () => {
    expect(ip("link", "show", "v0")[0]).toMatchObject({
      ifname: "v0",
      mtu: 1400,
      address: "02:00:00:00:00:01",
      operstate: "UP",
      linkinfo: { info_kind: "veth" },
    });
    expect(two.kernel.links.get("eth0")).toMatchObject({
      up: true,
      carrier: true,
      mtu: 1400,
      mac: "02:00:00:00:00:02",
      info: { kind: "veth" },
    });
    expect(links.get("v0")).toMatchObject({ link: two.kernel.links.get("eth0")?.index, up: true });
  });

  test("listing agrees with `ip link`", () => {
    expect(links.list().map((link) => [link.index, link.name, link.mtu, link.mac])).toEqual(
      ip("link").map((link) => [link["ifindex"], link["ifname"], link["mtu"], link["address"]]),
    );
    expect(links.list({ kind: "bridge" }).map((link) => link.name)).toEqual(["br0"]);
  });

  test("bridge ports", () => {
    links.set("v0", { master: indexOf("br0"), bridgePort: { hairpin: true } });
    links.set("v0", { bridgePort: { isolated: true, learning: false, neighbourSuppress: true } });
    expect(links.get("v0")).toMatchObject({ master: indexOf("br0"), bridgePort: { isolated: true, learning: false } });
    expect(ip("link", "show", "v0")[0]).toMatchObject({
      master: "br0",
      linkinfo: {
        info_slave_kind: "bridge",
        info_slave_data: { isolated: true, learning: false, neigh_suppress: true },
      },
    });
    expect(links.list({ master: indexOf("br0") }).map((link) => link.name)).toEqual(["v0"]);
    links.set("v0", { master: 0 });
    expect(links.get("v0")?.master).toBeUndefined();
    // Gives the bridge a carrier for what follows.
    links.set("v0", { master: indexOf("br0") });
  });

  test("vxlan with what Calico asks for", () => {
    links.create({
      kind: "vxlan",
      name: "vxlan.calico",
      id: 4096,
      port: 4789,
      learning: false,
      local: parseAddress("10.0.0.1"),
      underlay: indexOf("br0"),
      mac: "66:aa:bb:cc:dd:ee",
      mtu: 1350,
      up: true,
    });
    expect(ip("link", "show", "vxlan.calico")[0]).toMatchObject({
      mtu: 1350,
      address: "66:aa:bb:cc:dd:ee",
      linkinfo: {
        info_kind: "vxlan",
        info_data: { id: 4096, local: "10.0.0.1", port: 4789, learning: false, link: "br0" },
      },
    });
    expect(links.get("vxlan.calico")?.info).toMatchObject({
      kind: "vxlan",
      id: 4096,
      port: 4789,
      learning: false,
      underlay: indexOf("br0"),
    });
    links.create({
      kind: "vxlan",
      name: "vxlan-v6.calico",
      id: 4096,
      port: 4789,
      local: parseAddress("fd00::1"),
      udpChecksum: false,
    });
    expect(links.get("vxlan-v6.calico")?.info).toMatchObject({ local: parseAddress("fd00::1") });
    expect(links.delete("vxlan-v6.calico")).toBe(true);
    expect(links.delete("vxlan-v6.calico")).toBe(false);
  });

  test("renaming, moving to another namespace, alias, queue length", () => {
    links.create({ kind: "veth", name: "tmp0", peer: { name: "tmp1" } });
    links.set("tmp0", { name: "renamed0", alias: "for a test", txQueueLength: 7, group: 3 });
    expect(links.get("renamed0")).toMatchObject({ alias: "for a test", txQueueLength: 7, group: 3 });
    const fd = openSync(two.path, "r");
    links.set("tmp1", { namespaceFd: fd });
    closeSync(fd);
    expect(links.get("tmp1")).toBeUndefined();
    expect(two.kernel.links.get("tmp1")).toBeDefined();
    links.delete("renamed0");
  });

  test("refusals have the errno, the operation and the kernel's words", () => {
    expect(() => links.create({ kind: "bridge", name: "br0" })).toThrow(
      expect.objectContaining({
        code: "KERNEL",
        detail: expect.objectContaining({ errno: 17, errnoName: "EEXIST", operation: 'create bridge link "br0"' }),
      }),
    );
    expect(() => links.create({ kind: "other", type: "nonsense", name: "x" })).toThrow(
      expect.objectContaining({ detail: expect.objectContaining({ extack: "Unknown device type" }) }),
    );
    expect(() => links.set("nothing", { up: true })).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
    expect(links.get("a-name-longer-than-fifteen")).toBeUndefined();
    expect(() => links.create({ kind: "bridge", name: "a-name-longer-than-fifteen" })).toThrow(
      expect.objectContaining({ code: "KERNEL" }),
    );
  });
});

test("addresses", () => {
  const link = indexOf("br0");
  addresses.replace({ link, address: parseAddress("10.0.0.1"), prefixLength: 24 });
  expect(() => addresses.add({ link, address: parseAddress("10.0.0.1"), prefixLength: 24 })).toThrow(/EEXIST/);
  addresses.add({ link, address: parseAddress("169.254.1.1"), prefixLength: 32, scope: 253, noPrefixRoute: true });
  const seen = addresses
    .list({ link, family: 4 })
    .map((entry) => `${formatAddress(entry.address)}/${entry.prefixLength}`);
  expect(seen.toSorted()).toEqual(["10.0.0.1/24", "169.254.1.1/32"]);
  const [info] = ip("addr", "show", "br0");
  const locals = ((info?.["addr_info"] ?? []) as Json[]).map((entry) => entry["local"]);
  expect(locals).toEqual(expect.arrayContaining(["10.0.0.1", "169.254.1.1", "fd00::1"]));
  expect(addresses.delete({ link, address: parseAddress("169.254.1.1"), prefixLength: 32 })).toBe(true);
  expect(addresses.delete({ link, address: parseAddress("169.254.1.1"), prefixLength: 32 })).toBe(false);
});

describe("routes", () => {
  const link = (): number => indexOf("br0");
  const shown = (...args: string[]): Json[] => ip("route", "show", "proto", "80", ...args);

  test("next hop, blackhole, unreachable, throw, multipath, onlink, other tables, preferred source", () => {
    routes.add({
      destination: parsePrefix("10.1.0.0/24"),
      gateway: parseAddress("10.0.0.2"),
      link: link(),
      protocol: 80,
      preferredSource: parseAddress("10.0.0.1"),
      mtu: 1300,
    });
    routes.add({ destination: parsePrefix("10.2.0.0/24"), type: "blackhole", protocol: 80 });
    routes.add({ destination: parsePrefix("10.3.0.0/24"), type: "unreachable", protocol: 80, metric: 77 });
    routes.add({ destination: parsePrefix("10.4.0.0/24"), type: "throw", protocol: 80, table: 1000 });
    routes.add({
      destination: parsePrefix("10.5.0.0/24"),
      protocol: 80,
      nextHops: [
        { gateway: parseAddress("10.0.0.7"), link: link(), weight: 1 },
        { gateway: parseAddress("172.16.0.1"), link: link(), weight: 3, onlink: true },
      ],
    });
    routes.add({
      destination: parsePrefix("10.6.0.0/24"),
      protocol: 80,
      gateway: parseAddress("192.168.200.1"),
      link: link(),
      onlink: true,
    });
    routes.add({ destination: parsePrefix("10.7.0.1/32"), protocol: 80, link: link(), scope: 253 });
    expect(shown()).toEqual([
      expect.objectContaining({
        dst: "10.1.0.0/24",
        gateway: "10.0.0.2",
        dev: "br0",
        prefsrc: "10.0.0.1",
        metrics: [{ mtu: 1300 }],
      }),
      expect.objectContaining({ type: "blackhole", dst: "10.2.0.0/24" }),
      expect.objectContaining({ type: "unreachable", dst: "10.3.0.0/24", metric: 77 }),
      expect.objectContaining({
        dst: "10.5.0.0/24",
        nexthops: [
          expect.objectContaining({ gateway: "10.0.0.7", weight: 1 }),
          expect.objectContaining({ gateway: "172.16.0.1", weight: 3, flags: ["onlink"] }),
        ],
      }),
      expect.objectContaining({ dst: "10.6.0.0/24", gateway: "192.168.200.1", flags: ["onlink"] }),
      expect.objectContaining({ dst: "10.7.0.1", dev: "br0", scope: "link" }),
    ]);
    expect(shown("table", "1000")).toEqual([expect.objectContaining({ type: "throw", dst: "10.4.0.0/24" })]);
    const listed = routes.list({ protocol: 80, family: 4 });
    expect(listed.map((route) => formatPrefix(route.destination)).toSorted()).toEqual([
      "10.1.0.0/24",
      "10.2.0.0/24",
      "10.3.0.0/24",
      "10.4.0.0/24",
      "10.5.0.0/24",
      "10.6.0.0/24",
      "10.7.0.1/32",
    ]);
    expect(listed.find((route) => route.destination.value === parsePrefix("10.5.0.0/24").value)?.nextHops).toEqual([
      { gateway: parseAddress("10.0.0.7"), link: link(), weight: 1 },
      { gateway: parseAddress("172.16.0.1"), link: link(), weight: 3, onlink: true },
    ]);
    expect(routes.list({ table: 1000 })).toHaveLength(1);
    expect(routes.list({ table: 4242 })).toEqual([]);
    expect(routes.list({ link: link(), table: 254, protocol: 80 })).toHaveLength(4);
  });

  test("what was listed can be written again unchanged", () => {
    for (const route of routes.list({ protocol: 80 })) {
      const { flags, ...spec } = route;
      expect(flags ?? 0).toBe(0);
      routes.replace(spec);
    }
    expect(routes.list({ protocol: 80 })).toHaveLength(7);
  });

  test("replace changes, delete matches by what it names and says whether there was one", () => {
    routes.replace({
      destination: parsePrefix("10.1.0.0/24"),
      gateway: parseAddress("10.0.0.3"),
      link: link(),
      protocol: 80,
    });
    expect(shown()[0]).toMatchObject({ gateway: "10.0.0.3" });
    expect(routes.delete({ destination: parsePrefix("10.1.0.0/24"), gateway: parseAddress("10.0.0.9") })).toBe(false);
    expect(routes.delete({ destination: parsePrefix("10.1.0.0/24") })).toBe(true);
    expect(routes.delete({ destination: parsePrefix("10.1.0.0/24") })).toBe(false);
    expect(routes.delete({ destination: parsePrefix("10.4.0.0/24"), table: 1000 })).toBe(true);
  });

  test("IPv6, and IPv4 through an IPv6 gateway", () => {
    routes.add({ destination: parsePrefix("fd01::/64"), gateway: parseAddress("fd00::2"), link: link(), protocol: 80 });
    routes.add({ destination: parsePrefix("fd02::/64"), type: "blackhole", protocol: 80 });
    routes.add({
      destination: parsePrefix("10.8.0.0/24"),
      gateway: parseAddress("fd00::2"),
      link: link(),
      protocol: 80,
    });
    expect((one.json("ip", "-j", "-6", "route", "show", "proto", "80") as Json[]).map((route) => route["dst"])).toEqual(
      ["fd01::/64", "fd02::/64"],
    );
    expect(routes.list({ family: 6, protocol: 80 }).map((route) => route.type)).toEqual(["unicast", "blackhole"]);
    expect(routes.list({ family: 4, protocol: 80 }).find((route) => route.gateway?.family === 6)?.gateway).toEqual(
      parseAddress("fd00::2"),
    );
  });

  test("IPv6 with several next hops is replaced as a whole", () => {
    const destination = parsePrefix("fd03::/64");
    const hops = (...ends: number[]) =>
      ends.map((end) => ({ gateway: parseAddress(`fd00::${end}`), link: link(), weight: 1 }));
    routes.add({ destination, protocol: 80, nextHops: hops(2, 3, 4) });
    routes.replace({ destination, protocol: 80, nextHops: hops(5, 6) });
    const found = routes
      .list({ family: 6, protocol: 80 })
      .filter((route) => route.destination.value === destination.value);
    expect(found.map((route) => route.nextHops)).toEqual([hops(5, 6)]);
    routes.replace({ destination, protocol: 80, gateway: parseAddress("fd00::7"), link: link() });
    const after = routes
      .list({ family: 6, protocol: 80 })
      .filter((route) => route.destination.value === destination.value);
    expect(after).toEqual([expect.objectContaining({ gateway: parseAddress("fd00::7") })]);
    expect(routes.delete({ destination })).toBe(true);
  });

  test("many: each stands for itself, in one or a few system calls", () => {
    const ops = Array.from({ length: 1000 }, (_, n) => ({
      do: "replace" as const,
      value: { destination: parsePrefix(`10.200.${n >> 8}.${n & 255}/32`), type: "blackhole" as const, protocol: 80 },
    }));
    const results = routes.many([
      ...ops,
      { do: "add", value: { destination: parsePrefix("10.9.0.0/24"), gateway: parseAddress("203.0.113.1") } },
      { do: "delete", value: { destination: parsePrefix("10.99.0.0/24") } },
    ]);
    expect([...results.keys()]).toEqual([1000]);
    expect(results.get(1000)?.detail).toMatchObject({
      errnoName: "ENETUNREACH",
      extack: "Nexthop has invalid gateway",
    });
    expect(routes.list({ protocol: 80, family: 4 }).length).toBeGreaterThan(1000);
    expect(routes.many(ops.map(({ value }) => ({ do: "delete" as const, value })))).toEqual(new Map());
  });

  test("program: a full table on another thread, calls in order, refusals by place", async () => {
    const terms = { type: "blackhole" as const, protocol: 81, metric: 7 };
    const nowhere = { gateway: parseAddress("203.0.113.1"), protocol: 81 };
    const writes = Array.from({ length: 5000 }, (_, n) => ({
      do: "add" as const,
      destination: parsePrefix(n % 2 === 0 ? `10.${n >> 8}.${n & 255}.0/24` : `fd00:${n.toString(16)}::/64`),
      terms,
    }));
    const added = routes.program([
      ...writes.slice(0, 10),
      { do: "add", destination: parsePrefix("10.250.0.0/16"), terms: nowhere },
      ...writes.slice(10),
      { do: "delete", destination: parsePrefix("10.251.0.0/16"), terms },
    ]);
    const again = routes.program(writes.slice(0, 3));
    expect([...(await added)].map(([at, error]) => [at, error.detail?.["errnoName"]])).toEqual([[10, "ENETUNREACH"]]);
    expect([...(await again)].map(([at, error]) => [at, error.detail?.["operation"]])).toEqual([
      [0, "add blackhole route 10.0.0.0/24 in table 254"],
      [1, "add blackhole route fd00:1::/64 in table 254"],
      [2, "add blackhole route 10.0.2.0/24 in table 254"],
    ]);
    expect(routes.list({ protocol: 81 })).toHaveLength(5000);
    expect(await routes.program(writes.map((write) => ({ ...write, do: "delete" as const })))).toEqual(new Map());
    expect(routes.list({ protocol: 81 })).toEqual([]);
  });
});

test("rules", () => {
  const wanted = {
    family: 4,
    priority: 1000,
    action: "lookup",
    table: 1000,
    mark: 0x10,
    mask: 0xf0,
    source: parsePrefix("10.0.0.0/8"),
    iif: "br0",
    invert: true,
    protocol: 80,
  } as const;
  rules.add(wanted);
  expect(() => rules.add(wanted)).toThrow(/EEXIST/);
  rules.replace(wanted);
  rules.add({ family: 6, priority: 2000, action: "blackhole", destination: parsePrefix("fd09::/64") });
  expect(rules.list({ family: 4 })).toContainEqual(wanted);
  expect(ip("rule", "show", "priority", "1000")).toEqual([
    expect.objectContaining({
      priority: 1000,
      not: null,
      src: "10.0.0.0",
      srclen: 8,
      fwmark: "0x10",
      fwmask: "0xf0",
      iif: "br0",
      table: "1000",
    }),
  ]);
  expect(rules.delete(wanted)).toBe(true);
  expect(rules.delete(wanted)).toBe(false);
});

test("neighbours and forwarding entries", () => {
  const link = indexOf("vxlan.calico");
  const mac = "66:00:00:00:00:02";
  neighbours.replace({ kind: "neighbour", link, address: parseAddress("10.9.9.9"), mac });
  neighbours.replace({ kind: "neighbour", link, address: parseAddress("fd99::9"), mac });
  neighbours.replace({ kind: "fdb", link, mac, destination: parseAddress("192.168.1.1") });
  neighbours.replace({ kind: "fdb", link, mac, destination: parseAddress("192.168.1.2") });
  const permanent = neighbours.list({ link }).filter((entry) => entry.state === 0x80);
  expect(permanent).toEqual([
    { kind: "neighbour", link, address: parseAddress("10.9.9.9"), mac, state: 0x80, flags: 0 },
    { kind: "neighbour", link, address: parseAddress("fd99::9"), mac, state: 0x80, flags: 0 },
    { kind: "fdb", link, mac, destination: parseAddress("192.168.1.2"), state: 0x80, flags: 2 },
  ]);
  expect(one.json("bridge", "-j", "fdb", "show", "dev", "vxlan.calico")).toEqual([
    expect.objectContaining({ mac, dst: "192.168.1.2", flags: ["self"], state: "permanent" }),
  ]);
  expect(
    ip("neigh", "show", "dev", "vxlan.calico").map((entry) => [entry["dst"], entry["lladdr"], entry["state"]]),
  ).toContainEqual(["10.9.9.9", mac, ["PERMANENT"]]);
  expect(neighbours.delete({ kind: "fdb", link, mac, destination: parseAddress("192.168.1.2") })).toBe(true);
  expect(neighbours.delete({ kind: "fdb", link, mac })).toBe(false);
  expect(neighbours.delete({ kind: "neighbour", link, address: parseAddress("10.9.9.9") })).toBe(true);
  expect(neighbours.delete({ kind: "neighbour", link, address: parseAddress("10.9.9.8") })).toBe(false);
});

test("sysctls are those of the namespace", () => {
  const { sysctl } = kernel;
  sysctl.set("net.ipv4.ip_forward", 1);
  expect(sysctl.get("net.ipv4.ip_forward")).toBe("1");
  expect(two.kernel.sysctl.get("net.ipv4.ip_forward")).toBe(two.run("cat", "/proc/sys/net/ipv4/ip_forward").trim());
  expect(one.run("cat", "/proc/sys/net/ipv4/ip_forward").trim()).toBe("1");
  expect(sysctl.get("net/ipv4/conf/vxlan.calico/rp_filter")).toMatch(/^[012]$/);
  expect(sysctl.get("net.ipv4.nothing")).toBeUndefined();
  expect(() => sysctl.set("net.ipv4.nothing", 1)).toThrow(expect.objectContaining({ code: "KERNEL" }));
  expect(() => sysctl.get("kernel.hostname")).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
  expect(() => sysctl.get("net/../kernel/hostname")).toThrow(expect.objectContaining({ code: "BAD_INPUT" }));
});

test("notifications of links, addresses, routes and neighbours", async () => {
  const events: KernelEvent[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  using _ = kernel.watch(["link", "address", "route", "neighbour"], (event) => {
    events.push(event);
    if (event.kind === "link" && event.gone && event.link.name === "w0") resolve();
  });
  one.run("ip", "link", "add", "w0", "type", "bridge");
  one.run("ip", "link", "set", "w0", "up");
  one.run("ip", "addr", "add", "10.44.0.1/24", "dev", "w0");
  one.run("ip", "neigh", "add", "10.44.0.2", "lladdr", "02:00:00:00:00:09", "dev", "w0");
  links.delete("w0");
  await promise;
  const summary = events.map((event) => `${event.kind}${"gone" in event && event.gone ? " gone" : ""}`);
  for (const kind of ["link", "address", "route", "neighbour", "link gone", "address gone"])
    expect(summary).toContain(kind);
  expect(
    events.find((event) => event.kind === "address" && formatAddress(event.address.address) === "10.44.0.1"),
  ).toBeDefined();
});

test("routes of one protocol are told only when they go, if so wished", async () => {
  using scratch = scratchNamespace("quiet");
  scratch.run("ip", "link", "add", "q0", "type", "bridge");
  scratch.run("ip", "link", "set", "q0", "up");
  const told: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  using _ = scratch.kernel.watch(
    ["route"],
    (event) => {
      if (event.kind !== "route" || event.route.table !== 254) return;
      told.push(`${event.gone ? "-" : "+"}${event.route.protocol} ${formatPrefix(event.route.destination)}`);
      if (event.gone && formatPrefix(event.route.destination) === "10.47.0.0/16") resolve();
    },
    { exceptRoutesBy: 12 },
  );
  for (const [prefix, protocol] of [
    ["10.45.0.0/16", "bird"],
    ["10.46.0.0/16", "static"],
    ["fd45::/64", "bird"],
  ] as const) {
    scratch.run("ip", "route", "add", prefix, "dev", "q0", "proto", protocol);
    scratch.run("ip", "route", "del", prefix);
  }
  scratch.run("ip", "route", "add", "10.47.0.0/16", "dev", "q0", "proto", "static");
  scratch.run("ip", "route", "del", "10.47.0.0/16");
  await promise;
  expect(told.slice(0, 4)).toEqual(["-12 10.45.0.0/16", "+4 10.46.0.0/16", "-4 10.46.0.0/16", "-12 fd45::/64"]);
});

test("a namespace that is not there", () => {
  let caught: unknown;
  try {
    openKernel({ netns: "/run/netns/ct-nothing-here" });
  } catch (error) {
    caught = error;
  }
  expect(hasCode(caught, "NOT_FOUND")).toBe(true);
});

test("a kernel outlives the name of its namespace", () => {
  using third = scratchNamespace("rt");
  using other = openKernel({ netns: third.path });
  third[Symbol.dispose]();
  expect(other.links.list().map((link) => link.name)).toEqual(["lo"]);
  expect(other.sysctl.get("net.ipv4.ip_forward")).toBeDefined();
});
