/** On what terms connections stand: passwords that change under way, peers that are too far away, link-local peers, ports and addresses. Our own daemon on both ends. */
import { showPeers, showReceivedRoutes } from "@calico-ts/bgp";
import { createNamespace, deleteNamespace } from "@calico-ts/linux";
import { parseAddress } from "@calico-ts/net";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { BgpDaemon } from "../src/daemon.ts";
import { ip, Lab } from "../testing/lab.ts";
import { configOf, counter, isUp, OUR_AS, type Ours, pathsTo, route } from "../testing/ours.ts";
import { Scene } from "../testing/scene.ts";

let lab: Lab;
beforeAll(() => {
  lab = new Lab("transport", 3);
});
afterAll(() => lab[Symbol.dispose]());

const peer = { remoteAs: OUR_AS, families: ["ipv4-unicast"] } as const;
const upSince = ({ speaker }: BgpDaemon): (number | undefined)[] => showPeers(speaker).map(({ since }) => since);
const updatesFrom = ({ speaker }: BgpDaemon, name: string): number =>
  speaker.peers.get(name)?.counters.updatesReceived ?? 0;

test("a password changes, comes and goes on standing sessions, and other sessions do not notice", async () => {
  using scene = new Scene(lab);
  const hub = (password?: string): Ours => ({
    peers: [
      { to: "192.0.2.2", ...peer, ...(password !== undefined && { way: { password } }) },
      { to: "192.0.2.3", ...peer, way: { password: "of the third" } },
    ],
  });
  const second = (prefix: string, password?: string): Ours => ({
    peers: [{ to: "192.0.2.1", ...peer, ...(password !== undefined && { way: { password } }) }],
    routes: [route(prefix)],
  });
  const ours = scene.daemon(1, hub("before"));
  const theirs = scene.daemon(2, second("10.2.0.0/24", "before"));
  scene.daemon(3, { peers: [{ to: "192.0.2.1", ...peer, way: { password: "of the third" } }] });
  await scene.eventually("both sessions stand", () => isUp(ours, "192.0.2.2") && isUp(ours, "192.0.2.3"));
  const since = upSince(ours);
  for (const [index, password] of ["after", undefined, "again"].entries()) {
    ours.configure(configOf(lab.station(1), hub(password)));
    theirs.configure(configOf(lab.station(2), second(`10.2.${index + 1}.0/24`, password)));
    await scene.eventually("news gets through", () => pathsTo(ours.speaker, `10.2.${index + 1}.0/24`).length === 1);
  }
  expect(upSince(ours)).toEqual(since);

  // The listener has the new password too.
  const { timesUp } = ours.speaker.peers.get("192.0.2.2")?.counters ?? { timesUp: 0 };
  theirs[Symbol.dispose]();
  scene.daemon(2, second("10.2.9.0/24", "again"));
  await scene.eventually("it comes back with it", () => pathsTo(ours.speaker, "10.2.9.0/24").length === 1);
  expect(ours.speaker.peers.get("192.0.2.2")?.counters.timesUp).toBe(timesUp + 1);
  expect(upSince(ours)[1]).toBe(since[1]);
});

test("a password that cannot be used keeps the peer away, and the reason is told", async () => {
  using scene = new Scene(lab);
  const ours = scene.daemon(1, { peers: [{ to: "192.0.2.2", ...peer, way: { password: "x".repeat(81) } }] });
  const theirs = scene.daemon(2, { peers: [{ to: "192.0.2.1", ...peer }] });
  await scene.eventually(
    "we say why",
    () => showPeers(ours.speaker)[0]?.cause?.includes("has 1 to 80 bytes, this one has 81") === true,
  );
  // It connects without a password, which the kernel would let through.
  await scene.eventually("it is sent away", () => showPeers(theirs.speaker)[0]?.cause?.includes("lost") === true);
  expect([isUp(ours, "192.0.2.2"), isUp(theirs, "192.0.2.1")]).toEqual([false, false]);
});

test("TTL security counts hops; changing it keeps the session", async () => {
  using scene = new Scene(lab);
  // Station 1 – router – station 2, beside the LAN.
  const name = `ct-${process.pid}-transport-hop`;
  createNamespace(name);
  scene.later(() => deleteNamespace(name));
  for (const n of [1, 2]) {
    const station = lab.station(n).name;
    ip("link", "add", `to${n}`, "netns", name, "type", "veth", "peer", "name", "far", "netns", station);
    ip("-n", name, "addr", "add", `198.51.${n}.254/24`, "dev", `to${n}`);
    ip("-n", name, "link", "set", `to${n}`, "up");
    ip("-n", station, "addr", "add", `198.51.${n}.1/24`, "dev", "far");
    ip("-n", station, "link", "set", "far", "up");
    ip("-n", station, "route", "add", `198.51.${3 - n}.0/24`, "via", `198.51.${n}.254`);
    scene.later(() => ip("-n", station, "link", "del", "far"));
  }
  ip("netns", "exec", name, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1");
  const terms = (n: number, ttlSecurityHops: number): Ours => ({
    peers: [
      { to: `198.51.${3 - n}.1`, ...peer, way: { sourceAddress: parseAddress(`198.51.${n}.1`), ttlSecurityHops } },
    ],
    routes: [route(`10.${n}.${ttlSecurityHops}.0/24`)],
  });
  const dropped = counter(lab.station(1), "TCPMinTTLDrop");
  const ours = scene.daemon(1, terms(1, 1));
  const theirs = scene.daemon(2, terms(2, 2));
  await scene.eventually(
    "what is two hops away is not heard",
    () => counter(lab.station(1), "TCPMinTTLDrop") > dropped,
  );
  expect(isUp(ours, "198.51.2.1")).toBe(false);
  ours.configure(configOf(lab.station(1), terms(1, 2)));
  await scene.eventually("two hops are allowed now", () => isUp(ours, "198.51.2.1") && isUp(theirs, "198.51.1.1"));
  const since = upSince(ours);
  ours.configure(configOf(lab.station(1), terms(1, 10)));
  await scene.eventually("news gets through", () => pathsTo(theirs.speaker, "10.1.10.0/24").length === 1);
  expect(upSince(ours)).toEqual(since);
  const before = counter(lab.station(1), "TCPMinTTLDrop");
  ours.configure(configOf(lab.station(1), terms(1, 1)));
  theirs.configure(configOf(lab.station(2), terms(2, 3)));
  await scene.eventually("one hop is too few", () => counter(lab.station(1), "TCPMinTTLDrop") > before);
  expect(pathsTo(ours.speaker, "10.2.3.0/24")).toEqual([]);
});

test("link-local peers, told apart by their interface; IPv4 routes over them (RFC 8950)", async () => {
  using scene = new Scene(lab);
  // A second link between stations 1 and 3, on which station 3 has the address that station 2 has on the LAN.
  const [first, third] = [lab.station(1).name, lab.station(3).name];
  ip("link", "add", "side", "netns", first, "type", "veth", "peer", "name", "side", "netns", third);
  scene.later(() => ip("-n", first, "link", "del", "side"));
  for (const [name, address] of [
    [first, "fe80::1"],
    [third, "fe80::2"],
  ] as const) {
    ip("-n", name, "link", "set", "side", "addrgenmode", "none");
    ip("-n", name, "link", "set", "side", "up");
    ip("-n", name, "addr", "add", `${address}/64`, "dev", "side", "nodad");
  }
  const link = { ...peer, extendedNextHop: true, nextHopSelf: {} };
  const ours = scene.daemon(1, {
    peers: [
      { to: "fe80::2", name: "on the LAN", way: { interface: "eth0" }, ...link },
      { to: "fe80::2", name: "beside", way: { interface: "side" }, ...link, passive: true },
    ],
    routes: [route("10.1.0.0/24")],
  });
  const lan = scene.daemon(2, {
    peers: [{ to: "fe80::1", way: { interface: "eth0" }, ...link, passive: true }],
    routes: [route("10.2.0.0/24")],
  });
  const beside = scene.daemon(3, {
    peers: [{ to: "fe80::1", way: { interface: "side" }, ...link }],
    routes: [route("10.3.0.0/24")],
  });
  await scene.eventually(
    "both sessions stand and carry routes",
    () =>
      [lan, beside].every((one) => pathsTo(one.speaker, "10.1.0.0/24").length === 1) &&
      updatesFrom(ours, "on the LAN") > 0 &&
      updatesFrom(ours, "beside") > 0,
  );
  await scene.eventually("the kernel takes each where it came from", () => {
    const routes = ip("-n", first, "route", "show", "proto", "12");
    return (
      /10\.2\.0\.0\/24 via inet6 fe80::2 dev eth0/.test(routes) &&
      /10\.3\.0\.0\/24 via inet6 fe80::2 dev side/.test(routes)
    );
  });
});

test("another port on either end, and a source address that changes", async () => {
  using scene = new Scene(lab);
  const at = (
    port: number,
    station: number,
  ): { readonly address: ReturnType<typeof parseAddress>; readonly port: number }[] => [
    { address: parseAddress(lab.station(station).address), port },
  ];
  const theirs = scene.daemon(2, { listen: at(1790, 2), peers: [{ to: "192.0.2.1", ...peer, passive: true }] });
  const terms = (sourceAddress: string): Ours => ({
    listen: at(1791, 1),
    peers: [{ to: "192.0.2.2", ...peer, way: { port: 1790, sourceAddress: parseAddress(sourceAddress) } }],
  });
  const ours = scene.daemon(1, terms("192.0.2.1"));
  await scene.eventually("the session stands", () => isUp(ours, "192.0.2.2") && isUp(theirs, "192.0.2.1"));
  ours.configure(configOf(lab.station(1), terms("172.16.1.1")));
  await scene.eventually(
    "from there it is nobody the other side knows",
    () => !isUp(theirs, "192.0.2.1") && showPeers(ours.speaker)[0]?.cause !== undefined,
  );
  ours.configure(configOf(lab.station(1), terms("192.0.2.1")));
  await scene.eventually("it stands again", () => isUp(ours, "192.0.2.2"));
});

test("two peers at one address are told apart by the ports that we dial, whoever calls first", async () => {
  using scene = new Scene(lab);
  const [ours, theirs] = [lab.station(1), lab.station(2)];
  const peers = [179, 1790].map((port) => ({
    to: theirs.address,
    name: `at ${port}`,
    remoteAs: peer.remoteAs,
    way: { port },
  }));
  const here = scene.daemon(1, { peers });
  const there = (port: number, prefix: string): BgpDaemon =>
    scene.daemon(2, {
      listen: [{ address: parseAddress(theirs.address), port }],
      peers: [{ to: ours.address, ...peer }],
      routes: [route(prefix)],
    });
  const heardFrom = (name: string): string[] =>
    showReceivedRoutes(here.speaker, name, "ipv4-unicast").map(({ prefix }) => prefix);
  there(1790, "10.2.0.0/24");
  await scene.eventually("the second is there", () => heardFrom("at 1790").join() === "10.2.0.0/24");
  there(179, "10.1.0.0/24");
  await scene.eventually("the first is there too", () => heardFrom("at 179").join() === "10.1.0.0/24");
});
