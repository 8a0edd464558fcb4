/** `ipam show`: how full pools are; one address; the configuration; who borrowed. */
import { allocationsOf, Ipam, type IpamConfig, nodeOf, parseOwner } from "@calico-ts/ipam";
import { formatAddress, formatPrefix, parseAddress } from "@calico-ts/net";
import type { Session } from "./session.ts";
import { formatTable } from "../table.ts";

export interface ShowOptions {
  readonly ip?: string;
  readonly showBlocks?: boolean;
  readonly showBorrowed?: boolean;
  readonly showConfiguration?: boolean;
}

export async function show(session: Session, options: ShowOptions): Promise<void> {
  const ipam = new Ipam({ client: session.client, clock: session.clock });
  if (options.ip !== undefined) await showAddress(session, ipam, options.ip);
  else if (options.showConfiguration === true) session.out(configurationTable(await ipam.config()));
  else if (options.showBorrowed === true) await showBorrowed(session);
  else await showPools(session, ipam, options.showBlocks === true);
}

async function showAddress({ out }: Session, ipam: Ipam, text: string): Promise<void> {
  const address = parseAddress(text);
  const facts = await ipam.factsOf(address);
  if (facts === undefined) {
    out(`${formatAddress(address)} is not assigned\n`);
    return;
  }
  if (facts.releasedAt !== undefined) {
    out(`${formatAddress(address)} is cooling down since ${facts.releasedAt}\n`);
    return;
  }
  out(`IP ${formatAddress(address)} is in use\n`);
  const attributes = Object.entries(facts.attributes).toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (attributes.length === 0) out("No attributes defined\n");
  else out(`Attributes:\n${lines(attributes)}`);
  // A virtual machine is moving there, or has just moved away.
  if (facts.alternateOwner !== undefined) out(`Alternate owner:\n${lines(Object.entries(facts.alternateOwner))}`);
}

const lines = (attributes: readonly (readonly [string, string])[]): string =>
  attributes.map(([name, value]) => `  ${name}: ${value}\n`).join("");

export const configurationTable = (config: IpamConfig): string =>
  formatTable(
    ["PROPERTY", "VALUE"],
    [
      ["StrictAffinity", String(config.strictAffinity)],
      ["AutoAllocateBlocks", String(config.autoAllocateBlocks)],
      ["MaxBlocksPerHost", String(config.maxBlocksPerHost)],
      ["IPCooldownSeconds", String(config.cooldownSeconds)],
      ["KubeVirtVMAddressPersistence", config.machinesKeepAddresses ? "Enabled" : "Disabled"],
    ],
  );

async function showPools({ out }: Session, ipam: Ipam, withBlocks: boolean): Promise<void> {
  const rows = (await ipam.utilization()).flatMap(({ pool, blocks, ...use }) => {
    const own = row("IP Pool", formatPrefix(pool.prefix), {
      size: use.capacity,
      used: use.inUse + use.cooling,
      reserved: use.reserved,
      free: use.free,
    });
    if (!withBlocks) return [own];
    const inside = blocks
      .toSorted((a, b) => (a.cidr < b.cidr ? -1 : 1))
      .map(({ cidr, size, inUse, cooling, reserved, free }) =>
        row("Block", cidr, {
          size: BigInt(size),
          used: BigInt(inUse + cooling),
          reserved: BigInt(reserved),
          free: BigInt(free),
        }),
      );
    return [own, ...inside];
  });
  out(formatTable(["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"], rows));
}

interface Use {
  readonly size: bigint;
  readonly used: bigint;
  readonly reserved: bigint;
  readonly free: bigint;
}

function row(grouping: string, cidr: string, { size, used, reserved, free }: Use): string[] {
  const part = (count: bigint): string => `${short(count)} (${(count * 100n) / (size === 0n ? 1n : size)}%)`;
  return [grouping, cidr, short(size), part(used), part(reserved), part(free)];
}

/** IPv6 pools have more addresses than anyone can read. */
const short = (count: bigint): string =>
  count < 1_000_000_000n ? String(count) : Number(count).toExponential(4).replace("e+", "e+");

async function showBorrowed({ client, out }: Session): Promise<void> {
  const { items } = await client.list("IPAMBlock");
  const rows = items.flatMap((block) =>
    allocationsOf(block).flatMap((allocation) => {
      const node = nodeOf(allocation);
      const owner = parseOwner(block.spec.affinity)?.name ?? "";
      if (node === undefined || node === owner) return [];
      const { holder } = allocation;
      const pod = holder.kind === "machine" ? holder.owners[0] : holder.kind === "pod" ? holder : undefined;
      const to = pod === undefined ? "" : `${pod.namespace}/${pod.name}`;
      return [[formatAddress(allocation.address), node, block.spec.cidr, owner, holder.kind, to]];
    }),
  );
  out(formatTable(["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"], rows));
}
