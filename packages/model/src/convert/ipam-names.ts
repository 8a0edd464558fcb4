/** Names and labels of the records: upstream finds ours, and we find upstream's, by these. */
import { formatPrefix, type Prefix } from "@calico-ts/net";
import { sha256Hex } from "@calico-ts/std";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";

/** `host`: a node. `virtual`: addresses of load balancers, which belong to no node. */
export type AffinityType = "host" | "virtual";

export interface Owner {
  readonly type: AffinityType;
  readonly name: string;
}

export const hostOwner = (name: string): Owner => ({ type: "host", name });

/** The value of a block's `affinity`. */
export const ownerText = (owner: Owner): string => `${owner.type}:${owner.name}`;

export function parseOwner(text: string | undefined): Owner | undefined {
  const match = /^(host|virtual):(.+)$/.exec(text ?? "");
  return match?.[2] === undefined ? undefined : { type: match[1] === "virtual" ? "virtual" : "host", name: match[2] };
}

/** `10.0.0.64/26` → `10-0-0-64-26`. */
export const blockName = (block: Prefix): string => formatPrefix(block).replace(/[.:/]/g, "-");

const MAX_NAME = 253;
const HASH_LENGTH = 11;

/** `<node>-<block>`; when that is too long the node's name is cut and a hash of both added. */
export function affinityName(owner: Owner, block: Prefix): string {
  const suffix = blockName(block);
  const name = `${owner.name}-${suffix}`;
  if (name.length < MAX_NAME) return name;
  const head = owner.name.slice(0, MAX_NAME - 1 - suffix.length - (HASH_LENGTH + 2));
  return `${head}-${suffix}-${sha256Hex(`${owner.name}+${suffix}`).slice(0, HASH_LENGTH)}`;
}

/** Handles are matched without regard to case, because resource names have none. */
export function handleName(handle: string): string {
  const name = handle.toLowerCase();
  if (name.length <= MAX_NAME && /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(name)) return name;
  return `handle-${sha256Hex(handle)}`;
}

/** Some handles of migrated clusters carry a carriage return and rubbish after it. */
export const cleanHandle = (handle: string): string => handle.split("\r", 1)[0] ?? "";

export const HOSTNAME_HASH_LABEL = "projectcalico.org/hostname-hash";
export const AFFINITY_TYPE_LABEL = "projectcalico.org/affinity-type";
export const IP_VERSION_LABEL = "projectcalico.org/ip-version";

export const affinityLabels = (owner: Owner, block: Prefix): Record<string, string> => ({
  [HOSTNAME_HASH_LABEL]: hostnameHash(owner.name),
  [AFFINITY_TYPE_LABEL]: owner.type,
  [IP_VERSION_LABEL]: String(block.family),
});

export const affinitySelector = (owner: Owner): string =>
  `${HOSTNAME_HASH_LABEL}=${hostnameHash(owner.name)},${AFFINITY_TYPE_LABEL}=${owner.type}`;

/** Node names can be longer than label values may be: base32 (RFC 4648, unpadded) of SHA3-256, 52 characters. */
export function hostnameHash(name: string): string {
  const digits: string[] = [];
  let buffer = 0;
  let bits = 0;
  for (const byte of sha3_256(utf8ToBytes(name))) {
    buffer = (buffer << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      digits.push(BASE32.charAt((buffer >> (bits - 5)) & 31));
      bits -= 5;
    }
    buffer &= (1 << bits) - 1;
  }
  if (bits > 0) digits.push(BASE32.charAt((buffer << (5 - bits)) & 31));
  return digits.join("");
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
