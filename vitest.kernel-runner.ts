/**
 * Kernel tests leave a bundle when they fail: before any clean-up hook runs, what the kernel holds in the namespaces of this worker (their
 * names carry its process id) and the logs of its simulator runs are written to artifacts/<test>/.
 */
import { existsSync, globSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { captureBundle } from "@calico-ts/testkit";
import type { RunnerTestCase } from "vitest";
import { TestRunner } from "vitest";

const NAMESPACES = "/run/netns";
const RUNS = "/var/lib/calico-sim";
/** Pods come by the hundred; nodes sort before them and matter most. */
const MOST_NAMESPACES = 24;

export default class KernelRunner extends TestRunner {
  onTaskFinished(test: RunnerTestCase): void {
    if (test.result?.state !== "fail") return;
    const mine = (name: string): boolean => name.split(/[-.]/).includes(String(process.pid));
    const entries = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder).filter(mine) : []);
    captureBundle({
      netns: entries(NAMESPACES).slice(0, MOST_NAMESPACES),
      files: entries(RUNS).flatMap((run) => globSync(join(RUNS, run, "logs/**/*.log"))),
      name: test.fullTestName ?? test.name,
      reason: test.result.errors?.map((error) => error.message).join("; ") ?? "",
    });
  }
}
