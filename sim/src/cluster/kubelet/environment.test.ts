import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Container } from "../kube/objects.ts";
import { commandLine, type EnvironmentSources, expand, resolveEnvironment } from "./environment.ts";
import { inUnits } from "./quantity.ts";

const sources: EnvironmentSources = {
  pod: {
    metadata: { name: "calico-node-x", namespace: "kube-system", uid: "u1", labels: { tier: "net" }, annotations: {} },
    spec: { nodeName: "node-1", serviceAccountName: "calico-node", containers: [] },
  },
  node: { metadata: { name: "node-1" }, status: { allocatable: { cpu: "2", memory: "4Gi" } } },
  hostIPs: ["172.30.0.11", "fd30::11"],
  podIPs: ["10.0.0.5"],
  configMap: (name) => (name === "calico-config" ? { veth_mtu: "0", backend: "bird" } : undefined),
  secret: (name) => (name === "keys" ? { TOKEN: "t0p" } : undefined),
};

const resolve = (container: Partial<Container>) =>
  resolveEnvironment({ name: "c", ...container }, { BASE: "b" }, sources);

describe("the environment", () => {
  test("comes from values, fields, config maps, secrets and resources", () => {
    const resolved = resolve({
      resources: { limits: { cpu: "250m" } },
      envFrom: [{ prefix: "S_", secretRef: { name: "keys" } }],
      env: [
        { name: "NODENAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
        { name: "TIER", valueFrom: { fieldRef: { fieldPath: "metadata.labels['tier']" } } },
        { name: "HOSTS", valueFrom: { fieldRef: { fieldPath: "status.hostIPs" } } },
        { name: "MTU", valueFrom: { configMapKeyRef: { name: "calico-config", key: "veth_mtu" } } },
        { name: "MAYBE", valueFrom: { configMapKeyRef: { name: "absent", key: "x", optional: true } } },
        { name: "CPU", valueFrom: { resourceFieldRef: { resource: "limits.cpu", divisor: "1m" } } },
        { name: "MEM", valueFrom: { resourceFieldRef: { resource: "limits.memory", divisor: "1Mi" } } },
        { name: "BOTH", value: "$(NODENAME)/$(S_TOKEN)/$(BASE)/$(NOPE)/$$(MTU)" },
      ],
    });
    expect(resolved).toEqual({
      ok: true,
      env: {
        BASE: "b",
        S_TOKEN: "t0p",
        NODENAME: "node-1",
        TIER: "net",
        HOSTS: "172.30.0.11,fd30::11",
        MTU: "0",
        CPU: "250",
        MEM: "4096",
        BOTH: "node-1/t0p/b/$(NOPE)/$(MTU)",
      },
    });
  });

  test.each([
    [
      { env: [{ name: "A", valueFrom: { configMapKeyRef: { name: "absent", key: "x" } } }] },
      'configmap "absent" not found',
    ],
    [
      { env: [{ name: "A", valueFrom: { configMapKeyRef: { name: "calico-config", key: "x" } } }] },
      "couldn't find key x in configmap calico-config",
    ],
    [{ envFrom: [{ secretRef: { name: "absent" } }] }, 'secret "absent" not found'],
    [
      { env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "spec.nope" } } }] },
      'unsupported fieldPath "spec.nope"',
    ],
  ])("tells what is missing", (container, message) => {
    expect(resolve(container as Partial<Container>)).toEqual({ ok: false, message });
  });

  test("expands commands and arguments", () => {
    expect(commandLine({ name: "c", command: ["/bin/x", "$(A)"], args: ["--b=$(A)$(A)"] }, { A: "1" })).toEqual([
      "/bin/x",
      "1",
      "--b=11",
    ]);
  });

  test("property: text without a dollar is left alone, and nothing expands twice", () => {
    fc.assert(
      fc.property(fc.string(), (text) => expand(text.replaceAll("$", ""), { A: "x" }) === text.replaceAll("$", "")),
    );
    expect(expand("$(A)", { A: "$(B)", B: "no" })).toBe("$(B)");
  });
});

test.each([
  ["300m", "100m", "3"],
  ["1.5", undefined, "2"],
  ["64Mi", "1Ki", "65536"],
  [2, "1", "2"],
  ["x", "1", undefined],
])("%s in units of %s is %s", (quantity, divisor, expected) => expect(inUnits(quantity, divisor)).toBe(expected));
