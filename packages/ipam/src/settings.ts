/**
 * What decides about assignments besides the blocks: the configuration, the pools, the node's labels, the reservations.
 * Read together, and not again for a short while; an answer that would be a refusal is made on fresh ones only.
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { IPAMConfiguration } from "@calico-ts/model";
import type { Clock } from "@calico-ts/runtime";
import { CalicoError, hasCode } from "@calico-ts/std";
import type { Owner } from "./allocator/names.ts";
import { type Labels, type Pool, poolOf } from "./allocator/pool.ts";
import { Reservations } from "./allocator/reservations.ts";

export interface IpamConfig {
  readonly strictAffinity: boolean;
  readonly autoAllocateBlocks: boolean;
  /** 0: no limit is configured, and DEFAULT_MAX_BLOCKS holds. */
  readonly maxBlocksPerHost: number;
  readonly cooldownSeconds: number;
  /** KubeVirt's virtual machines keep their addresses (`kubeVirtVMAddressPersistence`). */
  readonly machinesKeepAddresses: boolean;
}

export const DEFAULT_MAX_BLOCKS = 20;

export const defaultIpamConfig: IpamConfig = {
  strictAffinity: false,
  autoAllocateBlocks: true,
  maxBlocksPerHost: 0,
  cooldownSeconds: 0,
  machinesKeepAddresses: true,
};

export interface IpamSettings {
  readonly config: IpamConfig;
  readonly pools: readonly Pool[];
  readonly nodeLabels: Labels;
  readonly reservations: Reservations;
}

export interface SettingsSource {
  /** `fresh`: read now, not from memory. */
  read(fresh?: boolean): Promise<IpamSettings>;
}

/** Absent configuration means the defaults. @throws CalicoError BAD_INPUT for a combination that makes no sense */
export async function readConfig(client: DatastoreClient): Promise<IpamConfig> {
  try {
    return configOf(await client.get("IPAMConfiguration", { name: "default" }));
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return defaultIpamConfig;
    throw error;
  }
}

export function configOf({ spec }: IPAMConfiguration): IpamConfig {
  const config: IpamConfig = {
    strictAffinity: spec.strictAffinity,
    autoAllocateBlocks: spec.autoAllocateBlocks,
    maxBlocksPerHost: spec.maxBlocksPerHost ?? 0,
    cooldownSeconds: spec.ipCooldownSeconds ?? 0,
    machinesKeepAddresses: spec.kubeVirtVMAddressPersistence !== "Disabled",
  };
  const bad = (why: string): never => {
    throw new CalicoError("BAD_INPUT", `IPAMConfiguration default: ${why}`);
  };
  if (!config.strictAffinity && !config.autoAllocateBlocks) {
    bad("strictAffinity false with autoAllocateBlocks false would leave nodes without blocks of their own");
  }
  if (config.maxBlocksPerHost > 0 && !config.strictAffinity) {
    bad("maxBlocksPerHost needs strictAffinity true, or nodes at their limit borrow without end");
  }
  return config;
}

export async function readPools(client: DatastoreClient): Promise<Pool[]> {
  const { items } = await client.list("IPPool");
  return items.flatMap((item) => poolOf(item) ?? []);
}

export async function readReservations(client: DatastoreClient): Promise<Reservations> {
  return Reservations.of((await client.list("IPReservation")).items);
}

export interface SettingsOptions {
  readonly client: DatastoreClient;
  readonly clock: Clock;
  readonly owner: Owner;
  /** How long what was read may be used. 0: always read. */
  readonly maxAgeMs: number;
}

export class DatastoreSettings implements SettingsSource {
  readonly #options: SettingsOptions;
  #cached: { readonly settings: IpamSettings; readonly at: number } | undefined;

  constructor(options: SettingsOptions) {
    this.#options = options;
  }

  async read(fresh = false): Promise<IpamSettings> {
    const { client, clock, maxAgeMs } = this.#options;
    const now = clock.monotonic();
    if (!fresh && this.#cached !== undefined && now - this.#cached.at < maxAgeMs) return this.#cached.settings;
    const [config, pools, nodeLabels, reservations] = await Promise.all([
      readConfig(client),
      readPools(client),
      this.#nodeLabels(),
      readReservations(client),
    ]);
    const settings = { config, pools, nodeLabels, reservations };
    this.#cached = { settings, at: now };
    return settings;
  }

  async #nodeLabels(): Promise<Labels> {
    const { client, owner } = this.#options;
    if (owner.type === "virtual") return {};
    const node = await client.get("Node", { name: owner.name });
    return node.metadata.labels ?? {};
  }
}
