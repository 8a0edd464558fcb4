/**
 * Executing CNI plugins as a container runtime does (CNI specification 1.0, sections 2 to 4).
 *
 * The network is the first configuration file, by name, in the node's /etc/cni/net.d (.conflist, .conf, .json); plugins are searched
 * in the node's /opt/cni/bin. Plugins of a list run one after the other, each with the result of the one before as prevResult;
 * DEL runs them backwards with the result of the whole ADD. Everything runs in the node's network namespace.
 *
 * Not here: CHECK and GC, and cniVersions below 0.3.0, whose results have another shape.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { CalicoError, hasCode } from "@calico-ts/std";
import { runInShell } from "../command-shell.ts";

export interface CniPluginConfig {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
  readonly [key: string]: unknown;
}

export interface CniNetwork {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly CniPluginConfig[];
  readonly file: string;
}

export interface CniResult {
  readonly cniVersion?: string;
  readonly interfaces?: readonly { readonly name: string; readonly mac?: string; readonly sandbox?: string }[];
  readonly ips?: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly [key: string]: unknown;
}

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: string;
}

/** One pod's connection to the network. */
export interface CniAttachment {
  readonly nodeNetns: string;
  readonly hostRoot: string;
  readonly run: string;
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  readonly args: Readonly<Record<string, string>>;
  readonly portMappings: readonly PortMapping[];
}

export const CONFIG_DIR = "etc/cni/net.d";
export const BIN_DIR = "opt/cni/bin";
const TIMEOUT_MS = 60_000;
const FRESH_MS = 500;

/** @throws CalicoError UNAVAILABLE while no plugin has installed itself; BAD_INPUT for a broken file. */
export async function loadNetwork(hostRoot: string): Promise<CniNetwork> {
  const dir = join(hostRoot, CONFIG_DIR);
  const names = await readdir(dir).catch(() => []);
  const first = names.filter((name) => /\.(conflist|conf|json)$/.test(name)).toSorted()[0];
  if (first === undefined) {
    throw new CalicoError("UNAVAILABLE", `cni plugin not initialized: no network configuration in ${dir}`);
  }
  const file = join(dir, first);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new CalicoError("BAD_INPUT", `${file}: not a CNI network configuration`, { cause });
  }
  return parseNetwork(value, file);
}

/** The configuration as it was at most half a second ago: a hundred pods that start at once read it once. */
export class NetworkSource {
  readonly #hostRoot: string;
  #loaded: { readonly network: Promise<CniNetwork>; readonly until: number } | undefined;

  constructor(hostRoot: string) {
    this.#hostRoot = hostRoot;
  }

  load(): Promise<CniNetwork> {
    const now = performance.now();
    if (this.#loaded === undefined || this.#loaded.until < now) {
      this.#loaded = { network: loadNetwork(this.#hostRoot), until: now + FRESH_MS };
    }
    return this.#loaded.network;
  }
}

export function parseNetwork(value: unknown, file: string): CniNetwork {
  const wrong = (what: string): CalicoError => new CalicoError("BAD_INPUT", `${file}: ${what}`);
  if (typeof value !== "object" || value === null) throw wrong("not a JSON object");
  const { name, cniVersion, plugins, type } = value as Readonly<Record<string, unknown>>;
  if (typeof name !== "string" || name === "") throw wrong("the network has no name");
  const list = Array.isArray(plugins) ? (plugins as readonly unknown[]) : type === undefined ? [] : [value];
  if (list.length === 0) throw wrong("the network has no plugins");
  for (const plugin of list) {
    const typed = plugin as { readonly type?: unknown } | null;
    if (typeof typed?.type !== "string" || typed.type === "" || typed.type.includes("/")) {
      throw wrong("a plugin has no type, or one with a slash");
    }
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- checked above
  return {
    name,
    cniVersion: typeof cniVersion === "string" ? cniVersion : "0.3.1",
    plugins: list as CniPluginConfig[],
    file,
  };
}

/** @throws CalicoError UNAVAILABLE with the plugin's own message and code. */
export async function addToNetwork(network: CniNetwork, attachment: CniAttachment): Promise<CniResult> {
  let result: CniResult | undefined;
  for (const plugin of network.plugins) {
    const config = pluginConfig(network, plugin, attachment, result);
    const output = await execPlugin("ADD", plugin.type, attachment, config);
    result = parseResult(output, plugin.type);
  }
  return result ?? {};
}

/** Every plugin is asked, also after a failure; the first failure is thrown at the end. */
export async function removeFromNetwork(
  network: CniNetwork,
  attachment: CniAttachment,
  result: CniResult | undefined,
): Promise<void> {
  let failure: unknown;
  for (const plugin of network.plugins.toReversed()) {
    try {
      await execPlugin("DEL", plugin.type, attachment, pluginConfig(network, plugin, attachment, result));
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
}

/** The addresses a pod got, IPv4 and IPv6, without their prefix lengths. */
export const addressesIn = (result: CniResult): readonly string[] =>
  (result.ips ?? []).map((ip) => ip.address.split("/")[0] ?? "").filter((address) => address !== "");

function pluginConfig(
  network: CniNetwork,
  plugin: CniPluginConfig,
  attachment: CniAttachment,
  prevResult: CniResult | undefined,
): Readonly<Record<string, unknown>> {
  const { capabilities, ...config } = plugin;
  const wantsPorts = capabilities?.["portMappings"] === true && attachment.portMappings.length > 0;
  return {
    ...config,
    cniVersion: network.cniVersion,
    name: network.name,
    ...(wantsPorts ? { runtimeConfig: { portMappings: attachment.portMappings } } : {}),
    ...(prevResult === undefined ? {} : { prevResult }),
  };
}

async function execPlugin(
  command: "ADD" | "DEL",
  type: string,
  attachment: CniAttachment,
  config: Readonly<Record<string, unknown>>,
): Promise<string> {
  const binDir = join(attachment.hostRoot, BIN_DIR);
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const { exitCode, stdout, stderr } = await runInShell(
    { netns: attachment.nodeNetns, run: attachment.run },
    {
      argv: [join(binDir, type)],
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: attachment.containerId,
        CNI_NETNS: attachment.netns,
        CNI_IFNAME: attachment.ifName,
        CNI_ARGS: Object.entries(attachment.args)
          .map(([key, value]) => `${key}=${value}`)
          .join(";"),
        CNI_PATH: binDir,
        CALICO_HOST_ROOT: attachment.hostRoot,
      },
      stdin: JSON.stringify(config),
      signal,
    },
  );
  if (exitCode === 0) return stdout;
  if (signal.aborted)
    throw new CalicoError("TIMEOUT", `plugin ${type} ${command} did not end within ${TIMEOUT_MS / 1000} s`);
  // What shells answer for a file that is not there or cannot be executed.
  if ((exitCode === 127 || exitCode === 126) && stdout === "") {
    throw new CalicoError("UNAVAILABLE", `failed to find plugin "${type}" in path [${binDir}]: ${stderr.trim()}`);
  }
  throw pluginError(`${type} ${command}`, stdout, stderr);
}

/** A failing plugin prints an error object (specification, section 5); one that crashes prints whatever it likes. */
export function pluginError(what: string, stdout: string, stderr: string): CalicoError {
  try {
    const { code, msg, details } = JSON.parse(stdout) as { code?: unknown; msg?: unknown; details?: unknown };
    if (typeof msg === "string") {
      const more = typeof details === "string" && details !== "" ? `; ${details}` : "";
      return new CalicoError("UNAVAILABLE", `plugin ${what} failed: ${msg}${more}`, {
        detail: { cniCode: typeof code === "number" ? code : 0 },
      });
    }
  } catch {
    // Not an error object.
  }
  const said = (stderr.trim() === "" ? stdout : stderr).trim().slice(-500);
  return new CalicoError("UNAVAILABLE", `plugin ${what} failed: ${said === "" ? "no message" : said}`);
}

function parseResult(output: string, type: string): CniResult {
  try {
    const value: unknown = JSON.parse(output);
    if (typeof value === "object" && value !== null) return value as CniResult;
  } catch {
    // Falls through to the complaint.
  }
  throw new CalicoError(
    "UNAVAILABLE",
    `plugin ${type} ADD answered something that is no result: ${output.slice(0, 200)}`,
  );
}

/** True when the node has a network configuration: what the runtime reports as NetworkReady. */
export async function networkReady(hostRoot: string): Promise<boolean> {
  try {
    await loadNetwork(hostRoot);
    return true;
  } catch (error) {
    if (hasCode(error, "UNAVAILABLE") || hasCode(error, "BAD_INPUT")) return false;
    throw error;
  }
}
