/**
 * The topology file, declared once: the TypeScript type, the checks of `topology-file.ts`, the JSON Schema for editors
 * (`sim/topology.schema.json`) and the reference in the README all come from this value.
 *
 * Addresses are text that may name an IPv4 and an IPv6 value separated by a comma, the spelling kube-apiserver uses for its
 * service range, so a dual-stack file has the same shape as an IPv4 one.
 */
import { Type } from "typebox";

const NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

const name = (description: string) => Type.String({ pattern: NAME_PATTERN, minLength: 1, maxLength: 63, description });

const prefixes = (description: string, example: string) =>
  Type.String({
    minLength: 1,
    description: `${description} An IPv4 prefix, or an IPv4 and an IPv6 one separated by a comma.`,
    examples: [example],
  });

const addresses = (description: string, example: string) =>
  Type.String({
    minLength: 1,
    description: `${description} An IPv4 address, or an IPv4 and an IPv6 one separated by a comma.`,
    examples: [example],
  });

const labels = Type.Unsafe<Record<string, string>>({
  type: "object",
  additionalProperties: { type: "string" },
  description: "Labels of the Kubernetes Node, beside the usual ones.",
});

const taint = Type.Object(
  {
    key: Type.String({ minLength: 1 }),
    value: Type.Optional(Type.String()),
    effect: Type.Enum(["NoSchedule", "PreferNoSchedule", "NoExecute"]),
  },
  { additionalProperties: false },
);

const subnet = Type.Object(
  {
    name: name("Name of the subnet (a rack, a zone). Nodes get it as the label topology.kubernetes.io/zone."),
    cidr: prefixes("Addresses of the subnet's routers and nodes.", "172.30.1.0/24"),
    mtu: Type.Optional(
      Type.Integer({ minimum: 1280, maximum: 65535, default: 1500, description: "MTU of its links." }),
    ),
  },
  { additionalProperties: false, description: "One layer 2 segment: a switch with everything attached to it." },
);

const asNumber = (description: string) => Type.Integer({ minimum: 1, maximum: 4_294_967_294, description });

const neighbour = Type.Object(
  {
    nodes: Type.Optional(
      Type.String({
        description:
          "A selector over labels (`all()` for every one): a session with each such node of the router's subnets. The nodes get a BGPPeer to match. Either this or `router`.",
      }),
    ),
    router: Type.Optional(
      Type.String({ description: "Name of another router with `bgp`: a session in each subnet both are in." }),
    ),
    subnet: Type.Optional(Type.String({ description: "Only in this subnet. Default: all of the router's." })),
    password: Type.Optional(
      Type.String({ minLength: 1, maxLength: 80, description: "TCP MD5 password. With `router` only." }),
    ),
  },
  {
    additionalProperties: false,
    description: "Whom to have sessions with. A session between routers is written at one of them.",
  },
);

const routerBgp = Type.Object(
  {
    speaker: Type.Enum(["bird", "frr", "gobgp", "calico-ts"], {
      description:
        "The program that runs in the router's namespace. `gobgp` programs no routes: it is for route reflectors.",
    }),
    as: asNumber("Its AS number."),
    clusterId: Type.Optional(
      Type.String({
        description:
          "Makes it a route reflector with this cluster id (an IPv4 address): nodes of its AS are its clients.",
      }),
    ),
    originate: Type.Optional(
      Type.Array(Type.String(), {
        description:
          "Prefixes it tells its neighbours. It answers at the first address of each, as something outside the cluster would.",
      }),
    ),
    neighbours: Type.Array(neighbour, { description: "Sessions it has." }),
  },
  { additionalProperties: false, description: "A BGP speaker in the router." },
);

const router = Type.Object(
  {
    name: name("Name of the router."),
    subnets: Type.Array(Type.String(), {
      minItems: 1,
      description: "Names of the subnets it joins; it has an address in each.",
    }),
    bgp: Type.Optional(routerBgp),
  },
  { additionalProperties: false, description: "A namespace that forwards between subnets." },
);

const node = Type.Object(
  {
    name: Type.Optional(name("Name of one node. Either this or `count`.")),
    count: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 500,
        description: "That many nodes, named `<prefix><n>`. Either this or `name`.",
      }),
    ),
    prefix: Type.Optional(
      Type.String({
        pattern: "^[a-z0-9][-a-z0-9]*$",
        maxLength: 50,
        default: "node-",
        description: "With `count`: what the names begin with; numbers run through the whole file.",
      }),
    ),
    subnet: Type.Optional(Type.String({ description: "Name of its subnet. May be left out when there is only one." })),
    address: Type.Optional(
      addresses("With `name`: its address in the subnet. Default: the next free one.", "172.30.1.11"),
    ),
    labels: Type.Optional(labels),
    as: Type.Optional(asNumber("AS number of its BGP speaker. Default: the cluster's.")),
    clusterId: Type.Optional(
      Type.String({
        description:
          "Makes it a route reflector with this cluster id (an IPv4 address). Its clients come from a BGPPeer in `resources`.",
      }),
    ),
    taints: Type.Optional(Type.Array(taint)),
  },
  { additionalProperties: false, description: "One node, or a number of like ones." },
);

const pool = Type.Object(
  {
    name: name("Name of the IPPool."),
    cidr: Type.String({
      minLength: 1,
      description: "Its range: one IPv4 or IPv6 prefix.",
      examples: ["10.244.0.0/16"],
    }),
    blockSize: Type.Optional(
      Type.Integer({
        minimum: 20,
        maximum: 128,
        description:
          "Prefix length of the blocks nodes take: 20 to 32 for IPv4 (default 26), 116 to 128 for IPv6 (default 122).",
      }),
    ),
    encapsulation: Type.Optional(
      Type.Enum(["none", "ipip", "vxlan"], {
        default: "none",
        description: "How pod traffic crosses from node to node.",
      }),
    ),
    mode: Type.Optional(
      Type.Enum(["always", "crossSubnet"], {
        default: "always",
        description: "Encapsulate always, or only between nodes of different subnets. Not with encapsulation none.",
      }),
    ),
    natOutgoing: Type.Optional(
      Type.Boolean({
        default: true,
        description: "Whether traffic from pods to addresses outside all pools takes the node's address.",
      }),
    ),
    nodeSelector: Type.Optional(
      Type.String({ default: "all()", description: "Which nodes may take blocks from it (a Calico selector)." }),
    ),
    disabled: Type.Optional(Type.Boolean({ default: false, description: "No new addresses from this pool." })),
  },
  { additionalProperties: false, description: "A range of pod addresses; becomes a Calico IPPool." },
);

const clusterBgp = Type.Object(
  {
    as: Type.Optional(asNumber("AS number of its nodes. Default 64512.")),
    mesh: Type.Optional(
      Type.Boolean({ default: true, description: "Whether every node has a session with every other." }),
    ),
  },
  {
    additionalProperties: false,
    description:
      "Nodes speak BGP, and un-encapsulated routes come from it. Without it the agent programs routes to nodes of its own subnet.",
  },
);

const resource = Type.Unsafe<Readonly<Record<string, unknown>>>({
  type: "object",
  additionalProperties: true,
  "x-kubernetes-preserve-unknown-fields": true,
  description: "A resource of projectcalico.org/v3: BGPPeer, BGPFilter, FelixConfiguration, …",
});

const cluster = Type.Object(
  {
    bgp: Type.Optional(clusterBgp),
    serviceCidr: Type.Optional(prefixes("Range of ClusterIPs. Default 10.96.0.0/16.", "10.96.0.0/16")),
    controlPlaneSubnet: Type.Optional(
      Type.String({ description: "Subnet in which the API server has its address. Default: the first." }),
    ),
    controlPlaneAddress: Type.Optional(
      addresses("Address of the API server. Default: the first free one after the routers.", "172.30.1.2"),
    ),
  },
  { additionalProperties: false, description: "Settings of the cluster." },
);

export const topologySchema = Type.Object(
  {
    $schema: Type.Optional(Type.String({ description: "For editors." })),
    subnets: Type.Array(subnet, { minItems: 1, maxItems: 64 }),
    routers: Type.Optional(Type.Array(router, { maxItems: 64 })),
    nodes: Type.Array(node, { minItems: 1, maxItems: 500 }),
    pools: Type.Array(pool, { minItems: 1, maxItems: 64 }),
    cluster: Type.Optional(cluster),
    resources: Type.Optional(
      Type.Array(resource, { description: "Calico resources that are there before the first node starts." }),
    ),
  },
  {
    additionalProperties: false,
    title: "calico-sim topology",
    description: "Nodes, subnets, routers and address pools of a simulated cluster.",
  },
);

export type TopologyFile = Type.Static<typeof topologySchema>;
export type TopologyNode = Type.Static<typeof node>;
export type TopologyRouter = Type.Static<typeof router>;

/** The JSON Schema editors read; `scripts/write-topology-schema.ts` writes it to `sim/topology.schema.json`. */
export const topologyJsonSchema = (): unknown => ({
  $schema: "http://json-schema.org/draft-07/schema#",
  ...(JSON.parse(JSON.stringify(topologySchema)) as Record<string, unknown>),
});
