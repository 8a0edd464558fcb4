/** Neutral set elements as nf_tables elements. */
import { addressBytes, lastAddress, prefixAddress } from "@calico-ts/net";
import type { NftElement } from "@calico-ts/netlink";
import { concatKey, hostUint32, interfaceKey, portKey, protocolKey } from "@calico-ts/netlink";
import type { KeyPart, KeyType, SetDeclaration, SetElement } from "../../ruleset/values.ts";

export function renderElement(declaration: SetDeclaration, element: SetElement): NftElement {
  const end = declaration.ranges ? { keyEnd: keyBytes(declaration, element, "last") } : {};
  const value = valueOf(element);
  const comment = element.comment === undefined ? {} : { comment: element.comment };
  return { key: keyBytes(declaration, element, "first"), ...end, ...value, ...comment };
}

function valueOf({ chain, address }: SetElement): Pick<NftElement, "value"> {
  if (chain !== undefined) return { value: { kind: "goto", chain } };
  return address === undefined ? {} : { value: addressBytes(prefixAddress(address)) };
}

function keyBytes(declaration: SetDeclaration, element: SetElement, end: "first" | "last"): Uint8Array {
  const parts = element.key.map((part, at) => partBytes(part, declaration.key[at], end));
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : concatKey(...parts);
}

function numberBytes(value: number, type: KeyType | undefined): Uint8Array {
  if (type === "interface-group") return hostUint32(value);
  return type === "protocol" ? protocolKey(value) : portKey(value);
}

function partBytes(part: KeyPart, type: KeyType | undefined, end: "first" | "last"): Uint8Array {
  if (typeof part === "string") return interfaceKey(part);
  if (typeof part === "number") return numberBytes(part, type);
  if ("first" in part) return portKey(part[end]);
  return addressBytes(end === "first" ? prefixAddress(part) : lastAddress(part));
}
