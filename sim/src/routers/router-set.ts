/**
 * START HERE for routers' daemons: writes their configuration, starts them in their namespaces, starts them again when they
 * die, and asks them how their sessions are.
 *
 * A daemon that dies is started at once the first time and with a growing delay after that, as a service manager would. It is
 * told that it was there before, so that its neighbours go on forwarding to it (graceful restart). Each process carries the
 * run's name, so sweeping finds it; everything it writes is in the run's folder.
 */
import { accessSync, constants, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Logger } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import { closeShells, runInShell } from "../cluster/command-shell.ts";
import { startLogged } from "../cluster/process.ts";
import type { RunningProgram } from "../cluster/program.ts";
import { pause } from "../cluster/kube/informer.ts";
import { routerNamespace } from "../fabric/layout.ts";
import { namespacePath } from "../names.ts";
import type { RunPaths } from "../run/run-folder.ts";
import type { RouterPlan, SpeakerKind, TopologyPlan } from "../topology/plan.ts";
import { bird } from "./bird.ts";
import { frr } from "./frr.ts";
import { gobgp } from "./gobgp.ts";
import { ownSpeaker } from "./own-speaker.ts";
import type { SpeakerContext, SpeakerDriver } from "./speaker.ts";
import { ESTABLISHED, text } from "./speaker.ts";

const DRIVERS: Readonly<Record<SpeakerKind, SpeakerDriver>> = { bird, frr, gobgp, "calico-ts": ownSpeaker };

const MAX_DELAY_MS = 5_000;
/** A daemon that has lived this long is no repeated failure. */
const SETTLED_MS = 10_000;
const ASK_TIMEOUT_MS = 5_000;
const POLL_MS = 100;

export interface RouterSessionStatus {
  readonly neighbour: string;
  readonly address: string;
  readonly as: number;
  /** In the speaker's words; `Established` for one that stands. */
  readonly state: string;
}

export interface RouterStatus {
  readonly name: string;
  readonly netns: string;
  readonly speaker: SpeakerKind;
  readonly as: number;
  readonly pids: readonly number[];
  readonly sessions: readonly RouterSessionStatus[];
  /** A command for `exec` that shows more. */
  readonly hint: string;
}

export interface RouterSetOptions {
  readonly run: string;
  readonly paths: RunPaths;
  readonly plan: TopologyPlan;
  readonly ownSpeaker: readonly string[];
  readonly log: Logger;
}

/** @throws CalicoError UNSUPPORTED that names what is not installed */
export function requireSpeakers(plan: TopologyPlan, own: readonly string[] | undefined): void {
  const missing = plan.routers.flatMap(({ name, bgp }) => {
    if (bgp === undefined) return [];
    if (bgp.kind === "calico-ts" && own === undefined)
      return [`  router ${name}: this command line brings no speaker of its own; choose bird or frr`];
    return DRIVERS[bgp.kind].needs
      .filter(({ program }) => !isExecutable(program))
      .map(({ program, package: wanted }) => `  router ${name} needs ${program}: apt-get install ${wanted}`);
  });
  if (missing.length > 0)
    throw new CalicoError("UNSUPPORTED", `programs of routers are missing on this host:\n${missing.join("\n")}`);
}

function isExecutable(program: string): boolean {
  const folders = program.startsWith("/") ? [""] : (process.env["PATH"] ?? "").split(delimiter);
  return [...folders, ...(program.startsWith("/") ? [] : ["/usr/sbin", "/sbin"])].some((folder) => {
    try {
      accessSync(folder === "" ? program : join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export class RouterSet implements AsyncDisposable {
  readonly #options: RouterSetOptions;
  readonly #life = new AbortController();
  readonly #routers: readonly Router[];
  readonly #loops: Promise<void>[] = [];

  constructor(options: RouterSetOptions) {
    this.#options = options;
    this.#routers = options.plan.routers.flatMap((plan) => {
      const router = makeRouter(plan, options);
      return router === undefined ? [] : [router];
    });
  }

  /** Starts every daemon; sessions come up when the other ends do. @throws CalicoError NOT_FOUND */
  async start(): Promise<void> {
    for (const router of this.#routers) {
      const { context, driver } = router;
      mkdirSync(context.folder, { recursive: true, mode: 0o700 });
      for (const [name, content] of Object.entries(driver.files(context)))
        writeFileSync(join(context.folder, name), content, { mode: 0o600 });
      for (const { name } of driver.processes(context, false)) await this.#launch(router, name, false);
      for (const { name } of driver.processes(context, false)) this.#loops.push(this.#keep(router, name));
    }
  }

  status(): Promise<RouterStatus[]> {
    return Promise.all(
      this.#routers.map(async (router): Promise<RouterStatus> => {
        const { context, driver, netns } = router;
        const states = await this.#ask(router);
        return {
          name: context.router,
          netns,
          speaker: context.plan.kind,
          as: context.plan.as,
          pids: [...router.running.values()].map(({ pid }) => pid),
          sessions: context.plan.sessions.map((session, index) => ({
            neighbour: session.name,
            address: text(session.remote),
            as: session.remoteAs,
            state: states[index] ?? "no answer",
          })),
          hint: driver.hint(context),
        };
      }),
    );
  }

  /** Resolves when every session of every router stands. @throws CalicoError TIMEOUT that names those that do not */
  async whenEstablished(options: {
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
    readonly onProgress: (established: number, sessions: number) => void;
  }): Promise<number> {
    const deadline = Date.now() + options.timeoutMs;
    for (;;) {
      options.signal.throwIfAborted();
      const routers = await this.status();
      const sessions = routers.flatMap((router) =>
        router.sessions.map((session) => ({ ...session, router: router.name })),
      );
      const waiting = sessions.filter(({ state }) => state !== ESTABLISHED);
      options.onProgress(sessions.length - waiting.length, sessions.length);
      if (waiting.length === 0) return sessions.length;
      if (Date.now() > deadline) {
        const words = waiting
          .slice(0, 5)
          .map((each) => `${each.router} with ${each.neighbour} (${each.address}): ${each.state}`);
        throw new CalicoError(
          "TIMEOUT",
          `routers' BGP sessions are not up after ${Math.round(options.timeoutMs / 1000)} s: ${words.join("; ")}. Logs: ${this.#logs()}`,
        );
      }
      await pause(POLL_MS, options.signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#life.abort();
    await Promise.all(this.#routers.flatMap(({ running }) => [...running.values()].map((program) => program.stop(0))));
    await Promise.all(this.#loops);
    await Promise.all(this.#routers.map(({ netns }) => closeShells(this.#options.run, netns)));
  }

  async #launch(router: Router, name: string, again: boolean): Promise<void> {
    const { context, driver, netns } = router;
    const argv = driver.processes(context, again).find((each) => each.name === name)?.argv ?? [];
    const logFile = join(this.#logs(), `router.${context.router}`, `${name}.log`);
    router.running.set(name, await startLogged({ netns, run: this.#options.run, argv, env: {} }, logFile));
  }

  /** For the life of the run: whenever the daemon ends, it is started again. */
  async #keep(router: Router, name: string): Promise<void> {
    const { signal } = this.#life;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = performance.now();
      const exitCode = await router.running.get(name)?.exited;
      if (signal.aborted) return;
      this.#options.log.warning("router.daemon_ended", { router: router.context.router, daemon: name, exitCode });
      failures = performance.now() - startedAt > SETTLED_MS ? 0 : failures + 1;
      if (failures > 1) await pause(Math.min(MAX_DELAY_MS, 100 * 2 ** failures), signal);
      if (signal.aborted) return;
      try {
        await this.#launch(router, name, true);
      } catch (error) {
        this.#options.log.error("router.daemon_not_started", { router: router.context.router, daemon: name, error });
        return;
      }
      // A stop that came while the process was being started has not seen it.
      if (this.#life.signal.aborted) await router.running.get(name)?.stop(0);
    }
  }

  async #ask({ context, driver, netns }: Router): Promise<readonly (string | undefined)[]> {
    if (context.plan.sessions.length === 0) return [];
    const argv = driver.ask(context);
    const env = { PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    try {
      const where = { netns, run: this.#options.run };
      const answer = await runInShell(where, { argv, env, signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
      return driver.sessions(context, answer.stdout);
    } catch {
      return []; // does not answer yet
    }
  }

  #logs(): string {
    return this.#options.paths.logs;
  }
}

interface Router {
  readonly context: SpeakerContext;
  readonly driver: SpeakerDriver;
  readonly netns: string;
  readonly running: Map<string, RunningProgram>;
}

function makeRouter({ name, bgp }: RouterPlan, { run, paths, ownSpeaker: own }: RouterSetOptions): Router | undefined {
  if (bgp === undefined) return undefined;
  return {
    context: { router: name, plan: bgp, folder: join(paths.routers, name), ownSpeaker: own },
    driver: DRIVERS[bgp.kind],
    netns: namespacePath(routerNamespace(run, name)),
    running: new Map(),
  };
}
