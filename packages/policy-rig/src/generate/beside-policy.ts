/**
 * What worlds hold beside policy: pools with NAT outgoing, which show in packets' sources, and limits, DSCP and floating addresses of pods. Limits are so
 * wide, and floating addresses so far from any packet, that no verdict depends on them: they are here for the ruleset, which must not depend on
 * history and must be taken by the kernel.
 */
import { NAT_ADDRESS } from "../lab/plan.ts";
import type { Prng } from "../prng.ts";
import type { RigResource, World } from "../world.ts";
import { resourceOf } from "../world.ts";

type Fields = Record<string, unknown>;

/** The same world with such things. */
export function withBesides(prng: Prng, world: World): World {
  const settings = felixSettings(prng);
  return [...world, ...pools(prng)].map((resource) => {
    if (resource.kind === "FelixConfiguration")
      return { ...resource, spec: { ...fieldsOf(resource["spec"]), ...settings } };
    return annotated(prng, resource, 0.3);
  });
}

/** Some of them change. */
export function changedBesides(prng: Prng, world: World): World {
  const next = prng.chance(0.15) ? [...world.filter(({ kind }) => kind !== "IPPool"), ...pools(prng)] : world;
  return prng.chance(0.3) ? next.map((resource) => annotated(prng, resource, 0.2)) : next;
}

const POOLS: readonly (readonly [name: string, cidrs: readonly string[]])[] = [
  ["pool-v4", ["10.0.0.0/22", "10.0.0.0/24", "10.0.0.0/23", "10.0.0.0/31"]],
  ["other-v4", ["10.0.2.0/23", "10.0.1.0/24", "1.2.0.0/17", "10.0.0.128/25"]],
  ["pool-v6", ["fd00::/64", "fd00::/112", "fd00::1:0/112"]],
  ["other-v6", ["2001:db8::/48", "fd00::3:0/112"]],
];

const pools = (prng: Prng): RigResource[] =>
  prng.some(POOLS, 0.4).map(([name, cidrs]) =>
    resourceOf("IPPool", name, {
      spec: {
        cidr: prng.pick(cidrs),
        natOutgoing: prng.chance(0.7),
        ...(prng.chance(0.2) ? { allowedUses: ["LoadBalancer"], assignmentMode: "Automatic" } : {}),
      },
    }),
  );

const felixSettings = (prng: Prng): Fields => ({
  ...(prng.chance(0.2) ? { natOutgoingAddress: NAT_ADDRESS } : {}),
  ...(prng.chance(0.6) ? { floatingIPs: "Enabled" } : {}),
});

const QOS = "qos.projectcalico.org/";
const DSCP: Fields = { [`${QOS}dscp`]: "AF11" };
const FLOATING = ["203.0.113.1", "203.0.113.2", "2001:db8:f::1", "2001:db8:f::2"] as const;

/** A host endpoint has DSCP only. */
function annotated(prng: Prng, resource: RigResource, probability: number): RigResource {
  const { kind, metadata } = resource;
  if ((kind !== "Pod" && kind !== "HostEndpoint") || !prng.chance(probability)) return resource;
  const annotations = kind === "Pod" ? podAnnotations(prng) : prng.chance(0.5) ? DSCP : {};
  return { ...resource, metadata: { ...metadata, annotations } };
}

const podAnnotations = (prng: Prng): Fields => ({
  ...(prng.chance(0.4) ? { [`${QOS}ingressPacketRate`]: "10000", [`${QOS}ingressPacketBurst`]: "10000" } : {}),
  ...(prng.chance(0.4) ? { [`${QOS}egressPacketRate`]: "9999", [`${QOS}egressPacketBurst`]: "10000" } : {}),
  ...(prng.chance(0.4) ? { [`${QOS}ingressMaxConnections`]: prng.pick(["100000", "4294967295"]) } : {}),
  ...(prng.chance(0.4) ? { [`${QOS}egressMaxConnections`]: "200000" } : {}),
  ...(prng.chance(0.4) ? { [`${QOS}dscp`]: prng.pick(["EF", "0", "AF11", "63"]) } : {}),
  ...(prng.chance(0.5) ? { "cni.projectcalico.org/floatingIPs": JSON.stringify(prng.some(FLOATING)) } : {}),
});

const fieldsOf = (value: unknown): Fields => (typeof value === "object" && value !== null ? { ...value } : {});
