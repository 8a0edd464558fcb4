/**
 * START HERE for the fabric: makes the namespaces, switches, routers and cables of a layout, and takes them away again.
 *
 * Nothing of a run stands in the root namespace, and no namespace of a run has a link that leads out of it, so nothing can
 * leave the host. Default routes end at the control plane, whose namespace answers "network unreachable" for the rest of
 * the world. Everything is made over netlink; a three-node fabric takes a few tens of milliseconds.
 */
import { closeSync, openSync } from "node:fs";
import type { Kernel } from "@calico-ts/linux";
import { createNamespace, deleteNamespace, openKernel } from "@calico-ts/linux";
import { addressBits, parsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { namespacePath } from "../names.ts";
import type { TopologyPlan } from "../topology/plan.ts";
import type { CableLayout, FabricLayout, HostLayout, SwitchLayout } from "./layout.ts";
import { layOutFabric } from "./layout.ts";

export interface Fabric extends Disposable {
  readonly layout: FabricLayout;
}

/** Kernel defaults made explicit, since a new namespace takes some of its values from the host's root namespace. */
const HOST_SYSCTLS = {
  "net.ipv4.ip_forward": 1,
  "net.ipv6.conf.all.forwarding": 1,
  "net.ipv4.conf.all.rp_filter": 0,
  "net.ipv4.conf.default.rp_filter": 0,
} as const;

/** Sending "use the other router" would make nodes bypass the topology. */
const ROUTER_SYSCTLS = { "net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0 } as const;

/** A switch only forwards frames; its own IPv6 chatter would just cost time. */
const SWITCH_SYSCTLS = { "net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1 } as const;

export function buildFabric(run: string, plan: TopologyPlan): Fabric {
  const layout = layOutFabric(run, plan);
  using undo = new DisposableStack();
  for (const { namespace } of [...layout.switches, ...layout.hosts]) {
    createNamespace(namespace);
    undo.defer(() => deleteNamespace(namespace));
  }
  const bridges = new Map<string, Bridge>();
  using kernels = new DisposableStack();
  for (const part of layout.switches) {
    const kernel = kernels.use(openKernel({ netns: namespacePath(part.namespace) }));
    bridges.set(part.namespace, { kernel, index: buildSwitch(kernel, part) });
  }
  for (const host of layout.hosts) buildHost(host, bridges);
  const owned = undo.move();
  return { layout, [Symbol.dispose]: () => owned.dispose() };
}

interface Bridge {
  readonly kernel: Kernel;
  readonly index: number;
}

function buildSwitch(kernel: Kernel, part: SwitchLayout): number {
  setAll(kernel, SWITCH_SYSCTLS);
  kernel.links.set("lo", { up: true });
  kernel.links.create({
    kind: "bridge",
    name: "br0",
    mtu: part.mtu,
    up: true,
    multicastSnooping: false,
    forwardDelay: 0,
  });
  const bridge = kernel.links.get("br0");
  if (bridge === undefined) throw new CalicoError("INTERNAL", `the bridge of subnet ${part.subnet} vanished`);
  return bridge.index;
}

function buildHost(host: HostLayout, bridges: ReadonlyMap<string, Bridge>): void {
  using kernel = openKernel({ netns: namespacePath(host.namespace) });
  setAll(kernel, HOST_SYSCTLS);
  if (host.kind !== "node") setAll(kernel, ROUTER_SYSCTLS);
  kernel.links.set("lo", { up: true });
  const loopback = kernel.links.get("lo")?.index ?? 1;
  for (const address of host.loopback)
    kernel.addresses.add({ link: loopback, address, prefixLength: addressBits(address.family) });
  for (const cable of host.cables) plugIn(host, cable, bridges);
  for (const cable of host.cables) {
    const link = kernel.links.get(cable.link);
    if (link === undefined) throw new CalicoError("INTERNAL", `${host.name}: ${cable.link} did not arrive`);
    for (const { address, prefixLength } of cable.addresses) {
      kernel.addresses.add({
        link: link.index,
        address,
        prefixLength,
        ...(address.family === 6 ? { noDad: true } : {}),
      });
    }
  }
  for (const route of host.routes) {
    kernel.routes.add({
      destination: route.to ?? parsePrefix(route.family === 4 ? "0.0.0.0/0" : "::/0"),
      gateway: route.via,
    });
  }
}

/** The near end becomes a port of the switch, the far end appears in the host's namespace under its final name. */
function plugIn(host: HostLayout, cable: CableLayout, bridges: ReadonlyMap<string, Bridge>): void {
  const bridge = bridges.get(cable.to);
  if (bridge === undefined) throw new CalicoError("INTERNAL", `${host.name}: no switch ${cable.to}`);
  const namespaceFd = openSync(namespacePath(host.namespace), "r");
  try {
    bridge.kernel.links.create({
      kind: "veth",
      name: cable.switchPort,
      mtu: cable.mtu,
      master: bridge.index,
      up: true,
      peer: { name: cable.link, mac: cable.mac, mtu: cable.mtu, up: true, namespaceFd },
    });
  } finally {
    closeSync(namespaceFd);
  }
}

function setAll(kernel: Kernel, values: Readonly<Record<string, number>>): void {
  for (const [key, value] of Object.entries(values)) {
    // A kernel without IPv6 has no such keys, and needs none.
    if (key.startsWith("net.ipv6.") && kernel.sysctl.get(key) === undefined) continue;
    kernel.sysctl.set(key, value);
  }
}
