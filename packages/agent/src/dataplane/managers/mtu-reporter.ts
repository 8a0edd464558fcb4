/**
 * Keeps `<host root>/var/lib/calico/mtu` at the MTU pods of this node should have (see mtu.ts for how it is worked out). The
 * file is replaced in one step, and only when its content is another.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Logger } from "@calico-ts/runtime";
import type { AgentConfig } from "../../config/params.ts";
import type { EncapsulationsInUse } from "./mtu.ts";
import { detectHostMtu, podMtu } from "./mtu.ts";

export interface MtuReporterOptions {
  readonly config: AgentConfig;
  readonly links: () => Iterable<{ readonly name: string; readonly mtu: number; readonly up: boolean }>;
  readonly inUse: () => EncapsulationsInUse;
  readonly nodeMtu: () => number | undefined;
  readonly file: string;
  readonly log: Logger;
}

/** Upstream's, for a node of which nothing is known: the smallest among common clouds. */
const FALLBACK_MTU = 1460;

export class MtuReporter {
  readonly #options: MtuReporterOptions;
  #written: number | undefined;
  #hostMtu: { readonly mtu: number | undefined } | undefined;

  constructor(options: MtuReporterOptions) {
    this.#options = options;
  }

  /** A link that is no pod's came, went or changed, or the node's address did. */
  touched(): void {
    this.#hostMtu = undefined;
  }

  hostMtu(): number | undefined {
    this.#hostMtu ??= { mtu: this.#detect() };
    return this.#hostMtu.mtu;
  }

  #detect(): number | undefined {
    const up = [...this.#options.links()].filter((link) => link.up);
    return detectHostMtu(up, this.#options.config.mtuIfacePattern) ?? this.#options.nodeMtu();
  }

  podMtu(): number {
    const { config, inUse } = this.#options;
    return podMtu(this.hostMtu() ?? FALLBACK_MTU, inUse(), config);
  }

  write(): void {
    const { file, log } = this.#options;
    const mtu = this.podMtu();
    if (mtu === this.#written) return;
    if (readText(file) !== String(mtu)) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(`${file}.new`, String(mtu));
      renameSync(`${file}.new`, file);
      const host = this.hostMtu();
      if (host !== undefined && mtu > host) log.warning("mtu.above_host", { mtu, host });
      log.info("mtu.written", { mtu, file });
    }
    this.#written = mtu;
  }

  dump(): unknown {
    return { host: this.hostMtu(), pods: this.podMtu(), written: this.#written, inUse: this.#options.inUse() };
  }
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return undefined;
  }
}
