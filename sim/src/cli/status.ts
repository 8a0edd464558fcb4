/** `status`: the runs there are, dead ones included. */
import type { Colors } from "picocolors/types.js";
import { askDaemon } from "../daemon/control-client.ts";
import type { LiveStatus } from "../daemon/control-protocol.ts";
import { checkRunName } from "../names.ts";
import type { RunState } from "../run/run-folder.ts";
import { listRuns, readRecord, runPaths, runState } from "../run/run-folder.ts";
import type { RouterStatus } from "../routers/router-set.ts";
import { ESTABLISHED } from "../routers/speaker.ts";
import type { Terminal } from "./plugins.ts";
import { formatTable } from "./table.ts";

export interface RunStatus {
  readonly name: string;
  readonly state: Exclude<RunState, "absent">;
  readonly pid: number | undefined;
  readonly startedAt: string | undefined;
  readonly topology: string | undefined;
  readonly manifests: readonly string[];
  readonly apiServer: string | undefined;
  readonly kubeconfig: string;
  readonly folder: string;
  readonly nodes: readonly {
    readonly name: string;
    readonly address: string;
    readonly subnet: string;
    readonly netns: string;
    readonly ready: boolean;
  }[];
  readonly pods: { readonly total: number; readonly ready: number } | undefined;
  readonly waitingFor: readonly string[];
  readonly routers: readonly RouterStatus[];
}

export async function status(
  options: { readonly name?: string; readonly json?: boolean },
  terminal: Terminal,
  colors: Colors,
): Promise<number> {
  const names =
    options.name === undefined ? listRuns() : [checkRunName(options.name)].filter((name) => listRuns().includes(name));
  const runs = await Promise.all(names.map(statusOf));
  if (options.json === true) terminal.out(JSON.stringify(runs, null, 2));
  else terminal.out(runs.length === 0 ? "nothing is up" : runs.map((run) => formatRun(run, colors)).join("\n\n"));
  return 0;
}

async function statusOf(name: string): Promise<RunStatus> {
  const record = readRecord(name);
  const found = runState(name);
  const state = found === "absent" ? "dead" : found;
  const live = state === "dead" ? undefined : await liveStatus(name);
  const paths = runPaths(name);
  return {
    name,
    state,
    pid: state === "dead" ? undefined : record?.owner.pid,
    startedAt: record?.startedAt,
    topology: record?.topology,
    manifests: record?.manifests ?? [],
    apiServer: record?.apiServer,
    kubeconfig: paths.kubeconfig,
    folder: paths.root,
    nodes: (record?.nodes ?? []).map((node) => ({
      name: node.name,
      address: node.addresses.join(","),
      subnet: node.subnet,
      netns: node.netns,
      ready: live?.nodes.find(({ name }) => name === node.name)?.ready ?? false,
    })),
    pods: live?.pods,
    waitingFor: live?.waitingFor ?? [],
    routers: live?.routers ?? [],
  };
}

async function liveStatus(name: string): Promise<LiveStatus | undefined> {
  try {
    return await askDaemon(name, { op: "status" });
  } catch {
    return undefined; // starting, ending, or not ours to ask: the record still tells the rest
  }
}

function formatRun(run: RunStatus, colors: Colors): string {
  const paint = run.state === "running" ? colors.green : run.state === "dead" ? colors.red : colors.yellow;
  const lines = [
    `${colors.bold(run.name)}  ${paint(run.state)}${run.startedAt === undefined ? "" : `  since ${run.startedAt}`}`,
  ];
  if (run.state === "dead") {
    lines.push(`  its daemon is gone; \`down --name ${run.name}\` removes what is left`);
    return lines.join("\n");
  }
  if (run.pods !== undefined) lines.push(`  pods ready: ${run.pods.ready} of ${run.pods.total}`);
  if (run.apiServer !== undefined) lines.push(`  API server: ${run.apiServer}`, `  KUBECONFIG=${run.kubeconfig}`);
  if (run.nodes.length > 0) {
    const rows = run.nodes.map((node) => [
      node.name,
      node.ready ? colors.green("ready") : colors.yellow("not ready"),
      node.address,
      node.subnet,
      node.netns,
    ]);
    lines.push(
      "",
      ...formatTable(["NODE", "STATE", "ADDRESS", "SUBNET", "NAMESPACE"], rows)
        .split("\n")
        .map((line) => `  ${line}`),
    );
  }
  lines.push(...formatRouters(run, colors));
  if (run.waitingFor.length > 0)
    lines.push("", "  waiting for:", ...run.waitingFor.slice(0, 10).map((text) => `    ${text}`));
  return lines.join("\n");
}

function formatRouters({ routers }: RunStatus, colors: Colors): string[] {
  if (routers.length === 0) return [];
  const rows = routers.flatMap((router) => {
    const own = [router.name, router.speaker, String(router.as)];
    if (router.sessions.length === 0) return [[...own, "", "", "", ""]];
    return router.sessions.map(({ neighbour, address, as, state }, index) => [
      ...(index === 0 ? own : ["", "", ""]),
      neighbour,
      address,
      String(as),
      state === ESTABLISHED ? colors.green(state) : colors.yellow(state),
    ]);
  });
  const table = formatTable(["ROUTER", "SPEAKER", "AS", "NEIGHBOUR", "ADDRESS", "ITS AS", "SESSION"], rows);
  const hints = routers.map(({ name, hint }) => `    exec ${name} -- ${hint}`);
  return ["", ...table.split("\n").map((line) => `  ${line}`), "", "  more of a router:", ...hints];
}
