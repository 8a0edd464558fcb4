/** The daemon as a process of its own, for tests that kill it and for measuring it: a configuration in, lines of JSON about itself out. */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { serialize } from "node:v8";
import type { PeerStatus } from "@calico-ts/bgp";
import { startProgram } from "@calico-ts/linux";
import type { DaemonConfig } from "../src/daemon.ts";
import { killNow } from "./routers/router.ts";

export interface DaemonSaid {
  readonly peers: readonly Pick<PeerStatus, "name" | "state" | "cause" | "routes">[];
  readonly deferring: boolean;
  /** Routes wait to be chosen or told. */
  readonly working: boolean;
  readonly sessionsUp: number;
  /** Destinations per family. */
  readonly destinations: Readonly<Record<string, number>>;
  /** Timers that came late, the worst, in ms since the last line. */
  readonly latestTimerMs: number;
}

/** As `calico-node` starts it. */
const FLAGS = ["--max-semi-space-size=8", "--conditions=calico-src"];

export class DaemonProcess implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "ct-daemon-"));
  readonly #netns: string;
  readonly #config: DaemonConfig;
  readonly #program: string;
  #child: ChildProcess | undefined;
  said: DaemonSaid | undefined;

  /** `program`: a bundle of run-daemon.ts; absent: the source. */
  constructor(netns: string, config: DaemonConfig, program = join(import.meta.dirname, "run-daemon.ts")) {
    this.#netns = netns;
    this.#config = config;
    this.#program = program;
    this.start();
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  start(): void {
    const file = join(this.#directory, "config");
    writeFileSync(file, serialize(this.#config));
    this.said = undefined;
    const child = startProgram(process.execPath, [...FLAGS, this.#program, file], {
      netns: this.#netns,
      stdio: ["ignore", "pipe", "inherit"],
      dieWithParent: true,
    });
    this.#child = child;
    if (child.stdout === null) return;
    createInterface(child.stdout).on("line", (line) => {
      if (this.#child === child) this.said = JSON.parse(line) as DaemonSaid;
    });
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.kill(signal);
    });
  }

  [Symbol.dispose](): void {
    if (this.#child !== undefined) killNow(this.#child);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
