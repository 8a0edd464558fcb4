/** Pods that are BGP peers, the agent's part: addresses to peer with, and packets from what the pod has announced. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually, Lab } from "../testing/lab.ts";
import { RunningAgent, smallCluster } from "../testing/running-agent.ts";
import * as world from "../testing/world.ts";

let lab: Lab;
beforeEach(() => {
  lab = new Lab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const PEERING = "169.254.0.179";
const PEERING6 = "fd12:3456:789a::1";
/** What the pod announces; the route to it is the BGP daemon's. */
const BEHIND = "10.123.0.1";
const WITHIN_MS = 20_000;

const settings = (spec: Readonly<Record<string, string>>): world.Entry => ({
  kind: "BGPConfiguration",
  resource: { apiVersion: "projectcalico.org/v3", kind: "BGPConfiguration", metadata: { name: "default" }, spec },
});
const peer = (localWorkloadSelector: string): world.Entry => ({
  kind: "BGPPeer",
  resource: {
    apiVersion: "projectcalico.org/v3",
    kind: "BGPPeer",
    metadata: { name: "pods" },
    spec: { localWorkloadSelector, asNumber: 65401 },
  },
});

test("the node has the peering addresses on interfaces of selected pods, and takes what they announce", async () => {
  const [n1 = ""] = lab.nodes(1);
  const router = lab.pod(n1, "default/router", "10.65.1.2", "fd00:65::2");
  const other = lab.pod(n1, "default/other", "10.65.1.3");
  const client = await smallCluster();
  for (const [name, { address }] of Object.entries({ router, other })) {
    await world.put(client, world.pod({ name, node: "n1", address }));
  }
  const both = { localWorkloadPeeringIPV4: PEERING, localWorkloadPeeringIPV6: PEERING6 };
  await world.put(client, settings(both), peer("app == 'router'"));
  const config = { programClusterRoutes: "Disabled", defaultEndpointToHostAction: "ACCEPT" };
  const start = (): RunningAgent => new RunningAgent({ netns: lab.path(n1), hostRoot: lab.folder, client, config });
  const addresses = (interfaceName: string): string =>
    ["-4", "-6"].map((family) => lab.ip(n1, `${family} address show dev ${interfaceName}`)).join("");
  const held = (pod: { interfaceName: string }): readonly boolean[] =>
    [`inet ${PEERING}/32 scope link`, `inet6 ${PEERING6}/128 scope global nodad`].map((line) =>
      addresses(pod.interfaceName).includes(line),
    );
  const has = (pod: { interfaceName: string }, ...wanted: readonly boolean[]): Promise<number> =>
    eventually(`addresses of ${pod.interfaceName}`, () => held(pod).join() === wanted.join(), WITHIN_MS);
  {
    await using _agent = start();
    await has(router, true, true);
    expect(held(other)).toEqual([false, false]);
    await eventually("the pod reaches its node there", () => lab.pings(router.namespace, PEERING), WITHIN_MS);

    lab.ip(n1, `address del ${PEERING}/32 dev ${router.interfaceName}`);
    await has(router, true, true);
    lab.ip(n1, `address add 10.8.8.8/32 dev ${router.interfaceName}`);
    lab.ip(n1, `address add 10.9.9.9/32 dev ${router.interfaceName} scope link`);
    await eventually("a leftover is gone", () => !addresses(router.interfaceName).includes("10.9.9.9"), WITHIN_MS);
    expect(addresses(router.interfaceName)).toContain("10.8.8.8");

    // What is behind the pod: the other pod is answered from there as soon as the node routes it there, not before.
    lab.ip(router.namespace, `address add ${BEHIND}/32 dev lo`);
    const answer = (from: string): boolean => {
      try {
        lab.exec(from, "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", BEHIND, "192.168.0.1");
        return true;
      } catch {
        return false;
      }
    };
    expect(answer(router.namespace)).toBe(false);
    lab.ip(n1, `route add ${BEHIND}/32 via 10.65.1.2 dev ${router.interfaceName} proto bird`);
    await eventually("packets from behind the pod", () => answer(router.namespace), WITHIN_MS);
    await eventually("another pod reaches it", () => lab.pings(other.namespace, BEHIND), WITHIN_MS);
  }
  // A pod of this node that is no peer may not send from there, whatever routes say.
  await world.put(client, peer("app == 'other'"));
  {
    await using _agent = start();
    await has(other, true, true);
    await has(router, false, false);
    await eventually("nothing from behind it", () => !lab.pings(other.namespace, BEHIND), WITHIN_MS);
    await world.put(client, settings({ localWorkloadPeeringIPV4: "169.254.0.180" }));
    await eventually("the new address", () => addresses(other.interfaceName).includes("169.254.0.180/32"), WITHIN_MS);
    await has(other, false, false);
    await world.remove(client, peer(""));
    await eventually("none", () => !addresses(other.interfaceName).includes("169.254"), WITHIN_MS);
  }
});
