/** Takes and returns this node's tunnel addresses as `tunnel-addresses.ts` decides, and records them on the node. */
import type { DatastoreClient } from "@calico-ts/datastore";
import { Ipam } from "@calico-ts/ipam";
import type { IPPool } from "@calico-ts/model";
import type { IpAddress, Prefix } from "@calico-ts/net";
import {
  containsAddress,
  formatAddress,
  formatPrefix,
  parseAddress,
  sameAddress,
  tryParsePrefix,
} from "@calico-ts/net";
import type { Clock, Logger } from "@calico-ts/runtime";
import { parseSelector } from "@calico-ts/selector";
import { CalicoError } from "@calico-ts/std";
import type { TunnelDecision, TunnelPool } from "./tunnel-addresses.ts";
import { decideTunnels, TUNNELS } from "./tunnel-addresses.ts";

export interface AllocateOptions {
  readonly client: DatastoreClient;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Converges; safe to repeat, and to be interrupted: the handle finds an address whose annotation was never written. */
export async function allocateTunnelAddresses(options: AllocateOptions): Promise<void> {
  const { client, nodeName, clock, log } = options;
  const [node, pools] = await Promise.all([client.get("Node", { name: nodeName }), client.list("IPPool")]);
  const labels = node.metadata.labels ?? {};
  const annotations = node.metadata.annotations ?? {};
  const decisions = decideTunnels(
    pools.items.flatMap((pool) => tunnelPool(pool, labels) ?? []),
    annotations,
  );
  const ipam = new Ipam({ client, clock });
  const changes: Record<string, string | null> = {};
  for (const decision of decisions) {
    const { annotation } = TUNNELS[decision.tunnel];
    const address = await settle(decision, ipam, options);
    if ((annotations[annotation] ?? undefined) !== address) changes[annotation] = address ?? null;
  }
  if (Object.keys(changes).length === 0) return;
  await client.patch("Node", { name: nodeName }, { metadata: { annotations: changes } }, { status: true });
  log.info("node.tunnel_addresses_written", { node: nodeName, ...changes });
}

/** The address the tunnel has afterwards. */
async function settle(decision: TunnelDecision, ipam: Ipam, options: AllocateOptions): Promise<string | undefined> {
  const { handle: kind, attribute } = TUNNELS[decision.tunnel];
  const handle = `${kind}-${options.nodeName}`;
  const held = await ipam.addressesOf(handle);
  if (decision.do === "keep") {
    // An annotation without an allocation behind it could be another's address by now: it counts only while ours.
    const kept = parseAddress(decision.address);
    if (held.some((address) => sameAddress(address, kept))) return decision.address;
  }
  if (decision.do === "remove" || decision.pools.length === 0) {
    if (held.length > 0) await ipam.releaseByHandle(handle);
    return undefined;
  }
  if (held.length > 0) {
    const usable = held.find((address) => inPools(address, decision.pools));
    if (usable !== undefined) return formatAddress(usable);
    await ipam.releaseByHandle(handle);
  }
  const pools = decision.pools.map(formatPrefix);
  const outcome = await ipam.autoAssign(options.nodeName, {
    family: decision.tunnel === "vxlan-v6" ? 6 : 4,
    count: 1,
    handle,
    attributes: { node: options.nodeName, type: attribute },
    use: "Tunnel",
    pools,
  });
  const [assigned] = outcome.assigned;
  if (assigned !== undefined) return formatAddress(assigned.address);
  throw (
    outcome.error ??
    new CalicoError("POOL_EXHAUSTED", `no address for the ${decision.tunnel} tunnel of ${options.nodeName}`)
  );
}

const inPools = (address: IpAddress, pools: readonly Prefix[]): boolean =>
  pools.some((pool) => containsAddress(pool, address));

/** Undefined: it cannot be read, or is being deleted, which an address taken from it would hold up. */
function tunnelPool({ metadata, spec }: IPPool, labels: Readonly<Record<string, string>>): TunnelPool | undefined {
  const cidr = tryParsePrefix(spec.cidr, "mask");
  if (cidr === undefined || metadata.deletionTimestamp !== undefined) return undefined;
  const uses = spec.allowedUses ?? [];
  return {
    cidr,
    disabled: spec.disabled === true,
    ipip: (spec.ipipMode ?? "Never") !== "Never",
    vxlan: (spec.vxlanMode ?? "Never") !== "Never",
    allowsTunnels: uses.length === 0 || uses.includes("Tunnel"),
    selectsNode: selects(spec.nodeSelector ?? "", labels),
  };
}

/** A selector nobody can read selects nothing. */
function selects(text: string, labels: Readonly<Record<string, string>>): boolean {
  try {
    return parseSelector(text).matches({ get: (name) => labels[name] });
  } catch {
    return false;
  }
}
