/** One node's dataplane on a real kernel: told messages, or resources through a compiler, and nothing of the agent around it. */
import { join } from "node:path";
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { type Kernel, openKernel } from "@calico-ts/linux";
import { type CompilerUpdate, createCompiler } from "@calico-ts/policy-compiler";
import { silentLogger, systemClock } from "@calico-ts/runtime";
import { expect } from "vitest";
import { resolveConfig } from "../src/config/resolve.ts";
import { Dataplane } from "../src/dataplane/dataplane.ts";

export interface NodePlace {
  /** `/run/netns/…` of the node. */
  readonly netns: string;
  /** n1 unless it is said. */
  readonly node?: string;
  /** Where the MTU is written. */
  readonly folder: string;
  readonly config: Readonly<Record<string, string>>;
  /** How long routes of an earlier process are left alone; the dataplane's own time unless it is said. */
  readonly routeGraceMs?: number;
}

export class DataplaneNode implements AsyncDisposable {
  readonly kernel: Kernel;
  readonly dataplane: Dataplane;

  constructor({ config, folder, netns, node = "n1", routeGraceMs }: NodePlace) {
    this.kernel = openKernel({ netns });
    this.dataplane = new Dataplane({
      kernel: this.kernel,
      node,
      config: resolveConfig(config).config,
      clock: systemClock,
      log: silentLogger,
      mtuFile: join(folder, `${node}-mtu`),
      ...(routeGraceMs !== undefined && { routeGraceMs }),
    });
  }

  /** The first ones are all there is. Resolves when the kernel has what they say. */
  async send(...messages: readonly DataplaneMessage[]): Promise<void> {
    for (const message of messages) this.dataplane.receive(message);
    if (!this.dataplane.isOpen) {
      this.dataplane.receive({ kind: "in-sync" });
      this.dataplane.open();
    }
    await this.settled();
  }

  async settled(): Promise<void> {
    await this.dataplane.whenIdle();
    expect(Object.fromEntries(this.dataplane.failures())).toEqual({});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dataplane[Symbol.asyncDispose]();
    this.kernel[Symbol.dispose]();
  }
}

/** The agent's two halves, without what feeds them. */
export class CompiledNode extends DataplaneNode {
  readonly compiler: ReturnType<typeof createCompiler>;

  constructor(place: NodePlace) {
    super(place);
    const { config, node = "n1" } = place;
    this.compiler = createCompiler({ node, localConfig: config, emit: (message) => this.dataplane.receive(message) });
  }

  /** The first ones are all there is. */
  hear(...updates: readonly CompilerUpdate[]): void {
    for (const update of updates) this.compiler.update(update);
    if (!this.dataplane.isOpen) this.compiler.setInSync();
    this.compiler.flush();
    if (!this.dataplane.isOpen) this.dataplane.open();
  }

  /** Hears them, and what follows is in the kernel. */
  async know(...updates: readonly CompilerUpdate[]): Promise<this> {
    this.hear(...updates);
    await this.settled();
    return this;
  }
}
