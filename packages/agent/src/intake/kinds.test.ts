import type { Node, Pod } from "@calico-ts/model";
import { calicoNodeFromKubernetes, workloadEndpointFromPod } from "@calico-ts/model";
import { describe, expect, test } from "vitest";
import { projectNode, projectPod } from "./kinds.ts";

const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "web-1",
    namespace: "shop",
    uid: "u1",
    resourceVersion: "7",
    generateName: "web-",
    deletionTimestamp: "2026-01-01T00:00:00Z",
    labels: { app: "web" },
    annotations: {
      "cni.projectcalico.org/podIPs": "10.0.0.5/32",
      "cni.projectcalico.org/containerID": "c1",
      "cni.projectcalico.org/allowedSourcePrefixes": '["10.9.0.0/24"]',
      "cni.projectcalico.org/floatingIPs": '["1.2.3.4"]',
      "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(5000),
    },
    managedFields: [{ manager: "kubectl", fieldsV1: { "f:metadata": {} } }],
    ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "web", uid: "r1" }],
  },
  spec: {
    nodeName: "n1",
    serviceAccountName: "shop",
    containers: [
      { name: "main", image: "x", command: ["run"], ports: [{ name: "web", containerPort: 8080, protocol: "TCP" }] },
      { name: "side", image: "y" },
    ],
    initContainers: [{ name: "mesh", image: "z", ports: [{ name: "admin", containerPort: 9000, hostPort: 9001 }] }],
  },
  status: {
    phase: "Running",
    podIP: "10.0.0.5",
    podIPs: [{ ip: "10.0.0.5" }],
    conditions: [{ type: "Ready", status: "True" }],
  },
} as unknown as Pod;

describe("what is kept of a resource", () => {
  test("a pod means the same to policy and weighs a fraction", () => {
    const kept = projectPod(pod);
    expect(workloadEndpointFromPod(kept)).toEqual(workloadEndpointFromPod(pod));
    expect(kept.metadata).toMatchObject({ uid: "u1", resourceVersion: "7", name: "web-1", namespace: "shop" });
    expect(JSON.stringify(kept).length).toBeLessThan(1100);
    expect(JSON.stringify(kept)).not.toContain("managedFields");
  });

  test("so does a finished pod, one on the host's network, and one without anything", () => {
    const variants: readonly Partial<Pod>[] = [
      { status: { phase: "Succeeded", podIPs: [{ ip: "10.0.0.5" }] } },
      { spec: { ...pod.spec, hostNetwork: true } },
      { spec: { containers: [] } },
      { metadata: { name: "bare", namespace: "shop" } },
    ];
    for (const change of variants) {
      const changed = { ...pod, ...change };
      expect(workloadEndpointFromPod(projectPod(changed))).toEqual(workloadEndpointFromPod(changed));
    }
  });

  test("a node means the same to routing", () => {
    const node = {
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name: "n1",
        labels: { zone: "a" },
        annotations: { "projectcalico.org/IPv4Address": "192.168.0.1/24", "volumes.kubernetes.io/x": "true" },
      },
      spec: { podCIDR: "10.0.0.0/24" },
      status: {
        addresses: [{ type: "InternalIP", address: "192.168.0.1" }],
        conditions: [{ type: "Ready", status: "True" }],
      },
    } as unknown as Node;
    expect(calicoNodeFromKubernetes(projectNode(node))).toEqual(calicoNodeFromKubernetes(node));
  });
});
