/**
 * Addresses of KubeVirt's virtual machines: they belong to the machine and outlive the pods it runs in. Pure.
 *
 * The handle names the machine. Pods own the address one after the other, and during a live migration two at once: the active owner
 * (`secondary` in the record) and the alternate one (`alternateOwnerAttrs`), the pod the machine moves to. While the machine is stopped nobody owns it.
 */
import { sha256Base64Url } from "@calico-ts/std";
import type { Attribute, Attributes } from "./block.ts";

/** Attribute names, upstream's. */
export const MACHINE_NAME = "vmi-name";
export const INSTANCE_UID = "vmi-uid";
export const MACHINE_UID = "vm-uid";
export const MIGRATION_UID = "vmim-uid";

const INFIX = ".vmi.";
const LONGEST = 128;
const DEFAULT_NETWORK = "k8s-pod-network";

/**
 * `<network>.vmi.<namespace>.<machine>`; what is after the infix becomes `_` and a part of its SHA-256 where this would be longer than 128 characters, as upstream
 * does. A machine and its instance have one name.
 */
export function machineHandle(network: string, namespace: string, machine: string): string {
  const prefix = `${network === "" ? DEFAULT_NETWORK : network}${INFIX}`;
  const suffix = `${namespace}.${machine}`;
  if (prefix.length + suffix.length <= LONGEST) return prefix + suffix;
  return `${prefix}_${sha256Base64Url(suffix).slice(0, Math.max(0, LONGEST - 1 - prefix.length))}`;
}

/** Every network a machine's handle may be of: a network's name may contain the infix itself. Empty: it is no machine's handle. */
export function machineNetworks(handle: string): string[] {
  const networks: string[] = [];
  for (let at = handle.indexOf(INFIX); at >= 0; at = handle.indexOf(INFIX, at + 1)) networks.push(handle.slice(0, at));
  return networks;
}

/** Who owns an address, in the place named. */
export interface Owners {
  readonly active: Attributes | undefined;
  readonly alternate: Attributes | undefined;
}

/** null: nobody any more; absent: as it was. */
export interface OwnerChange {
  readonly active?: Attributes | null;
  readonly alternate?: Attributes | null;
}

/** What must be so, or nothing is changed: these attributes have these values, or (null) nobody owns it. Absent: whatever. */
export interface OwnerCondition {
  readonly active?: Attributes | null;
  readonly alternate?: Attributes | null;
}

export const ownersOf = (attribute: Attribute): Owners => ({
  active: filled(attribute.secondary),
  alternate: filled(attribute.alternateOwnerAttrs),
});

const filled = (attributes: Attributes | undefined): Attributes | undefined =>
  attributes === undefined || Object.keys(attributes).length === 0 ? undefined : attributes;

/** Whether it has all of these. */
export const matchesOwner = (owner: Attributes | undefined, wanted: Attributes): boolean =>
  owner !== undefined && Object.entries(wanted).every(([name, value]) => owner[name] === value);

/** Which part of the condition does not hold; undefined when all of it does. */
export function whyNotOwned(owners: Owners, condition: OwnerCondition): string | undefined {
  for (const place of ["active", "alternate"] as const) {
    const wanted = condition[place];
    if (wanted === undefined) continue;
    const owner = owners[place];
    if (wanted === null ? owner === undefined : matchesOwner(owner, wanted)) continue;
    return `its ${place} owner is ${describeOwner(owner)}, not ${describeOwner(wanted ?? undefined)}`;
  }
  return undefined;
}

export function describeOwner(owner: Attributes | undefined): string {
  if (owner === undefined) return "nobody";
  const { namespace = "", node, pod } = owner;
  if (pod === undefined) return "something that is no pod";
  return `pod ${namespace}/${pod}${node === undefined ? "" : ` on ${node}`}`;
}

/** The attribute with other owners. */
export function withOwners(attribute: Attribute, change: OwnerChange): Attribute {
  const { alternateOwnerAttrs, secondary, ...rest } = attribute;
  const active = change.active === undefined ? secondary : (change.active ?? undefined);
  const alternate = change.alternate === undefined ? alternateOwnerAttrs : (change.alternate ?? undefined);
  return {
    ...rest,
    ...(active === undefined ? {} : { secondary: { ...active } }),
    ...(alternate === undefined ? {} : { alternateOwnerAttrs: { ...alternate } }),
  };
}
