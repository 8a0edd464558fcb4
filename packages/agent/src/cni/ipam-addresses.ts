/** Addresses for pods through the node's allocator, with the attributes upstream stores (inventory §6.2). */
import type { DatastoreClient } from "@calico-ts/datastore";
import { type Attributes, type HandleRecords, HostAllocator, hostOwner, Ipam } from "@calico-ts/ipam";
import type { IpAddress } from "@calico-ts/net";
import type { Clock, Logger } from "@calico-ts/runtime";
import { IpamMachineAddresses } from "./machine-addresses.ts";
import type { AddressManager, AssignRequest } from "./ports.ts";
import type { PodName } from "./request.ts";

export interface IpamAddressesOptions {
  readonly client: DatastoreClient;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly handleRecords?: HandleRecords | undefined;
}

export class IpamAddresses implements AddressManager {
  readonly #options: IpamAddressesOptions;
  readonly #allocator: HostAllocator;
  readonly #ipam: Ipam;
  readonly machines: IpamMachineAddresses;

  constructor(options: IpamAddressesOptions) {
    this.#options = options;
    const { client, clock, log, node, handleRecords: records = "borrowed" } = options;
    this.#ipam = new Ipam({ client, clock });
    const allocator = new HostAllocator({ client, host: node, clock, log, records });
    this.#allocator = allocator;
    this.machines = new IpamMachineAddresses({ client, ipam: this.#ipam, allocator, node, clock, log });
  }

  async assign(request: AssignRequest): Promise<readonly IpAddress[]> {
    const assigned = await this.#allocator.assign({
      handle: request.handle,
      attributes: this.#attributes(request.pod),
      want4: request.want4,
      want6: request.want6,
      pools4: request.pools4,
      pools6: request.pools6,
      namespaceLabels: request.namespaceLabels,
      signal: request.signal,
    });
    return assigned.map(({ address }) => address);
  }

  async assignExactly(request: Parameters<AddressManager["assignExactly"]>[0]): Promise<void> {
    const { handle, addresses, pod } = request;
    const owner = hostOwner(this.#options.node);
    const attributes = this.#attributes(pod);
    try {
      for (const address of addresses) {
        await this.#ipam.assignAddress({ address, owner, handle, attributes, use: "Workload" });
      }
    } catch (error) {
      await this.#allocator.release(handle);
      throw error;
    }
  }

  async release(handle: string): Promise<void> {
    await this.#allocator.release(handle);
  }

  addressesOf(handle: string): Promise<readonly IpAddress[]> {
    return this.#allocator.addressesOf(handle);
  }

  /** Those of virtual machines are not the containers'. */
  async handles(prefix: string): Promise<readonly string[]> {
    const handles = await this.#allocator.handles(prefix);
    return handles.filter((handle) => !handle.startsWith(`${prefix}vmi.`));
  }

  /** What upstream stores with an address. */
  #attributes(pod: PodName | undefined): Attributes {
    const { clock, node } = this.#options;
    const timestamp = new Date(clock.now()).toISOString();
    return { node, timestamp, ...(pod !== undefined && { pod: pod.name, namespace: pod.namespace }) };
  }
}
