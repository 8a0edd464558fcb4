/**
 * One netlink socket: requests with acknowledgements, dumps, and what goes wrong with them.
 *
 * The kernel works a request off inside `send`, so answers are there when it returns: calls are synchronous and short.
 * Handled here: interrupted calls, dumps the kernel marks as inconsistent (NLM_F_DUMP_INTR: asked again), datagrams larger
 * than the buffer (asked again with a larger one), answers to earlier requests (dropped by sequence number), receive
 * overruns. Sockets check strictly (NETLINK_GET_STRICT_CHK) and ask for extended acknowledgements.
 */
import { closeSync } from "node:fs";
import { setImmediate as yieldToOthers } from "node:timers/promises";
import {
  type Answer,
  type MessageView,
  MessageWriter,
  NLM_F,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAnswer,
  readMessages,
  type RouteRequest,
  writeRequest,
} from "@calico-ts/netlink";
import { CalicoError } from "@calico-ts/std";
import { inNamespace } from "./namespace.ts";
import {
  ERRNO,
  kernelError,
  MSG,
  sysBind,
  sysGetSockName,
  sysGetSockOptInt,
  sysRecv,
  sysSend,
  sysSendAsync,
  sysSetSockOpt,
  sysSocket,
  trySetSockOpt,
} from "./libc.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SOL_NETLINK = 270;
const SO = {
  SNDBUF: [SOL_SOCKET, 7],
  RCVBUF: [SOL_SOCKET, 8],
  RCVTIMEO: [SOL_SOCKET, 20],
  SNDBUFFORCE: [SOL_SOCKET, 32],
  RCVBUFFORCE: [SOL_SOCKET, 33],
} as const;
const NETLINK_ADD_MEMBERSHIP = [SOL_NETLINK, 1] as const;
const NETLINK_CAP_ACK = [SOL_NETLINK, 10] as const;
const NETLINK_EXT_ACK = [SOL_NETLINK, 11] as const;
const NETLINK_GET_STRICT_CHK = [SOL_NETLINK, 12] as const;

/** Room for the answers to a large batch or a burst of notifications. */
const RECEIVE_BUFFER = 8 << 20;
const RECEIVE_TIMEOUT_SECONDS = 10;
const DUMP_ATTEMPTS = 20;
/** Requests per `send`: their answers must fit the receive buffer even when each is an error. */
const REQUESTS_PER_SEND = 512;

const DATAGRAMS_PER_TURN = 32;

/** Requests with consecutive sequence numbers, of which the last asks to be acknowledged. */
export interface Datagram {
  readonly count: number;
  readonly operation: string;
  readonly encode: (sequence: number) => Uint8Array;
}

export interface Dump {
  readonly answer: Answer;
  readonly messages: readonly MessageView[];
}

export class NetlinkSocket implements Disposable {
  readonly fd: number;
  /** The kernel's name for this socket; notifications of what it did carry it. */
  readonly portId: number;
  #sequence = 1;
  #buffer: Uint8Array = new Uint8Array(128 * 1024);
  /** Requests on their way out, one datagram after the other. */
  readonly #requests = new MessageWriter();
  #closed = false;

  constructor(protocol: number, options: { readonly netns: number; readonly groups?: readonly number[] }) {
    this.fd = inNamespace(options.netns, () => sysSocket(AF_NETLINK, SOCK_RAW, protocol));
    try {
      sysBind(this.fd, netlinkAddress(), "a netlink socket");
      this.portId = new DataView(sysGetSockName(this.fd).slice().buffer).getUint32(4, true);
      // Older kernels lack one or the other; nothing below depends on them for correctness.
      for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
        trySetSockOpt(this.fd, option, 1);
      if (!trySetSockOpt(this.fd, SO.RCVBUFFORCE, RECEIVE_BUFFER)) trySetSockOpt(this.fd, SO.RCVBUF, RECEIVE_BUFFER);
      trySetSockOpt(this.fd, SO.RCVTIMEO, timeValue(RECEIVE_TIMEOUT_SECONDS));
      for (const group of options.groups ?? []) sysSetSockOpt(this.fd, NETLINK_ADD_MEMBERSHIP, group);
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.fd);
  }

  /** The first of that many consecutive sequence numbers. */
  takeSequence(count: number): number {
    // Notifications have number 0.
    if (this.#sequence + count > 0xffff_fff0) this.#sequence = 1;
    const first = this.#sequence;
    this.#sequence += count;
    return first;
  }

  /**
   * Sends the requests; each stands for itself. `onRefused` hears of those the kernel did not carry out, in order. Only the last of a datagram asks to be
   * acknowledged: the kernel takes them in order and answers refusals in any case, so what nothing was heard of by then went well.
   */
  transact(requests: readonly RouteRequest[], onRefused: (answer: Answer, index: number) => void): void {
    for (let at = 0; at < requests.length; at += REQUESTS_PER_SEND) {
      this.#transactChunk(requests, at, onRefused);
    }
  }

  #transactChunk(
    requests: readonly RouteRequest[],
    from: number,
    onRefused: (answer: Answer, index: number) => void,
  ): void {
    const count = Math.min(REQUESTS_PER_SEND, requests.length - from);
    const first = this.takeSequence(count);
    const out = this.#requests;
    out.rewind(0);
    for (let index = 0; index < count; index++) {
      const request = requests[from + index];
      if (request !== undefined) writeRequest(out, request, first + index, index < count - 1);
    }
    const operation = requests[from]?.operation ?? "netlink request";
    this.send(out.bytes(), operation);
    this.#answers({ first, count, operation }, (answer) => onRefused(answer, from + answer.sequence - first));
  }

  /** As `transact`, for requests encoded into one datagram, on another thread; nobody else may use the socket meanwhile. */
  async transactAsync(
    { count, operation, encode }: Datagram,
    onRefused: (answer: Answer, index: number) => void,
  ): Promise<void> {
    const first = this.takeSequence(count);
    await this.sendAsync(encode(first), operation);
    this.#answers({ first, count, operation }, (answer) => onRefused(answer, answer.sequence - first));
  }

  /** On another thread; nobody else may use the socket meanwhile. */
  async tryRequestAsync(request: RouteRequest): Promise<Answer> {
    const sequence = this.takeSequence(1);
    const out = new MessageWriter(128);
    writeRequest(out, request, sequence);
    await this.sendAsync(out.bytes(), request.operation);
    let answer: Answer = { sequence, errno: 0 };
    this.#answers({ first: sequence, count: 1, operation: request.operation }, (refusal) => {
      answer = refusal;
    });
    return answer;
  }

  /** Waits for the last answer of that many, which always comes. */
  #answers(
    { first, count, operation }: { readonly first: number; readonly count: number; readonly operation: string },
    onRefused: (answer: Answer) => void,
  ): void {
    const last = first + count - 1;
    for (let before = first - 1; before < last; ) {
      for (const message of this.receive(operation)) {
        if (message.type !== NLMSG_ERROR) continue;
        const answer = readAnswer(message);
        // Of an earlier request, or heard already.
        if (answer.sequence <= before || answer.sequence > last) continue;
        before = answer.sequence;
        if (answer.errno !== 0) onRefused(answer);
      }
    }
  }

  /** One request. @throws CalicoError KERNEL */
  request(request: RouteRequest): void {
    const answer = this.tryRequest(request);
    if (answer.errno !== 0) throw answerError(answer, request.operation);
  }

  tryRequest(request: RouteRequest): Answer {
    let answer: Answer = { sequence: 0, errno: 0 };
    this.transact([request], (refusal) => {
      answer = refusal;
    });
    return answer;
  }

  /**
   * Messages that answer a dump, or a request for one object. `encode` is called again when the kernel says the dump
   * was overtaken by a change.
   */
  dump(operation: string, encode: (sequence: number) => Uint8Array, onMessage: (message: MessageView) => void): Answer {
    const steps = this.#dumpSteps(operation, encode);
    for (;;) {
      const { done, value } = steps.next();
      if (done !== true) continue;
      value.messages.forEach(onMessage);
      return value.answer;
    }
  }

  /** The same for long answers: other work gets a turn between datagrams. */
  async dumpAsync(operation: string, encode: (sequence: number) => Uint8Array): Promise<Dump> {
    const steps = this.#dumpSteps(operation, encode);
    for (let datagrams = 1; ; datagrams++) {
      const { done, value } = steps.next();
      if (done === true) return value;
      if (datagrams % DATAGRAMS_PER_TURN === 0) await yieldToOthers();
    }
  }

  /** Yields after every datagram. */
  *#dumpSteps(operation: string, encode: (sequence: number) => Uint8Array): Generator<undefined, Dump> {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const sequence = this.takeSequence(1);
      this.send(encode(sequence), operation);
      const messages: MessageView[] = [];
      const answer = yield* this.#collect(operation, sequence, messages);
      if (answer !== undefined) return { answer, messages };
    }
    throw new CalicoError(
      "UNAVAILABLE",
      `${operation}: the objects changed during each of ${DUMP_ATTEMPTS} listings; try again`,
    );
  }

  /** The closing answer, or undefined when the dump has to be repeated. */
  *#collect(operation: string, sequence: number, kept: MessageView[]): Generator<undefined, Answer | undefined> {
    let consistent = true;
    for (;;) {
      const messages = this.receive(operation, true);
      if (messages === undefined) {
        this.drain();
        return undefined;
      }
      for (const message of messages) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F.DUMP_INTR) !== 0) consistent = false;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const answer = readAnswer(message);
          if (answer.errno === ERRNO.EINTR || answer.errno === ERRNO.EAGAIN) return undefined;
          return consistent ? answer : undefined;
        }
        kept.push({ ...message, body: message.body.slice() });
        if ((message.flags & NLM_F.MULTI) === 0) return { sequence, errno: 0 };
      }
      yield;
    }
  }

  send(bytes: Uint8Array, operation: string): void {
    this.#fitSendBuffer(bytes.length);
    const sent = sysSend(this.fd, bytes);
    if (sent < 0) throw sendError(-sent, operation, bytes.length);
  }

  /** On another thread: for what keeps the kernel busy. */
  async sendAsync(bytes: Uint8Array, operation: string): Promise<void> {
    this.#fitSendBuffer(bytes.length);
    const sent = await sysSendAsync(this.fd, bytes);
    if (sent < 0) throw sendError(-sent, operation, bytes.length);
  }

  #sendBuffer = 0;

  /** A datagram must fit the send buffer whole (netlink_sendmsg): a batch cannot be split without ceasing to be one. */
  #fitSendBuffer(length: number): void {
    const wanted = length + 1024;
    if (wanted <= this.#sendBuffer) return;
    if (!trySetSockOpt(this.fd, SO.SNDBUFFORCE, wanted)) trySetSockOpt(this.fd, SO.SNDBUF, wanted);
    this.#sendBuffer = sysGetSockOptInt(this.fd, SO.SNDBUF);
  }

  /**
   * One datagram's messages. Undefined (only when `mayOverrun`): the kernel had to drop some, or one did not fit.
   * @throws CalicoError TIMEOUT, KERNEL
   */
  receive(operation: string): MessageView[];
  receive(operation: string, mayOverrun: true): MessageView[] | undefined;
  receive(operation: string, mayOverrun = false): MessageView[] | undefined {
    for (;;) {
      const got = sysRecv(this.fd, this.#buffer, MSG.TRUNC);
      if (got > this.#buffer.length) {
        this.#buffer = new Uint8Array(got * 2);
        if (mayOverrun) return undefined;
        throw new CalicoError("INTERNAL", `${operation}: an answer of ${got} bytes was cut off`);
      }
      if (got >= 0) return readMessages(this.#buffer.subarray(0, got));
      if (got === -ERRNO.ENOBUFS) {
        if (mayOverrun) return undefined;
        continue;
      }
      if (got === -ERRNO.EAGAIN) {
        throw new CalicoError("TIMEOUT", `${operation}: no answer from the kernel in ${RECEIVE_TIMEOUT_SECONDS} s`);
      }
      throw kernelError({ errno: -got, operation });
    }
  }

  /** What is there now, without waiting: a datagram's messages, `"overrun"`, or undefined for nothing. */
  receiveNow(): MessageView[] | "overrun" | undefined {
    const got = sysRecv(this.fd, this.#buffer, MSG.TRUNC | MSG.DONTWAIT);
    if (got > this.#buffer.length) {
      this.#buffer = new Uint8Array(got * 2);
      return "overrun";
    }
    if (got >= 0) return readMessages(this.#buffer.subarray(0, got));
    if (got === -ERRNO.ENOBUFS) return "overrun";
    if (got === -ERRNO.EAGAIN) return undefined;
    throw kernelError({ errno: -got, operation: "receive from netlink" });
  }

  drain(): void {
    while (this.receiveNow() !== undefined);
  }
}

export const answerError = (answer: Answer, operation: string): CalicoError =>
  kernelError({ errno: answer.errno, operation, ...(answer.extack === undefined ? {} : { extack: answer.extack }) });

function sendError(errno: number, operation: string, length: number): CalicoError {
  if (errno !== ERRNO.EMSGSIZE) return kernelError({ errno, operation });
  return kernelError(
    { errno, operation },
    {
      hint: `${length} bytes in one transaction need CAP_NET_ADMIN to enlarge the send buffer, or a larger net.core.wmem_max`,
    },
  );
}

function netlinkAddress(): Uint8Array {
  const address = new Uint8Array(12);
  new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
  return address;
}

const timeValue = (seconds: number): Uint8Array => new Uint8Array(BigInt64Array.of(BigInt(seconds), 0n).buffer);
