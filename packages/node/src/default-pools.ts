/**
 * The pools a first start creates (inventory §9.2). Pure: what exists and what was asked for in, specs of pools to create out.
 * A pool is created per family only when no pool of that family exists; `none` as CIDR switches the family off.
 */
import type { Prefix } from "@calico-ts/net";
import { containsPrefix, formatPrefix, overlaps, parsePrefix, tryParsePrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { NodeSettings, PoolMode } from "./settings.ts";

export interface PoolSpec {
  readonly cidr: string;
  readonly blockSize: number;
  readonly ipipMode: PoolMode;
  readonly vxlanMode: PoolMode;
  readonly natOutgoing: boolean;
  readonly nodeSelector: string;
  readonly disableBGPExport: boolean;
}

export interface NamedPool {
  readonly name: string;
  readonly spec: PoolSpec;
}

export interface PoolSituation {
  readonly settings: NodeSettings;
  readonly existingCidrs: readonly string[];
  /** Subnets of this host's interfaces: a default range must not overlap them. */
  readonly hostSubnets: readonly Prefix[];
  /** Pod subnets that kubeadm was told, when it installed the cluster. */
  readonly kubeadmPodSubnets: readonly string[];
  /** The node has an IPv6 address of its own. */
  readonly hasIpv6: boolean;
  /** Five random bytes: the global id of a unique local prefix (RFC 4193 section 3.2). */
  readonly randomGlobalId: Uint8Array;
}

/** @throws CalicoError BAD_INPUT */
export function defaultPools(situation: PoolSituation): NamedPool[] {
  const { settings } = situation;
  if (settings.noDefaultPools) {
    if (settings.pool4Cidr !== "" || settings.pool6Cidr !== "") {
      throw new CalicoError(
        "BAD_INPUT",
        "NO_DEFAULT_POOLS is set together with CALICO_IPV4POOL_CIDR or CALICO_IPV6POOL_CIDR: unset one",
      );
    }
    return [];
  }
  const existing = situation.existingCidrs.flatMap((text) => tryParsePrefix(text, "mask") ?? []);
  const pools: NamedPool[] = [];
  if (settings.pool4Cidr !== "none" && !existing.some((prefix) => prefix.family === 4)) {
    pools.push({ name: "default-ipv4-ippool", spec: poolV4(situation) });
  }
  const wants6 = settings.pool6Cidr !== "" || situation.hasIpv6;
  if (wants6 && settings.pool6Cidr !== "none" && !existing.some((prefix) => prefix.family === 6)) {
    pools.push({ name: "default-ipv6-ippool", spec: poolV6(situation) });
  }
  return pools;
}

function poolV4(situation: PoolSituation): PoolSpec {
  const { settings } = situation;
  const cidr =
    requested(settings.pool4Cidr, "CALICO_IPV4POOL_CIDR", 4) ??
    kubeadm(situation, 4) ??
    freeRange(situation.hostSubnets);
  fits(cidr, settings.pool4BlockSize, "CALICO_IPV4POOL_BLOCK_SIZE");
  return {
    cidr: formatPrefix(cidr),
    blockSize: settings.pool4BlockSize,
    ipipMode: settings.pool4Ipip,
    vxlanMode: settings.pool4Vxlan,
    natOutgoing: settings.pool4Nat,
    nodeSelector: settings.pool4NodeSelector,
    disableBGPExport: settings.pool4DisableBgp,
  };
}

function poolV6(situation: PoolSituation): PoolSpec {
  const { settings } = situation;
  const cidr =
    requested(settings.pool6Cidr, "CALICO_IPV6POOL_CIDR", 6) ??
    kubeadm(situation, 6) ??
    uniqueLocal(situation.randomGlobalId);
  fits(cidr, settings.pool6BlockSize, "CALICO_IPV6POOL_BLOCK_SIZE");
  return {
    cidr: formatPrefix(cidr),
    blockSize: settings.pool6BlockSize,
    ipipMode: "Never",
    vxlanMode: settings.pool6Vxlan,
    natOutgoing: settings.pool6Nat,
    nodeSelector: settings.pool6NodeSelector,
    disableBGPExport: settings.pool6DisableBgp,
  };
}

function requested(text: string, variable: string, family: 4 | 6): Prefix | undefined {
  if (text === "") return undefined;
  const prefix = tryParsePrefix(text);
  if (prefix?.family === family) return prefix;
  throw new CalicoError("BAD_INPUT", `${variable}="${text}" is not an IPv${family} CIDR with its host bits zero`);
}

function kubeadm(situation: PoolSituation, family: 4 | 6): Prefix | undefined {
  return situation.kubeadmPodSubnets
    .flatMap((text) => tryParsePrefix(text, "mask") ?? [])
    .find((prefix) => prefix.family === family);
}

/** Upstream's default first, then every other private /16. */
const RANGES: readonly Prefix[] = [
  "192.168.0.0/16",
  ...Array.from({ length: 16 }, (_, at) => `172.${16 + at}.0.0/16`),
  ...Array.from({ length: 256 }, (_, at) => `10.${at}.0.0/16`),
].map((text) => parsePrefix(text));

function freeRange(hostSubnets: readonly Prefix[]): Prefix {
  const free = RANGES.find((range) => !hostSubnets.some((subnet) => overlaps(range, subnet)));
  if (free !== undefined) return free;
  throw new CalicoError(
    "BAD_INPUT",
    "every private IPv4 /16 overlaps a network of this host: set CALICO_IPV4POOL_CIDR",
  );
}

const UNIQUE_LOCAL = parsePrefix("fd00::/8");

function uniqueLocal(globalId: Uint8Array): Prefix {
  let id = 0n;
  for (const byte of globalId.subarray(0, 5)) id = (id << 8n) | BigInt(byte);
  const prefix: Prefix = { family: 6, value: UNIQUE_LOCAL.value | (id << 80n), length: 48 };
  return containsPrefix(UNIQUE_LOCAL, prefix) ? prefix : UNIQUE_LOCAL;
}

function fits(cidr: Prefix, blockSize: number, variable: string): void {
  if (blockSize >= cidr.length) return;
  throw new CalicoError(
    "BAD_INPUT",
    `${variable}=${blockSize}: a block is larger than the whole pool ${formatPrefix(cidr)}`,
  );
}
