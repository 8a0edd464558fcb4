import { join } from "node:path";
import { defineConfig } from "vitest/config";

// Packages resolve to their TypeScript sources, so no test ever needs a build or sees a stale one.
const source = {
  resolve: { conditions: ["calico-src"] },
  ssr: { resolve: { conditions: ["calico-src"], externalConditions: ["calico-src"] } },
};
const roots = "{packages/*,sim,e2e,images}";

export default defineConfig({
  test: {
    globalSetup: ["./vitest.guard.ts"],
    maxWorkers: "100%", // vitest leaves one core idle otherwise
    projects: [
      {
        ...source,
        test: {
          name: "unit",
          include: [`${roots}/{src,test}/**/*.test.ts`],
          exclude: ["**/*.kernel.test.ts", "**/dist/**", "**/node_modules/**"],
          testTimeout: 120_000, // a busy machine is not a failure
        },
      },
      {
        ...source,
        test: {
          name: "kernel", // needs root: namespaces, nftables, peers, simulator scenarios
          include: [`${roots}/{src,test}/**/*.kernel.test.ts`],
          fileParallelism: false,
          runner: "./vitest.kernel-runner.ts",
          testTimeout: 180_000,
          hookTimeout: 120_000,
          // For the programs that tests start again and again, from their bundles or their sources.
          env: { NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules/.cache/node-compile") },
        },
      },
    ],
  },
});
