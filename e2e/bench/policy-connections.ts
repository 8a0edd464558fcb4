/**
 * How fast do new connections between two pods of a node begin, with few policies on the node and with many? Both nodes stand beside each
 * other and take turns, so what else the machine does meets both.
 *
 * A connection is a UDP datagram from a port of its own, put on the sender's link: the kernel looks its connection up, finds none, and asks the
 * sender's egress and the receiver's ingress policy. Nothing else is paid for, so the share of policy is larger here than in
 * connections that programs make.
 */
import { openLinkSocket } from "@calico-ts/linux";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import { applyChange, createCompiler, NftPolicyRenderer, NodePlanKernel } from "@calico-ts/policy-compiler";
import { globalPolicy, namespace, node, pod } from "@calico-ts/policy-compiler/testing";
import { LAB_PODS, NODE_ADDRESS, PacketLab } from "../test/policy/packet-lab.ts";

const APPLYING = 10;
const OTHER_PODS = 100;
const PORT = 9000;
const BATCH = 2000;
const ROUNDS = 40;

/** `policies` on the node; ten of them apply to the two pods, the last of which allows what is sent. The others apply to 100 other pods. */
function* world(policies: number): Iterable<CompilerUpdate> {
  yield namespace("a");
  yield namespace("b");
  yield node("n1", { ipv4: `${NODE_ADDRESS}/24` });
  for (const { namespace: space, name, address } of LAB_PODS)
    yield pod(`${space}/${name}`, { ips: [address], node: "n1", labels: { app: "measured" } });
  for (let at = 0; at < OTHER_PODS; at++)
    yield pod(`a/other${at}`, { ips: [`10.9.0.${at}`], node: "n1", labels: { group: `g${at}` } });
  for (let at = 0; at < policies; at++) {
    const applies = at < APPLYING;
    const last = at === APPLYING - 1;
    const rule = {
      action: "Allow",
      protocol: last ? "UDP" : "TCP",
      source: { selector: "app == 'measured'" },
      destination: { ports: [last ? PORT : 1000 + (at % 1000)] },
    };
    yield globalPolicy(`p${String(at).padStart(5, "0")}`, {
      selector: applies ? "app == 'measured'" : `group == 'g${at % OTHER_PODS}'`,
      types: ["Ingress", "Egress"],
      ingress: [rule],
      egress: [rule],
    });
  }
}

class Pair implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #lab: PacketLab;
  readonly #link: ReturnType<typeof openLinkSocket>;
  readonly #packet = datagram("10.0.0.1", "10.0.0.2");
  readonly times: number[] = [];

  constructor(name: string) {
    this.#lab = this.#stack.use(new PacketLab(`ct-${process.pid}${name}`));
    const mac = /link\/ether (\S+)/.exec(this.#lab.exec("p0", "ip", "-o", "link", "show", "eth0"))?.[1] ?? "";
    const [index = "0"] = this.#lab.exec("p0", "cat", "/sys/class/net/eth0/ifindex").trim().split("\n");
    // The node's end takes what is sent to its own address; ARP resolves it once.
    this.#lab.exec("p0", "sh", "-c", "ping -c1 -W1 169.254.1.1 >/dev/null 2>&1; true");
    const peer = /lladdr (\S+)/.exec(this.#lab.exec("p0", "ip", "neigh", "show", "169.254.1.1"))?.[1] ?? mac;
    this.#link = this.#stack.use(openLinkSocket({ netns: this.#lab.netns("p0"), link: Number(index), peerMac: peer }));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }

  async program(policies: number): Promise<void> {
    const renderer = new NftPolicyRenderer();
    const compiler = createCompiler({ node: "n1", emit: (message) => renderer.receive(message) });
    for (const update of world(policies)) compiler.update(update);
    compiler.setInSync();
    compiler.flush();
    await applyChange(renderer.take(), new NodePlanKernel(this.#lab.kernel));
  }

  round(): void {
    this.#lab.kernel.conntrack.flush();
    const start = performance.now();
    for (let at = 0; at < BATCH; at++) {
      this.#packet[20] = (1024 + at) >> 8;
      this.#packet[21] = (1024 + at) & 255;
      this.#link.send(this.#packet);
    }
    this.times.push(performance.now() - start);
  }

  /** Packets the receiver's link has been given. */
  arrived(): number {
    return Number(this.#lab.exec("p1", "cat", "/sys/class/net/eth0/statistics/rx_packets").trim());
  }
}

export interface ConnectionRates {
  readonly few: { readonly policies: number; readonly perSecond: number };
  readonly many: { readonly policies: number; readonly perSecond: number };
}

export async function connectionRates(few: number, many: number): Promise<ConnectionRates> {
  using one = new Pair("few");
  using other = new Pair("many");
  await one.program(few);
  await other.program(many);
  for (const pair of [one, other]) {
    const before = pair.arrived();
    pair.round();
    if (pair.arrived() - before < BATCH) throw new Error("not every datagram came through: nothing is measured");
    pair.times.length = 0;
  }
  for (let round = 0; round < ROUNDS; round++) for (const pair of [one, other]) pair.round();
  return { few: { policies: few, perSecond: rate(one) }, many: { policies: many, perSecond: rate(other) } };
}

/** Of the faster rounds: what others do on the machine only ever adds. */
function rate({ times }: Pair): number {
  const quartile = times.toSorted((a, b) => a - b)[Math.floor(times.length / 4)] ?? Number.NaN;
  return (BATCH / quartile) * 1000;
}

/** An IPv4 header with its checksum, and UDP without one (RFC 768 allows that). */
function datagram(from: string, to: string): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  bytes.set([0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17]);
  bytes.set(from.split(".").map(Number), 12);
  bytes.set(to.split(".").map(Number), 16);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  view.setUint16(10, ~sum & 0xffff);
  view.setUint16(22, PORT);
  view.setUint16(24, 12);
  return bytes;
}
