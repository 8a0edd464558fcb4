/**
 * Tells the renderer which interfaces the node has and which addresses they hold: that is how host endpoints find theirs (by name, by
 * an expected address, or all others). Pods' interfaces have endpoints of their own and are left out, and so is what
 * `interfaceExclude` names.
 *
 * Latest state, not history: a notification only says "look again", and the next pass reads the kernel once, however
 * many there were. The renderer is told only of a difference, since it renders all host endpoints anew.
 */
import { isWorkloadInterface } from "../ownership.ts";

export interface HostInterfacesOptions {
  /** All interfaces with their addresses as text, as the kernel has them now. */
  readonly read: () => ReadonlyMap<string, readonly string[]>;
  readonly tell: (interfaces: ReadonlyMap<string, readonly string[]>) => void;
  readonly workloadPrefixes: readonly string[];
  /** The parameter interfaceExclude: names, and regular expressions between slashes. */
  readonly exclude: readonly string[];
}

export class HostInterfaces {
  readonly #options: HostInterfacesOptions;
  readonly #excluded: (name: string) => boolean;
  #dirty = true;
  #told: ReadonlyMap<string, readonly string[]> | undefined;

  constructor(options: HostInterfacesOptions) {
    this.#options = options;
    this.#excluded = interfaceFilter(options.exclude);
  }

  /** An interface or an address came, went or changed. */
  touched(): void {
    this.#dirty = true;
  }

  /** @throws what the kernel answers when it cannot be read; the next call tries again. */
  settle(): void {
    if (!this.#dirty) return;
    const { read, tell, workloadPrefixes } = this.#options;
    const now = new Map<string, readonly string[]>();
    for (const [name, addresses] of [...read()].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      if (isWorkloadInterface(name, workloadPrefixes) || this.#excluded(name)) continue;
      now.set(name, addresses.toSorted());
    }
    this.#dirty = false;
    if (this.#told !== undefined && text(now) === text(this.#told)) return;
    this.#told = now;
    tell(now);
  }

  dump(): unknown {
    return Object.fromEntries(this.#told ?? []);
  }
}

const text = (interfaces: ReadonlyMap<string, readonly string[]>): string => JSON.stringify([...interfaces]);

/** The patterns were checked when the configuration was read. */
export function interfaceFilter(patterns: readonly string[]): (name: string) => boolean {
  const expressions = patterns.flatMap((pattern) => (isExpression(pattern) ? new RegExp(pattern.slice(1, -1)) : []));
  const names = new Set(patterns.filter((pattern) => !isExpression(pattern)));
  return (name) => names.has(name) || expressions.some((expression) => expression.test(name));
}

const isExpression = (pattern: string): boolean =>
  pattern.length > 1 && pattern.startsWith("/") && pattern.endsWith("/");
