/**
 * Addresses of virtual machines. They are held under the machine's name and outlive its pods: ADD finds them again and notes the pod as their owner, DEL takes the
 * note away, and only when the machine goes and nobody owns them any more are they released. During a live migration the source is the active owner and the target
 * the alternate one; when the machine runs on the target they change places, and other nodes' routes follow (they go by the active owner's node).
 */
import type { DatastoreClient } from "@calico-ts/datastore";
import {
  type Attributes,
  hostOwner,
  type HostAllocator,
  INSTANCE_UID,
  type Ipam,
  MACHINE_NAME,
  MACHINE_UID,
  machineHandle,
  matchesOwner,
  MIGRATION_UID,
  type OwnedAddress,
} from "@calico-ts/ipam";
import type { IpAddress } from "@calico-ts/net";
import { CalicoError, errorText, hasCode } from "@calico-ts/std";
import type { Clock, Logger } from "@calico-ts/runtime";
import { isAwaiting, isEnding, nodeOfInstance } from "./machines.ts";
import type { AwaitedMachine, MachineAddresses, MachineLease, MachineRequest } from "./ports.ts";
import type { PodName } from "./request.ts";

export interface MachineAddressesOptions {
  readonly client: DatastoreClient;
  readonly ipam: Ipam;
  readonly allocator: HostAllocator;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Beside upstream's attributes: a late DEL of a pod's earlier sandbox must not take the note of the later one away. */
const CONTAINER = "container-id";
/** How often a migration that is under way is looked at. */
const MIGRATION_PERIOD_MS = 1000;

export class IpamMachineAddresses implements MachineAddresses {
  readonly #options: MachineAddressesOptions;

  constructor(options: MachineAddressesOptions) {
    this.#options = options;
  }

  async assign(request: MachineRequest): Promise<MachineLease | undefined> {
    const { ipam } = this.#options;
    const { machine, network, pod } = request;
    const { machinesKeepAddresses } = await ipam.config();
    if (!machinesKeepAddresses && machine.migrationUid === undefined) return undefined;
    if (!machinesKeepAddresses) {
      throw new CalicoError(
        "BAD_INPUT",
        `pod ${pod.namespace}/${pod.name} is the target of a live migration, and virtual machines do not keep their addresses (kubeVirtVMAddressPersistence is Disabled): let them (calicoctl ipam configure --kubevirt-ip-persistence=Enabled), or stop and start the machine instead`,
      );
    }
    const handle = machineHandle(network, pod.namespace, machine.name);
    const owner = this.#ownerOf(request);
    const place = machine.migrationUid === undefined ? "active" : "alternate";
    const isNoted = ({ active, alternate }: OwnedAddress): boolean =>
      matchesOwner(active, who(owner)) || matchesOwner(alternate, who(owner));
    const before = await ipam.heldBy(handle);
    if (place === "alternate" && before.length === 0) throw nothingToTakeAlong(request, handle);
    const held = place === "active" ? await this.#withMissing(before, owner, request) : before;
    for (const one of held) {
      // A repeated ADD of the same container: the note is there, whatever its time says.
      if (isNoted(one)) continue;
      await ipam.changeOwners({ address: one.address, handle, change: { [place]: owner } });
    }
    const awaited = place === "alternate" ? { pod, machine: machine.name, handle } : undefined;
    return { addresses: held.map(({ address }) => address), noted: !before.some(isNoted), awaited };
  }

  end(pod: PodName, containerId: string): () => Promise<void> {
    // Kept over repetitions: what was noted may be gone by then, and the release still to be done.
    const machines = new Map<string, PodName>();
    return async () => {
      const { client, ipam } = this.#options;
      for (const one of await ipam.ownedBy({ namespace: pod.namespace, pod: pod.name })) {
        for (const place of ["active", "alternate"] as const) {
          const owner = one[place];
          if (owner === undefined || !isOf(owner, pod, containerId)) continue;
          const name = owner[MACHINE_NAME];
          if (name !== undefined) machines.set(one.handle, { namespace: pod.namespace, name });
          const { address, handle } = one;
          await ipam.changeOwners({ address, handle, change: { [place]: null }, condition: { [place]: owner } });
        }
      }
      for (const [handle, machine] of machines) if (await isEnding(client, machine)) await ipam.releaseUnowned(handle);
    };
  }

  async of(pod: PodName): Promise<readonly IpAddress[]> {
    const owned = await this.#options.ipam.ownedBy({ namespace: pod.namespace, pod: pod.name });
    return owned.filter(isMachines).map(({ address }) => address);
  }

  async containers(network: string): Promise<readonly { readonly pod: PodName; readonly containerId: string }[]> {
    const { ipam, node } = this.#options;
    const owned = (await ipam.ownedBy({ node })).filter(isMachines);
    return owned
      .filter(({ handle }) => handle.startsWith(`${network}.vmi.`))
      .flatMap(({ active, alternate }) => [active, alternate])
      .flatMap((owner) => {
        const { [CONTAINER]: containerId, namespace, node: where, pod: name } = owner ?? {};
        const known = containerId !== undefined && namespace !== undefined && name !== undefined && where === node;
        return known ? [{ pod: { namespace, name }, containerId }] : [];
      });
  }

  async awaited(): Promise<readonly AwaitedMachine[]> {
    const { client, ipam, node } = this.#options;
    if (!(await isAwaiting(client, node))) return [];
    const targets = new Map<string, AwaitedMachine>();
    for (const { alternate = {}, handle } of await ipam.ownedBy({ node })) {
      const { [MACHINE_NAME]: machine, [MIGRATION_UID]: migration, namespace, node: where, pod: name } = alternate;
      // A source that was promoted away from is an alternate owner too, without a migration that brings it here.
      if (machine === undefined || migration === undefined || namespace === undefined || name === undefined) continue;
      if (where === node) targets.set(handle, { pod: { namespace, name }, machine, handle });
    }
    return [...targets.values()];
  }

  async arrived({ handle, machine, pod }: AwaitedMachine, signal: AbortSignal): Promise<boolean> {
    const { client, clock, ipam, log, node } = this.#options;
    const owner = { namespace: pod.namespace, pod: pod.name };
    while (!signal.aborted) {
      try {
        const where = await nodeOfInstance(client, { namespace: pod.namespace, name: machine });
        if (where === node) {
          await ipam.promoteOwner(handle, owner);
          return true;
        }
        if (!(await ipam.heldBy(handle)).some((one) => matchesOwner(one.alternate, owner))) return false;
      } catch (error) {
        // Another migration has begun, or the pod is gone: it is no target any more.
        if (hasCode(error, "CONFLICT")) return false;
        log.warning("cni.migration_not_seen", { pod: `${pod.namespace}/${pod.name}`, because: errorText(error) });
      }
      await clock.sleep(MIGRATION_PERIOD_MS, signal).catch(() => undefined);
    }
    return false;
  }

  #ownerOf({ containerId, machine, pod }: MachineRequest): Attributes {
    const { clock, node } = this.#options;
    return {
      node,
      timestamp: new Date(clock.now()).toISOString(),
      pod: pod.name,
      namespace: pod.namespace,
      [MACHINE_NAME]: machine.name,
      [INSTANCE_UID]: machine.instanceUid,
      ...(machine.machineUid !== undefined && { [MACHINE_UID]: machine.machineUid }),
      ...(machine.migrationUid !== undefined && { [MIGRATION_UID]: machine.migrationUid }),
      [CONTAINER]: containerId,
    };
  }

  /** What the machine has, of the families wanted; what is missing is assigned. */
  async #withMissing(
    before: readonly OwnedAddress[],
    owner: Attributes,
    request: MachineRequest,
  ): Promise<readonly OwnedAddress[]> {
    const { allocator, ipam, node } = this.#options;
    const { exact, machine, namespaceLabels, network, pod, pools4, pools6, signal, want4, want6 } = request;
    const handle = machineHandle(network, pod.namespace, machine.name);
    const held = before.filter(({ address }) => (address.family === 4 ? want4 : want6));
    const missing = [...(want4 ? [4] : []), ...(want6 ? [6] : [])].filter(
      (family) => !held.some(({ address }) => address.family === family),
    );
    if (missing.length === 0) return held;
    if (held.length === 0 && exact.length > 0) {
      for (const address of exact) {
        const common = { owner: hostOwner(node), handle, attributes: owner, use: "Workload", maxPerHandle: 1 } as const;
        await ipam.assignAddress({ ...common, address });
      }
      return ipam.heldBy(handle);
    }
    const common = { handle, attributes: owner, pools4, pools6, namespaceLabels, maxPerHandle: 1, signal };
    const assigned = await allocator.assign({ ...common, want4, want6 });
    const now = await ipam.heldBy(handle);
    return now.filter(({ address }) => assigned.some((one) => one.address.value === address.value));
  }
}

const who = ({ [CONTAINER]: containerId, namespace, pod }: Attributes): Attributes => ({
  ...(namespace !== undefined && { namespace }),
  ...(pod !== undefined && { pod }),
  ...(containerId !== undefined && { [CONTAINER]: containerId }),
});

/** Upstream notes no container: then the pod's name has to do. */
const isOf = (owner: Attributes, pod: PodName, containerId: string): boolean =>
  owner["pod"] === pod.name &&
  owner["namespace"] === pod.namespace &&
  (owner[CONTAINER] ?? containerId) === containerId;

const isMachines = ({ active, alternate }: OwnedAddress): boolean =>
  active?.[MACHINE_NAME] !== undefined || alternate?.[MACHINE_NAME] !== undefined;

const nothingToTakeAlong = ({ machine, pod }: MachineRequest, handle: string): CalicoError =>
  new CalicoError(
    "NO_QUALIFIED_POOL",
    `pod ${pod.namespace}/${pod.name} is the target of a live migration, and virtual machine ${machine.name} has no address to take along (handle ${handle})`,
  );
