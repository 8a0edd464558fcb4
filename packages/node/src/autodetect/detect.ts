/**
 * Chooses the node's address among those its interfaces have. Pure: the interfaces, the node's Kubernetes addresses and the answer of a
 * route look-up are arguments.
 */
import type { Family, IpAddress, Prefix } from "@calico-ts/net";
import { containsAddress, parsePrefix, tryParseAddress } from "@calico-ts/net";
import type { DetectionMethod } from "./method.ts";

export interface HostInterface {
  readonly name: string;
  readonly addresses: readonly HostAddress[];
}

export interface HostAddress {
  readonly address: IpAddress;
  /** Length of the interface's subnet. */
  readonly length: number;
}

export interface Detected {
  readonly interfaceName: string;
  readonly address: IpAddress;
  readonly length: number;
}

export interface DetectionInput {
  readonly family: Family;
  readonly method: DetectionMethod;
  /** In the kernel's order. */
  readonly interfaces: readonly HostInterface[];
  /** status.addresses of type InternalIP of the Kubernetes node. */
  readonly internalAddresses: readonly string[];
  /** For can-reach: the source address towards the destination, when there is a route. */
  readonly sourceTowards: string | undefined;
}

/** Interfaces that never carry the node's own address (upstream's list for first-found). */
const EXCLUDED =
  /^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo$|br-|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico$|vxlan-v6\.calico$|wireguard\.cali$|wg-v6\.cali$|nodelocaldns)/;

/** The address, or undefined when nothing fits. */
export function detectAddress(input: DetectionInput): Detected | undefined {
  const { method } = input;
  switch (method.kind) {
    case "first-found":
      return candidates(input).find((one) => !EXCLUDED.test(one.interfaceName));
    case "skip-interface":
      return candidates(input).find(
        (one) =>
          !EXCLUDED.test(one.interfaceName) && !method.patterns.some((pattern) => pattern.test(one.interfaceName)),
      );
    case "interface":
      for (const pattern of method.patterns) {
        const found = candidates(input).find((one) => pattern.test(one.interfaceName));
        if (found !== undefined) return found;
      }
      return undefined;
    case "cidr":
      return candidates(input).find((one) => method.prefixes.some((prefix) => containsAddress(prefix, one.address)));
    case "can-reach":
      return withText(input, input.sourceTowards);
    case "kubernetes-internal-ip": {
      for (const text of input.internalAddresses) {
        const found = withText(input, text);
        if (found !== undefined) return found;
      }
      return undefined;
    }
  }
}

/** Why nothing was found: what was looked at, for the log. */
export function describeCandidates(input: DetectionInput): string {
  const seen = input.interfaces.map((one) => one.name);
  return seen.length === 0
    ? "this host has no interface with an address"
    : `looked at the interfaces ${seen.join(", ")}`;
}

function withText(input: DetectionInput, text: string | undefined): Detected | undefined {
  const address = text === undefined ? undefined : tryParseAddress(text);
  if (address === undefined || address.family !== input.family) return undefined;
  return candidates(input).find((one) => one.address.value === address.value);
}

function candidates(input: DetectionInput): Detected[] {
  return input.interfaces.flatMap(({ name, addresses }) =>
    addresses
      .filter(({ address }) => address.family === input.family && isUsable(address))
      .map(({ address, length }) => ({ interfaceName: name, address, length })),
  );
}

const UNUSABLE: readonly Prefix[] = ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"].map((text) =>
  parsePrefix(text),
);

const isUsable = (address: IpAddress): boolean => !UNUSABLE.some((prefix) => containsAddress(prefix, address));
