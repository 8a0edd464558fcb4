/** The product's processes on a node: what is lost while one of them is away, and how to ask whether all is well with them. */
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { StatusCommand, StatusReply, StatusRequest } from "@calico-ts/bgp";
import type { ProcessKind } from "@calico-ts/sim";
import { errorText } from "@calico-ts/std";

const none = (because: string): ProcessKind["promise"] => ({ gapMs: 0, because });

/** In the order in which `kill-each` kills them. */
export const PRODUCT_PROCESSES: readonly ProcessKind[] = [
  {
    name: "calico-agent",
    commandLine: /calico-agent\.mjs/,
    promise: none(
      "the last good rules, sets, routes and tunnels stay in the kernel, and its successor changes only what is not right",
    ),
    comesBack: "at once",
  },
  {
    name: "calico-bgp",
    commandLine: /calico-bgp\.mjs/,
    promise: none(
      "peers keep the routes they learned from it while it is away (graceful restart, RFC 4724), and its own stay in the kernel until every peer has told all",
    ),
    comesBack: "at once",
  },
  {
    name: "calico-node",
    commandLine: /calico-node\.mjs $/,
    promise: none(
      "agent and BGP daemon end with it and are started by its successor: what holds for them, holds for all at once",
    ),
    comesBack: "at once",
  },
  {
    name: "calico-kube-controllers",
    commandLine: /calico-kube-controllers\.mjs/,
    promise: none("it tidies up in the datastore; packets never meet it"),
    comesBack: "at once",
  },
];

const TIMEOUT_MS = 5000;

/** What the agent and the BGP daemon below this host root say is not well. A daemon that has no socket and never had one is not asked. */
export async function nodeTrouble(hostRoot: string): Promise<readonly string[]> {
  const folder = join(hostRoot, "var/run/calico");
  const agent = await agentTrouble(join(folder, "agent-debug.sock"));
  const bgp = join(folder, "bgp.sock");
  return existsSync(bgp) ? [...agent, ...(await bgpTrouble(bgp))] : agent;
}

interface AgentDump {
  readonly health: {
    readonly lines: readonly { readonly name: string; readonly ready: boolean; readonly detail: string }[];
  };
}

async function agentTrouble(path: string): Promise<string[]> {
  try {
    const { health } = JSON.parse(await exchange(path)) as AgentDump;
    return health.lines.flatMap(({ name, ready, detail }) => (ready ? [] : [`agent: ${name} is not ready: ${detail}`]));
  } catch (error) {
    return [`the agent does not answer (${errorText(error)})`];
  }
}

async function bgpTrouble(path: string): Promise<string[]> {
  try {
    const peers = (await ask(path, { command: "peers" })).flatMap(({ name, state }) =>
      state === "Established" ? [] : [`BGP session ${name}: ${state}`],
    );
    const { restarting } = await ask(path, { command: "status" });
    return restarting ? [...peers, "the BGP daemon gathers what its peers know"] : peers;
  } catch (error) {
    return [`the BGP daemon does not answer (${errorText(error)})`];
  }
}

async function ask<C extends StatusCommand>(path: string, request: StatusRequest & { readonly command: C }) {
  const reply = JSON.parse(await exchange(path, JSON.stringify(request))) as StatusReply<C>;
  if (!reply.ok) throw new Error(reply.error.message);
  return reply.result;
}

/** Without a line to say: what it tells by itself. */
async function exchange(path: string, line?: string): Promise<string> {
  const socket = connect(path);
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
  if (line !== undefined) socket.write(`${line}\n`);
  return await text(socket);
}
