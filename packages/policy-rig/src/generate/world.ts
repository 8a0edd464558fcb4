/** Random worlds: a few resources of every kind that policy reads, and random changes to them. */
import type { Prng } from "../prng.ts";
import type { Slot } from "../lab/plan.ts";
import { LOCAL, NAMESPACES, NODE, NODE_ADDRESS, OTHER_NODE, OUTSIDE, REMOTE, UPLINK } from "../lab/plan.ts";
import type { RigResource, World } from "../world.ts";
import { idOf, resourceOf } from "../world.ts";
import { ACCOUNTS, labels, NETS4, NETS6, SERVICES, TEAMS, TIERS } from "./alphabet.ts";
import { changedBesides, withBesides } from "./beside-policy.ts";
import { rules } from "./calico-rules.ts";
import { clusterPolicy, globalPolicy, hostPolicy, kubernetesPolicy, networkPolicy, stagedPolicy } from "./policies.ts";

type Fields = Record<string, unknown>;
type Make = (prng: Prng) => RigResource;

/** One of the things a world may hold, by the name it has in the world; made anew, it replaces itself. */
interface Plan {
  /** How likely a world has it. */
  readonly chance: number;
  readonly make: Make;
}

const always = (make: Make): Plan => ({ chance: 1, make });

const NAMED_PORTS: readonly Fields[] = [
  { name: "http", containerPort: 80 },
  { name: "http", containerPort: 8080, protocol: "UDP" },
  { name: "http", containerPort: 443, protocol: "TCP" },
  { name: "dns", containerPort: 53, protocol: "UDP" },
  { name: "dns", containerPort: 53, protocol: "SCTP" },
  { name: "metrics", containerPort: 8080 },
];

function pod(prng: Prng, slot: Slot, node: string): RigResource {
  const families = prng.below(8);
  const addresses = families === 0 ? [slot.v4] : families === 1 ? [slot.v6] : [slot.v4, slot.v6];
  const remote = node === OTHER_NODE;
  return resourceOf(
    "Pod",
    slot.pod,
    {
      spec: {
        nodeName: node,
        ...(prng.chance(0.85) ? { serviceAccountName: prng.pick(ACCOUNTS) } : {}),
        ...(remote && prng.chance(0.06) ? { hostNetwork: true } : {}),
        containers: [{ name: "c", ports: prng.some(NAMED_PORTS, 0.35) }],
      },
      status: {
        phase: remote && prng.chance(0.08) ? "Succeeded" : "Running",
        podIPs: addresses.map((ip) => ({ ip })),
      },
    },
    labels(prng),
  );
}

const namespace =
  (name: string): Make =>
  (prng) =>
    resourceOf("Namespace", name, {}, prng.chance(0.65) ? { team: prng.pick(TEAMS) } : {});

const account =
  (path: string): Make =>
  (prng) =>
    resourceOf("ServiceAccount", path, {}, prng.chance(0.5) ? { trust: prng.pick(["high", "low"]) } : {});

const networkSet =
  (path: string): Make =>
  (prng) =>
    resourceOf(
      path.includes("/") ? "NetworkSet" : "GlobalNetworkSet",
      path,
      { spec: { nets: prng.some([...NETS4, ...NETS6, "10.0.2.0/30"], 0.25) } },
      labels(prng),
    );

const slice =
  (path: string, family: 4 | 6): Make =>
  (prng) => {
    const [where = "", service = ""] = path.split("/");
    const pods = [...LOCAL, ...REMOTE].map((slot) => (family === 4 ? slot.v4 : slot.v6));
    return resourceOf(
      "EndpointSlice",
      `${where}/${service}-v${family}`,
      {
        addressType: `IPv${family}`,
        endpoints: prng.chance(0.05) ? null : [{ addresses: prng.any([...pods, OUTSIDE[family][2] ?? ""], 0.5) }],
        ports: prng.any([
          { port: 53, protocol: "UDP" },
          { port: 80, protocol: "TCP" },
          { port: 8080 },
          { port: 443, protocol: "SCTP" },
        ]),
      },
      { "kubernetes.io/service-name": service },
    );
  };

const tier =
  (name: string): Make =>
  (prng) =>
    resourceOf("Tier", name, {
      spec: {
        ...(name === "unordered" ? {} : { order: prng.pick([5, 5, 10, 2_000_000]) }),
        ...(name === "passing" ? { defaultAction: "Pass" } : prng.chance(0.2) ? { defaultAction: "Pass" } : {}),
      },
    });

function profile(prng: Prng): RigResource {
  return resourceOf("Profile", "extra", {
    spec: {
      ingress: rules(prng, { direction: "ingress", namespace: undefined }, 2),
      egress: rules(prng, { direction: "egress", namespace: undefined }, 2),
      labelsToApply: { env: "prod" },
    },
  });
}

const OPEN_PORTS: readonly Fields[] = [
  { protocol: "TCP", port: 22 },
  { protocol: "UDP", port: 53 },
  { protocol: "TCP", port: 80, net: "10.0.2.0/24" },
  { protocol: "TCP", port: 443, net: "2001:db8::/32" },
];

function hostEndpoint(prng: Prng, name: string): RigResource {
  const shape = prng.below(5);
  const interfaceName = shape < 2 ? UPLINK : shape === 2 ? "*" : shape === 3 ? "eth7" : undefined;
  const expectedIPs = prng.any([NODE_ADDRESS[4], NODE_ADDRESS[6], NODE_ADDRESS[6].toUpperCase()]);
  return resourceOf(
    "HostEndpoint",
    name,
    {
      spec: {
        node: prng.chance(0.9) ? NODE : OTHER_NODE,
        ...(interfaceName === undefined ? { expectedIPs } : { interfaceName }),
        ...(interfaceName !== undefined && prng.chance(0.5) ? { expectedIPs } : {}),
        ...(prng.chance(0.6) ? { profiles: prng.any(["projectcalico-default-allow", "extra"]) } : {}),
        ...(prng.chance(0.4) ? { ports: [{ name: prng.pick(["http", "dns"]), protocol: "TCP", port: 8080 }] } : {}),
      },
    },
    { host: "yes", ...labels(prng) },
  );
}

function felixConfiguration(prng: Prng): RigResource {
  const spec: Fields = {};
  if (prng.chance(0.6)) spec["defaultEndpointToHostAction"] = prng.pick(["Accept", "Return", "Drop"]);
  if (prng.chance(0.3)) spec["disableConntrackInvalidCheck"] = prng.chance(0.7);
  if (prng.chance(0.3)) spec["nftablesFilterDenyAction"] = prng.pick(["Drop", "Reject"]);
  if (prng.chance(0.3)) spec["allowVXLANPacketsFromWorkloads"] = prng.chance(0.5);
  if (prng.chance(0.3)) spec["allowIPIPPacketsFromWorkloads"] = prng.chance(0.5);
  if (prng.chance(0.3)) spec["vxlanPort"] = prng.pick([4789, 8080, 53]);
  if (prng.chance(0.2)) spec["failsafeInboundHostPorts"] = prng.some(OPEN_PORTS);
  if (prng.chance(0.2)) spec["failsafeOutboundHostPorts"] = prng.some(OPEN_PORTS);
  if (prng.chance(0.2)) spec["nftablesMarkMask"] = prng.pick([0xffff_0000, 0x0000_00f0, 0x8001_0000]);
  if (prng.chance(0.3)) spec["flowLogsLocalReporter"] = "Enabled";
  return resourceOf("FelixConfiguration", "default", { spec });
}

const builtInTier = (name: string, order: number, defaultAction: string): Plan =>
  always(() => resourceOf("Tier", name, { spec: { order, defaultAction } }));

const BASE: readonly Plan[] = [
  ...NAMESPACES.map((name): Plan => ({ chance: 0.96, make: namespace(name) })),
  ...NAMESPACES.flatMap((where) => ACCOUNTS.map((name): Plan => ({ chance: 0.6, make: account(`${where}/${name}`) }))),
  ...LOCAL.map((slot): Plan => ({ chance: 0.93, make: (prng) => pod(prng, slot, NODE) })),
  ...REMOTE.map((slot): Plan => ({ chance: 0.8, make: (prng) => pod(prng, slot, OTHER_NODE) })),
  // Somebody elsewhere who claims the address of a pod here.
  {
    chance: 0.08,
    make: (prng) => pod(prng, { pod: "b/twin", v4: LOCAL[1]?.v4 ?? "", v6: LOCAL[1]?.v6 ?? "" }, OTHER_NODE),
  },
  always(() =>
    resourceOf("Node", NODE, {
      metadata: {
        name: NODE,
        annotations: {
          "projectcalico.org/IPv4Address": `${NODE_ADDRESS[4]}/24`,
          "projectcalico.org/IPv6Address": `${NODE_ADDRESS[6]}/64`,
        },
      },
    }),
  ),
  builtInTier("default", 1_000_000, "Deny"),
  builtInTier("kube-admin", 1000, "Pass"),
  builtInTier("kube-baseline", 10_000_000, "Pass"),
  ...TIERS.map((name): Plan => ({ chance: 0.7, make: tier(name) })),
  ...["wide", "own"].map((name): Plan => ({ chance: 0.4, make: networkSet(name) })),
  ...NAMESPACES.map((where): Plan => ({ chance: 0.25, make: networkSet(`${where}/nets`) })),
  ...NAMESPACES.flatMap((where) =>
    SERVICES.flatMap((name) =>
      ([4, 6] as const).map((family): Plan => ({ chance: 0.5, make: slice(`${where}/${name}`, family) })),
    ),
  ),
  { chance: 0.15, make: profile },
  { chance: 0.5, make: felixConfiguration },
  ...["hep0", "hep1"].map((name): Plan => ({ chance: 0.3, make: (prng) => hostEndpoint(prng, name) })),
];

const POLICIES: readonly {
  readonly weight: number;
  readonly name: string;
  readonly make: (prng: Prng, name: string) => RigResource;
}[] = [
  { weight: 5, name: "np", make: networkPolicy },
  { weight: 5, name: "gnp", make: globalPolicy },
  { weight: 2, name: "host", make: hostPolicy },
  { weight: 4, name: "knp", make: kubernetesPolicy },
  { weight: 2, name: "cnp", make: clusterPolicy },
  { weight: 1, name: "staged", make: stagedPolicy },
];
const POLICY_BAG = POLICIES.flatMap((entry) => Array.from({ length: entry.weight }, () => entry));

/** Names are few, so that ties, the same name in several kinds, and replacement happen. */
const policy = (prng: Prng): RigResource => {
  const entry = prng.pick(POLICY_BAG);
  return entry.make(prng, prng.chance(0.3) ? `p${prng.below(2)}` : `${entry.name}${prng.below(4)}`);
};

function unique(resources: readonly RigResource[]): RigResource[] {
  return [...new Map(resources.map((resource) => [idOf(resource), resource])).values()];
}

/** Few policies more often than many: what decides is then seldom hidden behind something else. */
export function randomWorld(prng: Prng): World {
  const base = BASE.filter(({ chance }) => prng.chance(chance)).map(({ make }) => make(prng));
  const policies = prng.times(prng.pick([0, 1, 1, 2, 2, 3, 4, 6, 10]), () => policy(prng));
  // Where there are host endpoints there is something for them.
  const hasHost = base.some(({ kind }) => kind === "HostEndpoint");
  const forHosts = hasHost ? prng.times(prng.pick([0, 1, 1, 2, 3]), (at) => hostPolicy(prng, `host${at}`)) : [];
  const world = unique([...base, ...policies, ...forHosts]);
  return withBesides(prng.fork("besides"), world);
}

/** Between one and four things come, go or change. */
export function changedWorld(prng: Prng, world: World): World {
  let next = [...world];
  for (let left = prng.between(1, 4); left > 0; left--) {
    const shape = prng.below(6);
    if (shape < 2) next = next.filter((resource) => resource.kind === "Node" || !prng.chance(1 / next.length));
    else if (shape < 4) next = unique([...next, policy(prng)]);
    else next = unique([...next, prng.pick(BASE).make(prng)]);
  }
  return changedBesides(prng.fork("besides"), next);
}
