/** The request line of the agent's CNI socket (docs/architecture.md), made from the CNI environment and standard input. */
import { CniError } from "./cni-error.ts";

export const SUPPORTED_VERSIONS: readonly string[] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
export const DEFAULT_SOCKET = "/var/run/calico/cni.sock";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC" | "VERSION";

export interface CniRequest {
  readonly version: 1;
  readonly program: "calico" | "calico-ipam";
  readonly command: CniCommand;
  readonly cniVersion: string;
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  readonly args: Readonly<Record<string, string>>;
  readonly path: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Which variables a command must have (specification section 2, "Parameters"). */
const REQUIRED: Readonly<Record<CniCommand, readonly string[]>> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  STATUS: [],
  GC: [],
  VERSION: [],
};

type Environment = Readonly<Record<string, string | undefined>>;

/** What an answer of whatever kind is in: the version asked for, where it can be told and is one of ours. */
export function answerVersion(input: string): string {
  try {
    const { cniVersion } = readConfig(input);
    if (typeof cniVersion === "string" && SUPPORTED_VERSIONS.includes(cniVersion)) return cniVersion;
  } catch {
    // what is wrong with it, `readRequest` says
  }
  return "1.1.0";
}

/** @throws CniError 4, 6 or 1 (version) */
export function readRequest(program: CniRequest["program"], env: Environment, input: string): CniRequest {
  const command = readCommand(env["CNI_COMMAND"]);
  const missing = REQUIRED[command].filter((name) => (env[name] ?? "") === "");
  if (missing.length > 0) throw new CniError(4, `${command} needs the environment variable ${missing.join(", ")}`);
  const containerId = env["CNI_CONTAINERID"] ?? "";
  if (containerId !== "" && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId)) {
    throw new CniError(4, `CNI_CONTAINERID is not a container id: "${containerId}"`);
  }
  const ifName = env["CNI_IFNAME"] ?? "";
  if (ifName !== "" && (ifName.length > 15 || /[/:\s]/.test(ifName) || ifName === "." || ifName === "..")) {
    throw new CniError(
      4,
      `CNI_IFNAME is not an interface name (at most 15 characters, no "/", ":" or space): "${ifName}"`,
    );
  }
  // Asked for its versions, a plugin answers anybody; the specification wants a configuration here too.
  const config = command === "VERSION" && input.trim() === "" ? {} : readConfig(input);
  const { cniVersion: asked = "" } = config;
  if (typeof asked !== "string") throw new CniError(6, `cniVersion is not a string: ${JSON.stringify(asked)}`);
  const cniVersion = asked === "" ? "0.2.0" : asked;
  if (command !== "VERSION" && !SUPPORTED_VERSIONS.includes(cniVersion)) {
    throw new CniError(1, `cniVersion "${cniVersion}" is not supported; supported: ${SUPPORTED_VERSIONS.join(", ")}`);
  }
  return {
    version: 1,
    program,
    command,
    cniVersion,
    containerId,
    netns: env["CNI_NETNS"] ?? "",
    ifName,
    args: readArgs(env["CNI_ARGS"] ?? ""),
    path: env["CNI_PATH"] ?? "",
    config,
  };
}

/** The agent's socket for this configuration. */
export function socketPath(config: CniRequest["config"]): string {
  const path = config["agent_socket"];
  return typeof path === "string" && path !== "" ? path : DEFAULT_SOCKET;
}

function readCommand(text: string | undefined): CniCommand {
  if (text !== undefined && Object.hasOwn(REQUIRED, text)) return text as CniCommand;
  if (text === undefined) throw new CniError(4, "CNI_COMMAND is not set: a container runtime starts this program");
  throw new CniError(4, `unknown CNI_COMMAND "${text}"; known: ${Object.keys(REQUIRED).join(", ")}`);
}

function readConfig(input: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(input);
  } catch (error) {
    throw new CniError(6, "the network configuration on standard input is not JSON", {
      details: error instanceof Error ? error.message : "",
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CniError(6, "the network configuration on standard input is not a JSON object");
  }
  return value as Record<string, unknown>;
}

/** `K8S_POD_NAME=a;K8S_POD_NAMESPACE=b` */
function readArgs(text: string): Record<string, string> {
  const args: Record<string, string> = {};
  for (const pair of text.split(";")) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    if (at <= 0) throw new CniError(4, `CNI_ARGS holds something that is not KEY=VALUE: "${pair}"`);
    args[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return args;
}
