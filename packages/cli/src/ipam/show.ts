/** `ipam show`: how full pools are; one address; the configuration; who borrowed. Columns and texts are upstream's. */
import {
  addressOf,
  attributeOf,
  type BlockUtilization,
  Ipam,
  type IpamConfig,
  isCooling,
  parseOwner,
} from "@calico-ts/ipam";
import { formatAddress, formatPrefix, tryParsePrefix } from "@calico-ts/net";
import { formatTable } from "../table.ts";
import { addressArgument, type Session } from "./session.ts";

export interface ShowOptions {
  readonly ip?: string;
  readonly showBlocks?: boolean;
  readonly showBorrowed?: boolean;
  readonly showConfiguration?: boolean;
}

/** Of several options the first of these counts, as upstream. */
export async function show(session: Session, options: ShowOptions): Promise<void> {
  const ipam = new Ipam({ client: session.client, clock: session.clock });
  if (options.ip !== undefined) await showAddress(session, ipam, options.ip);
  else if (options.showBlocks === true) await showPools(session, ipam, true);
  else if (options.showBorrowed === true) await showBorrowed(session);
  else if (options.showConfiguration === true) session.out(configurationTable(await ipam.config()));
  else await showPools(session, ipam, false);
}

async function showAddress({ out }: Session, ipam: Ipam, text: string): Promise<void> {
  const address = addressArgument(text);
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
  out(`Handle ID: ${facts.handle ?? "<none>"}\n`);
  const attributes = Object.entries(facts.attributes);
  if (attributes.length === 0) out("No Active Owner attributes defined\n");
  else out(`Active Owner Attributes:\n${lines(attributes)}`);
  // A virtual machine is moving there, or has just moved away.
  if (facts.alternateOwner !== undefined)
    out(`Alternate Owner Attributes:\n${lines(Object.entries(facts.alternateOwner))}`);
}

const lines = (attributes: readonly (readonly [string, string])[]): string =>
  attributes
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `  ${name}: ${value}\n`)
    .join("");

export const configurationTable = (config: IpamConfig): string =>
  formatTable(
    ["PROPERTY", "VALUE"],
    [
      ["StrictAffinity", String(config.strictAffinity)],
      ["AutoAllocateBlocks", String(config.autoAllocateBlocks)],
      ["MaxBlocksPerHost", String(config.maxBlocksPerHost)],
      ["KubeVirtVMAddressPersistence", config.machinesKeepAddresses ? "Enabled" : "Disabled"],
      ["IPCooldownSeconds", String(config.cooldownSeconds)],
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
    return withBlocks ? [own, ...blockRows(blocks)] : [own];
  });
  // Blocks of pools that were deleted come last, below no pool.
  if (withBlocks) rows.push(...blockRows(await ipam.strayBlocks()));
  out(formatTable(["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"], rows));
}

const blockRows = (blocks: readonly BlockUtilization[]): string[][] =>
  blocks
    .toSorted((a, b) => (a.cidr < b.cidr ? -1 : 1))
    .map(({ cidr, size, inUse, cooling, reserved, free }) =>
      row("Block", cidr, {
        size: BigInt(size),
        used: BigInt(inUse + cooling),
        reserved: BigInt(reserved),
        free: BigInt(free),
      }),
    );

interface Use {
  readonly size: bigint;
  readonly used: bigint;
  readonly reserved: bigint;
  readonly free: bigint;
}

function row(grouping: string, cidr: string, { size, used, reserved, free }: Use): string[] {
  const part = (count: bigint): string => `${fiveDigits(count)} (${percentage(count, size)}%)`;
  return [grouping, cidr, fiveDigits(size), part(used), part(reserved), part(free)];
}

/** As C's `%.5g`: five digits at most, so an IPv6 pool has 1.2089e+24 addresses, and a /15 1.3107e+05. */
export function fiveDigits(count: bigint): string {
  if (count < 100_000n) return String(count);
  const [digits = "", exponent = ""] = Number(count).toExponential(4).split("e+");
  return `${digits.replace(/\.?0+$/, "")}e+${exponent.padStart(2, "0")}`;
}

/** To the nearest whole number; a half to the even one, as C's `%.f`. */
export function percentage(part: bigint, whole: bigint): string {
  if (whole === 0n) return "0";
  const floor = (part * 100n) / whole;
  const twice = ((part * 100n) % whole) * 2n;
  return String(twice > whole || (twice === whole && floor % 2n === 1n) ? floor + 1n : floor);
}

async function showBorrowed({ client, out }: Session): Promise<void> {
  const rows: string[][] = [];
  let unknown = 0;
  for (const { spec } of (await client.list("IPAMBlock")).items) {
    const prefix = tryParsePrefix(spec.cidr);
    if (prefix === undefined) continue;
    const owner = parseOwner(spec.affinity)?.name ?? "";
    for (const ordinal of spec.allocations.keys()) {
      const attribute = attributeOf(spec, ordinal);
      if (attribute === undefined || isCooling(attribute)) continue;
      const { namespace = "", node, pod, type, "vmi-name": machine } = attribute.secondary ?? {};
      if (node === undefined) unknown++;
      if (node === undefined || node === owner) continue;
      const kind = machine !== undefined ? "vmi" : pod !== undefined ? "pod" : (type ?? "");
      const to = machine ?? pod;
      const whose = to === undefined ? "" : `${namespace}/${to}`;
      rows.push([formatAddress(addressOf(prefix, ordinal)), node, spec.cidr, owner, kind, whose]);
    }
  }
  out(formatTable(["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"], rows));
  if (unknown > 0) {
    out(
      `\nNote: found ${unknown} IP allocations without an explicit node association. Unable to determine if they are borrowed.\n`,
    );
  }
}
