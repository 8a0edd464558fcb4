/**
 * TCP connections of the speaker: listeners, connections we open, and whose a connection is. Sockets are opened in a chosen namespace; Node carries their
 * bytes. A socket whose buffer is full is reported as congested until it has drained.
 */
import { closeSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import type { ConnectionOf } from "@calico-ts/bgp";
import { awaitConnected, connectTcp, listenTcp } from "@calico-ts/linux";
import { formatAddress, type IpAddress, tryParseAddress } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import { errorText } from "@calico-ts/std";

export interface ListenAt {
  readonly address: IpAddress;
  readonly port: number;
  /** Only connections that come in here; a link-local address needs it. */
  readonly interface?: string;
}

/** How one peer is reached, and what its connections have to prove, whoever opens them. */
export interface ConnectTo {
  readonly address: IpAddress;
  /** Where the peer listens. */
  readonly port: number;
  /** Our end of connections that we open; absent: the kernel chooses. */
  readonly sourceAddress?: IpAddress;
  /** A link-local peer is reached through an interface, and known by it. */
  readonly interface?: string;
  /** Segments are signed with it (RFC 2385); 1 to 80 bytes of UTF-8. A new one takes effect on standing connections. */
  readonly password?: string;
  /** 1 to 254: packets that may have come over more hops than this are dropped, and ours leave with TTL 255 (RFC 5082). */
  readonly ttlSecurityHops?: number;
  /** TTL of our packets, 1 to 255, without TTL security; absent: the kernel's default. */
  readonly ttl?: number;
}

export interface ConnectionEvents {
  /** Undefined: the peer's connection is welcome. Otherwise: what to tell it before closing. */
  admit(peer: string): Uint8Array | undefined;
  connected(of: ConnectionOf, local: IpAddress | undefined): void;
  disconnected(of: ConnectionOf, reason: string): void;
  received(of: ConnectionOf, bytes: Uint8Array): void;
  congested(peer: string, congested: boolean): void;
  /** The peer with this address; undefined: nobody we know. */
  peerAt(address: IpAddress): string | undefined;
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

export class Connections implements Disposable {
  readonly #options: ConnectionsOptions;
  readonly #place: { readonly netns?: string };
  readonly #listeners = new Map<string, Server>();
  readonly #sockets = new Map<string, Socket>();
  /** Connections on their way, by peer; a new attempt or a close makes an older one pointless. */
  readonly #attempts = new Map<string, symbol>();
  readonly #lingering = new Set<Socket>();

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#place = options.netns === undefined ? {} : { netns: options.netns };
  }

  /** Listens at exactly these places from now on. One that cannot be had is logged and tried again by the next call. */
  listen(places: readonly ListenAt[]): void {
    const wanted = new Map(places.map((place) => [`${formatAddress(place.address)} ${place.port}`, place]));
    for (const [key, server] of this.#listeners) {
      if (wanted.has(key)) continue;
      server.close();
      this.#listeners.delete(key);
    }
    for (const [key, place] of wanted) if (!this.#listeners.has(key)) this.#open(key, place);
  }

  connect(peer: string, to: ConnectTo): void {
    const of: ConnectionOf = { peer, side: "outgoing" };
    const attempt = Symbol(peer);
    this.#attempts.set(peer, attempt);
    let fd: number;
    try {
      const source = to.sourceAddress === undefined ? {} : { source: { address: to.sourceAddress } };
      const device = to.interface === undefined ? {} : { device: to.interface };
      fd = connectTcp({ ...this.#place, address: to.address, port: to.port, ...source, ...device });
    } catch (error) {
      // The speaker is in the middle of saying what it wants; it hears of this afterwards.
      queueMicrotask(() => this.#attemptFailed(of, attempt, error));
      return;
    }
    void this.#finish(of, attempt, fd);
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
    this.#adopt(of, new Socket({ fd, readable: true, writable: true }));
  }

  send(of: ConnectionOf, bytes: Uint8Array): void {
    const socket = this.#sockets.get(keyOf(of));
    if (socket === undefined || socket.destroyed) return;
    if (!socket.write(bytes)) this.#options.events.congested(of.peer, true);
  }

  /** Sends what is queued, then closes; the speaker hears nothing more of it. */
  close(of: ConnectionOf): void {
    if (of.side === "outgoing") this.#attempts.delete(of.peer);
    const socket = this.#sockets.get(keyOf(of));
    this.#sockets.delete(keyOf(of));
    if (socket !== undefined) this.#linger(socket);
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
    for (const server of this.#listeners.values()) server.close();
    this.#listeners.clear();
    for (const socket of [...this.#sockets.values(), ...this.#lingering]) socket.destroy();
    this.#sockets.clear();
  }

  #open(key: string, place: ListenAt): void {
    const { log } = this.#options;
    try {
      const fd = listenTcp({ ...this.#place, ...place });
      const server = createServer((socket) => this.#accept(socket));
      server.on("error", (error) => log.error("bgp.listen.failed", { at: key, error: errorText(error) }));
      server.listen({ fd });
      this.#listeners.set(key, server);
    } catch (error) {
      log.error("bgp.listen.failed", { at: key, error: errorText(error) });
    }
  }

  #accept(socket: Socket): void {
    // A zone (`%eth0`) is not part of the address.
    const from = tryParseAddress((socket.remoteAddress ?? "").replace(/%.*$/, ""));
    const peer = from === undefined ? undefined : this.#options.events.peerAt(from);
    if (peer === undefined) {
      this.#options.log.warning("bgp.connection.refused", {
        from: socket.remoteAddress ?? "unknown",
        why: "no such peer",
      });
      socket.destroy();
      return;
    }
    const refusal = this.#options.events.admit(peer);
    if (refusal === undefined) return this.#adopt({ peer, side: "incoming" }, socket);
    socket.on("error", () => undefined);
    socket.write(refusal);
    this.#linger(socket);
  }

  #adopt(of: ConnectionOf, socket: Socket): void {
    const { events } = this.#options;
    const key = keyOf(of);
    const isCurrent = (): boolean => this.#sockets.get(key) === socket;
    const before = this.#sockets.get(key);
    this.#sockets.set(key, socket);
    before?.destroy();
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

  #attemptFailed(of: ConnectionOf, attempt: symbol, error: unknown): void {
    if (this.#attempts.get(of.peer) !== attempt) return;
    this.#attempts.delete(of.peer);
    this.#options.events.disconnected(of, errorText(error));
  }
}
