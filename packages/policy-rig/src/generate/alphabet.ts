/** Small alphabets, so that things meet: few labels, ports and prefixes, with the neighbours of every edge among the packets. */
import type { Prng } from "../prng.ts";

export const APPS = ["web", "db", "x"] as const;
export const ENVS = ["dev", "prod"] as const;
export const TEAMS = ["red", "blue"] as const;

export const NETS4 = [
  "10.0.0.0/24",
  "10.0.0.0/31",
  "10.0.0.2/31",
  "10.0.1.1/32",
  "10.0.2.1/32",
  "10.0.0.0/22",
  "0.0.0.0/0",
  "1.2.0.0/17",
  "1.2.3.4/32",
  "9.0.0.0/8",
  "128.0.0.0/1",
] as const;
export const NETS6 = [
  "fd00::/64",
  "fd00::2/127",
  "fd00::1/128",
  "fd00::1:0/112",
  "2001:db8::/48",
  "2001:db8::/32",
  "::/0",
] as const;

export const RULE_PORTS = [1, 53, 80, 443, 8080, 65_535] as const;
export const RULE_RANGES = ["79:80", "80:81", "1:65535", "8000:8080", "53:53", "443:65535", "1:79"] as const;
export const PORT_NAMES = ["http", "dns", "metrics"] as const;
export const PACKET_PORTS = [
  80, 80, 80, 53, 53, 443, 8080, 79, 81, 52, 54, 1, 2, 442, 444, 7999, 8000, 8081, 65_535, 65_534,
] as const;
export const SOURCE_PORTS = [80, 1024, 8080, 65_535, 40_000, 53, 22] as const;

export const TIERS = ["first", "passing", "second", "unordered"] as const;
/** A tier that policies name and nobody defines. */
export const MISSING_TIER = "nowhere";
export const SERVICES = ["api", "dns"] as const;
export const ACCOUNTS = ["default", "robot"] as const;

type Labels = Record<string, string>;

export function labels(prng: Prng): Labels {
  const own: Labels = {};
  if (prng.chance(0.9)) own["app"] = prng.pick(APPS);
  if (prng.chance(0.5)) own["env"] = prng.pick(ENVS);
  // What others inherit, and what only pods get from Calico, claimed by whoever writes labels.
  if (prng.chance(0.05)) own["pcns.team"] = prng.pick(TEAMS);
  if (prng.chance(0.05)) own["projectcalico.org/orchestrator"] = "k8s";
  return own;
}

const TERMS = [
  "app == 'web'",
  "app == 'db'",
  "app != 'web'",
  "has(env)",
  "!has(env)",
  "has(app)",
  "app in {'web', 'db'}",
  "app not in {'db'}",
  "env contains 'ro'",
  "app starts with 'w'",
  "app ends with 'b'",
  "all()",
  "pcns.team == 'red'",
  "pcsa.trust == 'high'",
  "projectcalico.org/namespace == 'b'",
  "projectcalico.org/serviceaccount == 'robot'",
  'env == "prod"',
] as const;

export function selector(prng: Prng): string {
  const shape = prng.below(10);
  const term = (): string => prng.pick(TERMS);
  if (shape === 0) return `${term()} && ${term()}`;
  if (shape === 1) return `${term()} || ${term()}`;
  if (shape === 2) return `!(${term()} || ${term()})`;
  if (shape === 3) return `( ${term()} ) && ( ${term()} || ${term()} )`;
  return term();
}

const NAMESPACE_SELECTORS = [
  "team == 'red'",
  "has(team)",
  "!has(team)",
  "all()",
  "projectcalico.org/name == 'a'",
  "projectcalico.org/name in {'b', 'c'}",
  "team != 'red'",
] as const;

/** `global()` means something in rules only. */
export const namespaceSelector = (prng: Prng, inRule: boolean): string =>
  inRule && prng.chance(0.15) ? "global()" : prng.pick(NAMESPACE_SELECTORS);

export const accountSelector = (prng: Prng): string =>
  prng.pick(["trust == 'high'", "all()", "!has(trust)", "projectcalico.org/name == 'robot'"]);

export type Port = string | number;

export function port(prng: Prng, named: boolean): Port {
  const kind = prng.below(named ? 5 : 3);
  return kind < 2 ? prng.pick(RULE_PORTS) : kind === 2 ? prng.pick(RULE_RANGES) : prng.pick(PORT_NAMES);
}

export const portList = (prng: Prng, named: boolean): Port[] =>
  prng.chance(0.05)
    ? prng.times(20, (at) => 100 + at * 7).concat([80])
    : prng.times(prng.pick([1, 1, 2, 3, 5]), () => port(prng, named));

export function nets(prng: Prng, family: 4 | 6, negated: boolean): string[] {
  const all: readonly string[] = family === 4 ? NETS4 : NETS6;
  return prng.any(negated ? all.filter((net) => !net.endsWith("/0")) : all, 0.25);
}
