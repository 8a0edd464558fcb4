/** BIRD 2 in a namespace: a file of configuration in, its command line as witness. Gone with its files when disposed. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inNamespace } from "@calico-ts/linux";

export class Bird implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "ct-bird-"));
  readonly #netns: string;
  #process: ChildProcess | undefined;

  constructor(netns: string, config: string) {
    this.#netns = netns;
    writeFileSync(this.#path("bird.conf"), config);
    this.start();
  }

  /** `recover`: as after a restart with forwarding kept (bird -R). */
  start(recover = false): void {
    const args = ["-f", "-c", this.#path("bird.conf"), "-s", this.#path("bird.ctl"), "-P", this.#path("bird.pid")];
    this.#process = inNamespace(this.#netns, () =>
      spawn("bird", recover ? [...args, "-R"] : args, { stdio: "ignore" }),
    );
  }

  async kill(): Promise<void> {
    const running = this.#process;
    if (running === undefined || running.exitCode !== null) return;
    await new Promise<void>((resolve) => {
      running.once("exit", () => resolve());
      running.kill("SIGKILL");
    });
  }

  ask(...command: string[]): string {
    try {
      return execFileSync("birdc", ["-s", this.#path("bird.ctl"), ...command], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
      });
    } catch {
      return ""; // not there yet
    }
  }

  [Symbol.dispose](): void {
    this.#process?.kill("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}
