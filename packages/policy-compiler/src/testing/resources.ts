/** Short ways to write resources in tests. Everything goes through the model's own schemas where it has one. */
import type { KindName } from "@calico-ts/model";
import { prepare } from "@calico-ts/model";
import type { CompilerUpdate } from "../index.ts";

export interface World {
  readonly [id: string]: CompilerUpdate;
}

export const updateId = (update: CompilerUpdate): string =>
  `${update.kind} ${update.key.namespace ?? ""}/${update.key.name}`;

export const worldOf = (...updates: readonly CompilerUpdate[]): World =>
  Object.fromEntries(updates.map((update) => [updateId(update), update]));

export const gone = (update: CompilerUpdate): CompilerUpdate => ({ ...update, resource: undefined });

/** Through `prepare`: defaults are filled in, and a mistake in a test is an error. */
export function resource(kind: KindName, name: string, body: object, namespace?: string): CompilerUpdate {
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }), ...metaOf(body) };
  const prepared = prepare(kind, { ...body, metadata });
  if (!prepared.ok) throw new Error(`${kind} ${name}: ${JSON.stringify(prepared.errors)}`);
  return updateOf(kind, name, prepared.resource, namespace);
}

/** As it is, for what no API server would have let through. */
export function raw(kind: KindName, name: string, body: object, namespace?: string): CompilerUpdate {
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }), ...metaOf(body) };
  return updateOf(kind, name, { ...body, metadata, kind }, namespace);
}

const metaOf = (body: object): object =>
  "metadata" in body && typeof body.metadata === "object" ? (body.metadata ?? {}) : {};

/** The test says which kind it is; the compiler's type cannot follow a kind that is a variable. */
const updateOf = (kind: KindName, name: string, value: unknown, namespace?: string): CompilerUpdate =>
  ({
    kind,
    key: namespace === undefined ? { name } : { namespace, name },
    resource: value,
  }) as unknown as CompilerUpdate;

export interface PodOptions {
  readonly ips?: readonly string[];
  readonly node?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly serviceAccount?: string;
  readonly ports?: readonly { readonly name: string; readonly containerPort: number; readonly protocol?: string }[];
}

export function pod(path: string, options: PodOptions = {}): CompilerUpdate {
  const [namespace = "", name = ""] = path.split("/");
  const { ips = [], node = "n1", labels = {}, annotations = {}, serviceAccount = "default", ports = [] } = options;
  return resource(
    "Pod",
    name,
    {
      metadata: { labels, annotations },
      spec: { nodeName: node, serviceAccountName: serviceAccount, containers: [{ name: "c", ports: [...ports] }] },
      status: { phase: "Running", podIPs: ips.map((ip) => ({ ip })) },
    },
    namespace,
  );
}

export const namespace = (name: string, labels: Readonly<Record<string, string>> = {}): CompilerUpdate =>
  resource("Namespace", name, { metadata: { labels } });

export function policy(path: string, spec: object): CompilerUpdate {
  const [ns = "", name = ""] = path.split("/");
  return resource("NetworkPolicy", name, { spec }, ns);
}

export const globalPolicy = (name: string, spec: object): CompilerUpdate =>
  resource("GlobalNetworkPolicy", name, { spec });

export function kubernetesPolicy(path: string, spec: object): CompilerUpdate {
  const [ns = "", name = ""] = path.split("/");
  return resource("KubernetesNetworkPolicy", name, { spec }, ns);
}

export interface NodeOptions {
  readonly ipv4?: string;
  readonly ipv6?: string;
  readonly vxlan?: string;
  readonly ipip?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export function node(name: string, options: NodeOptions): CompilerUpdate {
  const annotations: Record<string, string> = {};
  if (options.ipv4 !== undefined) annotations["projectcalico.org/IPv4Address"] = options.ipv4;
  if (options.ipv6 !== undefined) annotations["projectcalico.org/IPv6Address"] = options.ipv6;
  if (options.vxlan !== undefined) annotations["projectcalico.org/IPv4VXLANTunnelAddr"] = options.vxlan;
  if (options.ipip !== undefined) annotations["projectcalico.org/IPv4IPIPTunnelAddr"] = options.ipip;
  return resource("Node", name, { metadata: { annotations, labels: options.labels ?? {} } });
}

export const pool = (name: string, spec: object): CompilerUpdate => resource("IPPool", name, { spec });

export interface BlockOptions {
  readonly node: string;
  /** Ordinal → node of the holder. */
  readonly held?: Readonly<Record<number, string>>;
  readonly size?: number;
}

export function block(cidr: string, options: BlockOptions): CompilerUpdate {
  const { held = {}, size = 64 } = options;
  const holders = [...new Set(Object.values(held))];
  const allocations = Array.from({ length: size }, (_, ordinal) => {
    const holder = held[ordinal];
    return holder === undefined ? null : holders.indexOf(holder);
  });
  return resource("IPAMBlock", cidr.replaceAll(/[./:]/g, "-"), {
    spec: {
      cidr,
      affinity: `host:${options.node}`,
      allocations,
      unallocated: [],
      attributes: holders.map((holder) => ({ handle_id: "h", secondary: { node: holder } })),
      strictAffinity: false,
    },
  });
}
