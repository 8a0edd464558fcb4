import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openKubernetes } from "@calico-ts/datastore";
import { explain, listWorld } from "@calico-ts/policy-compiler";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command, eventually, Run, traces } from "./simulator.ts";

// The explanation of a packet, the packet itself, and the kernel's counters must tell one story.
const NAME = `t-explain-${process.pid}`;
const ROOT = join(import.meta.dirname, "../..");
const DEMO = join(ROOT, "sim/demo");
const CALICOCTL = join(ROOT, "packages/cli/dist/bin/calicoctl.mjs");

interface KernelRule {
  readonly node: string;
  readonly chain: string;
  readonly comment: string;
  readonly packets?: string;
}
interface Explained {
  readonly verdict: string;
  readonly paths: readonly { readonly decision: { readonly by: string }; readonly staged?: object }[];
  readonly kernel: readonly KernelRule[];
  readonly road: { readonly nodes: readonly string[]; readonly findings: readonly { readonly certain: boolean }[] };
}

const policy = (kind: string, more = ""): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: { name: closing }\nspec: { ${more}selector: app == 'booking-api', ingress: [{ action: Deny }] }\n`;

interface WatchedPacket {
  readonly node: string;
  readonly outcome: string;
  readonly flags?: string;
  readonly steps: readonly { readonly rule?: { readonly kind: string; readonly name: string } }[];
}

/** A user's `explain --watch --json`, as a process of its own. */
class Watcher implements AsyncDisposable {
  readonly packets: WatchedPacket[] = [];
  readonly ready: Promise<void>;
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;

  constructor([program = "", ...args]: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const stdio = ["ignore", "pipe", "pipe"] as const;
    this.#child = spawn(program, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: [...stdio] });
    this.ended = new Promise((resolve) => void this.#child.on("close", resolve));
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new Error("no pipes");
    createInterface(stdout).on("line", (line) => void this.packets.push(JSON.parse(line) as WatchedPacket));
    this.ready = new Promise((resolve, reject) => {
      let words = "";
      stderr.on("data", (data) => {
        words += String(data);
        if (words.includes("watching on")) resolve();
      });
      void this.ended.then((code) => reject(new Error(`ended with ${code}: ${words}`)));
    });
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}

const simWatch = (...question: readonly string[]): string[] => [
  process.execPath,
  join(ROOT, "e2e/dist/bin/calico-sim.mjs"),
  "explain",
  "--name",
  NAME,
  ...question,
  "--watch",
  "--json",
];

/** What nft sees: names of the inet tables that are ours or a watcher's. */
const tables = (node: string): string[] =>
  String(execFileSync("ip", ["netns", "exec", `cs-${NAME}-${node}`, "nft", "list", "tables", "inet"]))
    .split("\n")
    .flatMap((line) => line.split(" ")[2] ?? [])
    .filter((name) => name.startsWith("calico"));

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
    // As the command does it, without a process for each question.
    await using client = openKubernetes({ kubeconfig: run.kubeconfig });
    const world = await listWorld(client);
    for (const { from, to, port, protocol, verdict } of probes) {
      const found = explain(world, { from, to, traffic: `${protocol}/${port}` });
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

  test("what stands in the way besides policy", { timeout: 60_000 }, async () => {
    const { road } = await ask("ferry/website", "svc:ferry/booking-api", "tcp/80");
    expect(road.nodes.length).toBeGreaterThan(0);
    expect(road.findings.filter(({ certain }) => certain)).toEqual([]);
  });

  test("--watch follows a packet through the nodes of both ends, and leaves nothing", {
    timeout: 120_000,
  }, async () => {
    const nodes = (await ask("ferry/website", "ferry/booking-api", "tcp/8081")).road.nodes;
    await using watcher = new Watcher(simWatch("ferry/website", "ferry/booking-api", "tcp/8081"));
    await watcher.ready;
    expect((await run.probe("ferry/website", "ferry/booking-api", 8081)).verdict).toBe("allowed");
    const syns = await eventually(
      "the first packet on every node",
      async () => watcher.packets.filter(({ flags }) => flags === "SYN"),
      (seen) => nodes.every((node) => seen.some((packet) => packet.node === node)),
      60_000,
    );
    const rules = syns.flatMap(({ steps }) => steps.flatMap(({ rule }) => rule ?? []));
    expect(rules).toContainEqual(expect.objectContaining({ namespace: "ferry", name: "website", direction: "egress" }));
    expect(rules).toContainEqual(
      expect.objectContaining({ namespace: "ferry", name: "booking-api", direction: "ingress" }),
    );
    expect(await watcher.end("SIGINT")).toBe(0);
    for (const node of nodes) expect(tables(node)).toEqual(["calico"]);
  });

  test("--watch that is killed leaves nothing either", { timeout: 180_000 }, async () => {
    await using watcher = new Watcher(simWatch("ferry/mailer", "ferry/website", "tcp/8080"));
    await watcher.ready;
    expect((await run.probe("ferry/mailer", "ferry/website", 8080)).verdict).toBe("denied");
    const [first] = await eventually(
      "a packet",
      async () => watcher.packets,
      (packets) => packets.length > 0,
      60_000,
    );
    expect(first?.outcome).toBe("dropped");
    expect(first?.steps.at(-1)?.rule).toMatchObject({ kind: "Tier", name: "default" });
    const node = first?.node ?? "";
    expect(tables(node)).toHaveLength(2);
    await watcher.end("SIGKILL");
    await eventually(
      "the table",
      async () => tables(node),
      (names) => names.length === 1,
      60_000,
    );
  });

  test("calicoctl asks the same cluster", { timeout: 60_000 }, async () => {
    const args = [CALICOCTL, "explain", "ferry/mailer", "ferry/website", "tcp/8080", "--expect", "denied"];
    const result = await command(process.execPath, args, { env: { KUBECONFIG: run.kubeconfig } });
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/^DENIED {2}ferry\/mailer-/);
  });

  test("calicoctl on a node: what its kernel says, and a packet watched", { timeout: 180_000 }, async () => {
    const { kernel } = await ask("ferry/mailer", "ferry/website", "tcp/8080");
    const node = kernel[0]?.node ?? "";
    const pods = join("/var/lib/calico-sim", NAME, "pods");
    // As calico-node's service account: other programs of the product may read less.
    const ofNode = (path: string): boolean =>
      Buffer.from(readFileSync(join(pods, path, "../token"), "utf8").split(".")[1] ?? "", "base64url").includes(
        "kube-system:calico-node",
      );
    const account = globSync("*/serviceaccount/kubeconfig", { cwd: pods }).find(ofNode) ?? "";
    const line = ["ip", "netns", "exec", `cs-${NAME}-${node}`, process.execPath, CALICOCTL, "explain"];
    const question = ["ferry/mailer", "ferry/website", "tcp/8080", "--node", node];
    const env = { KUBECONFIG: join(pods, account) };
    const [program, ...args] = [...line, ...question, "--live", "--json"];
    const { stdout, stderr } = await command(program, args, { env });
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toMatchObject({ verdict: "denied", kernel: [{ node }], road: { nodes: [node] } });
    await using watcher = new Watcher([...line, ...question, "--watch", "--json", "--count", "1"], env);
    await watcher.ready;
    expect((await run.probe("ferry/mailer", "ferry/website", 8080)).verdict).toBe("denied");
    expect(await watcher.ended).toBe(0);
    expect(watcher.packets).toMatchObject([{ node, outcome: "dropped" }]);
    expect(tables(node)).toEqual(["calico"]);
  });

  test("lint judges the cluster, and what files would change in it", { timeout: 60_000 }, async () => {
    const env = { KUBECONFIG: run.kubeconfig };
    const alone = await command(process.execPath, [CALICOCTL, "lint", "--cluster"], { env });
    expect(alone).toMatchObject({ code: 0, stdout: "nothing found\n" });
    const line = [CALICOCTL, "lint", "--cluster", "-", "--format", "json"];
    const { stdout } = await command(process.execPath, line, {
      env,
      input: policy("GlobalNetworkPolicy", "order: 1, "),
    });
    const findings = JSON.parse(stdout) as { rule: string; change?: string; message: string }[];
    expect(findings).toContainEqual(
      expect.objectContaining({
        rule: "changes-traffic",
        message: expect.stringContaining("denied, and was allowed") as string,
      }),
    );
    expect(findings).toContainEqual(expect.objectContaining({ rule: "shadowed-rule", change: "new" }));
  });

  test("a staged policy denies nothing, and what it would deny is told", { timeout: 60_000 }, async () => {
    const staged = policy("StagedGlobalNetworkPolicy", "order: 1, ");
    const applied = await command("kubectl", ["apply", "-f", "-"], {
      env: { KUBECONFIG: run.kubeconfig },
      input: staged,
    });
    expect(applied.stderr).toBe("");
    const { verdict, paths } = await ask("ferry/website", "ferry/booking-api", "tcp/8081");
    expect({ verdict, staged: paths[0]?.staged }).toMatchObject({
      verdict: "allowed",
      staged: { verdict: "denied", decision: { object: { kind: "StagedGlobalNetworkPolicy" } } },
    });
    expect((await run.probe("ferry/website", "ferry/booking-api", 8081)).verdict).toBe("allowed");
    await run.must("delete", "stagedglobalnetworkpolicies", "closing");
  });

  test("bad questions are told apart from unanswered ones", { timeout: 60_000 }, async () => {
    expect((await run.sim("explain", "ferry/mailer", "ferry/website", "tcp")).code).toBe(2);
    expect((await run.sim("explain", "ferry/nobody", "ferry/website", "tcp/1")).code).toBe(1);
    expect((await run.sim("explain", "ferry/mailer", "ferry/website", "tcp/8080", "--expect", "allowed")).code).toBe(1);
  });
});
