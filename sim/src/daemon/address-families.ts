/**
 * The product's manifests for the address families of a topology: what Calico's documentation tells an operator to change in
 * them for dual stack and for IPv6 alone. A topology with IPv4 alone gets them as they are.
 *
 * - ConfigMap `calico-config`: `assign_ipv4` and `assign_ipv6` of the CNI configuration, by the families that have a pool.
 * - DaemonSet `calico-node`: `IP` and `IP6` say which addresses the node has, `FELIX_IPV6SUPPORT` turns IPv6 on, and where there
 *   is no IPv4 address to be the BGP router id, `CALICO_ROUTER_ID=hash` makes one. `NO_DEFAULT_POOLS` leaves pools to the topology.
 */
import type { JsonObject } from "@calico-ts/schema";
import { isObject } from "@calico-ts/schema";
import type { Manifest } from "../manifests/manifest-files.ts";
import type { TopologyPlan } from "../topology/plan.ts";

export function forFamilies(manifests: readonly Manifest[], plan: Pick<TopologyPlan, "subnets" | "pools">): Manifest[] {
  const nodes = new Set(plan.subnets.flatMap(({ prefixes }) => prefixes.map(({ family }) => family)));
  const pods = new Set(plan.pools.map(({ cidr }) => cidr.family));
  if (!nodes.has(6) && !pods.has(6)) return [...manifests];
  const variables = {
    IP: nodes.has(4) ? "autodetect" : "none",
    IP6: nodes.has(6) ? "autodetect" : "none",
    FELIX_IPV6SUPPORT: "true",
    // The topology has the pools it wants: a family without one gets no default either.
    NO_DEFAULT_POOLS: "true",
    ...(nodes.has(4) ? {} : { CALICO_ROUTER_ID: "hash" }),
  };
  return manifests.map((manifest) => {
    const change =
      manifest.kind === "ConfigMap" ? assigning(pods) : manifest.kind === "DaemonSet" ? setting(variables) : undefined;
    return change === undefined ? manifest : { ...manifest, object: change(manifest.object) };
  });
}

const NETWORK_CONFIG = "cni_network_config";

const assigning =
  (families: ReadonlySet<4 | 6>) =>
  (configMap: JsonObject): JsonObject => {
    const data = configMap["data"];
    const text = isObject(data) ? data[NETWORK_CONFIG] : undefined;
    if (!isObject(data) || typeof text !== "string") return configMap;
    // Text, since its placeholders make it no JSON yet.
    const assign = `"assign_ipv4": "${families.has(4)}", "assign_ipv6": "${families.has(6)}"`;
    const network = text.replace(/("type"\s*:\s*"calico-ipam")/, `$1, ${assign}`);
    return { ...configMap, data: { ...data, [NETWORK_CONFIG]: network } };
  };

const setting =
  (variables: Readonly<Record<string, string>>) =>
  (daemonSet: JsonObject): JsonObject =>
    edit(daemonSet, ["spec", "template", "spec", "containers"], (containers) =>
      !Array.isArray(containers)
        ? containers
        : containers.map((container) =>
            isObject(container) && container["name"] === "calico-node"
              ? withVariables(container, variables)
              : container,
          ),
    );

function withVariables(container: JsonObject, variables: Readonly<Record<string, string>>): JsonObject {
  const env = Array.isArray(container["env"]) ? container["env"] : [];
  const others = env.filter((each) => !(isObject(each) && String(each["name"]) in variables));
  return { ...container, env: [...others, ...Object.entries(variables).map(([name, value]) => ({ name, value }))] };
}

function edit(object: JsonObject, path: readonly string[], change: (value: unknown) => unknown): JsonObject {
  const [first, ...rest] = path;
  const inner = first === undefined ? undefined : object[first];
  if (first === undefined || inner === undefined) return object;
  return {
    ...object,
    [first]: rest.length === 0 ? change(inner) : isObject(inner) ? edit(inner, rest, change) : inner,
  };
}
