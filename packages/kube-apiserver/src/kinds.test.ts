import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Harness, startHarness } from "../testing/harness.ts";

let api: Harness;
beforeAll(async () => {
  api = await startHarness({
    serviceCidrs: ["10.96.0.0/28", "fd00:96::/112"],
    nodePorts: { first: 30_000, last: 30_003 },
  });
});
afterAll(() => api[Symbol.asyncDispose]());

const services = "/api/v1/namespaces/default/services";
const service = (name: string, spec: object): object => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec,
});
const policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const policy = (spec: object): object => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "p" },
  spec,
});

describe("Service", () => {
  test("the service of the API server", async () => {
    expect((await api.get(`${services}/kubernetes`)).body.spec).toMatchObject({
      clusterIP: "10.96.0.1",
      ports: [{ name: "https", port: 443 }],
    });
    const slice = (await api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")).body;
    expect(slice).toMatchObject({ addressType: "IPv4", endpoints: [{ addresses: ["127.0.0.1"] }] });
  });

  test("allocation: single stack, dual stack, headless, ExternalName, given addresses", async () => {
    const one = (await api.create(services, service("one", { ports: [{ port: 80 }] }))).body.spec;
    expect(one).toMatchObject({
      type: "ClusterIP",
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
      sessionAffinity: "None",
      internalTrafficPolicy: "Cluster",
      ports: [{ protocol: "TCP", targetPort: 80 }],
    });
    expect(one.clusterIP).toMatch(/^10\.96\.0\.\d+$/);
    const dual = (
      await api.create(services, service("dual", { ipFamilyPolicy: "PreferDualStack", ports: [{ port: 80 }] }))
    ).body.spec;
    expect(dual.ipFamilies).toEqual(["IPv4", "IPv6"]);
    expect(dual.clusterIPs[1]).toMatch(/^fd00:96::/);
    const headless = (await api.create(services, service("headless", { clusterIP: "None" }))).body.spec;
    expect(headless).toMatchObject({ clusterIP: "None", clusterIPs: ["None"] });
    const external = (await api.create(services, service("external", { type: "ExternalName", externalName: "a.b" })))
      .body.spec;
    expect(external.clusterIP).toBeUndefined();
    const taken = await api.create(services, service("taken", { clusterIP: one.clusterIP, ports: [{ port: 80 }] }));
    expect(taken.body.message).toContain("provided IP is already allocated");
    const outside = await api.create(services, service("outside", { clusterIP: "10.0.0.1", ports: [{ port: 80 }] }));
    expect(outside.body.message).toContain("is not in the valid range. The range of valid IPs is 10.96.0.0/28");
    const other = one.clusterIP === "10.96.0.14" ? "10.96.0.13" : "10.96.0.14";
    const moved = await api.patch(`${services}/one`, "application/merge-patch+json", {
      spec: { clusterIP: other, clusterIPs: [other] },
    });
    expect(moved.body.message).toContain("may not change once set");
  });

  test("the range runs out and frees again", async () => {
    let last = await api.create(services, service("fill-0", { ports: [{ port: 80 }] }));
    let count = 1;
    while (last.code === 201 && count < 20)
      last = await api.create(services, service(`fill-${count++}`, { ports: [{ port: 80 }] }));
    expect(last.body.message).toContain("range is full");
    await api.call("DELETE", `${services}/fill-0`);
    expect((await api.create(services, service("again", { ports: [{ port: 80 }] }))).code).toBe(201);
    for (let n = 1; n < count; n++) await api.call("DELETE", `${services}/fill-${n}`);
  });

  test("node ports: allocated, kept, refused", async () => {
    const np = (await api.create(services, service("np", { type: "NodePort", ports: [{ port: 80 }] }))).body;
    const port = np.spec.ports[0].nodePort as number;
    expect(port).toBeGreaterThanOrEqual(30_000);
    const kept = await api.patch(`${services}/np`, "application/merge-patch+json", {
      spec: { ports: [{ port: 80, targetPort: 8080 }] },
    });
    expect(kept.body.spec.ports[0].nodePort).toBe(port);
    expect(
      (await api.create(services, service("np2", { type: "NodePort", ports: [{ port: 80, nodePort: port }] }))).body
        .message,
    ).toContain("provided port is already allocated");
    expect(
      (await api.create(services, service("np3", { type: "NodePort", ports: [{ port: 80, nodePort: 80 }] }))).body
        .message,
    ).toContain("The range of valid ports is 30000-30003");
    const back = await api.patch(`${services}/np`, "application/merge-patch+json", {
      spec: { type: "ClusterIP" },
    });
    expect(back.body.spec.ports[0].nodePort).toBeUndefined();
    expect(back.body.spec.externalTrafficPolicy).toBeUndefined();
  });

  test("a change of type takes along what depended on it", async () => {
    const url = `${services}/lb`;
    const type = "application/merge-patch+json";
    const spec = { type: "LoadBalancer", loadBalancerClass: "calico", ports: [{ port: 80 }] };
    const made = await api.create(services, service("lb", spec));
    expect(made.body.spec).toMatchObject({ externalTrafficPolicy: "Cluster", allocateLoadBalancerNodePorts: true });
    const ingress = [{ ip: "192.0.2.1" }];
    await api.patch(`${url}/status`, type, { status: { loadBalancer: { ingress } } });
    expect((await api.get(url)).body.status.loadBalancer.ingress).toMatchObject(ingress);
    const wrong = await api.patch(url, type, { spec: { type: "ClusterIP", externalTrafficPolicy: "Local" } });
    expect(wrong.body.message).toContain("may only be set for externally-accessible services");
    const back = await api.patch(url, type, { spec: { type: "ClusterIP" } });
    expect(back.code).toBe(200);
    const fields = ["externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"];
    for (const field of fields) expect(back.body.spec).not.toHaveProperty(field);
    expect(back.body.spec.clusterIP).toBe(made.body.spec.clusterIP);
    expect(back.body.status).toEqual({ loadBalancer: {} });
    const again = await api.patch(url, type, { spec: { type: "NodePort" } });
    expect(again.body.spec).toMatchObject({ type: "NodePort", externalTrafficPolicy: "Cluster" });
    await api.call("DELETE", url);
  });

  test("external addresses bring a traffic policy, and take it along", async () => {
    const url = `${services}/ext`;
    const made = await api.create(services, service("ext", { externalIPs: ["192.0.2.7"], ports: [{ port: 80 }] }));
    expect(made.body.spec).toMatchObject({ type: "ClusterIP", externalTrafficPolicy: "Cluster" });
    const back = await api.patch(url, "application/merge-patch+json", { spec: { externalIPs: null } });
    expect(back.body.spec).not.toHaveProperty("externalTrafficPolicy");
    await api.call("DELETE", url);
  });
});

describe("NetworkPolicy", () => {
  test("defaults", async () => {
    const { body } = await api.create(policies, policy({ podSelector: {}, egress: [{ ports: [{ port: 80 }] }] }));
    expect(body.spec).toEqual({
      podSelector: {},
      egress: [{ ports: [{ port: 80, protocol: "TCP" }] }],
      policyTypes: ["Ingress", "Egress"],
    });
  });

  test.each([
    [
      { ingress: [{ ports: [{ port: 90, endPort: 80 }] }] },
      "spec.ingress[0].ports[0].endPort: Invalid value: 90: must be greater than or equal to `port`",
    ],
    [{ ingress: [{ ports: [{ endPort: 80 }] }] }, "may not be specified when `port` is not specified"],
    [{ ingress: [{ ports: [{ port: "http", endPort: 80 }] }] }, "may not be specified when `port` is non-numeric"],
    [
      { ingress: [{ ports: [{ port: 80, protocol: "ICMP" }] }] },
      'spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ],
    [
      { ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] } }] }] },
      'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
    ],
    [
      { ingress: [{ from: [{ ipBlock: { cidr: "x" } }] }] },
      "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    ],
    [{ egress: [{ to: [{}] }] }, "spec.egress[0].to[0]: Required value: must specify a peer"],
    [
      { egress: [{ to: [{ podSelector: {}, ipBlock: { cidr: "10.0.0.0/8" } }] }] },
      "may not specify both ipBlock and another peer",
    ],
    [{ policyTypes: ["Sideways"] }, 'spec.policyTypes[0]: Unsupported value: "Sideways"'],
    [
      { podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } },
      "must be specified when `operator` is 'In' or 'NotIn'",
    ],
  ])("%j", async (spec, message) => {
    const { code, body } = await api.create(policies, {
      ...policy({ podSelector: {}, ...spec }),
      metadata: { name: "bad" },
    });
    expect(code).toBe(422);
    expect(body.message).toContain(message);
  });
});

test("Secret: stringData, immutable type", async () => {
  const path = "/api/v1/namespaces/default/secrets";
  const { body } = await api.create(path, {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "s" },
    stringData: { a: "b" },
  });
  expect(body).toMatchObject({ type: "Opaque", data: { a: "Yg==" } });
  expect((await api.patch(`${path}/s`, "application/merge-patch+json", { type: "other" })).body.message).toContain(
    "field is immutable",
  );
});

test("quantities take their canonical form; wrong ones are refused", async () => {
  const pod = (cpu: unknown): object => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "q" },
    spec: { containers: [{ name: "c", image: "x", resources: { limits: { cpu, memory: "1024Mi" } } }] },
  });
  const { body } = await api.create("/api/v1/namespaces/default/pods", pod(0.5));
  expect(body.spec.containers[0].resources).toEqual({
    limits: { cpu: "500m", memory: "1Gi" },
    requests: { cpu: "500m", memory: "1Gi" },
  });
  expect(body.status.qosClass).toBe("Guaranteed");
  expect((await api.create("/api/v1/namespaces/default/pods", pod("lots"))).code).toBe(400);
});

test("workload defaults", async () => {
  const template = { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "c", image: "x" }] } };
  const base = { selector: { matchLabels: { a: "b" } }, template };
  const make = async (kind: string, plural: string): Promise<Record<string, unknown>> =>
    (
      await api.create(`/apis/apps/v1/namespaces/default/${plural}`, {
        apiVersion: "apps/v1",
        kind,
        metadata: { name: "w" },
        spec: base,
      })
    ).body.spec as Record<string, unknown>;
  expect(await make("Deployment", "deployments")).toMatchObject({
    replicas: 1,
    progressDeadlineSeconds: 600,
    strategy: { rollingUpdate: { maxSurge: "25%" } },
  });
  expect(await make("DaemonSet", "daemonsets")).toMatchObject({
    revisionHistoryLimit: 10,
    updateStrategy: { rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } },
  });
  expect(await make("StatefulSet", "statefulsets")).toMatchObject({
    podManagementPolicy: "OrderedReady",
    updateStrategy: { rollingUpdate: { partition: 0 } },
  });
  const mismatch = await api.create("/apis/apps/v1/namespaces/default/deployments", {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "m" },
    spec: { ...base, selector: { matchLabels: { a: "c" } } },
  });
  expect(mismatch.body.message).toContain("`selector` does not match template `labels`");
  const job = (
    await api.create("/apis/batch/v1/namespaces/default/jobs", {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name: "j" },
      spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "c", image: "x" }] } } },
    })
  ).body;
  expect(job.spec).toMatchObject({
    completions: 1,
    backoffLimit: 6,
    selector: { matchLabels: { "batch.kubernetes.io/controller-uid": job.metadata.uid } },
  });
});

test("every served kind lists, as JSON and as a table", async () => {
  for (const [root, versions] of [
    ["/api", ["v1"]],
    ...(await api.get("/apis")).body.groups.map((group: { name: string; versions: { version: string }[] }) => [
      `/apis/${group.name}`,
      group.versions.map((v) => v.version),
    ]),
  ] as [string, string[]][]) {
    for (const version of versions) {
      const { resources } = (await api.get(`${root}/${version}`)).body as {
        resources: { name: string; verbs: string[] }[];
      };
      for (const resource of resources.filter(({ verbs }) => verbs.includes("list"))) {
        const path = `${root}/${version}/${resource.name}`;
        expect((await api.get(path)).body.items).toBeInstanceOf(Array);
        const table = (await api.get(path, { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" })).body;
        for (const row of table.rows) expect(row.cells.length).toBe(table.columnDefinitions.length);
      }
    }
  }
});
