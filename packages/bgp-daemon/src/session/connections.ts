/**
 * TCP connections of the speaker: listeners, connections we open, and whose a connection is. Sockets are opened in a chosen namespace; Node carries their
 * bytes. A socket whose buffer is full is reported as congested until it has drained. What a connection has to prove (`ConnectTo`) is checked by the kernel;
 * a peer whose terms the kernel cannot have is not talked to at all.
 */
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import type { ConnectionOf } from "@calico-ts/bgp";
import { type AcceptedTcp, awaitConnected, connectTcp, setTcpTtl } from "@calico-ts/linux";
import { formatAddress, type IpAddress, tryParseAddress } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import { errorText } from "@calico-ts/std";
import { Listener } from "./listener.ts";
import { type ConnectTo, type ListenAt, rekey, sameWay, termsOf } from "./terms.ts";

export type { ConnectTo, ListenAt } from "./terms.ts";

export interface ConnectionEvents {
  /** Undefined: the peer's connection is welcome. Otherwise: what to tell it before closing. */
  admit(peer: string): Uint8Array | undefined;
  connected(of: ConnectionOf, local: IpAddress | undefined): void;
  disconnected(of: ConnectionOf, reason: string): void;
  received(of: ConnectionOf, bytes: Uint8Array): void;
  congested(peer: string, congested: boolean): void;
  /** Whose connection it is that comes from this address, on this interface if it is link-local; undefined: nobody's that we know. */
  peerAt(address: IpAddress, interfaceName: string | undefined): string | undefined;
}

export interface ConnectionsOptions {
  readonly netns?: string;
  readonly log: Logger;
  readonly events: ConnectionEvents;
}

const CONNECT_TIMEOUT_MS = 20_000;
/** What is queued when a connection is closed, the NOTIFICATION above all, gets this long to leave. */
const LINGER_MS = 3000;

const keyOf = ({ peer, side }: ConnectionOf): string => `${side} ${peer}`;

interface Live {
  readonly socket: Socket;
  readonly fd: number;
  /** Sent since the event loop had its turn: most messages are short, and one call of the kernel takes many. */
  readonly queue: Uint8Array[];
}

export class Connections implements Disposable {
  readonly #options: ConnectionsOptions;
  readonly #place: { readonly netns?: string };
  readonly #listeners = new Map<string, Listener>();
  readonly #sockets = new Map<string, Live>();
  /** Connections on their way, by peer; a new attempt or a close makes an older one pointless. */
  readonly #attempts = new Map<string, symbol>();
  readonly #lingering = new Set<Socket>();
  #peers: ReadonlyMap<string, ConnectTo> = new Map();

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#place = options.netns === undefined ? {} : { netns: options.netns };
  }

  /**
   * Listens at exactly these places, and deals with peers on these terms, from now on. A place that cannot be had is logged and tried again by the next call. New
   * passwords and TTLs are set on connections that stand; a connection that would now be opened another way is dropped.
   */
  configure(places: readonly ListenAt[], peers: ReadonlyMap<string, ConnectTo>): void {
    const before = this.#peers;
    this.#peers = peers;
    const wanted = new Map(places.map((place) => [placeText(place), place]));
    for (const [key, listener] of this.#listeners) {
      if (wanted.has(key)) continue;
      listener[Symbol.dispose]();
      this.#listeners.delete(key);
    }
    for (const [key, place] of wanted) if (!this.#listeners.has(key)) this.#open(key, place);
    for (const listener of this.#listeners.values()) listener.setPasswords(peers.values());
    for (const [peer, to] of peers) {
      const was = before.get(peer);
      if (was !== undefined)
        for (const side of ["outgoing", "incoming"] as const) this.#change({ peer, side }, was, to);
    }
  }

  connect(peer: string): void {
    const of: ConnectionOf = { peer, side: "outgoing" };
    const attempt = Symbol(peer);
    this.#attempts.set(peer, attempt);
    const to = this.#peers.get(peer);
    // The speaker is in the middle of saying what it wants; it hears of failures afterwards.
    const fail = (why: unknown): void => queueMicrotask(() => this.#attemptFailed(of, attempt, why));
    if (to === undefined) return fail("no way to reach it is configured");
    try {
      const { sourceAddress, interface: device, address, port } = to;
      const fd = connectTcp({
        ...this.#place,
        address,
        port,
        ...(sourceAddress !== undefined && { source: { address: sourceAddress } }),
        ...(device !== undefined && { device }),
        ...termsOf(to),
      });
      void this.#finish(of, attempt, fd);
    } catch (error) {
      fail(error);
    }
  }

  async #finish(of: ConnectionOf, attempt: symbol, fd: number): Promise<void> {
    try {
      await awaitConnected(fd, CONNECT_TIMEOUT_MS);
    } catch (error) {
      closeSync(fd);
      this.#attemptFailed(of, attempt, error);
      return;
    }
    if (this.#attempts.get(of.peer) !== attempt) {
      closeSync(fd);
      return;
    }
    this.#attempts.delete(of.peer);
    this.#adopt(of, fd);
  }

  send(of: ConnectionOf, bytes: Uint8Array): void {
    const live = this.#sockets.get(keyOf(of));
    if (live === undefined || live.socket.destroyed) return;
    live.queue.push(bytes);
    if (live.queue.length > 1) return;
    queueMicrotask(() => {
      if (!flush(live) && this.#sockets.get(keyOf(of)) === live) this.#options.events.congested(of.peer, true);
    });
  }

  /** Sends what is queued, then closes; the speaker hears nothing more of it. */
  close(of: ConnectionOf): void {
    if (of.side === "outgoing") this.#attempts.delete(of.peer);
    const live = this.#sockets.get(keyOf(of));
    this.#sockets.delete(keyOf(of));
    if (live === undefined) return;
    flush(live);
    this.#linger(live.socket);
  }

  #linger(socket: Socket): void {
    this.#lingering.add(socket);
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once("close", () => {
      clearTimeout(timer);
      this.#lingering.delete(socket);
    });
    socket.destroySoon();
  }

  [Symbol.dispose](): void {
    this.#attempts.clear();
    for (const listener of this.#listeners.values()) listener[Symbol.dispose]();
    this.#listeners.clear();
    for (const live of this.#sockets.values()) flush(live);
    for (const socket of [...[...this.#sockets.values()].map((live) => live.socket), ...this.#lingering])
      socket.destroy();
    this.#sockets.clear();
  }

  #open(key: string, place: ListenAt): void {
    const { log } = this.#options;
    try {
      const listener = new Listener({ ...this.#place, ...place }, log, (connection) =>
        this.#accept(connection, listener),
      );
      this.#listeners.set(key, listener);
    } catch (error) {
      log.error("bgp.listen.failed", { at: key, error: errorText(error) });
    }
  }

  #accept({ fd, address, link }: AcceptedTcp, listener: Listener): void {
    const { events, log } = this.#options;
    const refuse = (why: string): void => {
      log.warning("bgp.connection.refused", { from: formatAddress(address), why });
      closeSync(fd);
    };
    const peer = events.peerAt(address, link === 0 ? undefined : listener.interfaceName(link));
    if (peer === undefined) return refuse("it is no peer, or one of several at this address, and we dial those");
    const to = this.#peers.get(peer);
    if (to?.password !== undefined && !listener.guards(address)) return refuse("its password could not be set");
    try {
      if (to !== undefined) setTcpTtl(fd, address.family, termsOf(to));
    } catch (error) {
      return refuse(errorText(error));
    }
    const refusal = events.admit(peer);
    if (refusal === undefined) return this.#adopt({ peer, side: "incoming" }, fd);
    const socket = new Socket({ fd, readable: true, writable: true });
    socket.on("error", () => undefined);
    socket.write(refusal);
    this.#linger(socket);
  }

  #adopt(of: ConnectionOf, fd: number): void {
    const { events } = this.#options;
    const socket = new Socket({ fd, readable: true, writable: true });
    const key = keyOf(of);
    const isCurrent = (): boolean => this.#sockets.get(key)?.socket === socket;
    const before = this.#sockets.get(key);
    this.#sockets.set(key, { socket, fd, queue: [] });
    before?.socket.destroy();
    let reason = "closed by the peer";
    socket.setNoDelay(true);
    socket.on("data", (bytes: Uint8Array) => {
      if (isCurrent()) events.received(of, bytes);
    });
    socket.on("drain", () => {
      if (isCurrent()) events.congested(of.peer, false);
    });
    socket.on("error", (error) => {
      reason = errorText(error);
    });
    socket.on("close", () => {
      if (!isCurrent()) return;
      this.#sockets.delete(key);
      events.disconnected(of, reason);
    });
    events.connected(of, tryParseAddress((socket.localAddress ?? "").replace(/%.*$/, "")));
  }

  /** A standing connection under new terms. */
  #change(of: ConnectionOf, before: ConnectTo, after: ConnectTo): void {
    const live = this.#sockets.get(keyOf(of));
    if (live === undefined) return;
    let reason = "the way to it has changed in the configuration";
    if (of.side === "incoming" || sameWay(before, after)) {
      try {
        rekey(live.fd, before, after);
        return;
      } catch (error) {
        reason = errorText(error);
      }
    }
    this.#sockets.delete(keyOf(of));
    live.socket.destroy();
    queueMicrotask(() => this.#options.events.disconnected(of, reason));
  }

  #attemptFailed(of: ConnectionOf, attempt: symbol, error: unknown): void {
    if (this.#attempts.get(of.peer) !== attempt) return;
    this.#attempts.delete(of.peer);
    this.#options.events.disconnected(of, typeof error === "string" ? error : errorText(error));
  }
}

/** False: the socket takes no more for now. */
function flush({ socket, queue }: Live): boolean {
  const parts = queue.splice(0);
  if (parts.length === 0 || socket.destroyed) return true;
  return socket.write(parts.length === 1 ? (parts[0] ?? "") : Buffer.concat(parts));
}

const placeText = ({ address, port, interface: device }: ListenAt): string =>
  `${formatAddress(address)} ${port}${device === undefined ? "" : ` on ${device}`}`;
