/** Requests that only the capability probe makes, written by hand: traffic control, generic netlink, ipset, flowtables. */
import { MessageWriter, NETLINK_FAMILY, NLM_F, NLMSG_ERROR, readAnswer } from "@calico-ts/netlink";
import { answerError, NetlinkSocket } from "./netlink-socket.ts";
import { openNamespace } from "./namespace.ts";
import { closeSync } from "node:fs";

const SEQUENCE = 1;

interface Request {
  readonly protocol: number;
  readonly operation: string;
  readonly bytes: Uint8Array;
}

/** Sends it and waits for the answer. @throws CalicoError KERNEL */
function ask(path: string, request: Request): void {
  const netns = openNamespace(path);
  try {
    using socket = new NetlinkSocket(request.protocol, { netns });
    socket.send(request.bytes, request.operation);
    for (;;) {
      for (const message of socket.receive(request.operation)) {
        if (message.type !== NLMSG_ERROR) return;
        const answer = readAnswer(message);
        if (answer.errno !== 0) throw answerError(answer, request.operation);
        return;
      }
    }
  } finally {
    closeSync(netns);
  }
}

function message(
  header: { readonly type: number; readonly flags: number },
  body: (out: MessageWriter) => void,
): Uint8Array {
  const out = new MessageWriter(256);
  writeMessage(out, { ...header, sequence: SEQUENCE }, body);
  return out.bytes();
}

function writeMessage(
  out: MessageWriter,
  header: { readonly type: number; readonly flags: number; readonly sequence: number },
  body: (out: MessageWriter) => void,
): void {
  const start = out.beginMessage({ ...header, flags: header.flags | NLM_F.REQUEST });
  body(out);
  out.endMessage(start);
}

const RTM_NEWQDISC = 36;
const TC_H_ROOT = 0xffff_ffff;
const TC_H_CLSACT = 0xffff_fff1;
const TCA = { KIND: 1, OPTIONS: 2 } as const;
const TCA_TBF_PARMS = 1;

export function addQdisc(
  path: string,
  qdisc: { readonly link: number; readonly kind: "clsact" | "netem" | "tbf" },
): void {
  const { kind, link } = qdisc;
  const bytes = message({ type: RTM_NEWQDISC, flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE }, (out) => {
    // struct tcmsg: family, interface, handle, parent, info.
    out.u32(0);
    out.u32(link);
    out.u32(kind === "clsact" ? 0xffff_0000 : 0);
    out.u32(kind === "clsact" ? TC_H_CLSACT : TC_H_ROOT);
    out.u32(0);
    out.attributeText(TCA.KIND, kind);
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
    if (kind === "netem") out.attributeBytes(TCA.OPTIONS, new Uint8Array(Uint32Array.of(0, 1000, 0, 0, 0, 0).buffer));
    if (kind === "tbf") writeTbf(out);
  });
  ask(path, { protocol: NETLINK_FAMILY.ROUTE, operation: `add a ${kind} queueing discipline`, bytes });
}

/** struct tc_tbf_qopt: two struct tc_ratespec (rate in their last word), limit, buffer, mtu. */
function writeTbf(out: MessageWriter): void {
  const words = new Uint32Array(9);
  words[2] = 125_000;
  words.set([100_000, 15_625_000, 0], 6);
  const options = out.beginNested(TCA.OPTIONS);
  out.attributeBytes(TCA_TBF_PARMS, new Uint8Array(words.buffer));
  out.end(options);
}

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_NAME = 2;

export function findGenericFamily(path: string, name: string): void {
  const bytes = message({ type: GENL_ID_CTRL, flags: NLM_F.ACK }, (out) => {
    out.u8(CTRL_CMD_GETFAMILY);
    out.u8(1);
    out.u16(0);
    out.attributeText(CTRL_ATTR_FAMILY_NAME, name);
  });
  ask(path, { protocol: NETLINK_FAMILY.GENERIC, operation: `look up the generic netlink family ${name}`, bytes });
}

const NFNL_SUBSYS_IPSET = 6;
const IPSET_CMD_PROTOCOL = 1;
const IPSET_PROTOCOL = 6;

export function queryIpset(path: string): void {
  const bytes = message({ type: (NFNL_SUBSYS_IPSET << 8) | IPSET_CMD_PROTOCOL, flags: NLM_F.ACK }, (out) => {
    out.u8(2);
    out.u8(0);
    out.be16(0);
    out.attributeBytes(1, Uint8Array.of(IPSET_PROTOCOL));
  });
  ask(path, { protocol: NETLINK_FAMILY.NETFILTER, operation: "ask for the ipset protocol", bytes });
}

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWTABLE = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_NEWFLOWTABLE = (NFNL_SUBSYS_NFTABLES << 8) | 22;
const NFPROTO_INET = 1;

/** A flowtable needs a table of its own in the same transaction; the namespace that holds it goes away afterwards. */
export function tryFlowtable(path: string): void {
  const out = new MessageWriter(512);
  const envelope = (type: number, sequence: number): void =>
    writeMessage(out, { type, flags: 0, sequence }, () => {
      out.u16(0);
      out.be16(NFNL_SUBSYS_NFTABLES);
    });
  const header = (): void => {
    out.u8(NFPROTO_INET);
    out.u8(0);
    out.be16(0);
  };
  envelope(16, 1);
  writeMessage(out, { type: NFT_MSG_NEWTABLE, flags: NLM_F.CREATE, sequence: 2 }, () => {
    header();
    out.attributeText(1, "probe-flow");
  });
  writeMessage(out, { type: NFT_MSG_NEWFLOWTABLE, flags: NLM_F.CREATE | NLM_F.ACK, sequence: 3 }, () => {
    header();
    out.attributeText(1, "probe-flow");
    out.attributeText(2, "f");
    const hook = out.beginNested(3);
    out.attributeBe32(1, 0);
    out.attributeBe32(2, 0);
    const devices = out.beginNested(3);
    out.attributeText(1, "lo");
    out.end(devices);
    out.end(hook);
  });
  envelope(17, 4);
  ask(path, { protocol: NETLINK_FAMILY.NETFILTER, operation: "add a flowtable", bytes: out.bytes() });
}
