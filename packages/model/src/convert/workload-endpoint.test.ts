import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Pod } from "../kubernetes/core.ts";
import {
  annotationProblems,
  hostInterfaceName,
  isFinished,
  podAddresses,
  workloadEndpointFromPod,
} from "./workload-endpoint.ts";
import { parseWorkloadEndpointName, workloadEndpointName } from "./workload-endpoint-name.ts";

interface Change {
  readonly metadata?: Partial<Pod["metadata"]>;
  readonly spec?: Partial<Pod["spec"]>;
  readonly status?: Pod["status"];
}

const pod = (change: Change = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "web-1", namespace: "shop", labels: { app: "web" }, ...change.metadata },
  spec: { nodeName: "node-a", serviceAccountName: "default", containers: [{ name: "c" }], ...change.spec },
  ...(change.status === undefined ? {} : { status: change.status }),
});

describe("the endpoint of a pod", () => {
  test("in full", () => {
    const endpoint = workloadEndpointFromPod(
      pod({
        metadata: { generateName: "web-", annotations: { "cni.projectcalico.org/containerID": "abc" } },
        status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
      }),
    );
    expect(endpoint).toEqual({
      name: "node--a-k8s-web--1-eth0",
      namespace: "shop",
      orchestrator: "k8s",
      workload: "shop/web-1",
      endpoint: "eth0",
      node: "node-a",
      pod: "web-1",
      containerId: "abc",
      serviceAccount: "default",
      interfaceName: `cali${createHash("sha1").update("shop.web-1").digest("hex").slice(0, 11)}`,
      addresses: ["10.0.0.1/32", "fd00::1/128"],
      profiles: ["kns.shop", "ksa.shop.default"],
      labels: {
        app: "web",
        "projectcalico.org/namespace": "shop",
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": "default",
      },
      ports: [],
      floatingAddresses: [],
      allowedSourcePrefixes: [],
      generateName: "web-",
    });
  });

  test("none on the host's network or without a node", () => {
    expect(workloadEndpointFromPod(pod({ spec: { hostNetwork: true } }))).toBeUndefined();
    expect(workloadEndpointFromPod(pod({ spec: { nodeName: "" } }))).toBeUndefined();
    const { nodeName: _, ...unscheduled } = pod().spec;
    expect(workloadEndpointFromPod({ ...pod(), spec: unscheduled })).toBeUndefined();
  });

  test("its interface has at most 15 characters and a prefix of choice", () => {
    expect(hostInterfaceName("shop", "web-1")).toHaveLength(15);
    expect(hostInterfaceName("shop", "web-1", "tap")).toMatch(/^tap[0-9a-f]{11}$/);
    expect(hostInterfaceName("a.b", "c")).toBe(hostInterfaceName("a", "b.c"));
  });

  test("labels cannot pretend to another namespace", () => {
    const labels = { "projectcalico.org/namespace": "other", "projectcalico.org/serviceaccount": "root" };
    expect(workloadEndpointFromPod(pod({ metadata: { labels } }))?.labels).toMatchObject({
      "projectcalico.org/namespace": "shop",
      "projectcalico.org/serviceaccount": "default",
    });
  });

  test("a service account too long for a label is in the profile only", () => {
    const name = "s".repeat(63);
    const endpoint = workloadEndpointFromPod(pod({ spec: { serviceAccountName: name } }));
    expect(endpoint?.labels).not.toHaveProperty(["projectcalico.org/serviceaccount"]);
    expect(endpoint?.profiles).toEqual(["kns.shop", `ksa.shop.${name}`]);
    expect(workloadEndpointFromPod(pod({ spec: { serviceAccountName: "s".repeat(62) } }))?.labels).toHaveProperty([
      "projectcalico.org/serviceaccount",
    ]);
  });

  test("without a service account there is one profile", () => {
    expect(workloadEndpointFromPod(pod({ spec: { serviceAccountName: "" } }))?.profiles).toEqual(["kns.shop"]);
  });
});

describe("addresses", () => {
  const annotations = (value: Record<string, string>): Change => ({ metadata: { annotations: value } });

  test.each<[string, Change, string[]]>([
    ["none yet", {}, []],
    ["podIPs before podIP", { status: { podIP: "10.0.0.9", podIPs: [{ ip: "10.0.0.1" }] } }, ["10.0.0.1/32"]],
    ["podIP", { status: { podIP: "10.0.0.9" } }, ["10.0.0.9/32"]],
    ["empty podIPs do not count", { status: { podIP: "10.0.0.9", podIPs: [] } }, ["10.0.0.9/32"]],
    [
      "the status before annotations",
      { ...annotations({ "cni.projectcalico.org/podIPs": "10.0.0.1/32" }), status: { podIP: "10.0.0.9" } },
      ["10.0.0.9/32"],
    ],
    [
      "podIPs annotation",
      annotations({
        "cni.projectcalico.org/podIPs": "10.0.0.1/32,fd00::1/128",
        "cni.projectcalico.org/podIP": "10.0.0.9/32",
      }),
      ["10.0.0.1/32", "fd00::1/128"],
    ],
    ["podIP annotation", annotations({ "cni.projectcalico.org/podIP": "10.0.0.9/32" }), ["10.0.0.9/32"]],
    ["AWS annotation", annotations({ "vpc.amazonaws.com/pod-ips": "10.0.0.7" }), ["10.0.0.7/32"]],
    ["IPv6 in its usual spelling", { status: { podIP: "FD00:0:0::1" } }, ["fd00::1/128"]],
    ["what cannot be read is left out", { status: { podIPs: [{ ip: "x" }, { ip: "10.0.0.1" }, {}] } }, ["10.0.0.1/32"]],
    ["twice is once", { status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "10.0.0.1" }] } }, ["10.0.0.1/32"]],
  ])("%s", (_, change, expected) => {
    expect(podAddresses(pod(change))).toEqual(expected);
  });

  test.each(["Failed", "Succeeded", "Completed"])("a pod that %s keeps its endpoint and loses them", (phase) => {
    const finished = pod({ status: { phase, podIP: "10.0.0.1" } });
    expect(isFinished(finished)).toBe(true);
    expect(workloadEndpointFromPod(finished)).toMatchObject({ addresses: [], pod: "web-1" });
  });

  test("a pod that is being deleted keeps them until the network plugin says it is gone", () => {
    const deletionTimestamp = "2026-01-01T00:00:00Z";
    const status = { phase: "Running", podIP: "10.0.0.1" };
    const going = (annotations: Record<string, string>): Pod =>
      pod({ metadata: { deletionTimestamp, annotations }, status });
    expect(podAddresses(going({}))).toEqual(["10.0.0.1/32"]);
    expect(podAddresses(going({ "cni.projectcalico.org/podIP": "10.0.0.1/32" }))).toEqual(["10.0.0.1/32"]);
    expect(podAddresses(going({ "cni.projectcalico.org/podIP": "" }))).toEqual([]);
    expect(podAddresses(going({ "vpc.amazonaws.com/pod-ips": "" }))).toEqual([]);
    expect(podAddresses(pod({ metadata: { annotations: { "cni.projectcalico.org/podIP": "" } }, status }))).toEqual([
      "10.0.0.1/32",
    ]);
  });
});

describe("ports", () => {
  test("with a name or a host port, of init containers too", () => {
    const endpoint = workloadEndpointFromPod(
      pod({
        spec: {
          containers: [
            {
              name: "c",
              ports: [
                { name: "web", containerPort: 80 },
                { containerPort: 81 },
                { containerPort: 82, hostPort: 8082, hostIP: "10.0.0.1", protocol: "UDP" },
                { name: "odd", containerPort: 83, protocol: "ICMP" },
              ],
            },
          ],
          initContainers: [{ name: "i", ports: [{ name: "side", containerPort: 90, protocol: "SCTP", hostPort: 0 }] }],
        },
      }),
    );
    expect(endpoint?.ports).toEqual([
      { name: "web", protocol: "TCP", port: 80 },
      { name: "", protocol: "UDP", port: 82, hostPort: 8082, hostIp: "10.0.0.1" },
      { name: "side", protocol: "SCTP", port: 90 },
    ]);
  });
});

describe("annotations", () => {
  const withAnnotations = (annotations: Record<string, string>): ReturnType<typeof workloadEndpointFromPod> =>
    workloadEndpointFromPod(
      pod({ metadata: { annotations }, status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] } }),
    );

  test("floating addresses lead to the address of their family", () => {
    const floating = '["192.0.2.1", "2001:db8::1", "x", 7]';
    expect(withAnnotations({ "cni.projectcalico.org/floatingIPs": floating })?.floatingAddresses).toEqual([
      { internal: "10.0.0.1", external: "192.0.2.1" },
      { internal: "fd00::1", external: "2001:db8::1" },
    ]);
  });

  test.each<[string, string[]]>([
    ['["192.0.2.1", "2001:db8::1"]', []],
    ["[]", []],
    ["", []],
    ['["x", "192.0.2.1"]', ['"x" is not an address']],
    ["192.0.2.1", ["192.0.2.1 is not a JSON list of addresses"]],
  ])("what is wrong with floating addresses is told: %s", (text, problems) => {
    const annotations = { "cni.projectcalico.org/floatingIPs": text, "qos.projectcalico.org/dscp": "64" };
    const told = annotationProblems(
      pod({ metadata: { annotations }, status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] } }),
    );
    expect(told).toEqual([
      expect.stringContaining("qos.projectcalico.org/dscp"),
      ...problems.map((problem) => expect.stringContaining(problem)),
    ]);
  });

  test("a floating address of a family that the pod has not is told, once the pod has any", () => {
    const metadata = { annotations: { "cni.projectcalico.org/floatingIPs": '["2001:db8::1"]' } };
    expect(annotationProblems(pod({ metadata }))).toEqual([]);
    expect(annotationProblems(pod({ metadata, status: { podIPs: [{ ip: "10.0.0.1" }] } }))).toEqual([
      "cni.projectcalico.org/floatingIPs: 2001:db8::1 needs an IPv6 address of the pod",
    ]);
  });

  test("source prefixes lose host bits", () => {
    const prefixes = '["192.0.2.1/24", "nonsense"]';
    expect(withAnnotations({ "cni.projectcalico.org/allowedSourcePrefixes": prefixes })?.allowedSourcePrefixes).toEqual(
      ["192.0.2.0/24"],
    );
  });

  test.each(["", "{", "null", '"10.0.0.1"', "7"])("garbage is ignored: %j", (text) => {
    const endpoint = withAnnotations({
      "cni.projectcalico.org/floatingIPs": text,
      "cni.projectcalico.org/allowedSourcePrefixes": text,
    });
    expect(endpoint).toMatchObject({ floatingAddresses: [], allowedSourcePrefixes: [] });
  });
});

describe("names of records", () => {
  test.each([
    [{ node: "n", orchestrator: "k8s", pod: "p", endpoint: "eth0" }, "n-k8s-p-eth0"],
    [{ node: "a-b", orchestrator: "k8s", pod: "c--d", endpoint: "eth0" }, "a--b-k8s-c----d-eth0"],
  ])("%o is %s and back", (parts, name) => {
    expect(workloadEndpointName(parts)).toBe(name);
    expect(parseWorkloadEndpointName(name)).toEqual(parts);
  });

  test.each(["", "a", "a-b-c", "a-b-c-d-e", "a---b-c-d", "-a-b-c", "a-b-c-", "a--b-c-d"])("%j is none", (name) => {
    expect(parseWorkloadEndpointName(name)).toBeUndefined();
  });

  test("every name leads back to its parts", () => {
    const part = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,6}[a-z0-9])?$/);
    const parts = fc.record({ node: part, orchestrator: part, pod: part, endpoint: part });
    fc.assert(
      fc.property(parts, (value) => {
        expect(parseWorkloadEndpointName(workloadEndpointName(value))).toEqual(value);
      }),
    );
  });

  test("a part that cannot be told from its neighbours is refused", () => {
    expect(() => workloadEndpointName({ node: "n-", orchestrator: "k8s", pod: "p", endpoint: "e" })).toThrow("n-");
  });
});
