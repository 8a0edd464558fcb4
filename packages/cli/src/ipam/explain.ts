/** `ipam explain`: who has an address, since when, in which sandbox, and why it has not been released. Ours alone. */
import {
  allocationsOf,
  DatastoreSource,
  type GcWorld,
  Ipam,
  podKey,
  whyNotOfMachine,
  whyNotOfPod,
} from "@calico-ts/ipam";
import { containsAddress, formatAddress, sameAddress, tryParsePrefix } from "@calico-ts/net";
import { addressArgument, type Session } from "./session.ts";

export async function explain({ client, clock, out }: Session, text: string): Promise<void> {
  const address = addressArgument(text);
  const say = (line: string): void => out(`${line}\n`);
  const facts = await new Ipam({ client, clock }).factsOf(address);
  const source = new DatastoreSource(client);
  const world: GcWorld = { ...(await source.snapshot()), machines: await source.machines() };
  const name = formatAddress(address);
  const users = [...world.pods].filter(([, pod]) => !pod.finished && pod.addresses.has(name)).map(([key]) => key);
  if (facts === undefined) {
    say(`${name} is assigned to nobody.`);
    const block = world.blocks.find(({ spec }) => {
      const prefix = tryParsePrefix(spec.cidr);
      return prefix !== undefined && containsAddress(prefix, address);
    });
    say(
      block === undefined
        ? "It is in no block."
        : `It is free in block ${block.spec.cidr} of ${block.spec.affinity ?? "nobody"}.`,
    );
    for (const user of users) say(`Pod ${user} says that it has it: that pod does not have it from IPAM.`);
    return;
  }
  say(`${name} is in block ${facts.block}, which is owned by ${facts.affinity ?? "nobody"}.`);
  if (facts.releasedAt !== undefined) {
    const { cooldownSeconds } = world.config;
    const freeAt = new Date(Date.parse(facts.releasedAt) + cooldownSeconds * 1000).toISOString();
    say(`It was released at ${facts.releasedAt} and cools down until ${freeAt}.`);
    return;
  }
  const allocation = world.blocks.flatMap(allocationsOf).find((one) => sameAddress(one.address, address));
  const { node, pod, namespace, timestamp, type } = facts.attributes;
  const sandbox = facts.handle?.slice(facts.handle.lastIndexOf(".") + 1);
  if (facts.alternateOwner?.["pod"] !== undefined) {
    const { namespace: of = "", node: where = "?", pod: next } = facts.alternateOwner;
    say(`Its virtual machine is moving to, or has just left, pod ${of}/${next} on node ${where}.`);
  }
  if (pod === undefined && allocation?.holder.kind === "machine") say(`Handle ${facts.handle ?? "none"} has it.`);
  else if (pod !== undefined)
    say(`It was given to pod ${namespace ?? ""}/${pod} on node ${node ?? "?"}, sandbox ${sandbox ?? "?"}.`);
  else say(`It was given to ${type ?? "something unknown"} on node ${node ?? "?"}, handle ${facts.handle ?? "none"}.`);
  if (timestamp !== undefined) say(`Since ${timestamp} (${ago(clock.now() - Date.parse(timestamp))}).`);
  if (allocation === undefined) return;
  say(`It is ${verdict(allocation, world)}`);
  const siblings = world.blocks
    .flatMap(allocationsOf)
    .filter((one) => one.handle === allocation.handle && !sameAddress(one.address, allocation.address));
  for (const sibling of siblings)
    say(`The same sandbox has ${formatAddress(sibling.address)}; the two are released together.`);
}

function verdict(allocation: ReturnType<typeof allocationsOf>[number], world: GcWorld): string {
  const { holder } = allocation;
  switch (holder.kind) {
    case "pod": {
      const pod = world.pods.get(podKey(holder.namespace, holder.name));
      const why = whyNotOfPod(allocation, holder.node, pod);
      if (why === undefined && pod?.addresses.size === 0)
        return "kept because its pod exists and has not been told an address yet.";
      if (why === undefined) return "in use: its pod exists and has it.";
      return `a leak: ${why}. Garbage collection releases it after its grace period${world.nodes.has(holder.node) ? "" : ", at once since its node is gone"}.`;
    }
    case "machine": {
      const why = whyNotOfMachine(allocation, world.machines, world.pods);
      if (why !== undefined) return `a leak: ${why}. Garbage collection releases it after its grace period.`;
      return holder.owners.length === 0
        ? "kept for its virtual machine, which does not run."
        : "in use: a virtual machine has it, and keeps it when its pod changes.";
    }
    case "tunnel":
      return world.nodes.has(holder.node) ? "in use: its node exists." : `a leak: node ${holder.node} does not exist.`;
    case "load-balancer":
      return "an address of a load balancer: the load-balancer controller releases it.";
    case "windows-reserved":
      return "held back on a Windows node.";
    case "unknown":
      return "never released by garbage collection: nothing says what it is for.";
  }
}

function ago(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (Number.isNaN(minutes)) return "at a time nobody can read";
  if (minutes < 2) return `${Math.max(0, Math.floor(ms / 1000))} seconds ago`;
  return minutes < 180 ? `${minutes} minutes ago` : `${Math.floor(minutes / 60)} hours ago`;
}
