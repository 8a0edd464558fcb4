/** KubeVirt's virtual machines as garbage collection looks at them: their addresses stay as long as they exist, running or not. */
import type { DatastoreClient } from "@calico-ts/datastore";
import { KUBEVIRT_API_VERSION, type VirtualMachine, type VirtualMachineInstance } from "@calico-ts/model";
import { CalicoError, hasCode } from "@calico-ts/std";
import { machineHandle } from "../allocator/machine.ts";

export class Machines {
  readonly #names: readonly { readonly namespace: string; readonly name: string }[];
  readonly #handles = new Map<string, ReadonlySet<string>>();

  /** An instance counts if no machine owns it: one whose machine is gone is about to go. */
  constructor(machines: readonly VirtualMachine[], instances: readonly VirtualMachineInstance[]) {
    const standalone = instances.filter((instance) => !hasMachine(instance));
    this.#names = [...machines, ...standalone].map(({ metadata }) => ({
      namespace: metadata.namespace ?? "",
      name: metadata.name,
    }));
  }

  has(namespace: string, name: string): boolean {
    return this.#names.some((one) => one.name === name && one.namespace === namespace);
  }

  /** Their handles in these networks. Handles are made of names and compared: a long one cannot be taken apart. */
  handles(networks: readonly string[]): ReadonlySet<string> {
    const key = networks.join(" ");
    let handles = this.#handles.get(key);
    if (handles === undefined) {
      handles = new Set(
        networks.flatMap((network) =>
          this.#names.map(({ name, namespace }) => machineHandle(network, namespace, name)),
        ),
      );
      this.#handles.set(key, handles);
    }
    return handles;
  }
}

export const hasMachine = ({ metadata }: VirtualMachineInstance): boolean =>
  (metadata.ownerReferences ?? []).some(
    ({ apiVersion, kind }) => apiVersion === KUBEVIRT_API_VERSION && kind === "VirtualMachine",
  );

/** undefined where there is no KubeVirt (any more): then nothing can be said about machines. */
export async function listMachines(client: DatastoreClient): Promise<Machines | undefined> {
  try {
    const machines = await client.list("VirtualMachine");
    const instances = await client.list("VirtualMachineInstance");
    return new Machines(machines.items, instances.items);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** There is no such machine, or no such kind (HTTP 404 without a name): a cluster without KubeVirt. */
export const isAbsent = (error: unknown): boolean =>
  hasCode(error, "NOT_FOUND") ||
  hasCode(error, "UNSUPPORTED") ||
  (error instanceof CalicoError && error.code === "UNAVAILABLE" && error.detail["httpStatus"] === 404);
