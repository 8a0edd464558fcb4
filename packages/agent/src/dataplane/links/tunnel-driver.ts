/**
 * The tunnel devices: `vxlan.calico`, `vxlan-v6.calico`, `tunl0`. Makes each wanted one exist with the wanted parameters, up,
 * with the wanted address and no other; removes ours that nobody wants (`tunl0` cannot be removed, it loses its address
 * and goes down).
 *
 * VNI, port, underlay and local address of a VXLAN device cannot be changed in place: it is made anew, and link notifications
 * bring its routes and neighbours back. A device that the kernel cannot make is reported by name (`problems`) and
 * tried again at the next refresh, not in a hurry: it waits for a module, not for us.
 */
import type { Logger } from "@calico-ts/runtime";
import { errorText, hasCode } from "@calico-ts/std";
import { IPIP_DEVICE, VXLAN_DEVICE } from "../ownership.ts";
import { isErrno } from "../routes/route-driver.ts";

export interface VxlanParameters {
  readonly vni: number;
  readonly port: number;
  /** The node's address, and the interface that has it. */
  readonly local: string;
  readonly underlay: string;
}

export interface TunnelSpec {
  readonly name: string;
  readonly mtu: number;
  readonly address: string;
  readonly mac?: string;
  /** Absent: an IPIP device. */
  readonly vxlan?: VxlanParameters;
}

export interface KernelTunnel {
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
  readonly mac?: string;
  /** Undefined when it is no VXLAN device, or one with learning on. */
  readonly vxlan?: VxlanParameters;
  /** Global addresses as text without length. */
  readonly addresses: readonly string[];
}

export interface TunnelKernel {
  getTunnel(name: string): KernelTunnel | undefined;
  /** Down, without addresses. Fails with UNSUPPORTED when the kernel has no such devices. */
  createTunnel(spec: TunnelSpec): void;
  deleteLink(name: string): void;
  setLink(name: string, change: { readonly mtu?: number; readonly mac?: string; readonly up?: boolean }): void;
  addTunnelAddress(name: string, address: string): void;
  removeTunnelAddress(name: string, address: string): void;
}

const DEVICES = [VXLAN_DEVICE[4], VXLAN_DEVICE[6], IPIP_DEVICE] as const;

export class TunnelDriver {
  readonly #kernel: TunnelKernel;
  readonly #log: Logger;
  readonly #wanted = new Map<string, TunnelSpec>();
  readonly #problems = new Map<string, string>();
  #dirty = true;

  constructor(options: { readonly kernel: TunnelKernel; readonly log: Logger }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
  }

  want(name: string, spec: TunnelSpec | undefined): void {
    if (spec === undefined) this.#wanted.delete(name);
    else this.#wanted.set(name, spec);
    this.#problems.delete(name);
    this.#dirty = true;
  }

  /** Also gives devices that could not be made another chance. */
  markForResync(): void {
    this.#problems.clear();
    this.#dirty = true;
  }

  /** A link of that name changed. */
  touched(name: string): void {
    if (this.#wanted.has(name)) this.#dirty = true;
  }

  /** Device → why it cannot be had. */
  problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }

  apply(): void {
    if (!this.#dirty) return;
    const failures: unknown[] = [];
    for (const name of DEVICES) {
      if (this.#problems.has(name)) continue;
      try {
        const spec = this.#wanted.get(name);
        if (spec === undefined) this.#remove(name);
        else this.#ensure(spec);
      } catch (error) {
        if (isMissing(error)) {
          this.#problems.set(name, `this kernel cannot make ${name}: ${errorText(error)}`);
          this.#log.error("tunnel.unsupported", { device: name, error });
        } else {
          failures.push(error);
        }
      }
    }
    if (failures.length > 0) throw failures[0];
    this.#dirty = false;
  }

  dump(): unknown {
    const observed = DEVICES.flatMap((name) => this.#kernel.getTunnel(name) ?? []);
    return { desired: [...this.#wanted.values()], observed, problems: Object.fromEntries(this.#problems) };
  }

  #ensure(spec: TunnelSpec): void {
    const { name } = spec;
    let have = this.#kernel.getTunnel(name);
    if (have !== undefined && spec.vxlan !== undefined && !sameVxlan(spec.vxlan, have.vxlan)) {
      this.#log.info("tunnel.recreated", { device: name });
      this.#kernel.deleteLink(name);
      have = undefined;
    }
    if (have === undefined) {
      this.#kernel.createTunnel(spec);
      this.#log.info("tunnel.created", { device: name });
      have = this.#kernel.getTunnel(name);
    }
    if (have === undefined) return; // gone again already; the notification brings us back
    const mac = spec.mac !== undefined && have.mac !== spec.mac ? { mac: spec.mac } : {};
    const mtu = have.mtu === spec.mtu ? {} : { mtu: spec.mtu };
    if ("mac" in mac || "mtu" in mtu) this.#kernel.setLink(name, { ...mac, ...mtu });
    for (const address of have.addresses) {
      if (address !== spec.address) this.#kernel.removeTunnelAddress(name, address);
    }
    if (!have.addresses.includes(spec.address)) this.#kernel.addTunnelAddress(name, spec.address);
    if (!have.up) this.#kernel.setLink(name, { up: true });
  }

  #remove(name: string): void {
    const have = this.#kernel.getTunnel(name);
    if (have === undefined) return;
    if (name !== IPIP_DEVICE) {
      this.#kernel.deleteLink(name);
      this.#log.info("tunnel.removed", { device: name });
      return;
    }
    for (const address of have.addresses) this.#kernel.removeTunnelAddress(name, address);
    if (have.up) this.#kernel.setLink(name, { up: false });
  }
}

function sameVxlan(a: VxlanParameters, b: VxlanParameters | undefined): boolean {
  return b !== undefined && a.vni === b.vni && a.port === b.port && a.local === b.local && a.underlay === b.underlay;
}

const isMissing = (error: unknown): boolean => hasCode(error, "UNSUPPORTED") || isErrno(error, "EOPNOTSUPP", "ENOTSUP");
