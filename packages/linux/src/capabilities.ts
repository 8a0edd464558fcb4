/**
 * What this host's kernel can do, found out by doing it in a namespace made for the purpose. Configuration files and module lists
 * are not asked: they say what was built, not what works here, now, with these privileges.
 *
 * Nothing is left behind. A probe that fails says what the kernel answered.
 */
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { parseAddress } from "@calico-ts/net";
import {
  accept,
  hostUint32,
  jump,
  limit,
  log,
  lookup,
  masquerade,
  matchAddressType,
  matchCtState,
  type NftChain,
  type NftCommand,
  type NftExpr,
  type NftFamily,
  type NftSet,
  type NftTable,
  notrack,
  reject,
  rule,
} from "@calico-ts/netlink";
import { CalicoError, errorText } from "@calico-ts/std";
import type { Kernel } from "./kernel.ts";
import { addressOf, ERRNO, kernelError, sysBpf, sysIoctl } from "./libc.ts";
import { createNamespace, deleteNamespace, inNamespace, listNamespaces } from "./namespace.ts";
import { openKernel } from "./open-kernel.ts";
import { addQdisc, findGenericFamily, queryIpset, tryFlowtable } from "./capability-requests.ts";

export interface Capability {
  /** Stable, for programs: `link:vxlan`, `nft:flowtable`, `cap:net_admin`. */
  readonly name: string;
  readonly present: boolean;
  /** What told so. */
  readonly detail: string;
}

export interface Capabilities {
  readonly list: readonly Capability[];
  has(name: string): boolean;
}

type Probe = () => string | void | Promise<string | void>;

export async function probeCapabilities(): Promise<Capabilities> {
  const found: Capability[] = [...privileges(), ...files()];
  sweepScratch();
  const scratch = `${SCRATCH}${process.pid}`;
  const record = async (name: string, probe: Probe): Promise<void> => {
    try {
      found.push({ name, present: true, detail: (await probe()) ?? "tried, works" });
    } catch (error) {
      found.push({ name, present: false, detail: errorText(error) });
    }
  };
  let path: string | undefined;
  await record("namespaces", () => {
    path = createNamespace(scratch);
  });
  try {
    if (path !== undefined) await probeIn(path, record);
  } finally {
    deleteNamespace(scratch);
  }
  await record("bpf", loadSmallestProgram);
  const names = new Set(found.filter((capability) => capability.present).map((capability) => capability.name));
  return { list: found, has: (name) => names.has(name) };
}

/** The scratch namespace's name ends in the id of the process that probes. */
const SCRATCH = "calico-probe-";

/** A probe that was killed left its namespace: its name says whose it was, and nobody of that id is there any more. */
function sweepScratch(): void {
  for (const name of listNamespaces()) {
    if (!name.startsWith(SCRATCH)) continue;
    const owner = Number(name.slice(SCRATCH.length));
    if (Number.isInteger(owner) && !existsSync(`/proc/${owner}`)) deleteNamespace(name);
  }
}

type Recorder = (name: string, probe: Probe) => Promise<void>;

async function probeIn(path: string, record: Recorder): Promise<void> {
  using kernel = openKernel({ netns: path });
  await probeLinks(kernel, record);
  await record("link:tun", () => inNamespace(path, openTun));
  await probeTrafficControl(path, kernel, record);
  await probeNftables(kernel, record);
  await record("nft:flowtable", () => tryFlowtable(path));
  await record("ipset", () => queryIpset(path));
  await record("conntrack", () => void kernel.conntrack.list());
  await record("ipvs", () => findGenericFamily(path, "IPVS"));
  await record("sysctl", () => kernel.sysctl.set("net.ipv4.ip_forward", 1));
  await record("ipv6", () => {
    kernel.addresses.add({ link: 1, address: parseAddress("fd00::1"), prefixLength: 128, noDad: true });
  });
}

async function probeLinks(kernel: Kernel, record: Recorder): Promise<void> {
  const { links } = kernel;
  await record(
    "link:veth",
    () => void links.create({ kind: "veth", name: "pv0", up: true, peer: { name: "pv1", up: true } }),
  );
  await record("link:bridge", () => void links.create({ kind: "bridge", name: "pb0" }));
  await record(
    "link:vxlan",
    () => void links.create({ kind: "vxlan", name: "px0", id: 1, port: 4789, learning: false }),
  );
  await record("link:ipip", () => void links.create({ kind: "ipip", name: "pi0", local: parseAddress("127.0.0.1") }));
  for (const type of ["wireguard", "dummy", "vrf", "ifb", "gre", "sit"]) {
    await record(`link:${type}`, () => {
      try {
        links.create({ kind: "other", type, name: `p-${type}`.slice(0, 15) });
        return undefined;
      } catch (error) {
        // Some kinds want options we did not give: refusing those shows that the kernel knows the kind.
        if (!(error instanceof CalicoError) || error.detail["errno"] !== ERRNO.EINVAL) throw error;
        return `known to the kernel: ${error.message}`;
      }
    });
  }
}

const TUNSETIFF = 0x4004_54ca;

/** struct ifreq: 16 bytes of name, then flags (IFF_TUN | IFF_NO_PI). */
function openTun(): void {
  const fd = openSync("/dev/net/tun", "r+");
  try {
    const request = new Uint8Array(40);
    request.set(new TextEncoder().encode("pt0"));
    request.set(new Uint8Array(Uint16Array.of(0x1001).buffer), 16);
    sysIoctl(fd, TUNSETIFF, request);
  } finally {
    closeSync(fd);
  }
}

async function probeTrafficControl(path: string, kernel: Kernel, record: Recorder): Promise<void> {
  const link = kernel.links.get("pv0")?.index ?? 1;
  await record("tc:clsact", () => addQdisc(path, { link, kind: "clsact" }));
  await record("tc:netem", () => addQdisc(path, { link, kind: "netem" }));
  await record("tc:tbf", () => addQdisc(path, { link, kind: "tbf" }));
}

const FAMILIES: readonly NftFamily[] = ["inet", "ip", "ip6", "arp", "bridge", "netdev"];

async function probeNftables({ nft }: Kernel, record: Recorder): Promise<void> {
  for (const family of FAMILIES) {
    await record(`nft:${family}`, () => nft.apply([{ do: "add-table", table: { family, name: "probe" } }]));
  }
  const table: NftTable = { family: "inet", name: "probe" };
  const chain = { name: "c" } satisfies NftChain;
  await record("nft:chain", () => nft.apply([{ do: "add-chain", table, chain }]));
  const set = (name: string, declaration: Omit<NftSet, "name">): Promise<void> =>
    record(`nft:${name}`, () => nft.apply([{ do: "add-set", table, set: { name, ...declaration } }]));
  await set("set", { keyTypes: ["ipv4_addr"] });
  await set("interval-set", { keyTypes: ["ipv4_addr"], interval: true });
  await set("concat-set", { keyTypes: ["ipv4_addr", "inet_proto", "inet_service"] });
  await set("concat-interval-set", { keyTypes: ["ipv4_addr", "inet_service"], interval: true });
  await set("map", { keyTypes: ["mark"], mapTo: "mark" });
  await set("verdict-map", { keyTypes: ["ifname"], mapTo: "verdict" });

  const tryRule = (name: string, exprs: readonly NftExpr[], base?: NftChain): Promise<void> =>
    record(`nft:${name}`, () => {
      const into = base ?? chain;
      const commands: NftCommand[] = [
        { do: "add-chain", table, chain: into },
        { do: "add-rule", table, chain: into.name, rule: rule(exprs, "probe") },
      ];
      return nft.apply(commands);
    });
  const natChain = (hook: "prerouting" | "postrouting"): NftChain => ({
    name: `nat-${hook}`,
    base: { type: "nat", hook, priority: hook === "prerouting" ? -100 : 100, policy: "accept" },
  });
  await tryRule("lookup", lookup("set", ["ip saddr"]));
  await tryRule("log", log({ prefix: "probe" }));
  await tryRule("nflog", log({ prefix: "probe", group: 1 }));
  await tryRule("limit", limit({ rate: 1 }));
  await tryRule("ct", [...matchCtState(["established"]), ...accept()]);
  await tryRule("fib", matchAddressType("daddr", "local"));
  await tryRule("reject", reject());
  await tryRule("notrack", notrack());
  await tryRule("numgen", [{ kind: "numgen", mode: "random", modulus: 2, dreg: 1 }]);
  await tryRule("jhash", [
    { kind: "payload", base: "network", offset: 12, length: 4, dreg: 9 },
    { kind: "hash", sreg: 9, length: 4, modulus: 2, dreg: 1 },
  ]);
  await tryRule("connlimit", [{ kind: "connlimit", count: 10 }]);
  await tryRule(
    "nat",
    [
      { kind: "immediate", dreg: 1, data: hostUint32(0) },
      { kind: "nat", type: "dnat", family: "ip", addressMin: 1 },
    ],
    natChain("prerouting"),
  );
  await tryRule("masquerade", masquerade(), natChain("postrouting"));
  await tryRule("jump", jump("c"), { name: "caller" });
}

const CAPABILITY_BITS = {
  net_admin: 12,
  net_raw: 13,
  net_bind_service: 10,
  sys_admin: 21,
  sys_module: 16,
  sys_ptrace: 19,
  sys_resource: 24,
  perfmon: 38,
  bpf: 39,
} as const;

function privileges(): Capability[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const root = process.geteuid?.() === 0;
  return [
    { name: "root", present: root, detail: `effective user id ${process.geteuid?.() ?? "unknown"}` },
    ...Object.entries(CAPABILITY_BITS).map(([name, bit]) => {
      const present = ((effective >> BigInt(bit)) & 1n) === 1n;
      return { name: `cap:${name}`, present, detail: `CapEff of /proc/self/status is ${effective.toString(16)}` };
    }),
  ];
}

const FILES: readonly { readonly name: string; readonly path: string }[] = [
  { name: "btf", path: "/sys/kernel/btf/vmlinux" },
  { name: "bpffs", path: "/sys/fs/bpf" },
  { name: "cgroup2", path: "/sys/fs/cgroup/cgroup.controllers" },
  { name: "modules", path: "/proc/modules" },
];

const files = (): Capability[] =>
  FILES.map(({ name, path }) => {
    const present = existsSync(path);
    return { name, present, detail: `${path} ${present ? "is there" : "is not there"}` };
  });

const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_SOCKET_FILTER = 1;

/** Two instructions, `r0 = 0; exit`: the least the verifier takes. */
function loadSmallestProgram(): void {
  const instructions = Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  const license = new TextEncoder().encode("Apache-2.0\0");
  const attributes = new Uint8Array(128);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, BPF_PROG_TYPE_SOCKET_FILTER, true);
  view.setUint32(4, 2, true);
  view.setBigUint64(8, addressOf(instructions), true);
  view.setBigUint64(16, addressOf(license), true);
  const fd = sysBpf(BPF_PROG_LOAD, attributes);
  if (fd < 0) throw kernelError({ errno: -fd, operation: "load a BPF program" });
  closeSync(fd);
}
