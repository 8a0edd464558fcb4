/** The four that are measured, behind one face: started as a process in station 1, asked how many routes they have, killed. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseAddress, parsePrefix } from "@calico-ts/net";
import type { DaemonConfig } from "../src/daemon.ts";
import { DaemonProcess } from "../testing/daemon-process.ts";
import { join } from "node:path";
import { BEGIN } from "../testing/scene.ts";
import { bundle } from "./bundle.ts";
import type { Station } from "../testing/lab.ts";
import type { NeighbourSpec, RouterSpec } from "../testing/routers/router.ts";

export const RECEIVERS = ["calico-ts", "BIRD", "FRR", "GoBGP"] as const;
export type ReceiverName = (typeof RECEIVERS)[number];

export interface Peer {
  readonly address: string;
  readonly as: number;
}

export interface ReceiverOptions {
  readonly name: ReceiverName;
  readonly at: Station;
  readonly address: string;
  readonly peers: readonly Peer[];
  /** Routes go into the kernel. */
  readonly kernel: boolean;
  readonly gracefulRestart?: boolean;
}

export interface Receiver extends Disposable {
  readonly pid: number;
  /** Routes it has from each peer. Ours counts when best routes have been chosen too; of the others that cannot be asked. */
  received(): number[];
  kill(): Promise<void>;
  start(): Promise<void>;
  witness(): string;
}

export const RECEIVER_AS = 65_000;

export async function startReceiver(options: ReceiverOptions): Promise<Receiver> {
  if (options.name === "calico-ts") return ours(options);
  const { at, address, peers, gracefulRestart } = options;
  const neighbours: NeighbourSpec[] = peers.map((peer) => ({
    address: peer.address,
    localAddress: address,
    as: peer.as,
    families: ["ipv4"],
    passive: true,
    ...(gracefulRestart === true && { gracefulRestart }),
  }));
  const spec: RouterSpec = { as: RECEIVER_AS, routerId: "198.18.0.1", neighbours, kernel: options.kernel };
  const router = await BEGIN[options.name](at.netns, spec);
  return {
    get pid() {
      return router.pid;
    },
    received: () => router.received(),
    kill: () => router.kill(),
    start: () => router.start(true),
    witness: () => router.witness(),
    [Symbol.dispose]: () => router[Symbol.dispose](),
  };
}

let program: Promise<string> | undefined;

async function ours({ at, address, peers, kernel, gracefulRestart }: ReceiverOptions): Promise<Receiver> {
  const config: DaemonConfig = {
    speaker: {
      as: RECEIVER_AS,
      routerId: 0xc612_0001,
      peers: peers.map((peer) => ({
        name: peer.address,
        address: parseAddress(peer.address),
        remoteAs: peer.as,
        families: ["ipv4-unicast"],
        passive: true,
        ...(gracefulRestart === true && { gracefulRestart: { restartSeconds: 60 } }),
      })),
    },
    listen: [{ address: parseAddress(address), port: 179 }],
    reach: new Map(),
    routes: [],
    notProgrammed: kernel ? [] : [parsePrefix("0.0.0.0/0")],
    routeMetric: 1024,
  };
  program ??= bundle(join(import.meta.dirname, "../testing/run-daemon.ts"), "bgp-daemon");
  const daemon = new DaemonProcess(at.netns, config, await program);
  return {
    get pid() {
      return daemon.pid;
    },
    received: () => {
      const { said } = daemon;
      if (said === undefined || said.deferring || said.working) return [];
      return said.peers.flatMap(({ routes }) => routes.map(({ received }) => received));
    },
    kill: () => daemon.kill(),
    witness: () => JSON.stringify(daemon.said),
    start: () => {
      daemon.start();
      return Promise.resolve();
    },
    [Symbol.dispose]: () => daemon[Symbol.dispose](),
  };
}

/** Resident memory of a process now and at its most, in MB; CPU seconds it has used. */
export function usage(pid: number): { readonly rssMb: number; readonly peakMb: number; readonly cpuSeconds: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kb = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { rssMb: Math.round(kb("VmRSS") / 1024), peakMb: Math.round(kb("VmHWM") / 1024), cpuSeconds: ticks / TICKS };
}

const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
