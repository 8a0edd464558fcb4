/** Backends of services, from EndpointSlices: every address of every slice, ready or not, as upstream has it. */
import { protocolName } from "@calico-ts/net";
import { MultiMap } from "@calico-ts/std";

export interface SliceFacts {
  /** `namespace/name` */
  readonly service: string;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly protocol: number; readonly port: number }[];
}

export type MemberChange = (set: string, member: string, verb: "add" | "remove") => void;

export class ServiceIndex {
  readonly #onChange: MemberChange;
  readonly #slices = new Map<string, SliceFacts>();
  readonly #slicesOf = new MultiMap<string, string>();
  readonly #watched = new Map<string, { readonly service: string; readonly ports: boolean }>();
  readonly #watchers = new MultiMap<string, string>();

  constructor(onChange: MemberChange) {
    this.#onChange = onChange;
  }

  watch(set: string, service: string, ports: boolean): void {
    this.#watched.set(set, { service, ports });
    this.#watchers.add(service, set);
    for (const id of this.#slicesOf.get(service)) this.#apply(set, this.#slices.get(id), "add");
  }

  /** The set is gone with its members: nothing is said about them. */
  unwatch(set: string): void {
    const watched = this.#watched.get(set);
    if (watched !== undefined) this.#watchers.delete(watched.service, set);
    this.#watched.delete(set);
  }

  setSlice(id: string, slice: SliceFacts | undefined): void {
    const before = this.#slices.get(id);
    if (before !== undefined) this.#slicesOf.delete(before.service, id);
    if (slice === undefined) this.#slices.delete(id);
    else {
      this.#slices.set(id, slice);
      this.#slicesOf.add(slice.service, id);
      for (const set of this.#watchers.get(slice.service)) this.#apply(set, slice, "add");
    }
    if (before !== undefined) for (const set of this.#watchers.get(before.service)) this.#apply(set, before, "remove");
  }

  #apply(set: string, slice: SliceFacts | undefined, verb: "add" | "remove"): void {
    const watched = this.#watched.get(set);
    if (slice === undefined || watched === undefined) return;
    for (const address of slice.addresses) {
      if (!watched.ports) {
        this.#onChange(set, address, verb);
        continue;
      }
      for (const { protocol, port } of slice.ports) {
        this.#onChange(set, `${address},${protocolName(protocol).toLowerCase()}:${port}`, verb);
      }
    }
  }
}
