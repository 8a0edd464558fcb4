/** Service-loop prevention: a router sends every address of a service prefix to the node, whose default route leads back to it. */
import type { MemoryDatastore } from "@calico-ts/datastore";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
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

const SERVICE = "10.96.0.1";
const NOBODY = "10.96.0.9";
const NOBODY6 = "fd00:96::9";
const WITHIN_MS = 20_000;

const announced = (...cidrs: readonly string[]): world.Entry => ({
  kind: "BGPConfiguration",
  resource: {
    apiVersion: "projectcalico.org/v3",
    kind: "BGPConfiguration",
    metadata: { name: "default" },
    spec: { serviceClusterIPs: cidrs.map((cidr) => ({ cidr })) },
  },
});

/** The node, the router behind which it is, and a client of the router. */
class Scene {
  readonly node: string;
  readonly router: string;
  readonly client: string;

  constructor() {
    const [node = "", router = "", client = ""] = lab.nodes(3);
    this.node = node;
    this.router = router;
    this.client = client;
    for (const name of [node, router]) {
      const keys = ["ipv4.ip_forward=1", "ipv4.conf.all.send_redirects=0", "ipv4.conf.eth0.send_redirects=0"];
      for (const key of [...keys, "ipv6.conf.all.forwarding=1"]) lab.exec(name, "sysctl", "-qw", `net.${key}`);
    }
    for (const [name, via] of [
      [node, 2],
      [router, 1],
      [client, 2],
    ] as const) {
      lab.ip(name, `route add 10.96.0.0/12 via 192.168.0.${via}`);
      lab.ip(name, `route add fd00:96::/112 via fd00:10::${via}`);
    }
    lab.nft(
      router,
      "table inet seen { chain forward { type filter hook forward priority 0; ip daddr 10.96.0.0/12 counter; ip6 daddr fd00:96::/112 counter; }; }",
    );
  }

  send(address: string): void {
    lab.exec(this.client, "bash", "-c", `echo hello > /dev/udp/${address}/53`);
  }

  /** Packets that the router has forwarded towards service prefixes, of both families together. */
  rounds(): number {
    return counted(lab.nft(this.router, "list", "chain", "inet", "seen", "forward"));
  }

  /** Packets that the node's chain has stopped; undefined: there is no such chain. */
  stopped(): number | undefined {
    const chains = lab.nft(this.node, "list", "ruleset");
    const chain = /chain service-loop \{[^}]*\}/.exec(chains)?.[0];
    return chain === undefined ? undefined : counted(chain);
  }
}

const counted = (text: string): number =>
  [...text.matchAll(/packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);

function agent(scene: Scene, client: MemoryDatastore, config: Readonly<Record<string, string>> = {}): RunningAgent {
  const settings = { programClusterRoutes: "Disabled", defaultEndpointToHostAction: "ACCEPT", ...config };
  return new RunningAgent({ netns: lab.path(scene.node), hostRoot: lab.folder, client, config: settings });
}

/**
 * A packet waits or is lost while a neighbour is not known yet: another one is sent until what comes of one goes round until its TTL ends. Ends with no packet on its way.
 */
const looping = (scene: Scene, address: string): Promise<number> =>
  eventually(
    "rounds until the TTL ends",
    async () => {
      const before = scene.rounds();
      scene.send(address);
      await quiet(scene);
      return scene.rounds() - before >= 30;
    },
    WITHIN_MS,
  );

async function quiet(scene: Scene): Promise<void> {
  let last = -1;
  const still = (): boolean => {
    const before = last;
    last = scene.rounds();
    return last === before;
  };
  await eventually("no packet is on its way", still, WITHIN_MS);
}

const inForce = (scene: Scene): Promise<number> =>
  eventually("the chain is there", () => scene.stopped() !== undefined, WITHIN_MS);

describe("a packet to a service address that nobody takes", () => {
  test.each([NOBODY, NOBODY6])("goes round and round by itself; with Drop it is dropped once (%s)", async (address) => {
    const scene = new Scene();
    const client = await smallCluster();
    await using _agent = agent(scene, client);
    await eventually("rules", () => lab.nft(scene.node, "list", "tables").includes("inet calico"), WITHIN_MS);
    await looping(scene, address);

    await world.put(client, announced("10.96.0.0/12", "fd00:96::/112"));
    await inForce(scene);
    await quiet(scene);
    const before = scene.rounds() - (scene.stopped() ?? 0);
    scene.send(address);
    await eventually("it is stopped", () => (scene.stopped() ?? 0) > 0, WITHIN_MS);
    await quiet(scene);
    expect(scene.rounds() - before).toBe(scene.stopped());

    await world.put(client, announced("10.112.0.0/16"));
    await eventually("another prefix", () => scene.stopped() === 0, WITHIN_MS);
    await looping(scene, address);
    await world.remove(client, announced());
    await eventually("nothing to do", () => scene.stopped() === undefined, WITHIN_MS);
  });

  test("with Disabled it goes round", async () => {
    const scene = new Scene();
    const client = await smallCluster();
    await world.put(client, announced("10.96.0.0/12"));
    await using _agent = agent(scene, client, { serviceLoopPrevention: "Disabled" });
    await eventually("rules", () => lab.nft(scene.node, "list", "tables").includes("inet calico"), WITHIN_MS);
    await looping(scene, NOBODY);
    expect(scene.stopped()).toBeUndefined();
  });

  test("with Reject its sender is told", async () => {
    const scene = new Scene();
    const client = await smallCluster();
    await world.put(client, announced("10.96.0.0/12"));
    await using _agent = agent(scene, client, { serviceLoopPrevention: "Reject" });
    await inForce(scene);
    const told = (): string => {
      try {
        return lab.exec(scene.client, "timeout", "10", "bash", "-c", `exec 3<>/dev/tcp/${NOBODY}/80`);
      } catch (error) {
        return String(error);
      }
    };
    expect(told()).toContain("refused");
    expect(scene.stopped()).toBeGreaterThan(0);
    expect(scene.rounds()).toBe(scene.stopped());
  });
});

test("a service that a proxy takes works, from outside and from pods; the rest of its prefix does not loop", async () => {
  const scene = new Scene();
  const pod = lab.pod(scene.node, "default/web", "10.65.1.2");
  const other = lab.pod(scene.node, "default/other", "10.65.1.3");
  lab.nft(
    scene.node,
    `table ip proxy { chain prerouting { type nat hook prerouting priority -100; ip daddr ${SERVICE} tcp dport 80 dnat to 10.65.1.2:8080; }; }`,
  );
  await lab.serve(pod.namespace, 8080);
  const client = await smallCluster();
  await world.put(client, announced("10.96.0.0/12"));
  for (const [name, { address }] of Object.entries({ web: pod, other })) {
    await world.put(client, world.pod({ name, node: "n1", address }));
  }
  await using _agent = agent(scene, client);
  await inForce(scene);
  for (const from of [scene.client, other.namespace]) {
    await eventually("the service", () => lab.connects(from, SERVICE, 80), WITHIN_MS);
  }
  expect(scene.stopped()).toBe(0);
  expect(lab.connects(other.namespace, NOBODY, 80)).toBe(false);
  expect(scene.stopped()).toBeGreaterThan(0);
  expect(counted(lab.nft(scene.router, "list", "chain", "inet", "seen", "forward"))).toBeGreaterThan(0);
});
