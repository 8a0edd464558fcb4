import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command, eventually, Run, traces } from "./simulator.ts";

// The explanation of a packet, the packet itself, and the kernel's counters must tell one story.
const NAME = `t-explain-${process.pid}`;
const ROOT = join(import.meta.dirname, "../..");
const DEMO = join(ROOT, "sim/demo");

interface KernelRule {
  readonly node: string;
  readonly chain: string;
  readonly comment: string;
  readonly packets?: string;
}
interface Explained {
  readonly verdict: string;
  readonly paths: readonly { readonly decision: { readonly by: string } }[];
  readonly kernel: readonly KernelRule[];
}

describe("explain on a running cluster", () => {
  let run: Run;
  beforeAll(async () => {
    run = await Run.up(NAME, "--nodes", "2", "--manifests", DEMO);
  }, 180_000);
  afterAll(async () => {
    await run?.[Symbol.asyncDispose]();
    expect(traces(NAME)).toEqual([]);
  });

  const ask = (from: string, to: string, traffic: string) => run.json<Explained>("explain", from, to, traffic);

  test("says what the probes of the whole matrix say", { timeout: 150_000 }, async () => {
    const probes = await run.matrix("--namespace", "ferry-ops");
    expect(probes.length).toBeGreaterThan(5);
    for (const { from, to, port, protocol, verdict } of probes) {
      const found = await ask(from, to, `${protocol}/${port}`);
      expect({ from, to, port, verdict: found.verdict }).toEqual({ from, to, port, verdict });
    }
  });

  test("the rule that decides is in the kernel, and counts the packets of a probe", { timeout: 60_000 }, async () => {
    const counted = async (): Promise<number> => {
      const { kernel } = await ask("ferry/mailer", "ferry/website", "tcp/8080");
      expect(kernel.map(({ comment }) => comment)).toEqual(["Tier/default egress default-deny"]);
      return Number(kernel[0]?.packets);
    };
    const before = await counted();
    expect((await run.probe("ferry/mailer", "ferry/website", 8080)).verdict).toBe("denied");
    await eventually("the counter", counted, (after) => after > before);
    // nft, which we do not use, sees the same rule.
    const { kernel } = await ask("ferry/mailer", "ferry/website", "tcp/8080");
    const [rule] = kernel;
    const listed = execFileSync("ip", [
      "netns",
      "exec",
      `cs-${NAME}-${rule?.node}`,
      "nft",
      "list",
      "chain",
      "inet",
      "calico",
      rule?.chain ?? "",
    ]);
    expect(String(listed)).toContain(`counter packets ${rule?.packets} `);
  });

  test("both sides of an allowed packet, each on its node", { timeout: 60_000 }, async () => {
    const { verdict, kernel } = await ask("ferry/website", "svc:ferry/booking-api", "tcp/80");
    expect(verdict).toBe("allowed");
    expect(new Set(kernel.map(({ comment }) => comment))).toEqual(
      new Set([
        "KubernetesNetworkPolicy/ferry/website egress 0",
        "KubernetesNetworkPolicy/ferry/booking-api ingress 0",
      ]),
    );
  });

  test("calicoctl asks the same cluster", { timeout: 60_000 }, async () => {
    const program = join(ROOT, "packages/cli/dist/bin/calicoctl.mjs");
    const args = [program, "explain", "ferry/mailer", "ferry/website", "tcp/8080", "--expect", "denied"];
    const result = await command(process.execPath, args, { env: { KUBECONFIG: run.kubeconfig } });
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/^DENIED {2}ferry\/mailer-/);
  });

  test("bad questions are told apart from unanswered ones", { timeout: 60_000 }, async () => {
    expect((await run.sim("explain", "ferry/mailer", "ferry/website", "tcp")).code).toBe(2);
    expect((await run.sim("explain", "ferry/nobody", "ferry/website", "tcp/1")).code).toBe(1);
    expect((await run.sim("explain", "ferry/mailer", "ferry/website", "tcp/8080", "--expect", "allowed")).code).toBe(1);
  });
});
