/**
 * What should happen to a packet of the lab. The oracle answers for policy; what comes before policy is here: a pod sends from its own
 * addresses, and an interface whose pod nobody knows is closed.
 */
import type { Pod } from "@calico-ts/model";
import { isFinished } from "@calico-ts/model";
import type { Family } from "@calico-ts/net";
import { sameAddress, tryParseAddress } from "@calico-ts/net";
import type { Decision, Oracle, Party, Query, Verdict } from "@calico-ts/policy-compiler";
import { createOracle } from "@calico-ts/policy-compiler";
import { addressOf, LOCAL, NODE, NODE_ADDRESS, UPLINK } from "./lab/plan.ts";
import { OutgoingNat } from "./outgoing-nat.ts";
import type { PacketParty, RigPacket } from "./packets/packet.ts";
import { isPod, sourceOf } from "./packets/packet.ts";
import type { World } from "./world.ts";
import { configOf, updatesOf } from "./world.ts";

export type Reason = Decision | { readonly by: "source-check" } | { readonly by: "unknown-interface" };

export interface Expectation {
  readonly allowed: boolean;
  readonly reason: Reason;
  readonly verdict?: Verdict;
  /** What it arrives with as its source; absent where that is not the rig's business. */
  readonly source?: string;
}

export type PodState = "known" | "absent" | "mute";

export class Expectations {
  readonly #oracle: Oracle;
  readonly #nat: OutgoingNat;
  /** Local pods that have an endpoint, and their addresses. */
  readonly #pods = new Map<string, readonly string[]>();

  readonly #untracked: boolean;

  constructor(world: World) {
    const updates = updatesOf(world);
    this.#nat = new OutgoingNat(world);
    this.#oracle = createOracle(updates, {
      config: configOf(world),
      hosts: { [NODE]: { uplink: UPLINK, addresses: [NODE_ADDRESS[4], NODE_ADDRESS[6]] } },
    });
    this.#untracked = world.some(
      (resource) => resource.kind === "GlobalNetworkPolicy" && JSON.stringify(resource).includes('"doNotTrack":true'),
    );
    for (const update of updates) {
      if (update.kind !== "Pod" || update.resource === undefined) continue;
      const pod: Pod = update.resource;
      if (pod.spec.hostNetwork === true || pod.spec.nodeName !== NODE) continue;
      const addresses = isFinished(pod) ? [] : (pod.status?.podIPs ?? []).flatMap(({ ip }) => ip ?? []);
      this.#pods.set(`${update.key.namespace ?? ""}/${update.key.name}`, addresses);
    }
  }

  /** `absent`: no such pod; `mute`: it has no address of the family. */
  readonly stateOf = (pod: string, family: Family): PodState => {
    const slot = LOCAL.find((slot) => slot.pod === pod);
    if (slot === undefined || !this.#pods.has(pod)) return "absent";
    return this.#has(pod, addressOf(slot, family)) ? "known" : "mute";
  };

  /** Will its answers count as part of a connection? Outside connection tracking every packet is judged by itself. */
  isTracked(packet: RigPacket): boolean {
    return !this.#untracked || (isPod(packet.from) && isPod(packet.to));
  }

  of(packet: RigPacket): Expectation {
    const { from, to } = packet;
    if (isPod(from)) {
      if (!this.#pods.has(from.pod)) return { allowed: false, reason: { by: "unknown-interface" } };
      if (!this.#has(from.pod, sourceOf(packet))) return { allowed: false, reason: { by: "source-check" } };
    }
    if (isPod(to) && !this.#pods.has(to.pod)) return { allowed: false, reason: { by: "unknown-interface" } };
    const { family, protocol, sourcePort, destinationPort, icmp, invalid } = packet;
    const query: Query = {
      from: partyOf(from, family),
      to: partyOf(to, family),
      family,
      protocol,
      ...(sourcePort === undefined ? {} : { sourcePort }),
      ...(destinationPort === undefined ? {} : { destinationPort }),
      ...(icmp === undefined ? {} : { icmp }),
    };
    const verdict = this.#oracle.verdict(invalid === true ? { ...query, state: "invalid" } : query);
    // Outside connection tracking there is no NAT.
    const known = verdict.allowed && invalid !== true && this.isTracked(packet);
    const source = known ? { source: this.#nat.sourceOf(packet) } : {};
    return { allowed: verdict.allowed, reason: verdict.decision, verdict, ...source };
  }

  #has(pod: string, address: string): boolean {
    const wanted = tryParseAddress(address);
    return (
      wanted !== undefined &&
      (this.#pods.get(pod) ?? []).some((own) => {
        const parsed = tryParseAddress(own);
        return parsed !== undefined && sameAddress(parsed, wanted);
      })
    );
  }
}

function partyOf(party: PacketParty, family: Family): Party {
  return "node" in party ? { host: NODE, address: NODE_ADDRESS[family] } : party;
}

export function reasonText(reason: Reason): string {
  switch (reason.by) {
    case "rule": {
      const { policy, direction, index } = reason;
      const scope = policy.namespace === "" ? "" : `${policy.namespace}/`;
      return `${policy.kind} ${scope}${policy.name}, ${direction} rule ${index}`;
    }
    case "tier-default":
      return `default action of tier ${reason.tier}, ${reason.direction}`;
    case "profile":
      return `profile ${reason.profile}, ${reason.direction} rule ${reason.index}`;
    case "missing-profile":
      return `profile ${reason.profile} does not exist, ${reason.direction}`;
    case "no-profile":
      return `no profile allows it, ${reason.direction}`;
    default:
      return Object.values(reason).join(" ");
  }
}
