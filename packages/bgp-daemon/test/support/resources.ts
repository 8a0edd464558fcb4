/** Resources and inputs for tests, with what a test does not care about filled in. */
import type {
  BGPConfiguration,
  BGPFilter,
  BGPPeer,
  BlockAffinity,
  CalicoNode,
  EndpointSlice,
  IPPool,
  Service,
  WorkloadEndpoint,
} from "@calico-ts/model";
import { configFromModel } from "../../src/config/from-model.ts";
import { type ModelInput, problemText } from "../../src/config/model-input.ts";
import type { DaemonConfig } from "../../src/daemon.ts";

const meta = (name: string): { apiVersion: "projectcalico.org/v3"; metadata: { name: string } } => ({
  apiVersion: "projectcalico.org/v3",
  metadata: { name },
});

export const node = (n: number, change: Partial<CalicoNode> = {}): CalicoNode => ({
  name: `n${n}`,
  labels: { rack: n % 2 === 0 ? "even" : "odd" },
  addresses: [],
  podCidrs: [],
  ipv4Address: `10.0.0.${n}/24`,
  ...change,
});

export const peer = (name: string, spec: BGPPeer["spec"]): BGPPeer => ({ kind: "BGPPeer", ...meta(name), spec });

export const configuration = (spec: Partial<BGPConfiguration["spec"]>, name = "default"): BGPConfiguration => ({
  kind: "BGPConfiguration",
  ...meta(name),
  spec,
});

export const pool = (name: string, spec: Partial<IPPool["spec"]> & { cidr: string }): IPPool => ({
  kind: "IPPool",
  ...meta(name),
  spec,
});

export const filter = (name: string, spec: BGPFilter["spec"]): BGPFilter => ({
  kind: "BGPFilter",
  ...meta(name),
  spec,
});

export const affinity = (cidr: string, owner: string, spec: Partial<BlockAffinity["spec"]> = {}): BlockAffinity => ({
  kind: "BlockAffinity",
  ...meta(`${owner}-${cidr.replaceAll(/[.:/]/g, "-")}`),
  spec: { cidr, node: owner, state: "confirmed", type: "host", deleted: false, ...spec },
});

export const service = (name: string, spec: Service["spec"], ingress: readonly string[] = []): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  ...(spec !== undefined && { spec }),
  status: { loadBalancer: { ingress: ingress.map((ip) => ({ ip })) } },
});

/** Backends as `node` for one that is ready, `!node` for one that is not. */
export const slice = (of: string, addressType: "IPv4" | "IPv6", ...backends: string[]): EndpointSlice => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: `${of}-${addressType}`, namespace: "shop", labels: { "kubernetes.io/service-name": of } },
  addressType,
  endpoints: backends.map((text) => ({
    addresses: ["192.0.2.1"],
    nodeName: text.replace("!", ""),
    conditions: { ready: !text.startsWith("!") },
  })),
});

export const endpoint = (pod: string, change: Partial<WorkloadEndpoint> = {}): WorkloadEndpoint => ({
  name: `n1-k8s-${pod}-eth0`,
  namespace: "shop",
  orchestrator: "k8s",
  workload: `shop/${pod}`,
  endpoint: "eth0",
  node: "n1",
  pod,
  interfaceName: `cali${pod}`,
  addresses: [],
  profiles: [],
  labels: { app: pod },
  ports: [],
  floatingAddresses: [],
  allowedSourcePrefixes: [],
  ...change,
});

/** Node n1 of three in one subnet, with one pool and one block. */
export const input = (change: Partial<ModelInput> = {}): ModelInput => ({
  nodeName: "n1",
  nodes: [node(1), node(2), node(3)],
  configurations: [],
  peers: [],
  filters: [],
  pools: [pool("default", { cidr: "10.244.0.0/16" })],
  affinities: [affinity("10.244.1.0/26", change.nodeName ?? "n1")],
  endpoints: [],
  services: [],
  slices: [],
  secret: () => undefined,
  ...change,
});

/** The configuration; throws when there is a problem. */
export function made(change: Partial<ModelInput> = {}): DaemonConfig {
  const { config, problems } = configFromModel(input(change));
  if (config === undefined || problems.length > 0) throw new Error(problems.map(problemText).join("\n"));
  return config;
}

export const noMesh = configuration({ nodeToNodeMeshEnabled: false });
