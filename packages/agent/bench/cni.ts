/**
 * `npm run bench -- cni`: ADD and DEL through the executables with policy in place, on a node that already has 100 pods and 100 policies, against the reference
 * pair `ptp` + `host-local` started the same way on the same machine, turn by turn; a hundred pods at once; the start of the executable alone.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createNamespace, deleteNamespace, namespacePath } from "@calico-ts/linux";
import { CNI_FOLDER, CniNode } from "../testing/cni-node.ts";
import { Lab } from "../testing/lab.ts";
import * as world from "../testing/world.ts";

const PODS = Number(process.env["CNI_BENCH_PODS"] ?? 100);
const ROUNDS = Number(process.env["CNI_BENCH_ROUNDS"] ?? 100);
const REFERENCE = "/usr/lib/cni";

interface Row {
  readonly what: string;
  readonly p50: number;
  readonly p99: number;
  readonly reference?: { readonly p50: number; readonly p99: number };
  readonly target: string;
}

const quantile = (values: readonly number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? Number.NaN;

interface Attachment {
  readonly containerId: string;
  readonly pod: string;
  readonly netns: string;
}

function runReference(node: CniNode, command: "ADD" | "DEL", { containerId, netns }: Attachment): Promise<number> {
  const config = {
    cniVersion: "1.0.0",
    name: "reference",
    type: "ptp",
    ipam: { type: "host-local", subnet: "10.77.0.0/16", dataDir: join(node.hostRoot, "host-local") },
  };
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: REFERENCE,
    PATH: process.env["PATH"] ?? "",
  };
  // The plugin makes the host's side where it runs: in the node's namespace, which it is started in like a runtime on that node would.
  return time(join(REFERENCE, "ptp"), { env, input: JSON.stringify(config), netns: node.netns });
}

function runOurs(node: CniNode, command: "ADD" | "DEL", { containerId, netns, pod }: Attachment): Promise<number> {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_ARGS: node.args({ pod, containerId }),
    CNI_PATH: CNI_FOLDER,
  };
  return time(join(CNI_FOLDER, "calico"), { env, input: JSON.stringify(node.config()), netns: node.netns });
}

const STARTS = 50;

/**
 * Milliseconds from fork to exit of a VERSION, one after the other from a shell: as a container runtime starts a plugin, without the namespace change and the pipes
 * that the measurements above share.
 */
function startOf(program: string): number {
  const script = `i=0; while [ $i -lt ${STARTS} ]; do echo '{"cniVersion":"1.0.0"}' | "$0" >/dev/null; i=$((i+1)); done`;
  const startedAt = performance.now();
  execFileSync("/bin/sh", ["-c", script, program], { env: { CNI_COMMAND: "VERSION" } });
  return (performance.now() - startedAt) / STARTS;
}

/** Milliseconds from exec to exit. Both sides are started through the same `nsenter`, whose time is part of both. */
function time(
  program: string,
  options: { env: Record<string, string>; input: string; netns: string },
): Promise<number> {
  const startedAt = performance.now();
  const child = spawn("/usr/bin/nsenter", [`--net=${namespacePath(options.netns)}`, program], {
    env: options.env,
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.stdin.end(options.input);
  return new Promise((resolve, reject) => {
    child.on("close", (code) => {
      if (code === 0) resolve(performance.now() - startedAt);
      else reject(new Error(`${program} ended with ${code}: ${output}`));
    });
  });
}

async function main(): Promise<void> {
  if (!existsSync(join(REFERENCE, "ptp"))) {
    process.stderr.write("bench cni: the reference plugins are missing: apt-get install containernetworking-plugins\n");
    process.exit(2);
  }
  const rows: Row[] = [];
  await using lab = new Lab();
  await using node = await CniNode.open(lab);
  for (let at = 0; at < PODS; at++)
    await world.put(node.client, world.allowOnly(`policy-${at}`, `base-${at}`, { app: "friend" }));
  await node.startAgent();
  const base = Array.from({ length: PODS }, (_, at) => attachment(lab, `base-${at}`));
  for (const { pod } of base) await node.pod(pod);
  const startedAt = performance.now();
  await Promise.all(base.map((one) => runOurs(node, "ADD", one)));
  const together = performance.now() - startedAt;
  rows.push({ what: `${PODS} pods at once, all policed`, p50: together, p99: together, target: "≤ 3000" });

  type Measured = "add" | "del" | "refAdd" | "refDel" | "start" | "refStart" | "bare";
  const times: Record<Measured, number[]> = {
    add: [],
    del: [],
    refAdd: [],
    refDel: [],
    start: [],
    refStart: [],
    bare: [],
  };
  for (let round = 0; round < ROUNDS; round++) {
    const pod = `bench-${round}`;
    await node.pod(pod);
    const name = `ct-${process.pid}-bench`;
    createNamespace(name);
    const one = { containerId: `b${round}`, pod, netns: namespacePath(name) };
    try {
      times.add.push(await runOurs(node, "ADD", one));
      times.del.push(await runOurs(node, "DEL", one));
      times.refAdd.push(await runReference(node, "ADD", one));
      times.refDel.push(await runReference(node, "DEL", one));
    } finally {
      deleteNamespace(name);
    }
    await node.client.delete("Pod", { namespace: "default", name: pod });
  }
  for (let turn = 0; turn < 9; turn++) {
    times.start.push(startOf(join(CNI_FOLDER, "calico")));
    times.refStart.push(startOf(join(REFERENCE, "ptp")));
    times.bare.push(startOf("/bin/true"));
  }
  const both = (values: readonly number[]) => ({ p50: quantile(values, 0.5), p99: quantile(values, 0.99) });
  rows.push({
    what: "ADD, policy in place",
    ...both(times.add),
    reference: both(times.refAdd),
    target: "≤ 1.5 × reference",
  });
  rows.push({ what: "DEL", ...both(times.del), reference: both(times.refDel), target: "≤ 1.5 × reference" });
  rows.push({
    what: `start of the executable (VERSION, mean of ${STARTS} from a shell)`,
    ...both(times.start),
    reference: both(times.refStart),
    target: "≤ 5",
  });
  rows.push({ what: "of that, what /bin/true takes", ...both(times.bare), target: "" });
  print(rows);
  tellSlowest(node.agentOutput());
}

const SLOWEST = 5;

/** Where the slowest ADDs of the agent spent their time; of those one after the other, not of the hundred at once. */
function tellSlowest(output: string): void {
  const adds = [...output.matchAll(/cni\.added: .*pod=default\/(bench-\d+).* ms=(.*)$/gm)].map(
    ([, pod = "", ms = ""]) => {
      const total = [...ms.matchAll(/[a-z]+ ([\d.]+)/g)].reduce((sum, [, part]) => sum + Number(part), 0);
      return { pod, ms, total };
    },
  );
  const slowest = adds.toSorted((a, b) => b.total - a.total);
  const middle = slowest[Math.floor(slowest.length / 2)];
  const lines = [...slowest.slice(0, SLOWEST), ...(middle === undefined ? [] : [middle])];
  process.stdout.write(
    `\nslowest in the agent, then the one in the middle:\n${lines.map(({ pod, ms }) => `${pod}: ${ms}\n`).join("")}`,
  );
}

function attachment(lab: Lab, pod: string): Attachment {
  return { containerId: `c-${pod}`, pod, netns: lab.path(lab.namespace(pod)) };
}

function print(rows: readonly Row[]): void {
  const ms = (value: number | undefined): string => (value === undefined ? "" : value.toFixed(1));
  const lines = rows.map(({ what, p50, p99, reference, target }) => {
    const ratio = reference === undefined ? "" : (p50 / reference.p50).toFixed(2);
    return `| ${what} | ${ms(p50)} | ${ms(p99)} | ${ms(reference?.p50)} | ${ms(reference?.p99)} | ${ratio} | ${target} |`;
  });
  process.stdout.write(
    `| what (ms) | p50 | p99 | ptp + host-local p50 | p99 | ratio | target |\n|---|---|---|---|---|---|---|\n${lines.join("\n")}\n`,
  );
  const folder = join(import.meta.dirname, "../../../artifacts/bench");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "cni.json"), `${JSON.stringify(rows, undefined, 2)}\n`);
}

await main();
