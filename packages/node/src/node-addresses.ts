/** The node's own addresses: what the environment and detection say, as annotations of the Kubernetes node (inventory §1.2, §9.2). */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { KindMap } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";
import { formatAddress, tryParseAddress } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";
import { CalicoError } from "@calico-ts/std";
import type { DetectionInput } from "./autodetect/detect.ts";
import { describeCandidates, detectAddress } from "./autodetect/detect.ts";
import { hostInterfaces, sourceAddressTowards } from "./autodetect/host.ts";
import { parseDetectionMethod } from "./autodetect/method.ts";
import type { NodeSettings } from "./settings.ts";

export const IPV4_ANNOTATION = "projectcalico.org/IPv4Address";
export const IPV6_ANNOTATION = "projectcalico.org/IPv6Address";
const AS_ANNOTATION = "projectcalico.org/ASNumber";

export interface NodeAddressOptions {
  readonly client: DatastoreClient;
  readonly nodeName: string;
  readonly settings: NodeSettings;
  readonly log: Logger;
}

/** Writes what changed; returns the addresses in CIDR form. @throws CalicoError BAD_INPUT when an address is needed and none fits */
export async function writeNodeAddresses(
  options: NodeAddressOptions,
): Promise<{ ipv4: string | undefined; ipv6: string | undefined }> {
  const { client, nodeName, settings, log } = options;
  const node = await client.get("Node", { name: nodeName });
  const ipv4 = await choose(options, node, 4);
  const ipv6 = await choose(options, node, 6);
  if (ipv4 === undefined && ipv6 === undefined) {
    throw new CalicoError(
      "BAD_INPUT",
      `node ${nodeName} has neither an IPv4 nor an IPv6 address: set IP or IP6 (IP="${settings.ip}", IP6="${settings.ip6}")`,
    );
  }
  if (!settings.disableIpCheck) await refuseDuplicates(options, [ipv4, ipv6]);
  const wanted: Record<string, string | null> = { [IPV4_ANNOTATION]: ipv4 ?? null, [IPV6_ANNOTATION]: ipv6 ?? null };
  if (settings.as !== "") wanted[AS_ANNOTATION] = settings.as;
  const now = node.metadata.annotations ?? {};
  const changed = Object.entries(wanted).filter(([key, value]) => (now[key] ?? null) !== value);
  if (changed.length > 0) {
    await client.patch(
      "Node",
      { name: nodeName },
      { metadata: { annotations: Object.fromEntries(changed) } },
      { status: true },
    );
    log.info("node.addresses_written", { node: nodeName, ipv4: ipv4 ?? "none", ipv6: ipv6 ?? "none" });
  }
  return { ipv4, ipv6 };
}

async function choose(options: NodeAddressOptions, node: KindMap["Node"], family: Family): Promise<string | undefined> {
  const { settings, log } = options;
  const text = family === 4 ? settings.ip : settings.ip6;
  const variable = family === 4 ? "IP" : "IP6";
  if (text === "none") return undefined;
  const current = node.metadata.annotations?.[family === 4 ? IPV4_ANNOTATION : IPV6_ANNOTATION];
  if (text === "") {
    // IPv6 only when asked for. An IPv4 address written earlier stays, as upstream has it.
    if (family === 6) return current;
    if (current !== undefined) return current;
  }
  if (text !== "" && text !== "autodetect") return configured(text, family, variable);
  const methodVariable = family === 4 ? "IP_AUTODETECTION_METHOD" : "IP6_AUTODETECTION_METHOD";
  const method = parseDetectionMethod(family === 4 ? settings.ipMethod : settings.ip6Method, methodVariable);
  const input: DetectionInput = {
    family,
    method,
    interfaces: hostInterfaces(),
    internalAddresses: (node.status?.addresses ?? [])
      .filter((one) => one.type === "InternalIP")
      .map((one) => one.address),
    sourceTowards: method.kind === "can-reach" ? await sourceAddressTowards(method.destination, family) : undefined,
  };
  const found = detectAddress(input);
  if (found !== undefined) return `${formatAddress(found.address)}/${found.length}`;
  const why = `no IPv${family} address by ${methodVariable}=${family === 4 ? settings.ipMethod : settings.ip6Method}: ${describeCandidates(input)}`;
  if (current !== undefined) {
    log.warning("node.address_not_found", { family, keeping: current, why });
    return current;
  }
  throw new CalicoError("BAD_INPUT", `${why}; set ${variable} or ${methodVariable}`);
}

/** An address without a length takes that of the interface it is on, or is a host address. */
function configured(text: string, family: Family, variable: string): string {
  const [addressText = "", lengthText] = text.split("/");
  const address = tryParseAddress(addressText);
  const bits = family === 4 ? 32 : 128;
  const length = lengthText === undefined ? undefined : Number(lengthText);
  if (
    address?.family !== family ||
    (length !== undefined && !(Number.isInteger(length) && length >= 0 && length <= bits))
  ) {
    throw new CalicoError(
      "BAD_INPUT",
      `${variable}="${text}" is not an IPv${family} address[/length], "autodetect" or "none"`,
    );
  }
  if (length !== undefined) return `${formatAddress(address)}/${length}`;
  const held = hostInterfaces()
    .flatMap((one) => one.addresses)
    .find((one) => one.address.family === family && one.address.value === address.value);
  return `${formatAddress(address)}/${held?.length ?? bits}`;
}

async function refuseDuplicates(options: NodeAddressOptions, cidrs: readonly (string | undefined)[]): Promise<void> {
  const mine = new Set(cidrs.flatMap((cidr) => (cidr === undefined ? [] : [addressOf(cidr)])));
  const { items } = await options.client.list("Node");
  for (const node of items) {
    if (node.metadata.name === options.nodeName) continue;
    for (const name of [IPV4_ANNOTATION, IPV6_ANNOTATION]) {
      const other = node.metadata.annotations?.[name];
      if (other === undefined || !mine.has(addressOf(other))) continue;
      throw new CalicoError(
        "ADDRESS_TAKEN",
        `node ${node.metadata.name} already has the address ${addressOf(other)} (annotation ${name}): choose another with IP or IP_AUTODETECTION_METHOD, or delete that node if it is gone (DISABLE_NODE_IP_CHECK=true skips this check)`,
      );
    }
  }
}

const addressOf = (cidr: string): string => cidr.split("/")[0] ?? cidr;
