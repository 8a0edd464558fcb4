/** A packet as rules see it: numbers, and for each side who has the address. */
import type { Family, IpAddress } from "@calico-ts/net";
import type { EntityTest } from "./label-terms.ts";
import type { Entity, World } from "./world.ts";

/** One address of a packet. Selectors are asked once per address, however many rules use them. */
export class Side {
  readonly address: IpAddress;
  readonly owners: readonly Entity[];
  readonly #tests: readonly EntityTest[];
  /** By selector number: 1 no owner matches, 2 one does; 0 not asked yet. */
  readonly #known: Uint8Array;
  #selected: readonly number[] | undefined;

  constructor(address: IpAddress, owners: readonly Entity[], tests: readonly EntityTest[]) {
    this.address = address;
    this.owners = owners;
    this.#tests = tests;
    this.#known = new Uint8Array(tests.length);
  }

  isSelected(selector: number): boolean {
    const known = this.#known[selector];
    if (known !== 0) return known === 2;
    const test = this.#tests[selector];
    const selected = test !== undefined && this.owners.some((owner) => test(owner));
    this.#known[selector] = selected ? 2 : 1;
    return selected;
  }

  /** The numbers of all selectors that select the address. */
  selectors(): readonly number[] {
    this.#selected ??=
      this.owners.length === 0 ? [] : [...this.#tests.keys()].filter((number) => this.isSelected(number));
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
  readonly #tests: readonly EntityTest[];
  readonly #sides = new Map<string, Side>();

  /** `tests`: of all selectors there are. */
  constructor(world: World, tests: readonly EntityTest[]) {
    this.#world = world;
    this.#tests = tests;
  }

  of(address: IpAddress): Side {
    const key = `${address.family} ${address.value}`;
    let side = this.#sides.get(key);
    if (side === undefined) {
      if (this.#sides.size >= MOST_SIDES) this.#sides.clear();
      side = new Side(address, this.#world.owners(address), this.#tests);
      this.#sides.set(key, side);
    }
    return side;
  }
}

const MOST_SIDES = 10_000;
