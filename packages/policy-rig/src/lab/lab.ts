/**
 * The pool of namespaces: one node with a veth to each local pod, and one namespace for everything else. It is built once and
 * lives as long as the rig; a world only changes the node's nf_tables table.
 *
 * Pods and the outside have no addresses and no protocol stacks that could answer: packets are put on their links, and
 * what arrives is read from their links, as bytes. So nothing but the rig's own packets is ever on the way, no socket has to be
 * open, and a case may use any address and port. Neighbours of the node are written down, so nobody asks for them.
 * A veth hands packets over before `send` returns, or soon after when the machine is busy: `drain` collects, the caller decides how
 * long to wait.
 */
import { closeSync, openSync } from "node:fs";
import type { Kernel, LinkSocket, RawReceiver, RawSender } from "@calico-ts/linux";
import {
  createNamespace,
  deleteNamespace,
  namespacePath,
  openKernel,
  openLinkSocket,
  openRawReceiver,
  openRawSender,
} from "@calico-ts/linux";
import { hostPrefix, parseAddress, parsePrefix } from "@calico-ts/net";
import type { Family } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import { PROTOCOL } from "../packets/packet.ts";
import { ipHeader, readId } from "../packets/wire.ts";
import type { Slot } from "./plan.ts";
import { addressOf, interfaceOf, LOCAL, NEIGHBOUR_ADDRESS, NODE_ADDRESS, UPLINK } from "./plan.ts";

const FAMILIES = [4, 6] as const;
const POD_MAC = "02:00:00:00:00:02";
const NODE_MAC = "02:00:00:00:00:01";

/** A pod by its slot's name, `outside` or `node`. */
export type Place = string;

export interface Arrival {
  readonly place: Place;
  readonly id: number;
  /** Absent at the node itself. Good until the next one comes. */
  readonly packet?: Uint8Array;
}

interface Receiver {
  readonly place: Place;
  readonly socket: RawReceiver;
  /** Raw IPv6 sockets leave the IP header out: then what protocol it is. */
  readonly headless?: number;
}

export class Lab implements Disposable {
  /** The node's. */
  readonly kernel: Kernel;
  readonly netns: string;
  readonly #names: string[] = [];
  readonly #links = new Map<Place, LinkSocket>();
  readonly #receivers: Receiver[] = [];
  readonly #senders = new Map<string, RawSender>();
  readonly #open: Disposable[] = [];
  readonly #buffer = new Uint8Array(4096);

  /** Namespaces are called `<prefix>-…`. */
  constructor(prefix: string) {
    try {
      this.netns = this.#namespace(`${prefix}-node`);
      this.kernel = this.#keep(openKernel({ netns: this.netns }));
      this.#setUpNode();
      for (const [at, slot] of LOCAL.entries()) this.#addPod(slot, this.#namespace(`${prefix}-pod${at}`));
      this.#addOutside(this.#namespace(`${prefix}-outside`));
      this.#receiveOnNode();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const item of this.#open.splice(0).toReversed()) item[Symbol.dispose]();
    for (const name of this.#names.splice(0)) deleteNamespace(name);
  }

  /** From a pod or the outside: as its link's next packet, whatever its addresses are. */
  send(place: Place, packet: Uint8Array): void {
    const link = this.#links.get(place);
    if (link === undefined) throw new CalicoError("NOT_FOUND", `there is nobody called ${place} in the lab`);
    link.send(packet);
  }

  /** From the node itself; whether its output path let it go shows in what arrives. */
  sendFromNode(packet: Uint8Array, to: string, mark = 0): void {
    const address = parseAddress(to);
    const key = `${address.family} ${mark}`;
    let sender = this.#senders.get(key);
    if (sender === undefined) {
      sender = this.#keep(openRawSender({ netns: this.netns, family: address.family, mark }));
      this.#senders.set(key, sender);
    }
    sender.send(packet, address);
  }

  /** Everything that has arrived anywhere since the last call. */
  drain(onArrival: (arrival: Arrival) => void): void {
    for (const { place, socket, headless } of this.#receivers) {
      for (;;) {
        const length = socket.receive(this.#buffer);
        if (length === 0) break;
        const packet = this.#buffer.subarray(0, length);
        const { protocol, header } = headless === undefined ? ipHeader(packet) : { protocol: headless, header: 0 };
        const id = readId(packet, protocol, header);
        if (id !== undefined) onArrival(place === "node" ? { place, id } : { place, id, packet });
      }
    }
  }

  #keep<T extends Disposable>(item: T): T {
    this.#open.push(item);
    return item;
  }

  #namespace(name: string): string {
    createNamespace(name);
    this.#names.push(name);
    return namespacePath(name);
  }

  #setUpNode(): void {
    const { sysctl } = this.kernel;
    sysctl.set("net.ipv4.ip_forward", 1);
    sysctl.set("net.ipv6.conf.all.forwarding", 1);
    // Forged packets are the rules' business here.
    for (const name of ["all", "default"]) sysctl.set(`net.ipv4.conf.${name}.rp_filter`, 0);
    sysctl.set("net.ipv4.conf.all.send_redirects", 0);
    sysctl.set("net.ipv4.conf.default.send_redirects", 0);
    sysctl.set("net.ipv6.conf.default.addr_gen_mode", 1);
    sysctl.set("net.ipv6.conf.default.accept_ra", 0);
    // What the node answers to closed ports would only be noise.
    sysctl.set("net.ipv4.icmp_echo_ignore_all", 1);
    sysctl.set("net.ipv6.icmp.echo_ignore_all", 1);
  }

  /** A veth between the node and another namespace; returns its index on the node. */
  #connect(name: string, netns: string): number {
    const fd = openSync(netns, "r");
    try {
      this.kernel.links.create({
        kind: "veth",
        name,
        mac: NODE_MAC,
        peer: { name: UPLINK, mac: POD_MAC, namespaceFd: fd },
      });
    } finally {
      closeSync(fd);
    }
    const inside = this.#keep(openKernel({ netns }));
    inside.sysctl.set(`net.ipv6.conf.${UPLINK}.disable_ipv6`, 1);
    inside.links.set(UPLINK, { up: true });
    this.kernel.links.set(name, { up: true });
    return this.kernel.links.get(name)?.index ?? 0;
  }

  #listen(place: Place, netns: string): void {
    const inside = this.#keep(openKernel({ netns }));
    const link = inside.links.get(UPLINK)?.index ?? 0;
    const socket = this.#keep(openLinkSocket({ netns, link, peerMac: NODE_MAC }));
    this.#links.set(place, socket);
    this.#receivers.push({ place, socket });
  }

  #neighbour(link: number, address: string): void {
    this.kernel.neighbours.add({ kind: "neighbour", link, address: parseAddress(address), mac: POD_MAC, state: 0x80 });
  }

  #addPod(slot: Slot, netns: string): void {
    const link = this.#connect(interfaceOf(slot), netns);
    for (const family of FAMILIES) {
      const address = addressOf(slot, family);
      this.#neighbour(link, address);
      this.kernel.routes.add({
        destination: hostPrefix(parseAddress(address)),
        link,
        protocol: 80,
        scope: family === 4 ? 253 : 0,
      });
    }
    this.#listen(slot.pod, netns);
  }

  #addOutside(netns: string): void {
    const link = this.#connect(UPLINK, netns);
    for (const family of FAMILIES) {
      const prefixLength = family === 4 ? 24 : 64;
      this.kernel.addresses.add({ link, address: parseAddress(NODE_ADDRESS[family]), prefixLength, noDad: true });
      const gateway = parseAddress(NEIGHBOUR_ADDRESS[family]);
      this.#neighbour(link, NEIGHBOUR_ADDRESS[family]);
      this.kernel.routes.add({ destination: parsePrefix(family === 4 ? "0.0.0.0/0" : "::/0"), gateway, link });
    }
    this.#listen("outside", netns);
  }

  #receiveOnNode(): void {
    for (const family of FAMILIES) {
      for (const protocol of nodeProtocols(family)) {
        const socket = this.#keep(openRawReceiver({ netns: this.netns, family, protocol }));
        this.#receivers.push({ place: "node", socket, ...(family === 6 ? { headless: protocol } : {}) });
      }
    }
  }
}

const nodeProtocols = (family: Family): number[] => [
  family === 4 ? PROTOCOL.ICMP : PROTOCOL.ICMP6,
  PROTOCOL.TCP,
  PROTOCOL.UDP,
  PROTOCOL.SCTP,
  PROTOCOL.UDPLITE,
  PROTOCOL.IPIP,
  PROTOCOL.OTHER,
];
