import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { eventually, killOneOfEach, KILLING_MS, Run, sim, traces } from "./simulator.ts";

// One three-node cluster with the demo, used as an operator would: kubectl, probes, and then everything that can go wrong on a node.

const NAME = `t-cluster-${process.pid}`;
const DEMO = join(import.meta.dirname, "../../sim/demo");
let run: Run;

beforeAll(async () => {
  run = await Run.up(NAME, "--manifests", DEMO);
}, 180_000);
afterAll(async () => {
  await run?.[Symbol.asyncDispose]();
  expect(traces(NAME)).toEqual([]);
});

/** Process ids of a program of this run, by a part of its command line. */
function processes(part: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(part) &&
          readFileSync(`/proc/${pid}/environ`, "latin1").includes(`CALICO_SIM_RUN=${NAME}\0`)
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

const inNode = (node: string, ...words: string[]): string =>
  execFileSync("ip", ["netns", "exec", `cs-${NAME}-${node}`, ...words], { encoding: "utf8" });

/** The agent's table as text that does not depend on the order in which its objects were made. "" when it is gone. */
function rulesetOf(node: string): string {
  let listing: { nftables: Record<string, Record<string, unknown>>[] };
  try {
    listing = JSON.parse(inNode(node, "nft", "-s", "-j", "list", "table", "inet", "calico")) as typeof listing;
  } catch {
    return "";
  }
  const rules = new Map<string, string[]>();
  const others: string[] = [];
  for (const { rule, ...rest } of listing.nftables) {
    if (rule !== undefined) {
      const chain = String(rule["chain"]);
      rules.set(chain, [...(rules.get(chain) ?? []), JSON.stringify({ ...rule, handle: 0 })]);
      continue;
    }
    for (const [kind, value] of Object.entries(rest)) {
      if (kind === "metainfo") continue;
      const elem = (value["elem"] as unknown[] | undefined)?.map((one) => JSON.stringify(one)).toSorted();
      others.push(JSON.stringify({ kind, ...value, handle: 0, elem }));
    }
  }
  return [...others, ...[...rules].map(([chain, list]) => `${chain}:\n  ${list.join("\n  ")}`)].toSorted().join("\n");
}

async function agreesWithExpectations(): Promise<void> {
  const { code, stdout, stderr } = await run.sim("verify", join(DEMO, "expectations.yaml"));
  expect({ code, output: code === 0 ? "" : stdout + stderr }).toEqual({ code: 0, output: "" });
}

describe("the demo", () => {
  test("is what its expectations say", agreesWithExpectations);

  test("is shown by status", async () => {
    const status = await run.json<Record<string, unknown>>("status");
    expect(JSON.stringify(status)).toContain("node-3");
  });
});

describe("kubectl", () => {
  test("get -o wide shows addresses and nodes", async () => {
    const nodes = await run.must("get", "nodes", "-o", "wide");
    expect(nodes).toMatch(/node-1\s+Ready/);
    const pods = await run.must("get", "pods", "-A", "-o", "wide");
    expect(pods.split("\n")[0]).toMatch(/NAMESPACE\s+NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\s+IP\s+NODE/);
    expect(pods).toMatch(/kube-system\s+calico-node-\w+\s+1\/1\s+Running/);
  });

  test("apply, label, wait, describe, logs, scale and delete behave", async () => {
    const manifest = join(import.meta.dirname, "fixtures/echo.yaml");
    expect(await run.must("apply", "-f", manifest)).toContain("deployment.apps/echo created");
    expect(await run.must("apply", "-f", manifest)).toContain("deployment.apps/echo unchanged");
    await run.must("-n", "echo", "wait", "--for=condition=available", "deployment/echo", "--timeout=30s");
    await run.must("-n", "echo", "rollout", "status", "deployment/echo", "--timeout=30s");
    await run.must("-n", "echo", "label", "deployment/echo", "tier=front");
    expect(await run.must("-n", "echo", "get", "deployments", "-l", "tier=front", "-o", "name")).toBe(
      "deployment.apps/echo\n",
    );
    expect(await run.must("-n", "echo", "describe", "deployment", "echo")).toContain("2 available");
    await run.must("-n", "echo", "scale", "deployment/echo", "--replicas=3");
    await run.must("-n", "echo", "rollout", "status", "deployment/echo", "--timeout=30s");
    const probe = await run.probe("echo/echo", "svc:echo/echo", 80);
    expect(probe.verdict).toBe("allowed");
    const pod = (await run.must("-n", "echo", "get", "pods", "-o", "name")).split("\n")[0] ?? "";
    await run.must("-n", "echo", "logs", pod);
    expect(await run.must("delete", "-f", manifest)).toContain('namespace "echo" deleted');
    const gone = await run.kubectl("get", "namespace", "echo");
    expect(gone.stderr).toContain('namespaces "echo" not found');
  });

  test("get -w sees a change", async () => {
    await run.must("create", "configmap", "there-before");
    const watching = spawn("kubectl", ["get", "configmap", "-n", "default", "-w"], {
      env: { ...process.env, KUBECONFIG: run.kubeconfig },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let seen = "";
    watching.stdout.on("data", (chunk: Buffer) => (seen += chunk.toString()));
    try {
      await vi.waitFor(() => expect(seen).toContain("there-before"), 30_000);
      await run.must("create", "configmap", "seen-by-watch");
      await vi.waitFor(() => expect(seen).toContain("seen-by-watch"), 30_000);
    } finally {
      watching.kill();
    }
    await run.must("delete", "configmap", "there-before", "seen-by-watch");
  });
});

test("whatever kind of process is killed, no packet is lost", { timeout: KILLING_MS }, async () => {
  const { killed, broken } = await killOneOfEach(run);
  expect(broken).toEqual([]);
  expect(killed.toSorted()).toEqual(["calico-agent", "calico-kube-controllers", "calico-node", "shell"]);
  await agreesWithExpectations();
});

test("Ctrl-C in the middle of killing leaves the run as it was", { timeout: 180_000 }, async () => {
  const program = join(import.meta.dirname, "../dist/bin/calico-sim.mjs");
  const child = spawn(process.execPath, [program, "kill-each", "--name", NAME], { stdio: ["ignore", "pipe", "pipe"] });
  const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
    if (said.includes("[2/")) child.kill("SIGINT");
  });
  expect({ code: await closed, said }).toEqual({ code: 1, said: expect.stringContaining("interrupted") });
  expect((await run.kubectl("get", "namespace", "kill-each")).stderr).toContain('"kill-each" not found');
  await agreesWithExpectations();
});

describe("when a node's agent dies", () => {
  test("policy that changed while it was down is enforced when it is back, and allowed traffic never stops", {
    timeout: 180_000,
  }, async () => {
    const ask = async (): Promise<string> => (await run.probe("ferry/website", "ferry/timetable", 7001)).verdict;
    expect(await ask()).toBe("allowed");
    const agents = processes("calico-agent");
    expect(agents).toHaveLength(3);
    for (const pid of agents) process.kill(pid, "SIGKILL");
    for (let times = 0; times < 5; times++) expect(await ask()).toBe("allowed");
    await run.must("-n", "ferry", "delete", "networkpolicy", "timetable");
    await eventually("timetable without its policy", ask, (verdict) => verdict === "denied", 30_000);
    await run.must("apply", "-f", join(DEMO, "40-policies-ferry.yaml"));
    await eventually("timetable with its policy", ask, (verdict) => verdict === "allowed");
    await agreesWithExpectations();
  });
});

describe("tampering behind the agent's back is repaired", () => {
  test.each([
    ["the table is deleted", ["nft", "delete", "table", "inet", "calico"]],
    ["every rule is flushed", ["nft", "flush", "table", "inet", "calico"]],
    ["the VXLAN device is deleted", ["ip", "link", "delete", "vxlan.calico"]],
  ])("when %s", async (_what, words) => {
    const before = rulesetOf("node-2");
    expect(before).toContain("KubernetesNetworkPolicy/");
    inNode("node-2", ...words);
    await eventually(
      "the table",
      async () => rulesetOf("node-2"),
      (now) => now === before,
      20_000,
    );
    await eventually(
      "the matrix",
      () => run.sim("verify", join(DEMO, "expectations.yaml")),
      (answer) => answer.code === 0,
      20_000,
    );
  });

  test("when routes to other nodes' pods are deleted", async () => {
    const routes = (): string =>
      inNode("node-1", "ip", "route", "show", "proto", "80").split("\n").toSorted().join("\n");
    const before = routes();
    expect(before).toContain("vxlan.calico");
    inNode("node-1", "ip", "route", "flush", "proto", "80");
    await eventually(
      "the routes",
      async () => routes(),
      (now) => now === before,
      20_000,
    );
  });
});

describe("the run", () => {
  test("refuses a second one under its name and creates nothing", async () => {
    const second = await sim("up", "--name", NAME);
    expect(second.code).toBe(2);
    expect(second.stderr + second.stdout).toContain(NAME);
    await agreesWithExpectations();
  });

  test("puts nothing into the host's own namespace", () => {
    const links = execFileSync("ip", ["-o", "link"], { encoding: "utf8" });
    expect(links).not.toMatch(/cali|vxlan\.calico/);
    expect(execFileSync("nft", ["list", "tables"], { encoding: "utf8" })).not.toContain("calico");
  });
});
