/** A packet as rules see it: numbers, and for each side who has the address. */
import type { Family, IpAddress } from "@calico-ts/net";
import type { SelectorNumbers } from "./oracle-policy.ts";
import type { Entity, World } from "./world.ts";

/** One address of a packet. Selectors are asked once per address, however many rules use them. */
export class Side {
  readonly address: IpAddress;
  readonly owners: readonly Entity[];
  readonly #all: SelectorNumbers;
  /** By selector number. */
  readonly #known = new Map<number, boolean>();
  #selected: readonly number[] | undefined;

  constructor(address: IpAddress, owners: readonly Entity[], all: SelectorNumbers) {
    this.address = address;
    this.owners = owners;
    this.#all = all;
  }

  isSelected(selector: number): boolean {
    const known = this.#known.get(selector);
    if (known !== undefined) return known;
    const selected = this.owners.some((owner) => this.#all.selects(selector, owner));
    this.#known.set(selector, selected);
    return selected;
  }

  /** The numbers of all selectors that select the address. */
  selectors(): readonly number[] {
    this.#selected ??= [
      ...new Set(
        this.owners.flatMap((owner) => [...this.#all.candidates(owner)].filter((number) => this.isSelected(number))),
      ),
    ];
    return this.#selected;
  }
}

export interface PacketView {
  readonly family: Family;
  readonly protocol: number;
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  readonly icmp: { readonly type: number; readonly code: number } | undefined;
  readonly source: Side;
  readonly destination: Side;
}

/** Sides by address, so that what was found out about an address is kept from query to query. */
export class Sides {
  readonly #world: World;
  readonly #selectors: SelectorNumbers;
  readonly #sides = new Map<string, Side>();

  constructor(world: World, selectors: SelectorNumbers) {
    this.#world = world;
    this.#selectors = selectors;
  }

  of(address: IpAddress): Side {
    const key = `${address.family} ${address.value}`;
    let side = this.#sides.get(key);
    if (side === undefined) {
      if (this.#sides.size >= MOST_SIDES) this.#sides.clear();
      side = new Side(address, this.#world.owners(address), this.#selectors);
      this.#sides.set(key, side);
    }
    return side;
  }
}

const MOST_SIDES = 10_000;
