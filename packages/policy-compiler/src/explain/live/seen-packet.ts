/**
 * `--watch`: a packet that was traced through a kernel, step by step in the words of policies. Which flows to trace is worked out
 * here; tracing is `traceFlow` of `@calico-ts/linux`, whose packets these types describe.
 */
import type { IpAddress } from "@calico-ts/net";
import { formatAddress, protocolName, protocolNumber, tryParseAddress } from "@calico-ts/net";
import type { NftTable, TracedHeaders, TraceVerdict } from "@calico-ts/netlink";
import { CT_STATE_BITS } from "@calico-ts/netlink";
import { CALICO_TABLE } from "../../render/nft/policy-renderer.ts";
import type { ExplainedEnd, ExplainedPath, Explanation } from "../explain.ts";
import { objectText } from "../words.ts";
import type { NamedRule, RuleNames } from "./rule-names.ts";

/** A flow to trace, as `FlowPattern` of `@calico-ts/linux`. */
export interface WatchedFlow {
  readonly source?: IpAddress;
  readonly destination?: IpAddress;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
}

/** Both directions of every path; where a Service was asked for, also what the sender writes before kube-proxy rewrites it. */
export function flowsToWatch({ paths }: Explanation, sourcePort?: number): WatchedFlow[] {
  const flows = paths.flatMap((path) => {
    const protocol = protocolNumber(path.protocol) ?? 0;
    const targets = [
      { addresses: path.destination.addresses, port: path.port },
      ...(path.frontend === undefined ? [] : [path.frontend]),
    ];
    return targets.flatMap(({ addresses, port }) =>
      pairs(path.source, addresses).flatMap(({ source, destination }): WatchedFlow[] => [
        {
          source,
          destination,
          protocol,
          ...(sourcePort === undefined ? {} : { sourcePort }),
          ...(port === undefined ? {} : { destinationPort: port }),
        },
        {
          source: destination,
          destination: source,
          protocol,
          ...(port === undefined ? {} : { sourcePort: port }),
          ...(sourcePort === undefined ? {} : { destinationPort: sourcePort }),
        },
      ]),
    );
  });
  const key = (flow: WatchedFlow): string =>
    JSON.stringify([text(flow.source), text(flow.destination), flow.sourcePort, flow.destinationPort]);
  return [...new Map(flows.map((flow) => [key(flow), flow])).values()];
}

const text = (address: IpAddress | undefined): string => (address === undefined ? "" : formatAddress(address));

function pairs(from: ExplainedEnd, to: readonly string[]): { source: IpAddress; destination: IpAddress }[] {
  const parse = (list: readonly string[]): IpAddress[] => list.flatMap((each) => tryParseAddress(each) ?? []);
  return parse(from.addresses).flatMap((source) =>
    parse(to).flatMap((destination) => (source.family === destination.family ? [{ source, destination }] : [])),
  );
}

/** A packet of `traceFlow`. */
export interface SeenPacket {
  readonly headers: TracedHeaders;
  readonly input?: string;
  readonly output?: string;
  readonly connectionState?: number;
  readonly hooks: readonly string[];
  readonly steps: readonly {
    readonly table: NftTable;
    readonly chain: string;
    readonly type: "rule" | "return" | "policy";
    readonly verdict: TraceVerdict;
    readonly handle?: bigint;
    readonly comment?: string;
  }[];
}

export interface ExplainedStep {
  /** `inet calico`. */
  readonly table: string;
  readonly chain: string;
  readonly handle?: string;
  readonly verdict: string;
  readonly comment?: string;
  /** The policy rule, or the tier, that this kernel rule was made from. */
  readonly rule?: NamedRule;
  /** What it means; absent for steps that only lead on. */
  readonly text?: string;
}

export interface ExplainedPacket {
  readonly node: string;
  readonly protocol: string;
  readonly source: string;
  readonly destination: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  /** `SYN`, `SYN,ACK`. */
  readonly flags?: string;
  readonly input?: string;
  readonly output?: string;
  readonly state?: string;
  /**
   * `delivered` to a program of this node, `sent` on, `dropped` by a rule, or `lost`: it came in and neither, so the kernel stopped it
   * before any filter could.
   */
  readonly outcome: "delivered" | "sent" | "dropped" | "lost";
  readonly steps: readonly ExplainedStep[];
}

export function explainPacket(node: string, packet: SeenPacket, names: RuleNames): ExplainedPacket {
  const { headers, input, output, connectionState } = packet;
  const { protocol, sourcePort, destinationPort, tcpFlags, icmp } = headers;
  const steps = packet.steps.map((step) => explainStep(step, names));
  const state = Object.entries(CT_STATE_BITS).find(([, bit]) => bit === connectionState)?.[0];
  return {
    node,
    protocol: protocolName(protocol),
    source: formatAddress(headers.source),
    destination: formatAddress(headers.destination),
    ...(sourcePort === undefined ? {} : { sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(icmp === undefined ? {} : { icmp }),
    ...(tcpFlags === undefined ? {} : { flags: flagText(tcpFlags) }),
    ...(input === undefined ? {} : { input }),
    ...(output === undefined ? {} : { output }),
    ...(state === undefined ? {} : { state }),
    outcome: outcomeOf(packet),
    steps,
  };
}

function outcomeOf({ steps, hooks }: SeenPacket): ExplainedPacket["outcome"] {
  if (steps.at(-1)?.verdict.kind === "drop") return "dropped";
  return hooks.includes("postrouting") ? "sent" : hooks.includes("input") ? "delivered" : "lost";
}

/** RFC 9293 §3.1. */
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
const flagText = (flags: number): string => TCP_FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0).join(",");

type Step = SeenPacket["steps"][number];

function explainStep(step: Step, names: RuleNames): ExplainedStep {
  const { table, chain, verdict, handle, comment } = step;
  const own = table.family === CALICO_TABLE.family && table.name === CALICO_TABLE.name;
  const rule = own && comment !== undefined ? names.of(comment) : undefined;
  const words = own ? ownText(step, rule) : foreignText(step);
  return {
    table: `${table.family} ${table.name}`,
    chain,
    ...(handle === undefined ? {} : { handle: String(handle) }),
    verdict: "chain" in verdict ? `${verdict.kind} ${verdict.chain}` : verdict.kind,
    ...(comment === undefined ? {} : { comment }),
    ...(rule === undefined ? {} : { rule }),
    ...(words === undefined ? {} : { text: words }),
  };
}

/** What the comments of rules without a policy mean, and what to do. Their texts are those of `ruleset/`. */
const STATIC_RULES: Readonly<Record<string, string>> = {
  "invalid connection state":
    "dropped: connection tracking calls the packet invalid. It belongs to no connection this node has seen begin, lies outside its window, or has impossible flags; begin a new connection, and see that both directions pass this node",
  "unknown workload interface":
    "dropped: no pod is known on this interface, or not with the group its link has. The agent has not been told of it yet, the pod is gone, or somebody changed the group; see the agent's log and whether the pod is on this node",
  "source address is not the workload's":
    "dropped: the packet comes from an address that is not this pod's (reverse-path check)",
  "workload is administratively down": "dropped: the endpoint is switched off",
  DefaultEndpointToHostAction: "a pod to its own node: defaultEndpointToHostAction of FelixConfiguration decides",
  "VXLAN from a workload": "dropped: pods may not send tunnel packets",
  "IPIP from a workload": "dropped: pods may not send tunnel packets",
  "VXLAN from an unknown host": "dropped: a tunnel packet from an address that is no node's",
  "IPIP from an unknown host": "dropped: a tunnel packet from an address that is no node's",
  "no profile allows ingress": "dropped: no policy and no profile allows it in",
  "no profile allows egress": "dropped: no policy and no profile allows it out",
  "missing: deny": "dropped: the policy or profile is referred to and not there (yet)",
  "service-loop prevention: no service takes this address":
    "dropped: the address is in a service prefix that BGP announces, and no Service has it, or not with this port (serviceLoopPrevention of FelixConfiguration)",
  failsafe: "let through: a failsafe port, open whatever host policies say",
  "neighbour discovery": "let through: IPv6 finds its neighbours and routers with it, whatever host policies say",
};

/** The same for comments that go on with the endpoint's name. */
const LIMIT_RULES: readonly (readonly [start: string, meaning: string])[] = [
  [
    "packet rate of ",
    "dropped: more packets a second than the pod's annotations allow (qos.projectcalico.org/…PacketRate)",
  ],
  [
    "connection limit of ",
    "reset: one connection more than the pod's annotations allow (qos.projectcalico.org/…MaxConnections)",
  ],
];

const ACTIONS: Readonly<Record<string, string>> = {
  accept: "allows it",
  drop: "denies it",
  return: "passes it on to the next tier",
  continue: "logs it",
};

function ownText({ type, chain, verdict, comment }: Step, rule: NamedRule | undefined): string | undefined {
  if (rule?.index !== undefined) {
    return `${objectText(rule)}: ${rule.direction} rule ${rule.index} ${ACTIONS[verdict.kind] ?? verdict.kind}`;
  }
  if (rule !== undefined)
    return `end of tier ${rule.name}: no ${rule.direction} rule matched, and the tier denies the rest`;
  if (comment !== undefined) {
    const known = STATIC_RULES[comment] ?? LIMIT_RULES.find(([start]) => comment.startsWith(start))?.[1];
    if (known !== undefined) return known;
    // Jumps into policies carry the name of their tier; they lead on and decide nothing.
    return verdict.kind === "jump" ? undefined : `${comment}: ${verdict.kind}`;
  }
  if (type === "rule" && verdict.kind === "accept" && /(^|-)walk-|^workload-to-host-action$/.test(chain)) {
    return "let through: part of a connection that was allowed when it began";
  }
  if (type === "rule" && verdict.kind === "drop") return `dropped in chain ${chain}`;
  return undefined;
}

/** Others' tables matter when they stop or redirect something. */
function foreignText({ table, chain, verdict, comment }: Step): string | undefined {
  if (verdict.kind !== "drop") return undefined;
  const why = comment === undefined ? "" : ` (${comment})`;
  return `dropped by table ${table.family} ${table.name}, chain ${chain}${why}: not by a policy`;
}

/** Which nodes' kernels see the path: the sender's and the receiver's; undefined when neither is known. */
export function nodesOf(paths: readonly ExplainedPath[]): string[] {
  return [
    ...new Set(
      paths.flatMap(({ source, destination }) => [source.node, destination.node].flatMap((node) => node ?? [])),
    ),
  ];
}
