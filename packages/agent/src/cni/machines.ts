/** KubeVirt's virtual machines: which one a pod runs, and whether it is about to go. */
import type { DatastoreClient } from "@calico-ts/datastore";
import { hasMachine, isAbsent } from "@calico-ts/ipam";
import { KUBEVIRT_API_VERSION, type KindMap, MIGRATION_LABEL, type Pod } from "@calico-ts/model";
import { CalicoError } from "@calico-ts/std";
import type { Machine } from "./ports.ts";
import type { PodName } from "./request.ts";

/** KubeVirt names pods so; only for these is the API server asked about machines. */
export const isLauncher = ({ name }: PodName): boolean => name.startsWith("virt-launcher-");

/**
 * undefined for a pod that belongs to no instance of a machine.
 * @throws CalicoError CONFLICT when its instance is not there, or is another one of that name
 */
export async function machineOf(client: DatastoreClient, pod: Pod): Promise<Machine | undefined> {
  const { labels = {}, name, namespace = "", ownerReferences = [] } = pod.metadata;
  const owner = ownerReferences.find(
    ({ apiVersion, controller, kind }) =>
      apiVersion === KUBEVIRT_API_VERSION && kind === "VirtualMachineInstance" && controller === true,
  );
  if (owner === undefined) return undefined;
  const instance = await find(client, "VirtualMachineInstance", { namespace, name: owner.name });
  if (instance?.metadata.uid !== owner.uid) {
    const why =
      instance === undefined ? "does not exist" : `has uid ${instance.metadata.uid ?? "none"}, not ${owner.uid}`;
    throw new CalicoError(
      "CONFLICT",
      `pod ${namespace}/${name} runs the VirtualMachineInstance ${owner.name}, which ${why}`,
    );
  }
  const machine = hasMachine(instance)
    ? await find(client, "VirtualMachine", { namespace, name: owner.name })
    : undefined;
  return {
    name: owner.name,
    instanceUid: owner.uid,
    machineUid: machine?.metadata.uid,
    migrationUid: labels[MIGRATION_LABEL],
  };
}

/** Whether it is gone or being deleted: the machine, or an instance that belongs to none. An instance alone may go and come while its machine stays. */
export async function isEnding(client: DatastoreClient, machine: PodName): Promise<boolean> {
  const found = await find(client, "VirtualMachine", machine);
  if (found !== undefined) return isBeingDeleted(found);
  const instance = await find(client, "VirtualMachineInstance", machine);
  return instance === undefined || hasMachine(instance) || isBeingDeleted(instance);
}

const isBeingDeleted = ({ metadata }: KindMap["VirtualMachine" | "VirtualMachineInstance"]): boolean =>
  (metadata.deletionTimestamp ?? "") !== "";

/** Where the instance runs now; undefined when it is gone. During a migration that is the source's node. */
export async function nodeOfInstance(client: DatastoreClient, instance: PodName): Promise<string | undefined> {
  return (await find(client, "VirtualMachineInstance", instance))?.status?.nodeName;
}

/** Whether some instance is about to move to the node. KubeVirt labels it so while it migrates; no KubeVirt, no migration. */
export async function isAwaiting(client: DatastoreClient, node: string): Promise<boolean> {
  try {
    const labelSelector = `kubevirt.io/migrationTargetNodeName=${node}`;
    return (await client.list("VirtualMachineInstance", { labelSelector })).items.length > 0;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

async function find<K extends "VirtualMachine" | "VirtualMachineInstance">(
  client: DatastoreClient,
  kind: K,
  key: PodName,
): Promise<KindMap[K] | undefined> {
  try {
    return await client.get(kind, key);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
