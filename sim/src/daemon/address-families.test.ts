import { join } from "node:path";
import { isObject } from "@calico-ts/schema";
import { describe, expect, test } from "vitest";
import type { Manifest } from "../manifests/manifest-files.ts";
import { readManifests } from "../manifests/manifest-files.ts";
import { topologyPath } from "../topology/shipped.ts";
import { loadTopology } from "../topology/topology-file.ts";
import { forFamilies } from "./address-families.ts";

const product = readManifests([join(import.meta.dirname, "../../../manifests/calico.yaml")]);
const fitted = (topology: string): Manifest[] => forFamilies(product, loadTopology(topologyPath(topology)));

function environment(manifests: readonly Manifest[]): Record<string, string | undefined> {
  const spec = manifests.find(({ kind }) => kind === "DaemonSet")?.object["spec"] as {
    template: { spec: { containers: { env: { name: string; value?: string }[] }[] } };
  };
  const env = spec.template.spec.containers[0]?.env ?? [];
  return Object.fromEntries(env.map(({ name, value }) => [name, value]));
}
function network(manifests: readonly Manifest[]): string {
  const data = manifests.find(({ name }) => name === "calico-config")?.object["data"];
  return String(isObject(data) ? data["cni_network_config"] : data);
}

describe("the product's manifests", () => {
  test("are as they are for IPv4 alone", () => expect(fitted("default")).toEqual(product));

  test("assign both families and find both addresses for dual stack", () => {
    expect(environment(fitted("dual-stack"))).toMatchObject({
      IP: "autodetect",
      IP6: "autodetect",
      FELIX_IPV6SUPPORT: "true",
      FELIX_HEALTHENABLED: "true",
    });
    expect(network(fitted("dual-stack"))).toMatch(/"calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"/);
  });

  test("do without IPv4 where there is none", () => {
    expect(environment(fitted("ipv6"))).toMatchObject({ IP: "none", IP6: "autodetect", CALICO_ROUTER_ID: "hash" });
    expect(network(fitted("ipv6"))).toMatch(/"assign_ipv4": "false", "assign_ipv6": "true"/);
  });
});
