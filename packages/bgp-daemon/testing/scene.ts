/** What one test has running in a lab: daemons and routers that end with it, and what they look like when something never happens. */
import { showPeers } from "@calico-ts/bgp";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { BgpDaemon } from "../src/daemon.ts";
import { DaemonProcess } from "./daemon-process.ts";
import type { Lab } from "./lab.ts";
import { configOf, type Ours, ROUTER_AS } from "./ours.ts";
import { Bird } from "./routers/bird.ts";
import { Frr } from "./routers/frr.ts";
import { GoBgp } from "./routers/gobgp.ts";
import { begun, type Router, type RouterName, type RouterSpec } from "./routers/router.ts";

export const BEGIN: Readonly<Record<RouterName, (netns: string, spec: RouterSpec) => Promise<Router>>> = {
  BIRD: (netns, spec) => begun(new Bird(netns, spec)),
  FRR: (netns, spec) => begun(new Frr(netns, spec)),
  GoBGP: (netns, spec) => begun(new GoBgp(netns, spec)),
};

/** FRR waits for 60 s (update-delay) before it tells anything, where the first connection to one of its neighbours did not last. */
const PATIENCE_MS = 100_000;

/** Protocol numbers of kernel routes that BIRD and we (12), zebra (11) and bgpd (186) make. */
const ROUTING_PROTOCOLS = new Set([11, 12, 186]);

export class Scene implements Disposable {
  readonly lab: Lab;
  readonly #undo: (() => void)[] = [];
  readonly #witnesses: (() => string)[] = [];

  constructor(lab: Lab) {
    this.lab = lab;
  }

  /** At the end, last first. */
  later(undo: () => void): void {
    this.#undo.push(undo);
  }

  daemon(n: number, ours: Ours): BgpDaemon {
    const station = this.lab.station(n);
    const deps = { kernel: station.kernel, log: silentLogger, clock: systemClock, netns: station.netns };
    const daemon = new BgpDaemon(configOf(station, ours), deps);
    daemon.start();
    this.later(() => daemon[Symbol.dispose]());
    this.#witnesses.push(() => `station ${n}: ${JSON.stringify(showPeers(daemon.speaker), undefined, 1)}`);
    return daemon;
  }

  daemonProcess(n: number, ours: Ours): DaemonProcess {
    const station = this.lab.station(n);
    const daemon = new DaemonProcess(station.netns, configOf(station, ours));
    this.later(() => daemon[Symbol.dispose]());
    this.#witnesses.push(() => `station ${n}: ${JSON.stringify(daemon.said)}`);
    return daemon;
  }

  /** A router of another make at station 2. */
  async router(name: RouterName, spec: Partial<RouterSpec> & Pick<RouterSpec, "neighbours">): Promise<Router> {
    const router = await BEGIN[name](this.lab.station(2).netns, { as: ROUTER_AS, routerId: "192.0.2.2", ...spec });
    this.later(() => router[Symbol.dispose]());
    this.#witnesses.push(() => `${name}: ${router.witness()}`);
    return router;
  }

  async eventually(what: string, holds: () => boolean, timeoutMs = PATIENCE_MS): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!holds()) {
      if (performance.now() > end) {
        throw new Error(`never happened: ${what}\n${this.#witnesses.map((one) => one()).join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  [Symbol.dispose](): void {
    for (const undo of this.#undo.toReversed()) undo();
    for (const { kernel } of this.lab.stations) {
      for (const route of kernel.routes.list()) {
        if (ROUTING_PROTOCOLS.has(route.protocol ?? 0)) kernel.routes.delete({ ...route });
      }
    }
  }
}
