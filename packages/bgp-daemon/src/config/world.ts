/** The resources as the rest of the configuration asks for them: this node, the cluster's settings, what each node is to BGP; and where problems are noted. */
import type { BGPConfiguration, CalicoNode } from "@calico-ts/model";
import { type Family, type IpAddress, parsePrefix, type Prefix, tryParseAddress } from "@calico-ts/net";
import { type CheckedResources, checkResources } from "./checked.ts";
import type { ModelInput, Problem, SecretKey } from "./model-input.ts";

export const FAMILIES: readonly Family[] = [4, 6];
const DEFAULT_AS = 64_512;
export const DEFAULT_PORT = 179;
const DEFAULT_PRIORITY = 1024;

export interface World extends CheckedResources {
  readonly input: ModelInput;
  readonly self: CalicoNode;
  /** BGPConfiguration `default`. */
  readonly cluster: BGPConfiguration["spec"];
  /** BGPConfiguration `node.<this node>`. */
  readonly own: BGPConfiguration["spec"];
  readonly problems: Problem[];
  readonly secrets: Map<string, SecretKey>;
}

export function worldOf(input: ModelInput, self: CalicoNode): World {
  const problems: Problem[] = [];
  const checked = checkResources(input, problems);
  const settings = (name: string): BGPConfiguration["spec"] => checked.configurations.get(name)?.spec ?? {};
  return {
    input,
    self,
    ...checked,
    cluster: settings("default"),
    own: settings(`node.${self.name}`),
    problems,
    secrets: new Map(),
  };
}

export const given = (text: string | undefined): text is string => text !== undefined && text !== "";

export const labelsOf = ({ labels }: { readonly labels: Readonly<Record<string, string>> }): Map<string, string> =>
  new Map(Object.entries(labels));

/** The node's address of the family, without its subnet. */
export function addressOf(node: CalicoNode, family: Family): IpAddress | undefined {
  const text = family === 4 ? node.ipv4Address : node.ipv6Address;
  return tryParseAddress(text?.replace(/\/.*$/, "") ?? "");
}

/** The subnet the node's address is in. */
export function subnetOf(node: CalicoNode, family: Family): Prefix | undefined {
  const text = family === 4 ? node.ipv4Address : node.ipv6Address;
  return text === undefined ? undefined : parsePrefix(text, "mask");
}

export const clusterAs = ({ cluster }: World): number => cluster.asNumber || DEFAULT_AS;
export const asOf = (world: World, node: CalicoNode): number => node.asNumber || clusterAs(world);

/** The port that was set for a node or for all; undefined: none was. */
export function configuredPort({ configurations, cluster }: World, node: CalicoNode): number | undefined {
  return configurations.get(`node.${node.name}`)?.spec.listenPort ?? cluster.listenPort;
}

/** Metric of routes of normal priority. */
export const priorityOf = ({ cluster }: World, family: Family): number =>
  (family === 4 ? cluster.ipv4NormalRoutePriority : cluster.ipv6NormalRoutePriority) ?? DEFAULT_PRIORITY;
