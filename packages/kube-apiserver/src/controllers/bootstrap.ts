/** What a new cluster has before anybody asks: namespaces, roles, priority classes, the `kubernetes` service. */
import type { ApiCore } from "../core.ts";
import { bootstrapBindings, bootstrapRoles } from "../auth/bootstrap-roles.ts";
import type { KubeObject } from "../meta/object.ts";
import { createObject } from "../objects/create.ts";
import { decodeObject } from "../objects/decode.ts";
import { internalRequest } from "../objects/write-request.ts";
import { kubernetesServiceAddress, type ServiceNetwork } from "../registry/kinds/service.ts";
import { aggregate } from "./definitions.ts";
import { furnish } from "./namespace.ts";

const NAMESPACES = ["default", "kube-node-lease", "kube-public", "kube-system"] as const;

export interface BootstrapOptions {
  readonly network: ServiceNetwork;
  /** Where the API server listens, for the endpoints of the `kubernetes` service. */
  readonly advertise: { readonly address: string; readonly port: number };
}

export async function bootstrap(core: ApiCore, options: BootstrapOptions): Promise<void> {
  for (const name of NAMESPACES) await make(core, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  for (const name of NAMESPACES) await furnish(core, name);
  for (const role of bootstrapRoles()) await make(core, role);
  for (const name of ["view", "edit", "admin"]) await aggregate(core, name);
  for (const binding of bootstrapBindings()) await make(core, binding);
  for (const [name, value] of [
    ["system-cluster-critical", 2_000_000_000],
    ["system-node-critical", 2_000_001_000],
  ] as const) {
    await make(core, {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name },
      value,
      description: "Used for system critical pods.",
    });
  }
  await makeKubernetesService(core, options);
}

async function makeKubernetesService(core: ApiCore, { network, advertise }: BootstrapOptions): Promise<void> {
  const [range] = network.ranges;
  if (range === undefined) return;
  const family = advertise.address.includes(":") ? "IPv6" : "IPv4";
  const labels = { component: "apiserver", provider: "kubernetes" };
  await make(core, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "kubernetes", namespace: "default", labels },
    spec: {
      clusterIP: kubernetesServiceAddress(range),
      ports: [{ name: "https", port: 443, protocol: "TCP", targetPort: advertise.port }],
    },
  });
  await make(core, {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: {
      name: "kubernetes",
      namespace: "default",
      labels: { "endpointslice.kubernetes.io/skip-mirror": "true" },
    },
    subsets: [
      { addresses: [{ ip: advertise.address }], ports: [{ name: "https", port: advertise.port, protocol: "TCP" }] },
    ],
  });
  await make(core, {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "kubernetes", namespace: "default", labels: { "kubernetes.io/service-name": "kubernetes" } },
    addressType: family,
    endpoints: [{ addresses: [advertise.address], conditions: { ready: true } }],
    ports: [{ name: "https", port: advertise.port, protocol: "TCP" }],
  });
}

async function make(core: ApiCore, object: KubeObject): Promise<void> {
  const resource = core.registry.findKind(object.apiVersion, object.kind);
  if (resource === undefined) return;
  const request = internalRequest(core, resource, object.metadata.namespace);
  await createObject(request, decodeObject(request, object));
}
