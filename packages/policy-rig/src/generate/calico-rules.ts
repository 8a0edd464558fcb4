/** Random rules of v3 policies and profiles: every field, most of them absent most of the time. */
import type { Prng } from "../prng.ts";
import { NAMESPACES } from "../lab/plan.ts";
import { ACCOUNTS, accountSelector, namespaceSelector, nets, portList, selector, SERVICES } from "./alphabet.ts";

type Direction = "ingress" | "egress";
type Fields = Record<string, unknown>;

export interface RuleSetting {
  readonly direction: Direction;
  /** Of the policy; undefined: of the whole cluster. */
  readonly namespace: string | undefined;
}

export const rules = (prng: Prng, setting: RuleSetting, most: number): Fields[] =>
  prng.times(prng.below(most + 1), () => rule(prng, setting));

function rule(prng: Prng, setting: RuleSetting): Fields {
  const action = prng.pick(["Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log"]);
  if (prng.chance(0.04)) return { action, ...manyChoices(prng) };
  const protocol = protocolPart(prng);
  const family = familyOf(protocol) ?? prng.pick([4, 6] as const);
  const source = entity(prng, family);
  const destination = entity(prng, family);
  const peer = setting.direction === "ingress" ? source : destination;
  const { ports, notPorts, sourcePorts, ...rest } = protocol;
  const noPorts = ports === undefined && notPorts === undefined;
  if (prng.chance(0.2) && (noPorts || setting.direction === "ingress") && rest["protocol"] === undefined) {
    for (const field of Object.keys(peer)) delete peer[field];
    const own = setting.namespace !== undefined && prng.chance(0.3);
    peer["services"] = { name: prng.pick(SERVICES), ...(own ? {} : { namespace: prng.pick(NAMESPACES) }) };
  }
  if (ports !== undefined) destination["ports"] = ports;
  if (notPorts !== undefined) destination["notPorts"] = notPorts;
  if (sourcePorts !== undefined) source["ports"] = sourcePorts;
  return {
    action,
    ...rest,
    ...(Object.keys(source).length > 0 ? { source } : {}),
    ...(Object.keys(destination).length > 0 ? { destination } : {}),
  };
}

/** Sets and ports on both sides, each with alternatives: more combinations than rules are written out for. */
function manyChoices(prng: Prng): Fields {
  return {
    protocol: prng.pick(["TCP", "UDP"]),
    source: { selector: selector(prng), ports: ["http", "1024:65535"] },
    destination: { selector: selector(prng), ports: ["http", "dns", "metrics", "79:81"] },
  };
}

function familyOf(part: Fields): 4 | 6 | undefined {
  if (part["ipVersion"] === 4 || part["protocol"] === "ICMP" || part["notProtocol"] === "ICMP") return 4;
  if (part["ipVersion"] === 6 || part["protocol"] === "ICMPv6" || part["notProtocol"] === "ICMPv6") return 6;
  return undefined;
}

function protocolPart(prng: Prng): Fields {
  const shape = prng.below(12);
  if (shape < 4) return prng.chance(0.15) ? { ipVersion: prng.pick([4, 6]) } : {};
  if (shape < 9) return transport(prng);
  if (shape === 9) return prng.pick(ODD_PROTOCOLS);
  if (shape === 10) return icmp(prng);
  // Named ports go without a protocol too.
  return prng.chance(0.5) ? { ports: [prng.pick(["http", "dns", "metrics"])] } : transport(prng);
}

const ODD_PROTOCOLS: readonly Fields[] = [
  { notProtocol: "TCP" },
  { notProtocol: 17 },
  { notProtocol: "ICMP" },
  { notProtocol: "SCTP" },
  { protocol: "UDPLite" },
  { protocol: 253 },
  { protocol: 132 },
  { protocol: 4 },
  { protocol: "TCP", notProtocol: "UDP" },
  { notProtocol: 253, ipVersion: 4 },
  // Nobody can read these: an API server would refuse them.
  { protocol: "nonsense" },
  { protocol: "ICMP", icmp: { code: 1 } },
  { protocol: "TCP", ports: ["90:10"] },
];

function transport(prng: Prng): Fields {
  const part: Fields = { protocol: prng.pick(["TCP", "TCP", "TCP", "UDP", "UDP", "SCTP", 6, 17]) };
  if (prng.chance(0.6)) part["ports"] = portList(prng, true);
  if (prng.chance(0.3)) part["notPorts"] = portList(prng, true);
  if (prng.chance(0.12)) part["sourcePorts"] = portList(prng, prng.chance(0.2));
  if (prng.chance(0.1)) part["ipVersion"] = prng.pick([4, 6]);
  return part;
}

function icmp(prng: Prng): Fields {
  const v4 = prng.chance(0.6);
  const protocol = v4 ? prng.pick(["ICMP", 1]) : prng.pick(["ICMPv6", 58]);
  const type = v4 ? prng.pick([8, 8, 8, 13, 0]) : prng.pick([128, 128, 128, 139]);
  const match = prng.chance(0.5) ? { type } : { type, code: prng.pick([0, 1]) };
  return prng.chance(0.3)
    ? { protocol }
    : prng.chance(0.3)
      ? { protocol, notICMP: match }
      : prng.chance(0.1)
        ? { protocol, icmp: match, notICMP: { type, code: 1 } }
        : { protocol, icmp: match };
}

function entity(prng: Prng, family: 4 | 6): Fields {
  const fields: Fields = {};
  if (prng.chance(0.25)) fields["selector"] = selector(prng);
  if (prng.chance(0.08)) fields["notSelector"] = selector(prng);
  if (prng.chance(0.15)) fields["namespaceSelector"] = namespaceSelector(prng, true);
  if (prng.chance(0.08)) fields["serviceAccounts"] = accounts(prng);
  if (prng.chance(0.12)) fields["nets"] = nets(prng, family, false);
  if (prng.chance(0.08)) fields["notNets"] = nets(prng, family, true);
  return fields;
}

function accounts(prng: Prng): Fields {
  const fields: Fields = {};
  if (prng.chance(0.7)) fields["names"] = prng.any(ACCOUNTS);
  if (prng.chance(0.5)) fields["selector"] = accountSelector(prng);
  return fields;
}
