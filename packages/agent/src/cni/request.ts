/** A request on the CNI socket, parsed and checked (docs/architecture.md, "The CNI socket"; inventory §6.1 for the configuration keys). */
import { parsePrefix, type Prefix, tryParsePrefix } from "@calico-ts/net";
import { CniFailure, INVALID_CONFIG, INVALID_ENVIRONMENT } from "./cni-failure.ts";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC";

export interface CniRequest {
  readonly program: "calico" | "calico-ipam";
  readonly command: CniCommand;
  readonly containerId: string;
  /** "" in a DEL whose namespace is gone. */
  readonly netns: string;
  readonly ifName: string;
  readonly pod: PodName | undefined;
  /** CNI_ARGS as they came; a delegated IPAM plugin gets them too. */
  readonly args: Readonly<Record<string, string>>;
  /** CNI_PATH: where plugins are. */
  readonly path: string;
  readonly config: NetworkConfig;
}

export interface PodName {
  readonly namespace: string;
  readonly name: string;
}

export interface NetworkConfig {
  readonly cniVersion: string;
  readonly networkName: string;
  /** 0: what the agent worked out for this node. */
  readonly mtu: number;
  /** Of each end of a pod's pair, in each direction. */
  readonly queues: number;
  /** Who gives addresses: ourselves, or a plugin in CNI_PATH. */
  readonly ipamType: string;
  readonly assignIpv4: boolean;
  readonly assignIpv6: boolean;
  readonly ipv4Pools: readonly string[];
  readonly ipv6Pools: readonly string[];
  /** `routes` of `host-local`, in place of the pod's default routes; empty: none are named. */
  readonly routes: readonly Prefix[];
  readonly allowIpForwarding: boolean;
  /** `feature_control`: what only an operator may allow pods to ask for. */
  readonly allowAddressesWithoutIpam: boolean;
  readonly allowFloatingIps: boolean;
  /** URLs that must answer before pods are started. */
  readonly readinessGates: readonly string[];
  readonly prevResult: PreviousResult | undefined;
  /** Everything that was on standard input. */
  readonly raw: Json;
  /** Containers that `cni.dev/valid-attachments` of a GC names. */
  readonly validContainers: ReadonlySet<string>;
}

export type Json = Readonly<Record<string, unknown>>;

/** What the plugins before us in the list made, and in CHECK what ADD answered. */
export interface PreviousResult {
  readonly interfaces: readonly Json[];
  readonly ips: readonly Json[];
  readonly rest: Json;
}

export const OWN_IPAM = "calico-ipam";

const COMMANDS: readonly CniCommand[] = ["ADD", "DEL", "CHECK", "STATUS", "GC"];

/** @throws CniFailure 4 or 7 */
export function parseRequest(line: string): CniRequest {
  const raw = parseObject(line);
  const command = COMMANDS.find((name) => name === raw["command"]);
  if (raw["version"] !== 1 || command === undefined) {
    throw new CniFailure(
      INVALID_ENVIRONMENT,
      "the CNI executable and the agent are of different versions: install both from one release",
    );
  }
  const config = asObject(raw["config"]) ?? {};
  return {
    program: raw["program"] === "calico-ipam" ? "calico-ipam" : "calico",
    command,
    containerId: asText(raw["containerId"]),
    netns: asText(raw["netns"]),
    ifName: asText(raw["ifName"]),
    pod: podName({ ...argsOfConfig(config), ...asObject(raw["args"]) }),
    args: textValues(asObject(raw["args"]) ?? {}),
    path: asText(raw["path"]),
    config: readConfig(config, command),
  };
}

function parseObject(line: string): Json {
  try {
    const value = asObject(JSON.parse(line));
    if (value !== undefined) return value;
  } catch {
    // falls through to the one message for everything that is not a JSON object
  }
  throw new CniFailure(INVALID_ENVIRONMENT, "the request on the CNI socket is not a JSON object");
}

/** Both names or none: a pod without a namespace is not addressable. */
function podName(args: Json): PodName | undefined {
  const namespace = asText(args["K8S_POD_NAMESPACE"]);
  const name = asText(args["K8S_POD_NAME"]);
  return namespace === "" || name === "" ? undefined : { namespace, name };
}

function readConfig(config: Json, command: CniCommand): NetworkConfig {
  const problems: string[] = [];
  const section = (key: string): Json => {
    const value = config[key] ?? {};
    if (asObject(value) === undefined) problems.push(`${key}: must be an object`);
    return asObject(value) ?? {};
  };
  const text = (key: string, value: unknown, otherwise: string): string => {
    if (typeof (value ?? otherwise) === "string") return (value ?? otherwise) as string;
    problems.push(`${key}: must be a string`);
    return otherwise;
  };
  const flag = (key: string, value: unknown, otherwise: boolean): boolean => {
    if (typeof (value ?? otherwise) === "boolean") return (value ?? otherwise) as boolean;
    if (value === "true" || value === "false") return value === "true"; // upstream's spelling in ipam
    problems.push(`${key}: must be true or false`);
    return otherwise;
  };
  const texts = (key: string, value: unknown, of: string): string[] => {
    if (value === undefined || value === null) return [];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    problems.push(`${key}: must be a list of ${of}`);
    return [];
  };
  const integer = (key: string, value: unknown, range: { lowest: number; highest: number; what: string }): number => {
    const given = value ?? 0;
    const within = typeof given === "number" && Number.isInteger(given) && given >= range.lowest;
    if (given === 0 || (within && given <= range.highest)) return given;
    problems.push(`${key}: must be ${range.what}, not ${JSON.stringify(given)}`);
    return 0;
  };
  const ipam = section("ipam");
  const features = section("feature_control");
  const result: NetworkConfig = {
    cniVersion: text("cniVersion", config["cniVersion"], "") || "0.2.0",
    networkName: text("name", config["name"], ""),
    mtu: integer("mtu", config["mtu"], { lowest: 68, highest: 65_535, what: "0 (automatic) or 68–65535" }),
    queues: integer("num_queues", config["num_queues"], { lowest: 1, highest: 4096, what: "1–4096" }) || 1,
    ipamType: text("ipam.type", ipam["type"], OWN_IPAM),
    assignIpv4: flag("ipam.assign_ipv4", ipam["assign_ipv4"], true),
    assignIpv6: flag("ipam.assign_ipv6", ipam["assign_ipv6"], false),
    ipv4Pools: texts("ipam.ipv4_pools", ipam["ipv4_pools"], "pool names or CIDRs"),
    ipv6Pools: texts("ipam.ipv6_pools", ipam["ipv6_pools"], "pool names or CIDRs"),
    routes: podRoutes(ipam, flag("include_default_routes", config["include_default_routes"], false), problems),
    allowIpForwarding: flag(
      "container_settings.allow_ip_forwarding",
      section("container_settings")["allow_ip_forwarding"],
      false,
    ),
    allowAddressesWithoutIpam: flag("feature_control.ip_addrs_no_ipam", features["ip_addrs_no_ipam"], false),
    allowFloatingIps: flag("feature_control.floating_ips", features["floating_ips"], false),
    readinessGates: texts("readiness_gates", config["readiness_gates"], "URLs"),
    prevResult: previousResult(config["prevResult"]),
    raw: config,
    validContainers: command === "GC" ? attachedContainers(config, problems) : new Set(),
  };
  const badPlugin = badPluginName(result.ipamType);
  problems.push(...badNetworkName(result.networkName), ...unsupported(config), ...badPlugin);
  if (!result.assignIpv4 && !result.assignIpv6) problems.push("ipam: assign_ipv4 and assign_ipv6 are both off");
  // A DEL goes by names: a configuration of other days must not keep a pod from ending.
  const refused = command === "DEL" ? badPlugin : problems;
  if (refused.length > 0) {
    throw new CniFailure(INVALID_CONFIG, `the CNI network configuration is invalid: ${refused.join("; ")}`);
  }
  return result;
}

/** A pod's routes where nothing else is said. */
export const DEFAULT_ROUTES: readonly Prefix[] = [parsePrefix("0.0.0.0/0"), parsePrefix("::/0")];

/** Gateways are left out: a pod has one. Those of other IPAM plugins are their own affair, as upstream has it. */
function podRoutes(ipam: Json, withDefault: boolean, problems: string[]): readonly Prefix[] {
  if (ipam["type"] !== "host-local") return [];
  const routes = ipam["routes"] ?? [];
  if (!Array.isArray(routes)) problems.push("ipam.routes: must be a list");
  const named = (Array.isArray(routes) ? (routes as unknown[]) : []).flatMap((route) => {
    const { dst } = asObject(route) ?? {};
    if (dst === undefined) return [];
    const prefix = typeof dst === "string" ? tryParsePrefix(dst, "mask") : undefined;
    if (prefix === undefined) problems.push(`ipam.routes: dst must be a CIDR, not ${JSON.stringify(dst)}`);
    return prefix ?? [];
  });
  return named.length > 0 && withDefault ? [...DEFAULT_ROUTES, ...named] : named;
}

/** Also the key that CNI libraries before 1.2.3 wrote. No list, no collection: it would take everything away. */
function attachedContainers(config: Json, problems: string[]): Set<string> {
  const key = "cni.dev/valid-attachments";
  const value = key in config ? config[key] : config["cni.dev/attachments"];
  const list = value === null ? [] : value; // as Go spells a list that was never made
  const valid = new Set<string>();
  for (const item of Array.isArray(list) ? (list as unknown[]) : [undefined]) {
    const containerId = asText(asObject(item)?.["containerID"]);
    if (containerId !== "") valid.add(containerId);
    else problems.push(`${key}: must be a list of {"containerID", "ifname"}, which are to stay`);
  }
  return valid;
}

/** It is part of what addresses are recorded under. */
const badNetworkName = (name: string): string[] =>
  /^[a-zA-Z0-9][\w.-]*$/.test(name)
    ? []
    : [`name: "${name}" is no name of a network (letters, digits, ".", "_" and "-")`];

/**
 * Value of `device_type` that asks for a pair without queues. It is an optimisation for eBPF programs at the pod's end; upstream makes a veth pair where the kernel has no
 * netkit, and we make one everywhere (`CniService` says so at ADD).
 */
export const NETKIT = "netkit";

/** What is asked for and not there is refused by name, never ignored. */
function unsupported(config: Json): string[] {
  const problems: string[] = [];
  const device = config["device_type"] ?? "veth";
  if (device !== "veth" && device !== NETKIT) {
    problems.push(`device_type: must be "veth" or "${NETKIT}", not ${JSON.stringify(device)}`);
  }
  const dataplane = asObject(config["dataplane_options"])?.["type"] ?? "linux";
  if (dataplane !== "linux") {
    problems.push(`dataplane_options.type: ${JSON.stringify(dataplane)} is not supported; leave it out`);
  }
  if (Number(config["policy_setup_timeout_seconds"] ?? 0) < 0) {
    problems.push("policy_setup_timeout_seconds: must not be negative");
  }
  return problems;
}

/** The name is looked up in CNI_PATH: it must not lead anywhere else. */
const badPluginName = (name: string): string[] =>
  /^[\w.-]+$/.test(name) && !/^\.+$/.test(name) ? [] : [`ipam.type: "${name}" is not the name of a plugin`];

/** Undefined unless it is a result of 0.3.0 or later; older ones have no interfaces to speak of. */
function previousResult(value: unknown): PreviousResult | undefined {
  const result = asObject(value);
  if (result === undefined) return undefined;
  const { interfaces, ips, ...rest } = result;
  const objects = (list: unknown): Json[] =>
    Array.isArray(list) ? (list as unknown[]).map(asObject).filter((item) => item !== undefined) : [];
  return { interfaces: objects(interfaces), ips: objects(ips), rest };
}

/** Where the runtime does not say it all in CNI_ARGS (containerd's ctr says nothing, podman no namespace), the configuration may (CNI conventions, "args"). */
const argsOfConfig = (config: Json): Json => asObject(asObject(config["args"])?.["cni"]) ?? {};

function textValues(args: Json): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(args)) if (typeof value === "string") texts[name] = value;
  return texts;
}

const asText = (value: unknown): string => (typeof value === "string" ? value : "");

export const asObject = (value: unknown): Json | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
