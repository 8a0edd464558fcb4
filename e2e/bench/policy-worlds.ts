/** What `policy.ts` measures: worlds of a known shape, as resources. */
import { hostInterfaceName } from "@calico-ts/model";
import type { CompilerUpdate } from "@calico-ts/policy-compiler";
import { globalPolicy, namespace, node, pod, raw, resource } from "@calico-ts/policy-compiler/testing";

export const SHAPE = { sets: 2000, members: 100, chains: 2000, rules: 10, local: 200 } as const;

const ipv4 = (first: number, at: number): string => `${first}.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}`;

/** A pod of this node; `group` decides which policies apply, `more` whether one more does. */
export const shapePod = (at: number, group: number, more = false): CompilerUpdate =>
  pod(`ns/w${at}`, {
    ips: [ipv4(10, at)],
    node: "n1",
    labels: { group: `g${group}`, ...(more ? { more: "yes" } : {}) },
  });

export const shapeInterface = (at: number): string => hostInterfaceName("ns", `w${at}`);

/** 2 000 network sets × 100 members, 2 000 policies × 10 rules that each ask one of them, spread over 200 pods of this node. */
export function* shape(): Iterable<CompilerUpdate> {
  yield namespace("ns");
  yield node("n1", { ipv4: "192.0.2.1/24" });
  for (let set = 0; set < SHAPE.sets; set++) {
    const nets = Array.from({ length: SHAPE.members }, (_, at) => `${ipv4(11, set * SHAPE.members + at)}/32`);
    yield resource("GlobalNetworkSet", `s${set}`, { metadata: { labels: { set: `s${set}` } }, spec: { nets } });
  }
  for (let at = 0; at < SHAPE.chains; at++) {
    const ingress = Array.from({ length: SHAPE.rules }, (_, index) => ({
      action: "Allow",
      protocol: "TCP",
      source: { selector: `set == 's${at}'` },
      destination: { ports: [1000 + index] },
    }));
    yield globalPolicy(`p${at}`, { selector: `group == 'g${at % SHAPE.local}'`, types: ["Ingress"], ingress });
  }
  // In force from the start, for a pod of its own: a pod that gets the label gets a list of policies that nobody has, and no new policy.
  yield globalPolicy("more", { selector: "has(more)", types: ["Ingress"], ingress: [{ action: "Allow" }] });
  yield pod("ns/more", { ips: ["10.255.0.1"], node: "n1", labels: { more: "yes" } });
  for (let at = 0; at < SHAPE.local; at++) yield shapePod(at, at);
}

export const LARGE = 100_000;
/** One set of 100 000 addresses, and one more if asked. */
export const largeSet = (extra: readonly string[] = []): CompilerUpdate =>
  resource("GlobalNetworkSet", "large", {
    metadata: { labels: { large: "yes" } },
    spec: { nets: [...Array.from({ length: LARGE }, (_, at) => `${ipv4(12, at)}/32`), ...extra] },
  });
/** Members of the large set as pods, one at a time: what happens all day. */
export const memberPod = (at: number): CompilerUpdate =>
  pod(`ns/m${at}`, { ips: [ipv4(13, at)], node: "n2", labels: { large: "yes" } });

export const DAY = { endpoints: 10_000, local: 200, policies: 1000, namespaces: 100 } as const;

export const dayNamespace = (at: number, team: number): CompilerUpdate => namespace(`ns${at}`, { team: `team${team}` });

/** 10 000 endpoints in 100 namespaces, 200 of them here; 1 000 policies × 5 rules. */
export function* day(): Iterable<CompilerUpdate> {
  for (let at = 0; at < DAY.namespaces; at++) yield dayNamespace(at, at % 10);
  for (let at = 0; at < DAY.endpoints; at++) {
    yield pod(`ns${at % DAY.namespaces}/p${at}`, {
      ips: [ipv4(10, at)],
      node: at % (DAY.endpoints / DAY.local) === 0 ? "n1" : "n2",
      labels: { app: `app${at % 37}`, tier: `t${at % 5}` },
    });
  }
  for (let at = 0; at < DAY.policies; at++) {
    const source =
      at % 3 === 0 ? { namespaceSelector: `team == 'team${at % 10}'` } : { selector: `app == 'app${(at * 7) % 37}'` };
    const ingress = Array.from({ length: 5 }, (_, index) => ({
      action: "Allow",
      protocol: "TCP",
      source,
      destination: { ports: [8000 + index] },
    }));
    const spec = { selector: `app == 'app${at % 37}'`, types: ["Ingress"], ingress };
    yield raw("NetworkPolicy", `np${at}`, { spec }, `ns${at % DAY.namespaces}`);
  }
}

/** 294 policies × 68 rules (20 000) over 3 700 selectors, all applying to `a/p0`; 1 000 pods. */
export function* oracleWorld(): Iterable<CompilerUpdate> {
  yield namespace("a");
  for (let at = 0; at < 1000; at++) yield pod(`a/p${at}`, { ips: [ipv4(10, at)], labels: { app: `app${at}` } });
  for (let at = 0; at < 294; at++) {
    const ingress = Array.from({ length: 68 }, (_, index) => ({
      action: "Allow",
      protocol: "TCP",
      source: { selector: `app == 'other${(at * 68 + index) % 3700}'` },
      destination: { ports: [80 + (index % 3)] },
    }));
    yield globalPolicy(`p${String(at).padStart(4, "0")}`, { selector: "app == 'app0'", ingress });
  }
}
