import { execFileSync } from "node:child_process";
import { listNamespaces } from "@calico-ts/linux";
import { formatAddress } from "@calico-ts/net";
import { afterEach, describe, expect, test } from "vitest";
import { namespacePrefix } from "../names.ts";
import { topologyPath } from "../topology/shipped.ts";
import { loadTopology } from "../topology/topology-file.ts";
import { buildFabric } from "./fabric.ts";
import { controlPlaneNamespace, nodeNamespace } from "./layout.ts";

const run = `ct${process.pid}`;
const ours = (): string[] => listNamespaces().filter((name) => name.startsWith(namespacePrefix(run)));
/** The witness: another program's view of the same namespaces. */
const inside = (namespace: string, ...command: string[]): string =>
  execFileSync("ip", ["netns", "exec", namespace, ...command], { encoding: "utf8" });
const rootLinks = (): string => execFileSync("ip", ["-o", "link"], { encoding: "utf8" });

afterEach(() => expect(ours()).toEqual([]));

describe("the fabric", () => {
  test("three nodes on a switch reach each other and the control plane, and leave nothing", () => {
    const before = rootLinks();
    const plan = loadTopology(topologyPath("default"));
    using _fabric = buildFabric(run, plan);
    expect(ours()).toHaveLength(5);
    const first = nodeNamespace(run, "node-1");
    for (const target of [...plan.nodes.slice(1), plan.controlPlane]) {
      expect(inside(first, "ping", "-c1", "-W1", formatAddress(target.addresses[0]))).toContain("1 received");
    }
    expect(rootLinks()).toBe(before);
  });

  test("racks talk through the router, with a hop in between", () => {
    const plan = loadTopology(topologyPath("two-racks"));
    using _fabric = buildFabric(run, plan);
    const [here, , there] = plan.nodes;
    const answer = inside(nodeNamespace(run, here.name), "ping", "-c1", "-W1", formatAddress(there.addresses[0]));
    expect(answer).toContain("1 received");
    expect(answer).toContain("ttl=63");
    expect(
      inside(nodeNamespace(run, there.name), "ping", "-c1", "-W1", formatAddress(plan.controlPlane.addresses[0])),
    ).toContain("1 received");
  });

  test("the rest of the world is unreachable, and says so", () => {
    using _fabric = buildFabric(run, loadTopology(topologyPath("two-racks")));
    expect(() => inside(nodeNamespace(run, "node-3"), "ping", "-c1", "-W1", "192.0.2.1")).toThrow(/Command failed/);
    expect(inside(controlPlaneNamespace(run), "ip", "route", "show", "default")).toBe("");
  });

  test("a build that fails half-way takes back what it made", () => {
    const plan = loadTopology(topologyPath("default"));
    const broken = { ...plan, nodes: [...plan.nodes, { ...plan.nodes[0], name: "twin" }] };
    // The twin has the same MAC and address, which is fine for the kernel; an unknown switch is not.
    const lost = {
      ...broken,
      nodes: broken.nodes.map((node) => (node.name === "twin" ? { ...node, subnet: "nowhere" } : node)),
    };
    expect(() => buildFabric(run, lost)).toThrow(/no switch/);
  });

  test("ten nodes, their switch and the control plane", () => {
    using _fabric = buildFabric(run, loadTopology(topologyPath("ten-nodes")));
    expect(ours()).toHaveLength(12);
  });
});
