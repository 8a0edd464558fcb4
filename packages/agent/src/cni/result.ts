/**
 * The result of an ADD in the version the runtime asked for (CNI specification 1.1.0, 1.0.0, 0.4.0, 0.3.x and 0.2.0, "Success"), added to what
 * the plugins before us in the list have made.
 */
import type { IpAddress } from "@calico-ts/net";
import { addressBits, formatAddress } from "@calico-ts/net";
import type { Json, PreviousResult } from "./request.ts";

export interface AddOutcome {
  readonly hostInterface: string;
  readonly podInterface: string;
  readonly podMac: string;
  readonly netns: string;
  readonly mtu: number;
  readonly addresses: readonly IpAddress[];
  /** `routes` and `dns` that came with the addresses. */
  readonly told?: Json | undefined;
}

/** Host interface first, the pod's second; addresses belong to the second and have no gateway, as upstream reports them. */
export function addResult(outcome: AddOutcome, cniVersion: string, before?: PreviousResult): object {
  const { addresses, hostInterface, mtu, netns, podInterface, podMac, told } = outcome;
  if (isOld(cniVersion)) return oldResult(addresses, cniVersion);
  const interfaces: Json[] = [
    ...(before?.interfaces ?? []),
    { name: hostInterface },
    { name: podInterface, mac: podMac, ...(cniVersion === "1.1.0" && { mtu }), sandbox: netns },
  ];
  const own = addresses.map((address) => ({ ...ipEntry(address, cniVersion), interface: interfaces.length - 1 }));
  return { dns: {}, ...before?.rest, ...told, cniVersion, interfaces, ips: [...(before?.ips ?? []), ...own] };
}

/** What `calico-ipam` prints to a main plugin: addresses without interfaces. */
export function ipamResult(addresses: readonly IpAddress[], cniVersion: string): object {
  if (isOld(cniVersion)) return oldResult(addresses, cniVersion);
  return { cniVersion, ips: addresses.map((address) => ipEntry(address, cniVersion)), dns: {} };
}

/** Before 0.3.0: no interfaces, and one address of each family. */
const isOld = (cniVersion: string): boolean => cniVersion === "0.1.0" || cniVersion === "0.2.0";

function oldResult(addresses: readonly IpAddress[], cniVersion: string): object {
  const of = (family: 4 | 6): { ip: string } | undefined => {
    const address = addresses.find((one) => one.family === family);
    return address === undefined ? undefined : { ip: hostCidr(address) };
  };
  return { cniVersion, ...(of(4) && { ip4: of(4) }), ...(of(6) && { ip6: of(6) }), dns: {} };
}

/** `version` was required before 1.0.0 and is gone since. */
const ipEntry = (address: IpAddress, cniVersion: string): Json => ({
  ...(cniVersion.startsWith("0.") && { version: String(address.family) }),
  address: hostCidr(address),
});

const hostCidr = (address: IpAddress): string => `${formatAddress(address)}/${addressBits(address.family)}`;
