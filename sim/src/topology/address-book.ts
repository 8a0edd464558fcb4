/** Who has which address of a subnet, and the next free one. */
import type { IpAddress } from "@calico-ts/net";
import { addressAt, formatAddress, lastAddress, prefixAddress, prefixSize } from "@calico-ts/net";
import type { SubnetPlan } from "./plan.ts";

/** Nodes start here in a subnet of at least 32 addresses, so that the low numbers stay readable as infrastructure. */
const FIRST_NODE_OFFSET = 11n;

export class AddressBook {
  readonly subnet: SubnetPlan;
  readonly #owners = new Map<string, string>();
  /** Where the last search for a free address ended, by family and starting place; keeps filling linear. */
  readonly #cursor = new Map<string, bigint>();

  constructor(subnet: SubnetPlan) {
    this.subnet = subnet;
    for (const prefix of subnet.prefixes) {
      this.#owners.set(formatAddress(prefixAddress(prefix)), "the subnet itself (network address)");
      if (prefix.family === 4) this.#owners.set(formatAddress(lastAddress(prefix)), "the subnet's broadcast");
    }
  }

  /** Takes an address, or says who has it. */
  claim(address: IpAddress, owner: string): string | undefined {
    const text = formatAddress(address);
    const taken = this.#owners.get(text);
    if (taken !== undefined) return `${text} already belongs to ${taken}`;
    this.#owners.set(text, owner);
    return undefined;
  }

  /** One address per family of the subnet: those given, and free ones for the rest. Undefined when the subnet is full. */
  fill(owner: string, has: readonly IpAddress[], from: "start" | "nodes"): IpAddress[] | undefined {
    const addresses: IpAddress[] = [];
    for (const prefix of this.subnet.prefixes) {
      const given = has.find(({ family }) => family === prefix.family);
      if (given !== undefined) {
        addresses.push(given);
        continue;
      }
      const size = prefixSize(prefix);
      const start = from === "nodes" && size >= 32n ? FIRST_NODE_OFFSET : 1n;
      const key = `${prefix.family} ${start}`;
      let offset = this.#cursor.get(key) ?? start;
      while (offset < size && this.#owners.has(formatAddress(addressAt(prefix, offset)))) offset++;
      if (offset >= size && start > 1n) {
        for (offset = 1n; offset < start && this.#owners.has(formatAddress(addressAt(prefix, offset))); ) offset++;
        if (offset >= start) return undefined;
      }
      if (offset >= size) return undefined;
      if (offset >= start) this.#cursor.set(key, offset);
      const address = addressAt(prefix, offset);
      this.#owners.set(formatAddress(address), owner);
      addresses.push(address);
    }
    return addresses;
  }
}
