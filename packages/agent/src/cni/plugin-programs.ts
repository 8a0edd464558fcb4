/**
 * Runs somebody else's IPAM plugin, as a main plugin does (CNI specification 1.1.0, section 4): the same environment with its own standard
 * input, looked up in CNI_PATH. It runs on the node, in the agent's namespaces; where the agent runs in a container of its own, CNI_PATH must be
 * mounted there under the same path.
 */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { CniFailure, INVALID_CONFIG, INVALID_ENVIRONMENT, TRY_AGAIN_LATER } from "./cni-failure.ts";
import type { PluginCall, Plugins } from "./ports.ts";
import { asObject } from "./request.ts";

const TIMEOUT_MS = 60_000;
/** A plugin prints one JSON document. */
const LONGEST_OUTPUT = 1024 * 1024;

export class PluginPrograms implements Plugins {
  async run({ type, request, config, signal }: PluginCall): Promise<unknown> {
    const { command, containerId, netns, ifName, args, path } = request;
    const env = {
      PATH: process.env["PATH"] ?? "",
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: netns,
      CNI_IFNAME: ifName,
      CNI_ARGS: Object.entries(args)
        .map(([name, value]) => `${name}=${value}`)
        .join(";"),
      CNI_PATH: path,
    };
    const program = find(type, path);
    const end = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const { code, output } = await execute(program, { env, input: JSON.stringify(config), signal: end });
    const result = asObject(parse(output));
    if (code === 0) return result;
    const said = typeof result?.["msg"] === "string" ? result["msg"] : output.trim() || `it ended with ${code}`;
    throw new CniFailure(
      typeof result?.["code"] === "number" ? result["code"] : TRY_AGAIN_LATER,
      `the IPAM plugin ${type} refused ${command}: ${said}`,
      typeof result?.["details"] === "string" ? result["details"] : undefined,
    );
  }
}

function find(type: string, path: string): string {
  for (const folder of path.split(":")) {
    if (folder === "") continue;
    const program = join(folder, type);
    try {
      accessSync(program, constants.X_OK);
      return program;
    } catch {
      // the next folder
    }
  }
  const code = path === "" ? INVALID_ENVIRONMENT : INVALID_CONFIG;
  throw new CniFailure(code, `the IPAM plugin ${type} is not in CNI_PATH (${path || "which is empty"})`);
}

function execute(
  program: string,
  options: { readonly env: NodeJS.ProcessEnv; readonly input: string; readonly signal: AbortSignal },
): Promise<{ readonly code: number; readonly output: string }> {
  const { env, input, signal } = options;
  return new Promise((resolve, reject) => {
    let output = "";
    const child = spawn(program, { env, signal, killSignal: "SIGKILL", stdio: ["pipe", "pipe", "ignore"] });
    child.on("error", (error) =>
      reject(new CniFailure(TRY_AGAIN_LATER, `${program} cannot be run to its end`, error.message)),
    );
    child.stdin.on("error", () => undefined); // a plugin need not read
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      if (output.length < LONGEST_OUTPUT) output += chunk;
    });
    child.on("close", (code) => resolve({ code: code ?? -1, output }));
    child.stdin.end(input);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
