/**
 * START HERE. The speaker of `@calico-ts/bgp` on real sockets, a real clock and a real kernel: connections tell it what happened, its actions are done, its best
 * routes are programmed. Where configuration comes from is not its business (`config/from-model.ts` makes one from Calico's resources).
 */
import {
  BgpSpeaker,
  type ConnectionOf,
  type PathAttributes,
  type RoutedFamily,
  type SpeakerAction,
  type SpeakerConfig,
} from "@calico-ts/bgp";
import type { Kernel } from "@calico-ts/linux";
import { type IpAddress, type Prefix, sameAddress } from "@calico-ts/net";
import type { Clock, Logger } from "@calico-ts/runtime";
import { unreachable } from "@calico-ts/std";
import type { ForwardingTerms } from "./kernel/terms.ts";
import { KernelSide } from "./kernel/kernel-side.ts";
import { MAIN_TABLE, prefixId, prefixOfId, ROUTE_PROTOCOL } from "./kernel/kernel-view.ts";
import { HeapKeeper } from "./heap.ts";
import type { ConnectTo, ListenAt } from "./session/connections.ts";
import { Connections } from "./session/connections.ts";

export interface OwnRoute {
  readonly prefix: Prefix;
  readonly attributes: PathAttributes;
}

export interface DaemonConfig {
  readonly speaker: SpeakerConfig;
  readonly listen: readonly ListenAt[];
  /** How each peer is reached, and the terms of its connections, by its name. A passive peer without an entry has no terms. */
  readonly reach: ReadonlyMap<string, ConnectTo>;
  readonly routes: readonly OwnRoute[];
  /** Routes inside these are learned and passed on but not programmed: encapsulated pools are the agent's. */
  readonly notProgrammed: readonly Prefix[];
  /** Metric of routes we program, unless a peer's LOCAL_PREF says another one. */
  readonly routeMetric: number;
  /** Absent: nothing is taken from the kernel, and routes go where the kernel's own routes lead. */
  readonly forwarding?: ForwardingTerms;
}

export interface DaemonDeps {
  readonly kernel: Kernel;
  readonly log: Logger;
  readonly clock: Clock;
  /** Sockets are opened here; absent: where the process is. */
  readonly netns?: string;
}

const DEFERRAL_SECONDS = 120;

export class BgpDaemon implements Disposable {
  readonly speaker: BgpSpeaker;
  readonly #deps: DaemonDeps;
  readonly #connections: Connections;
  readonly #kernel: KernelSide;
  #config: DaemonConfig;
  #own = new Map<string, OwnRoute>();
  readonly #heap = new HeapKeeper();
  #timer: NodeJS.Timeout | undefined;
  #working = false;
  /** When each peer came up or went down last, or was configured; monotonic milliseconds. */
  readonly #peerChanges = new Map<string, number>();
  readonly #startedAt: number;
  #converged = false;
  #closed = false;

  constructor(config: DaemonConfig, deps: DaemonDeps) {
    this.#config = config;
    this.#deps = deps;
    const { kernel, log } = deps;
    this.#startedAt = this.#now();
    // Where nothing forwards by our routes there is nothing to keep, and nobody to wait for.
    const restarts = kernel.routes.list({ protocol: ROUTE_PROTOCOL }).some(({ table }) => table === MAIN_TABLE);
    const restarting = restarts ? { restarting: { deferralSeconds: DEFERRAL_SECONDS } } : {};
    this.speaker = new BgpSpeaker({ ...config.speaker, ...restarting }, this.#startedAt);
    this.#kernel = new KernelSide(config, {
      kernel,
      log,
      hooks: {
        bestRoutes: () => this.speaker.routing.bestRoutes(),
        nextHopsChanged: () => this.#resolveNextHops(),
        learned: (id) => this.#originate(id),
        interfaceOf: (peer) => this.#config.reach.get(peer)?.interface,
        wake: () => this.#workSoon(),
      },
    });
    this.#resolveNextHops();
    this.#connections = new Connections({
      log,
      ...(deps.netns !== undefined && { netns: deps.netns }),
      events: {
        admit: (peer) => this.speaker.admit(peer, this.#now()),
        connected: (of, local) => this.#hear(() => this.speaker.connected(of, this.#now(), local)),
        disconnected: (of, reason) => this.#hear(() => this.speaker.disconnected(of, reason, this.#now())),
        received: (of, bytes) => this.#hear(() => this.speaker.receive(of, bytes, this.#now())),
        congested: (peer, congested) => {
          this.speaker.setCongested(peer, congested);
          this.#schedule();
        },
        peerAt: (address, on) => this.#peerAt(address, on),
      },
    });
  }

  start(): void {
    this.#notePeers();
    this.#kernel.start();
    this.#connections.configure(this.#config.listen, this.#config.reach);
    this.#setOwnRoutes(this.#config.routes);
    this.#hear(() => this.speaker.start(this.#now()));
  }

  /** When the peer came up or went down last, or was configured; in the clock's monotonic milliseconds. */
  peerChangedAt(peer: string): number {
    return this.#peerChanges.get(peer) ?? this.#startedAt;
  }

  /** Sessions whose terms did not change stay. @throws CalicoError BAD_INPUT, and nothing has changed then */
  configure(config: DaemonConfig): void {
    const { restarting } = this.speaker.config;
    const actions = this.speaker.configure(
      { ...config.speaker, ...(restarting !== undefined && { restarting }) },
      this.#now(),
    );
    this.#config = config;
    this.#connections.configure(config.listen, config.reach);
    this.#kernel.configure(config);
    this.#setOwnRoutes(config.routes);
    this.#hear(() => actions);
    this.#notePeers();
  }

  /** Asks a peer to tell its routes again. False: there is no session, or the peer cannot (RFC 2918). */
  refresh(peer: string, family: RoutedFamily): boolean {
    const { asked, actions } = this.speaker.requestRefresh(peer, family);
    this.#hear(() => actions);
    return asked;
  }

  /** Ends: sessions with graceful restart just break, so that peers go on forwarding; programmed routes stay. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#perform(this.speaker.stop(this.#now(), { graceful: true }));
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#heap[Symbol.dispose]();
    this.#kernel[Symbol.dispose]();
    this.#connections[Symbol.dispose]();
  }

  #notePeers(): void {
    const { peers } = this.speaker;
    for (const name of this.#peerChanges.keys()) if (!peers.has(name)) this.#peerChanges.delete(name);
    for (const name of peers.keys()) if (!this.#peerChanges.has(name)) this.#peerChanges.set(name, this.#now());
  }

  #now(): number {
    return this.#deps.clock.monotonic();
  }

  #hear(what: () => readonly SpeakerAction[]): void {
    if (this.#closed) return;
    this.#perform(what());
    this.#schedule();
  }

  #perform(actions: readonly SpeakerAction[]): void {
    for (const action of actions) this.#do(action);
  }

  #do(action: SpeakerAction): void {
    switch (action.do) {
      case "connect":
        this.#connections.connect(action.peer);
        return;
      case "send":
        this.#connections.send(connectionOf(action), action.bytes);
        return;
      case "close":
        this.#connections.close(connectionOf(action));
        return;
      case "route":
        this.#kernel.route(action);
        return;
      case "report":
        if (action.event.kind === "up" || action.event.kind === "down") this.#peerChanges.set(action.peer, this.#now());
        this.#deps.log.info(`bgp.${action.event.kind}`, {
          peer: action.peer,
          ...("end" in action.event && { why: action.event.end.detail }),
        });
        return;
      default:
        unreachable(action);
    }
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    const at = this.speaker.nextDeadline();
    if (at === undefined) return;
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, Math.min(at - this.#now(), 2 ** 31 - 1)));
  }

  #tick(): void {
    this.#perform(this.speaker.tick(this.#now()));
    this.#heap.worked();
    this.#noteConverged();
    this.#schedule();
  }

  /** Routes of an earlier life may go when every peer had its chance to tell them again. */
  #noteConverged(): void {
    const { routing, allHeard } = this.speaker;
    if (this.#converged || routing.deferring || routing.hasWork) return;
    if (!allHeard && this.#now() - this.#startedAt < DEFERRAL_SECONDS * 1000) return;
    this.#converged = true;
    this.#kernel.converged();
  }

  /** Kernel work goes on in portions; timers and sockets have their turn in between. */
  #workSoon(): void {
    if (this.#working || this.#closed) return;
    this.#working = true;
    setImmediate(() => void this.#work());
  }

  async #work(): Promise<void> {
    const more = !this.#closed && (await this.#kernel.work());
    this.#working = false;
    if (this.#closed) return;
    if (more) this.#workSoon();
    this.#schedule();
  }

  #resolveNextHops(): void {
    this.speaker.setNextHopResolver(
      (address) => this.#kernel.distance(address),
      (address) => this.#kernel.interfaceTo(address),
    );
    this.#schedule();
  }

  /**
   * A link-local address means something on one interface only. Of several peers at one address, told apart by their ports, the ones that we dial are known by that: who
   * connects from there can only be the one that we wait for.
   */
  #peerAt(address: IpAddress, on: string | undefined): string | undefined {
    const { speaker, reach } = this.#config;
    const there = speaker.peers.filter(
      (peer) => sameAddress(peer.address, address) && (on === undefined || reach.get(peer.name)?.interface === on),
    );
    return (there.length > 1 ? there.find(({ passive }) => passive === true) : there[0])?.name;
  }

  #setOwnRoutes(routes: readonly OwnRoute[]): void {
    const before = this.#own;
    this.#own = new Map(routes.map((route) => [prefixId(route.prefix), route]));
    for (const [id, route] of before) if (!this.#own.has(id)) this.#originate(id, route.prefix);
    for (const id of this.#own.keys()) this.#originate(id);
    this.#schedule();
  }

  /** A configured route comes before one that others have put into the kernel. */
  #originate(id: string, before?: Prefix): void {
    const own = this.#own.get(id);
    const learned = this.#kernel.learnedRoute(id);
    if (own !== undefined) this.speaker.originate(own.prefix, own.attributes, this.#now());
    else if (learned !== undefined) {
      const { prefix, localPref, facts } = learned;
      this.speaker.originate(prefix, { localPref }, this.#now(), facts);
    } else this.speaker.withdraw(before ?? prefixOfId(id));
    this.#schedule();
  }
}

const connectionOf = ({ peer, side }: ConnectionOf): ConnectionOf => ({ peer, side });
