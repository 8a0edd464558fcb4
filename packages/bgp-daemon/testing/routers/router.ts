/**
 * Routers of other makers, told what to do in one vocabulary: a specification in, their own configuration file out, their own command line as witness of what
 * they have. One class each (`bird.ts`, `frr.ts`, `gobgp.ts`). A router lives in a namespace, with its files in a folder of its own; both go when it is disposed.
 */
import { execFileSync, type ChildProcess } from "node:child_process";
import { createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inNamespace, startProgram } from "@calico-ts/linux";

export interface NeighbourSpec {
  readonly address: string;
  readonly localAddress: string;
  readonly as: number;
  readonly families: readonly ("ipv4" | "ipv6")[];
  /** Our next hop for IPv6 routes over an IPv4 session. */
  readonly nextHop6?: string;
  readonly password?: string;
  readonly ttlSecurityHops?: number;
  readonly addPath?: boolean;
  readonly gracefulRestart?: boolean;
  readonly reflectorClient?: boolean;
  /** For a link-local address. */
  readonly interface?: string;
  readonly extendedNextHop?: boolean;
  /** False: AS numbers of two octets only (RFC 6793). BIRD alone can be told so without losing everything else. */
  readonly fourOctetAs?: boolean;
  /** Waits for the neighbour to connect. */
  readonly passive?: boolean;
}

export interface OriginatedRoute {
  readonly prefix: string;
  /** `65001:7` */
  readonly communities?: readonly string[];
  /** Route targets, `65001:7`. */
  readonly routeTargets?: readonly string[];
  /** `65001:1:2` */
  readonly largeCommunities?: readonly string[];
}

export interface RouterSpec {
  readonly as: number;
  readonly routerId: string;
  readonly neighbours: readonly NeighbourSpec[];
  readonly originate?: readonly OriginatedRoute[];
  readonly clusterId?: string;
  /** Several equally good routes go into the kernel. */
  readonly multipath?: boolean;
  /** False: what is learned stays out of the kernel. */
  readonly kernel?: boolean;
}

/** A route as a router has it. Communities are written as in `OriginatedRoute`, AS paths with blanks. */
export interface RouteSeen {
  readonly neighbour: string;
  readonly asPath: string;
  readonly nextHop: string;
  readonly communities: readonly string[];
  readonly routeTargets: readonly string[];
  readonly largeCommunities: readonly string[];
  readonly originatorId: string | undefined;
  readonly clusterList: readonly string[];
}

export interface Router extends Disposable {
  readonly name: RouterName;
  /** As the program says it. */
  readonly version: string;
  readonly pid: number;
  /** Its configuration file. */
  readonly configuration: string;
  /** After `kill`; `recover`: as after a restart with forwarding kept. */
  start(recover?: boolean): Promise<void>;
  /** SIGKILL. Files and kernel routes stay. */
  kill(): Promise<void>;
  isUp(neighbour: string): boolean;
  /** How many IPv4 routes it has from each neighbour; neighbours that are not up may be missing. */
  received(): number[];
  routesTo(prefix: string): readonly RouteSeen[];
  /** Asks the neighbour to tell everything again, and tells it everything again. */
  refresh(neighbour: string): void;
  /** What there is to see, for a failure's message. */
  witness(): string;
}

export type RouterName = "BIRD" | "FRR" | "GoBGP";

/** Of routers that run; they go with this process however it ends, short of SIGKILL. */
const directories = new Set<string>();
process.once("exit", () => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

/** A router that runs. */
export async function begun<R extends Router>(router: R): Promise<R> {
  await router.start();
  return router;
}

/** What the drivers have in common: a namespace, a folder, processes with logs, one of which is the speaker, commands that may fail while a router starts. */
export abstract class RouterProcess {
  protected readonly directory: string;
  protected readonly netns: string;
  protected readonly spec: RouterSpec;
  readonly #children: ChildProcess[] = [];
  #speaker: ChildProcess | undefined;

  constructor(netns: string, label: string, spec: RouterSpec) {
    this.netns = netns;
    this.spec = spec;
    this.directory = mkdtempSync(join(tmpdir(), `ct-${label}-`));
    directories.add(this.directory);
  }

  get pid(): number {
    return this.#speaker?.pid ?? 0;
  }

  async kill(): Promise<void> {
    const child = this.#speaker;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.kill("SIGKILL");
    });
  }

  /** Launches the process that speaks BGP; `answers`: it is ready. */
  protected async speak(command: string, args: readonly string[], answers: () => boolean): Promise<void> {
    this.#speaker = this.launch(command, args);
    await until(answers, `${command.split("/").at(-1)} answers`);
  }

  protected path(name: string): string {
    return join(this.directory, name);
  }

  protected write(name: string, content: string): void {
    writeFileSync(this.path(name), content);
  }

  protected launch(command: string, args: readonly string[]): ChildProcess {
    const log = createWriteStream(this.path(`${command.split("/").at(-1)}.log`), { flags: "a" });
    const child = startProgram(command, args, {
      netns: this.netns,
      stdio: ["ignore", "pipe", "pipe"],
      dieWithParent: true,
    });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    this.#children.push(child);
    return child;
  }

  /** Output, or "" while the router does not answer. */
  protected ask(command: string, ...args: readonly string[]): string {
    try {
      return inNamespace(this.netns, () =>
        execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 2 ** 28 }),
      );
    } catch {
      return "";
    }
  }

  protected log(program: string): string {
    try {
      return readFileSync(this.path(`${program}.log`), "utf8")
        .split("\n")
        .slice(-40)
        .join("\n");
    } catch {
      return "";
    }
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) killNow(child);
    rmSync(this.directory, { recursive: true, force: true });
    directories.delete(this.directory);
  }
}

/** Kills and waits, without giving up the thread, until the kernel has taken back its ports. */
export function killNow(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (let left = 2000; left > 0 && isAlive(child.pid); left--) Atomics.wait(cell, 0, 0, 5);
}

/** Ports are given back with the last thread; the first may be a zombie long before. */
function isAlive(pid: number): boolean {
  try {
    const zombie = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .startsWith("Z");
    return !zombie || readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

export const versionOf = (command: string, pattern: RegExp): string => {
  const text = execFileSync(command, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  return pattern.exec(text)?.[1] ?? text.trim();
};

export const isIpv6 = (text: string): boolean => text.includes(":");

export async function until(holds: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 30_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
