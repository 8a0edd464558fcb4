/**
 * The addresses that pods peer with: on the host's end of every pod that is a BGP peer, the node has `localWorkloadPeeringIPV4` and `V6` of
 * BGPConfiguration, as /32 (scope link) and /128. All interfaces have the same ones, so that pods need no configuration of
 * their own node.
 *
 * Other CNI plugins put addresses of full length on their pods' interfaces too (ptp the gateway's). Ours are told by scope link, and in
 * IPv6, where the kernel works scopes out by itself, by the flag that duplicates were not looked for.
 */
import type { BgpSettings, DataplaneMessage } from "@calico-ts/dataplane-api";
import { workloadIdText } from "@calico-ts/dataplane-api";
import type { Family } from "@calico-ts/net";
import type { Logger } from "@calico-ts/runtime";

export interface PeeringAddress {
  readonly interfaceName: string;
  readonly family: Family;
  /** As text, without length. */
  readonly address: string;
}

export interface HeldAddress extends PeeringAddress {
  readonly ours: boolean;
}

export interface PeeringAddressKernel {
  /** Addresses of full length on interfaces whose name begins with one of these. */
  fullLengthAddresses(prefixes: readonly string[]): readonly HeldAddress[];
  /** False: there is no such interface. */
  addPeeringAddress(address: PeeringAddress): boolean;
  removePeeringAddress(address: PeeringAddress): void;
}

export interface PeeringAddressOptions {
  readonly kernel: PeeringAddressKernel;
  readonly workloadPrefixes: readonly string[];
  readonly ipv6: boolean;
  readonly log: Logger;
  /** The kernel takes the interface's routes away with its last IPv4 address, and tells nobody. */
  readonly onRemoved: () => void;
}

const FAMILIES: readonly Family[] = [4, 6];

export class PeeringAddresses {
  readonly #options: PeeringAddressOptions;
  /** Endpoint → its interface: of pods that are peers. */
  readonly #peers = new Map<string, string>();
  #settings: BgpSettings["peeringAddresses"] = {};
  #dirty = true;
  #warned = false;

  constructor(options: PeeringAddressOptions) {
    this.#options = options;
  }

  receive(message: DataplaneMessage): void {
    switch (message.kind) {
      case "workload-endpoint-update": {
        const { active, bgpPeer, interfaceName } = message.endpoint;
        return this.#setPeer(workloadIdText(message.id), bgpPeer === undefined || !active ? undefined : interfaceName);
      }
      case "workload-endpoint-remove":
        return this.#setPeer(workloadIdText(message.id), undefined);
      case "bgp-settings-update":
        this.#settings = message.settings.peeringAddresses;
        this.#dirty = true;
        return;
      case "bgp-settings-remove":
        this.#settings = {};
        this.#dirty = true;
        return;
      default:
    }
  }

  /** The interface came, or an address of it went. True: it is a peer's. */
  touched(interfaceName: string): boolean {
    const concerns = [...this.#peers.values()].includes(interfaceName);
    if (concerns) this.#dirty = true;
    return concerns;
  }

  markForResync(): void {
    this.#dirty = true;
  }

  apply(): void {
    if (!this.#dirty) return;
    const { kernel, log, onRemoved, workloadPrefixes } = this.#options;
    this.#warn();
    const wanted = new Map(this.#wanted().map((one) => [keyOf(one), one]));
    const held = kernel.fullLengthAddresses(workloadPrefixes);
    const unwanted = held.filter((have) => !wanted.delete(keyOf(have)) && have.ours);
    // First, so that an interface whose address changes is never without.
    for (const one of wanted.values()) {
      if (kernel.addPeeringAddress(one)) {
        log.info("peering_address.added", { interface: one.interfaceName, address: one.address });
      }
    }
    for (const have of unwanted) {
      kernel.removePeeringAddress(have);
      onRemoved();
      log.info("peering_address.removed", { interface: have.interfaceName, address: have.address });
    }
    this.#dirty = false;
  }

  dump(): unknown {
    return {
      desired: this.#wanted(),
      observed: this.#options.kernel.fullLengthAddresses(this.#options.workloadPrefixes),
    };
  }

  #setPeer(id: string, interfaceName: string | undefined): void {
    if (this.#peers.get(id) === interfaceName) return;
    if (interfaceName === undefined) this.#peers.delete(id);
    else this.#peers.set(id, interfaceName);
    this.#dirty = true;
  }

  #wanted(): PeeringAddress[] {
    const interfaces = [...new Set(this.#peers.values())].toSorted();
    return interfaces.flatMap((interfaceName) =>
      FAMILIES.flatMap((family) => {
        const address = family === 6 && !this.#options.ipv6 ? undefined : this.#settings[family];
        return address === undefined ? [] : [{ interfaceName, family, address }];
      }),
    );
  }

  /** Once, until it is mended: pods are peers, and there is nothing they could peer with. */
  #warn(): void {
    const lacks = this.#peers.size > 0 && Object.keys(this.#settings).length === 0;
    if (lacks && !this.#warned) {
      this.#options.log.warning("peering_address.missing", {
        pods: [...this.#peers.keys()].join(" "),
        what: "a BGPPeer selects them, and BGPConfiguration default has neither localWorkloadPeeringIPV4 nor localWorkloadPeeringIPV6",
      });
    }
    this.#warned = lacks;
  }
}

const keyOf = ({ interfaceName, address }: PeeringAddress): string => `${interfaceName} ${address}`;
