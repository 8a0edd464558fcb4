/** Host endpoints in random worlds: the oracle and the rendered table of their node say the same about every packet. */
import type { IpAddress } from "@calico-ts/net";
import { parseAddress } from "@calico-ts/net";
import type { NftHook } from "@calico-ts/netlink";
import { hostInterfaceName } from "@calico-ts/model";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { CompilerUpdate, Party } from "../src/index.ts";
import { createCompiler, createOracle, NftPolicyRenderer } from "../src/index.ts";
import { CheckingSink } from "../src/testing/checking-sink.ts";
import { FakeTable } from "../src/testing/fake-table.ts";
import { PacketMachine } from "../src/testing/packet-machine.ts";
import { randomHostWorld, randomPackets } from "../src/testing/random-worlds.ts";
import { globalPolicy, namespace, pod, resource } from "../src/testing/resources.ts";

const NODE = "192.0.2.1";
const WITH_PORTS = new Set([6, 17, 132]);

function compile(world: readonly CompilerUpdate[]): PacketMachine {
  const sink = new CheckingSink();
  const renderer = new NftPolicyRenderer();
  const table = new FakeTable();
  renderer.setHostInterfaces(new Map([["eth0", [NODE]]]));
  const compiler = createCompiler({
    node: "n1",
    emit: (message) => {
      sink.receive(message);
      renderer.receive(message);
    },
  });
  for (const update of world) compiler.update(update);
  compiler.setInSync();
  compiler.flush();
  table.program(renderer.take());
  expect(sink.errors).toEqual([]);
  return new PacketMachine(table.ruleset());
}

interface Place {
  readonly party: Party;
  readonly address: IpAddress;
  readonly is: "local" | "pod" | "outside";
  readonly interfaceName: string;
}

const HOST: Place = { party: { host: "n1" }, address: parseAddress(NODE), is: "local", interfaceName: "" };

const OUTSIDE = { 1: "1.2.3.4", 2: "9.9.9.9" } as const;

/** IPv4 only: 0 is the node itself, 1 and 2 are outside, the rest pods of `n1`. */
function placeOf(world: readonly CompilerUpdate[], who: number | string): Place | undefined {
  if (who === 0) return HOST;
  if (who === 1 || who === 2) return placeOf(world, OUTSIDE[who]);
  if (typeof who === "string") {
    const address = parseAddress(who);
    return address.family === 4
      ? { party: { address: who }, address, is: "outside", interfaceName: "eth0" }
      : undefined;
  }
  const pods = world.flatMap((update) =>
    update.kind === "Pod" && update.resource?.spec.nodeName === "n1" ? [update.resource] : [],
  );
  const found = pods[who % Math.max(pods.length, 1)];
  const ip = found?.status?.podIPs?.[0]?.ip;
  if (found === undefined || ip === undefined) return undefined;
  const { name, namespace = "" } = found.metadata;
  return {
    party: { pod: `${namespace}/${name}` },
    address: parseAddress(ip),
    is: "pod",
    interfaceName: hostInterfaceName(namespace, name),
  };
}

const HOOKS: Readonly<Record<string, readonly NftHook[]>> = {
  input: ["prerouting", "input"],
  forward: ["prerouting", "forward", "postrouting"],
  output: ["output", "postrouting"],
};

/** How it was decided, each way once. */
function compareAll(options: { readonly numRuns: number; readonly seed?: number }): string[] {
  const decisions = new Map<string, number>();
  fc.assert(
    fc.property(
      randomHostWorld,
      randomPackets,
      fc.constantFrom("Drop", "Accept", "Return"),
      (random, packets, toHost) => {
        const felix: CompilerUpdate = {
          kind: "FelixConfiguration",
          key: { name: "default" },
          resource: {
            apiVersion: "projectcalico.org/v3",
            kind: "FelixConfiguration",
            metadata: { name: "default" },
            spec: { defaultEndpointToHostAction: toHost },
          },
        };
        const world = [...random, felix];
        const machine = compile(world);
        const oracle = createOracle(world, {
          config: { defaultEndpointToHostAction: toHost },
          hosts: { n1: { uplink: "eth0", addresses: [NODE] } },
        });
        for (const packet of packets) {
          const from = placeOf(world, packet.from);
          const to = placeOf(world, packet.to);
          if (from === undefined || to === undefined || packet.protocol === 58) continue;
          if (from.is === to.is && (from.is !== "pod" || from.interfaceName === to.interfaceName)) continue;
          const { protocol, sourcePort, destinationPort, icmp } = packet;
          // Ports among the failsafes now and then.
          const port = destinationPort === 82 ? 22 : destinationPort;
          const fromPort = sourcePort === 1024 ? 22 : sourcePort === 8080 ? 53 : sourcePort;
          const head = WITH_PORTS.has(protocol)
            ? { protocol, sourcePort: fromPort, destinationPort: port }
            : protocol === 1
              ? { protocol, icmp }
              : { protocol };
          const path = to.is === "local" ? "input" : from.is === "local" ? "output" : "forward";
          const seen = machine.run(
            {
              ...head,
              source: from.address,
              destination: to.address,
              iifname: from.interfaceName,
              oifname: to.interfaceName,
              state: "new",
              mark: packet.mark,
              ...(to.is === "local"
                ? { local: "destination" as const }
                : from.is === "local"
                  ? { local: "source" as const }
                  : {}),
            },
            HOOKS[path] ?? [],
          );
          const wanted = oracle.verdict({ from: from.party, to: to.party, ...head });
          decisions.set(wanted.decision.by, (decisions.get(wanted.decision.by) ?? 0) + 1);
          const about = { path, from: packet.from, to: packet.to, head, decision: wanted.decision };
          // What passes through leaves without our marks, unless it brought them.
          const mark = path === "forward" && seen.accepted && packet.mark === 0 ? seen.mark : 0;
          expect({ ...about, table: seen.accepted, comment: seen.comment, mark }).toEqual({
            ...about,
            table: wanted.allowed,
            comment: seen.comment,
            mark: 0,
          });
        }
      },
    ),
    options,
  );
  return [...decisions.keys()];
}

test("the oracle and the table agree about host endpoints", { timeout: 120_000 }, () => {
  compareAll({ numRuns: Number(process.env["CALICO_FUZZ_RUNS"] ?? 120), ...seedOption() });
});

test("worlds like these are decided in every way", { timeout: 120_000 }, () => {
  expect(compareAll({ numRuns: 60, seed: 1 })).toEqual(
    expect.arrayContaining(["rule", "tier-default", "failsafe", "no-profile", "endpoint-to-host"]),
  );
});

/** MLD, router and neighbour discovery; a pod is no router and has nobody to report to. */
const DISCOVERY = [130, 131, 132, 133, 134, 135, 136, 143];
const OF_PODS = [130, 131, 132, 133, 135, 136];

test.each([
  ["normal policy", {}],
  ["preDNAT", { preDNAT: true, ingress: [{ action: "Deny" }] }],
  ["doNotTrack", { doNotTrack: true, ingress: [{ action: "Deny" }], egress: [{ action: "Deny" }] }],
])("of ICMPv6 nothing but discovery gets through a host endpoint that denies everything: %s", (_form, spec) => {
  const [node6, peer6, pod6] = ["fd00:10::1", "fd00:10::2", "fd00::1"];
  const world = [
    namespace("a"),
    pod("a/p", { ips: [pod6] }),
    resource("HostEndpoint", "all", { spec: { node: "n1", interfaceName: "*" } }),
    globalPolicy("g", {
      selector: "!has(projectcalico.org/namespace)",
      applyOnForward: true,
      types: undefined,
      ...spec,
    }),
    globalPolicy("pods", { selector: "has(projectcalico.org/namespace)", types: ["Egress"], order: 1 }),
  ];
  const machine = compile(world);
  const oracle = createOracle(world, { hosts: { n1: { uplink: "eth0", addresses: [node6] } } });
  const node = { party: { host: "n1" }, address: parseAddress(node6), interfaceName: "" };
  const peer = { party: { address: peer6 }, address: parseAddress(peer6), interfaceName: "eth0" };
  const own = { party: { pod: "a/p" }, address: parseAddress(pod6), interfaceName: hostInterfaceName("a", "p") };
  const passing = (from: typeof peer | typeof own | typeof node, to: typeof from): unknown =>
    Array.from({ length: 256 }, (_, type) => type).filter((type) => {
      const head = { protocol: 58, icmp: { type, code: 0 } };
      const local = to === node ? ("destination" as const) : ("source" as const);
      const ends = {
        source: from.address,
        destination: to.address,
        iifname: from.interfaceName,
        oifname: to.interfaceName,
      };
      const hooks = HOOKS[to === node ? "input" : "output"] ?? [];
      const { accepted } = machine.run({ ...head, ...ends, state: "untracked", mark: 0, local }, hooks);
      expect([type, accepted]).toEqual([
        type,
        oracle.verdict({ from: from.party, to: to.party, family: 6, ...head }).allowed,
      ]);
      return accepted;
    });
  expect([passing(peer, node), passing(node, peer), passing(own, node)]).toEqual([DISCOVERY, DISCOVERY, OF_PODS]);
});

function seedOption(): { seed?: number } {
  const seed = process.env["CALICO_FUZZ_SEED"];
  return seed === undefined ? {} : { seed: Number(seed) };
}
