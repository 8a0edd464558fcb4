import { parseYamlDocuments } from "@calico-ts/schema";
import { describe, expect, test } from "vitest";
import type { Explanation } from "../index.ts";
import { completeWorld, explain, explanationText, readManifestWorld } from "../index.ts";

const SHOP = `apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 3
  template:
    metadata: { labels: { app: web } }
    spec:
      containers: [{ name: c, ports: [{ name: http, containerPort: 8080 }] }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: api, namespace: shop }
spec:
  template:
    metadata: { labels: { app: api } }
    spec:
      containers: [{ name: c, ports: [{ name: http, containerPort: 9000 }] }]
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec:
  selector: { app: api }
  ports: [{ port: 80, targetPort: http }]
---
apiVersion: v1
kind: Pod
metadata: { name: agent, namespace: shop }
spec: { hostNetwork: true, nodeName: n1, containers: [] }
`;

const CLOSED = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: shop }
spec:
  podSelector: {}
  policyTypes: [Ingress]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: api, namespace: shop }
spec:
  podSelector: { matchLabels: { app: api } }
  ingress:
    - from: [{ podSelector: { matchLabels: { app: other } } }]
    - from: [{ podSelector: { matchLabels: { app: web } } }]
      ports: [{ port: http }]
`;

const LOCKED = `apiVersion: projectcalico.org/v3
kind: Tier
metadata: { name: security }
spec: { order: 100 }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: security.lock }
spec:
  tier: security
  selector: app == 'web'
  types: [Egress]
  egress:
    - action: Allow
      protocol: UDP
    - action: Deny
      protocol: TCP
      destination: { ports: [9000] }
    - action: Pass
`;

function ask(files: Readonly<Record<string, string>>, from: string, to: string, traffic: string): Explanation {
  const documents = Object.entries(files).flatMap(([file, text]) => parseYamlDocuments(text, file));
  const { resources, workloads, problems } = readManifestWorld(documents);
  expect(problems).toEqual([]);
  return explain(completeWorld(resources, { workloads, imagine: true }), { from, to, traffic });
}

const files = { "shop.yaml": SHOP, "closed.yaml": CLOSED };

describe("explain", () => {
  test("allowed by a rule, with its line and the rules that did not match before it", () => {
    const found = ask(files, "shop/web", "shop/api", "tcp/9000");
    expect(found.verdict).toBe("allowed");
    const [path] = found.paths;
    expect(path?.decision).toMatchObject({
      by: "rule",
      tier: "default",
      object: { kind: "KubernetesNetworkPolicy", namespace: "shop", name: "api" },
      index: 1,
      source: { file: "closed.yaml", line: 15 },
      provenance: "KubernetesNetworkPolicy/shop/api ingress 1",
    });
    const ingress = path?.walk.find(({ direction }) => direction === "ingress");
    const rules = ingress?.tiers[0]?.policies[0]?.rules;
    expect(rules?.[0]?.criteria).toEqual([
      {
        field: "from",
        wanted: "pods with app=other in namespace shop",
        seen: "192.168.0.1, pod shop/web-1 with app=web",
        matched: false,
      },
    ]);
    expect(rules?.[1]?.outcome).toBe("match");
  });

  test("denied at the end of the tier names the policies that isolate", () => {
    const found = ask(files, "shop/web", "shop/api", "tcp/9001");
    expect(found.verdict).toBe("denied");
    expect(found.paths[0]?.decision.text).toContain(
      "Kubernetes NetworkPolicy shop/api, Kubernetes NetworkPolicy shop/closed",
    );
    expect(found.paths[0]?.decision.isolatedBy?.map(({ source }) => source?.line)).toEqual([10, 3]);
    expect(explanationText(found)).toContain("closed.yaml:10  Kubernetes NetworkPolicy shop/api");
    expect(explanationText(found)).toContain("ports wants http/TCP; the packet has 9001/TCP");
  });

  test("a floating address is its pod, where they are switched on", () => {
    const pod = `apiVersion: v1
kind: Pod
metadata:
  { name: vault, namespace: shop, annotations: { cni.projectcalico.org/floatingIPs: '["192.0.2.9"]' } }
spec: { nodeName: n1, containers: [] }
status: { podIPs: [{ ip: 10.0.0.9 }] }
`;
    const setting = (value: string): string =>
      `apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: { name: default }\nspec: { floatingIPs: ${value} }\n`;
    const on = ask(
      { ...files, "vault.yaml": pod, "felix.yaml": setting("Enabled") },
      "shop/web",
      "192.0.2.9",
      "tcp/80",
    );
    expect(on.verdict).toBe("denied");
    expect(on.paths[0]?.destination).toMatchObject({ addresses: ["10.0.0.9"], node: "n1" });
    expect(explanationText(on)).toContain("192.0.2.9 is a floating address of pod shop/vault");
    const off = ask(
      { ...files, "vault.yaml": pod, "felix.yaml": setting("Disabled") },
      "shop/web",
      "192.0.2.9",
      "tcp/80",
    );
    expect(off.verdict).toBe("allowed");
  });

  test("a tier's rule decides at the sender, and the receiver is told all the same", () => {
    const found = ask({ ...files, "lock.yaml": LOCKED }, "shop/web", "shop/api", "tcp/9000");
    expect(found.verdict).toBe("denied");
    const [path] = found.paths;
    expect(path?.decision).toMatchObject({
      by: "rule",
      direction: "egress",
      index: 1,
      tier: "security",
      source: { file: "lock.yaml", line: 16 },
    });
    expect(path?.walk.map(({ direction, reached, allowed }) => ({ direction, reached, allowed }))).toEqual([
      { direction: "egress", reached: true, allowed: false },
      { direction: "ingress", reached: false, allowed: true },
    ]);
    const [first] = path?.walk[0]?.tiers[0]?.policies[0]?.rules ?? [];
    expect(first?.criteria).toEqual([{ field: "protocol", wanted: "UDP", seen: "TCP", matched: false }]);
  });

  test("a Service is explained at its backends' port", () => {
    const found = ask(files, "shop/web", "svc:shop/api", "tcp/80");
    expect(found.verdict).toBe("allowed");
    expect(found.paths[0]).toMatchObject({ to: "shop/api-1", port: 9000 });
    expect(found.paths[0]?.notes.join()).toContain("Service shop/api port 80 goes to");
  });

  test("nothing selects: the namespace's profile allows", () => {
    const found = ask({ "shop.yaml": SHOP }, "shop/web", "shop/api", "tcp/http");
    expect(found.verdict).toBe("allowed");
    expect(found.paths[0]?.decision).toMatchObject({ by: "profile", object: { name: "kns.shop" } });
    expect(found.paths[0]?.port).toBe(9000);
  });

  test("what is no policy's doing", () => {
    expect(ask(files, "shop/web", "shop/nobody", "tcp/80").obstacle).toMatchObject({ code: "no-endpoint" });
    expect(ask(files, "shop/nobody", "shop/web", "tcp/80").obstacle?.text).toContain("web-1, web-2");
    expect(ask(files, "shop/web", "svc:shop/api", "tcp/81").obstacle).toMatchObject({ code: "no-port" });
    expect(ask(files, "shop/web", "shop/api", "tcp/nothing").obstacle).toMatchObject({ code: "no-port" });
    expect(ask(files, "shop/web-1", "shop/web-1", "tcp/80").paths[0]?.decision.by).toBe("same-pod");
    expect(ask(files, "shop/web", "2001:db8::1", "icmp").obstacle).toMatchObject({ code: "no-family" });
    const host = ask(files, "shop/agent", "shop/web", "tcp/80");
    expect(host.paths[0]?.notes.join()).toContain("uses the network of node n1");
    expect(host.paths[0]?.sourceAddress).toBe("address unknown");
  });

  test("a node's address is the one that calico-node found", () => {
    const node = `apiVersion: v1
kind: Node
metadata: { name: n1, annotations: { projectcalico.org/IPv4Address: 192.0.2.1/24 } }
status: { addresses: [{ type: InternalIP, address: 198.51.100.1 }] }
`;
    const world = { ...files, "node.yaml": node };
    expect(ask(world, "shop/agent", "shop/web", "tcp/80").paths[0]?.sourceAddress).toBe("192.0.2.1");
    expect(ask(world, "192.0.2.1", "shop/web", "tcp/80").paths[0]?.notes.join()).toContain("192.0.2.1 is node n1");
    expect(ask(world, "198.51.100.1", "shop/web", "tcp/80").paths[0]?.from).toBe("node n1");
  });

  test("of several ports with one name the first is taken, and the others are named", () => {
    const twice = SHOP.replace(
      "containerPort: 9000 }] }]",
      "containerPort: 9000 }] }, { name: d, ports: [{ name: http, containerPort: 9001 }] }]",
    );
    const [path] = ask({ "shop.yaml": twice }, "shop/web", "shop/api", "tcp/http").paths;
    expect(path?.port).toBe(9000);
    expect(path?.notes.join()).toContain("more ports named http: this is about 9000, not 9001");
  });

  test("ICMP: the type that was asked for is told; a Service takes none", () => {
    expect(explanationText(ask(files, "shop/web", "shop/api", "ip/47"))).toMatch(/ {2}47$/m);
    expect(() => ask(files, "shop/web", "shop/api", "80")).toThrow('"80": a port is tcp/80, an IP protocol ip/80');
    expect(() => ask(files, "shop/web", "shop/api", "ip/6")).toThrow("which port?");
    expect(explanationText(ask(files, "shop/web", "shop/api", "icmp/13/1"))).toMatch(/ {2}ICMP type 13 code 1$/m);
    expect(explanationText(ask(files, "shop/web", "shop/api", "icmp"))).toMatch(/ {2}ICMP type 8 code 0$/m);
    expect(explanationText(ask(files, "shop/web", "shop/api", "icmpv6"))).toMatch(/ {2}ICMPv6 type 128 code 0$/m);
    expect(ask(files, "shop/web", "svc:shop/api", "icmp").obstacle?.text).toContain("ICMP to shop/api goes nowhere");
    expect(ask(files, "shop/web", "svc:shop/api", "tcp/81").obstacle?.text).toContain("no port 81/TCP; it has 80/TCP.");
  });

  test("what a host's policies pass on is shown, and asked for nothing more there", () => {
    const host = `apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: hep, labels: { host: "yes" } }
spec: { node: node-1, interfaceName: eth0 }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: g }
spec: { selector: has(host), applyOnForward: true, types: [Ingress], ingress: [{ action: Pass }] }
`;
    const [path] = ask({ "shop.yaml": SHOP, "host.yaml": host }, "192.0.2.9", "shop/api", "tcp/9000").paths;
    expect(path?.verdict).toBe("allowed");
    expect(path?.walk.map(({ endpoint, form, decision }) => [endpoint, form, decision.by])).toEqual([
      ["host-endpoint/hep", "forward", "passed-on"],
      ["shop/api-1", "normal", "profile"],
    ]);
    expect(path?.walk[0]?.decidedBy.text).toContain("pass it on");
  });

  test("two pods of one workload are different pods", () => {
    const found = ask({ "shop.yaml": SHOP }, "shop/web", "shop/web", "tcp/8080");
    expect([found.paths[0]?.from, found.paths[0]?.to]).toEqual(["shop/web-1", "shop/web-2"]);
  });

  test("a pod of the datastore that waits for its address", () => {
    const { resources } = readManifestWorld(
      parseYamlDocuments(
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}, spec: {nodeName: n, containers: []}, status: {phase: Pending}}",
        "a.yaml",
      ),
    );
    const found = explain(completeWorld(resources, { imagine: false }), {
      from: "x/a",
      to: "192.0.2.1",
      traffic: "tcp/80",
    });
    expect(found.obstacle).toMatchObject({ code: "no-address" });
  });

  test("bad questions are refused with an example", () => {
    for (const traffic of ["", "tcp", "tcp/0", "tcp/99999", "carrier-pigeon/1", "tcp/1/2", "icmp/300"]) {
      expect(() => ask(files, "shop/web", "shop/api", traffic)).toThrow(
        expect.objectContaining({ code: "BAD_INPUT" }) as Error,
      );
    }
    expect(() => ask(files, "a/b/c", "shop/api", "tcp/1")).toThrow("NAMESPACE/POD");
    expect(() => ask(files, "svc:shop/api", "shop/api", "tcp/1")).toThrow("does not send");
  });
});
