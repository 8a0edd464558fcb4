import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { command, Run, traces } from "./simulator.ts";

// The same product against an API server that the simulator did not start: everything goes over TLS, tokens and RBAC to another process.

const NAME = `t-external-${process.pid}`;

test("a run on somebody else's API server", { timeout: 180_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "external-api-"));
  const kubeconfig = join(folder, "kubeconfig");
  const server = spawn(
    process.execPath,
    ["--conditions=calico-src", join(import.meta.dirname, "fixtures/api-server.ts"), kubeconfig],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  try {
    await new Promise((resolve) => server.stdout.once("data", resolve));
    const demo = join(import.meta.dirname, "../../sim/demo");
    {
      await using run = await Run.up(NAME, "--kubeconfig", kubeconfig, "--manifests", demo);
      const seen = await command("kubectl", ["get", "nodes", "-o", "name"], { env: { KUBECONFIG: kubeconfig } });
      expect(seen.stdout).toBe("node/node-1\nnode/node-2\nnode/node-3\n");
      const { code, stdout, stderr } = await run.sim("verify", join(demo, "expectations.yaml"));
      expect({ code, output: code === 0 ? "" : stdout + stderr }).toEqual({ code: 0, output: "" });
    }
    expect(traces(NAME)).toEqual([]);
    expect(server.exitCode).toBeNull();
  } finally {
    server.kill("SIGTERM");
    await new Promise((resolve) => server.once("close", resolve));
    rmSync(folder, { recursive: true, force: true });
  }
});
