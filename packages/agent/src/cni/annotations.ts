/**
 * What a pod and its namespace ask for in annotations (upstream's names). Pools and families: the pod's win over the namespace's, both over the
 * configuration, and other IPAM plugins than ours hear nothing of them; everything else is the pod's own. An empty annotation asks for nothing. Whatever cannot be understood or granted is refused by name: a pod with the wrong address is worse than none.
 * Limits (`qos.projectcalico.org/…`) keep no pod from running: the endpoint reads them itself, and the compiler tells what is wrong with them.
 */
import { formatAddress, formatMac, type IpAddress, parseMac, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { CniFailure, INVALID_CONFIG } from "./cni-failure.ts";
import type { PodRecord } from "./ports.ts";
import { type NetworkConfig, OWN_IPAM } from "./request.ts";

export interface PodWishes {
  readonly want4: boolean;
  readonly want6: boolean;
  readonly pools4: readonly string[];
  readonly pools6: readonly string[];
  /** Exactly these, from IPAM. */
  readonly addresses: readonly IpAddress[];
  /** Exactly these, and IPAM is not asked. */
  readonly unmanaged: readonly IpAddress[];
  readonly mac: string | undefined;
  /** Addresses that are to lead to the pod. The endpoint takes them from the annotation itself; here they are only checked. */
  readonly floating: readonly IpAddress[];
}

const PREFIX = "cni.projectcalico.org/";

/** @throws CniFailure 7 */
export function podWishes(record: PodRecord | undefined, config: NetworkConfig): PodWishes {
  const own = (key: string): string | undefined => record?.annotations[PREFIX + key] || undefined;
  const ofIpam = (key: string): string | undefined => {
    const text = own(key) ?? (record?.namespaceAnnotations[PREFIX + key] || undefined);
    return config.ipamType === OWN_IPAM ? text : undefined;
  };
  const pools = (key: string, fromConfig: readonly string[]): readonly string[] => {
    const text = ofIpam(key);
    return text === undefined
      ? fromConfig
      : parseList(key, text, 'pool names or CIDRs, such as ["default-ipv4-ippool"]');
  };
  checkPrefixes("allowedSourcePrefixes", own("allowedSourcePrefixes"));
  const families = readFamilies(ofIpam("ipFamilies"), config);
  const addresses = readAddresses("ipAddrs", own("ipAddrs"));
  const unmanaged = readAddresses("ipAddrsNoIpam", own("ipAddrsNoIpam"));
  needOwnIpam("ipAddrs", addresses, config);
  needOwnIpam("ipAddrsNoIpam", unmanaged, config);
  if (unmanaged.length > 0) {
    if (!config.allowAddressesWithoutIpam) {
      refuse("ipAddrsNoIpam", "the network configuration does not allow it (feature_control.ip_addrs_no_ipam)");
    }
    if (addresses.length > 0) refuse("ipAddrsNoIpam", "cannot stand beside ipAddrs");
  }
  return {
    ...families,
    pools4: pools("ipv4pools", config.ipv4Pools),
    pools6: pools("ipv6pools", config.ipv6Pools),
    addresses,
    unmanaged,
    mac: readMac(own("hwAddr")),
    floating: readFloating(own("floatingIPs"), config),
  };
}

function needOwnIpam(key: string, addresses: readonly IpAddress[], { ipamType }: NetworkConfig): void {
  if (addresses.length === 0 || ipamType === OWN_IPAM) return;
  refuse(key, `needs "ipam": {"type": "${OWN_IPAM}"}, and the network configuration has ${ipamType}`);
}

/** @throws CniFailure 7 when a floating address has no address of the pod to lead to */
export function checkFloating({ floating }: PodWishes, addresses: readonly IpAddress[]): void {
  const stray = floating.find(({ family }) => !addresses.some((address) => address.family === family));
  if (stray === undefined) return;
  const has = addresses.map(formatAddress).join(", ");
  refuse("floatingIPs", `${formatAddress(stray)} needs an IPv${stray.family} address of the pod, which has ${has}`);
}

function readFloating(text: string | undefined, { allowFloatingIps }: NetworkConfig): IpAddress[] {
  if (text === undefined) return [];
  if (!allowFloatingIps) {
    refuse("floatingIPs", "the network configuration does not allow it (feature_control.floating_ips)");
  }
  return parseList("floatingIPs", text, 'addresses, such as ["192.0.2.1"]').map(
    (one) => tryParseAddress(one) ?? refuse("floatingIPs", `"${one}" is not an address`),
  );
}

function readFamilies(
  text: string | undefined,
  { assignIpv4, assignIpv6 }: NetworkConfig,
): { readonly want4: boolean; readonly want6: boolean } {
  if (text === undefined) return { want4: assignIpv4, want6: assignIpv6 };
  const families = parseList("ipFamilies", text, '"IPv4" and "IPv6"');
  if (families.length === 0 || families.some((family) => family !== "IPv4" && family !== "IPv6")) {
    refuse("ipFamilies", `must list "IPv4", "IPv6" or both, not ${text}`);
  }
  return { want4: families.includes("IPv4"), want6: families.includes("IPv6") };
}

/** At most one of each family. */
function readAddresses(key: string, text: string | undefined): IpAddress[] {
  if (text === undefined) return [];
  const addresses = parseList(key, text, 'addresses, such as ["10.0.0.1"]').map((one) => {
    const address = tryParseAddress(one);
    return address ?? refuse(key, `"${one}" is not an address`);
  });
  if (addresses.length === 0) refuse(key, "lists no address");
  for (const family of [4, 6]) {
    const same = addresses.filter((address) => address.family === family);
    if (same.length > 1)
      refuse(key, `lists ${same.length} IPv${family} addresses (${same.map(formatAddress).join(", ")}); a pod has one`);
  }
  return addresses;
}

/** The endpoint takes them from the annotation itself (`@calico-ts/model`), leaving out what it cannot read: here a pod is told. */
function checkPrefixes(key: string, text: string | undefined): void {
  if (text === undefined) return;
  const wrong = parseList(key, text, 'prefixes, such as ["10.9.0.0/24"]').find(
    (one) => tryParsePrefix(one, "mask") === undefined,
  );
  if (wrong !== undefined) refuse(key, `"${wrong}" is not a prefix`);
}

function readMac(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  try {
    return formatMac(parseMac(text));
  } catch {
    return refuse("hwAddr", `"${text}" is not a MAC address`);
  }
}

function parseList(key: string, text: string, of: string): string[] {
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  } catch {
    // falls through to the one message
  }
  return refuse(key, `must be a JSON list of ${of}, not ${text}`);
}

function refuse(key: string, why: string): never {
  throw new CniFailure(INVALID_CONFIG, `the annotation ${PREFIX}${key}: ${why}`);
}
