/**
 * KubeVirt's kinds that address management reads (group kubevirt.io/v1). KubeVirt installs their definitions; a cluster without it has neither, and whoever
 * asks gets NOT_FOUND. Fields we do not read are kept and not checked.
 */
import type { TypeOf } from "../schema/builders.ts";
import { bool, object, OPEN, opt, text } from "../schema/builders.ts";
import type { StoredObject } from "../schema/declare.ts";
import { kubernetesKind } from "../schema/declare.ts";

const GROUP = "kubevirt.io";
export const KUBEVIRT_API_VERSION = "kubevirt.io/v1";

/** On the pod a live migration goes to: the uid of the VirtualMachineInstanceMigration. */
export const MIGRATION_LABEL = "kubevirt.io/migrationJobUID";

const instanceStatus = object(
  {
    phase: opt(text()),
    nodeName: opt(text({ description: "Where it runs; changes when a migration is over." })),
    migrationState: opt(
      object({ migrationUid: opt(text()), completed: opt(bool()), failed: opt(bool()), targetNode: opt(text()) }, OPEN),
    ),
  },
  OPEN,
);

export type VirtualMachine = StoredObject<typeof KUBEVIRT_API_VERSION, "VirtualMachine">;
export type VirtualMachineInstance = StoredObject<typeof KUBEVIRT_API_VERSION, "VirtualMachineInstance"> & {
  readonly status?: TypeOf<typeof instanceStatus>;
};

export const virtualMachine = kubernetesKind({
  kind: "VirtualMachine",
  group: GROUP,
  version: "v1",
  plural: "virtualmachines",
  shortNames: ["vm", "vms"],
  namespaced: true,
  hasStatus: true,
  description: "A virtual machine that may be stopped and started.",
  fields: {},
});

export const virtualMachineInstance = kubernetesKind({
  kind: "VirtualMachineInstance",
  group: GROUP,
  version: "v1",
  plural: "virtualmachineinstances",
  shortNames: ["vmi", "vmis"],
  namespaced: true,
  hasStatus: true,
  description: "A virtual machine that runs: in a pod named virt-launcher-….",
  fields: { status: instanceStatus },
});
