/**
 * Sysctls of the node and of interfaces: set when they differ, read again at every refresh (the kernel tells nobody when
 * one changes), never put back: what an interface had before is gone with the interface.
 */
import type { Logger } from "@calico-ts/runtime";

export interface SysctlKernel {
  /** undefined: there is no such key (the interface is gone, or IPv6 is off). */
  getSysctl(key: string): string | undefined;
  setSysctl(key: string, value: string): void;
}

export type SysctlValues = Readonly<Record<string, string>>;

export class SysctlDriver {
  readonly #kernel: SysctlKernel;
  readonly #log: Logger;
  readonly #wanted = new Map<string, SysctlValues>();
  readonly #dirty = new Set<string>();

  constructor(options: { readonly kernel: SysctlKernel; readonly log: Logger }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
  }

  /**
   * `owner` is an interface's name, or a word for the node's own. Values that are wanted already are not looked at again: a policy change
   * updates every endpoint it selects, and reading the files of fifty interfaces would take longer than writing the policy.
   */
  want(owner: string, values: SysctlValues | undefined): void {
    if (values === undefined) {
      this.#wanted.delete(owner);
      this.#dirty.delete(owner);
    } else if (!sameValues(this.#wanted.get(owner), values)) {
      this.#wanted.set(owner, values);
      this.#dirty.add(owner);
    }
  }

  /** An interface came or changed: its values are the kernel's defaults again. */
  touched(owner: string): void {
    if (this.#wanted.has(owner)) this.#dirty.add(owner);
  }

  markForResync(): void {
    for (const owner of this.#wanted.keys()) this.#dirty.add(owner);
  }

  apply(): void {
    const failures: unknown[] = [];
    for (const owner of Array.from(this.#dirty)) {
      try {
        this.#applyOne(owner);
        this.#dirty.delete(owner);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  isSettled(owner: string): boolean {
    return !this.#dirty.has(owner);
  }

  dump(): unknown {
    const differ: Record<string, { readonly desired: string; readonly observed: string }> = {};
    for (const values of this.#wanted.values()) {
      for (const [key, desired] of Object.entries(values)) {
        const observed = this.#kernel.getSysctl(key) ?? "(absent)";
        if (observed !== desired) differ[key] = { desired, observed };
      }
    }
    return { desired: Object.fromEntries(this.#wanted), difference: differ };
  }

  #applyOne(owner: string): void {
    for (const [key, value] of Object.entries(this.#wanted.get(owner) ?? {})) {
      const have = this.#kernel.getSysctl(key);
      if (have === undefined || have === value) continue;
      this.#kernel.setSysctl(key, value);
      this.#log.debug("sysctl.set", { key, value, was: have });
    }
  }
}

function sameValues(a: SysctlValues | undefined, b: SysctlValues): boolean {
  if (a === undefined) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
