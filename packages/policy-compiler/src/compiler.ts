/**
 * START HERE. The calculation graph, in the order data flows: resources → intake (facts) → indexes and resolvers → sequencer
 * → messages. Each line below is one edge of the diagram in DESIGN.md.
 *
 * Updates are cheap: they change indexes and mark what is dirty. `flush` does the work and emits. Before the first complete
 * snapshot (`setInSync`) nothing is emitted at all.
 */
import type { DataplaneMessage } from "@calico-ts/dataplane-api";
import { policyIdText, workloadIdText } from "@calico-ts/dataplane-api";
import { PodPeers } from "./bgp/pod-peers.ts";
import type { ConfigText } from "./config/config-merge.ts";
import { ConfigMerge } from "./config/config-merge.ts";
import type { Graph } from "./graph.ts";
import type { CompilerProblem, CompilerUpdate } from "./intake/intake.ts";
import { Intake } from "./intake/intake.ts";
import { hostAddresses } from "./intake/routing-facts.ts";
import { MemberIndex } from "./ipsets/member-index.ts";
import { Sequencer } from "./output/sequencer.ts";
import type { ActivePolicySink } from "./policies/active-policies.ts";
import { ActivePolicies } from "./policies/active-policies.ts";
import type { EndpointSink } from "./policies/endpoint-resolver.ts";
import { EndpointResolver } from "./policies/endpoint-resolver.ts";
import { RouteResolver } from "./routes/route-resolver.ts";
import { vtepMessages } from "./routes/vtep-resolver.ts";

export interface CompilerOptions {
  /** This node's name: its endpoints are the ones compiled for. */
  readonly node: string;
  readonly emit: (message: DataplaneMessage) => void;
  /** FelixConfiguration values (spec names) that beat the datastore's. */
  readonly localConfig?: ConfigText;
  /** Told when what is wrong with a resource changes; no messages: nothing any more. */
  readonly trace?: (problem: CompilerProblem) => void;
}

export interface Compiler {
  update(update: CompilerUpdate): void;
  /** Everything that existed when the datastore was first read has been handed over. */
  setInSync(): void;
  flush(): void;
  /** Resources that are not, or not wholly, in force. */
  problems(): readonly CompilerProblem[];
}

export function createCompiler(options: CompilerOptions): Compiler {
  const { node, localConfig = {}, trace = () => undefined } = options;
  const sequencer = new Sequencer(options.emit);
  const members = new MemberIndex();
  const endpoints = new EndpointResolver();
  const podPeers = new PodPeers(node, (endpoint) => endpoints.policiesChanged(endpoint));
  const policies = new ActivePolicies(members, (endpoint) => endpoints.policiesChanged(endpoint));
  const routes = new RouteResolver(node);
  const config = new ConfigMerge(node, localConfig);
  let inSync = false;
  let announced = false;

  const graph: Graph = {
    setEndpoint(id, facts) {
      members.setItem(id, facts?.member); //                                        every endpoint is a member of IP sets
      const local = facts?.local; //                                                only this node's have policies
      policies.setEndpoint(id, local === undefined ? undefined : facts?.member);
      const { labels, profiles = [] } = facts?.member ?? {};
      const item = local?.kind === "workload" && labels !== undefined ? { labels, parents: profiles } : undefined;
      podPeers.setEndpoint(id, item); //                                            and may be BGP peers of it
      endpoints.setEndpoint(id, local, profiles);
    },
    setNetworkSet: (id, facts) => members.setItem(id, facts),
    setProfile(name, facts) {
      members.setProfileLabels(name, facts?.labels); //                             labels are inherited by its endpoints
      podPeers.setProfileLabels(name, facts?.labels);
      policies.setProfile(name, facts); //                                          rules apply after the tiers
    },
    setPolicy: (id, facts) => policies.setPolicy(id, facts),
    setTier: (name, facts) => endpoints.setTier(name, facts),
    setSlice: (id, facts) => members.setSlice(id, facts),
    setNode(name, facts) {
      routes.setNode(name, facts);
      for (const message of vtepMessages(name, facts)) {
        const family =
          message.kind === "vtep-remove" ? message.family : message.kind === "vtep-update" ? message.vtep.family : 0;
        sequencer.update(`vtep ${name} ${family}`, message);
      }
      const addresses = facts === undefined ? {} : hostAddresses(facts);
      const known = addresses.ipv4 !== undefined || addresses.ipv6 !== undefined;
      sequencer.update(
        `host ${name}`,
        known ? { kind: "host-update", node: name, addresses } : { kind: "host-remove", node: name },
      );
      if (name !== node) return;
      config.setNodeLabels(facts?.labels ?? new Map()); //                          nodeSelector of FelixConfigurations
      podPeers.setNodeLabels(facts?.labels ?? new Map()); //                        and of BGPPeers
    },
    setPool(name, pool) {
      routes.setPool(name, pool);
      sequencer.update(
        `pool ${name}`,
        pool === undefined ? { kind: "pool-remove", id: name } : { kind: "pool-update", id: name, pool },
      );
    },
    setBgpSettings: (settings) =>
      sequencer.update(
        "bgp settings",
        settings === undefined ? { kind: "bgp-settings-remove" } : { kind: "bgp-settings-update", settings },
      ),
    setPodPeer: (name, facts) => podPeers.setPeer(name, facts),
    setBlock: (id, facts) => routes.setBlock(id, facts),
    setConfiguration: (name, resource) => config.setResource(name, resource),
    interfacePrefix: () => (localConfig["interfacePrefix"] ?? "cali").split(",", 1)[0] ?? "cali",
  };
  const intake = new Intake(node, graph, trace);
  const activeSink = policySink(sequencer);
  const resolvedSink = endpointSink(sequencer);

  return {
    update: (update) => intake.accept(update),
    setInSync() {
      inSync = true;
    },
    problems: () => intake.problems(),
    flush() {
      if (!inSync) return;
      const onProblem = (name: string, problem: string): void =>
        intake.report("FelixConfiguration", { name }, [problem]);
      sequencer.update("config", { kind: "config-update", config: config.merged(onProblem) });
      policies.flush(activeSink); //                   rules of policies that became active, changed or inactive: they use sets
      members.flush(sequencer); //                     sets that rules use now, with their members
      endpoints.flush({ policies, podPeers }, resolvedSink); //      tiers and policies of endpoints whose matches changed
      routes.flush((destination, message) => sequencer.update(`route ${destination}`, message));
      if (!announced) sequencer.update("in-sync", { kind: "in-sync" });
      announced = true;
      sequencer.flush();
    },
  };
}

const policySink = (sequencer: Sequencer): ActivePolicySink => ({
  policyActive: (id, policy) => sequencer.update(`policy ${policyIdText(id)}`, { kind: "policy-update", id, policy }),
  policyInactive: (id) => sequencer.update(`policy ${policyIdText(id)}`, { kind: "policy-remove", id }),
  profileActive: (name, profile) => sequencer.update(`profile ${name}`, { kind: "profile-update", name, profile }),
  profileInactive: (name) => sequencer.update(`profile ${name}`, { kind: "profile-remove", name }),
});

const endpointSink = (sequencer: Sequencer): EndpointSink => ({
  workload: (id, endpoint) =>
    sequencer.update(
      `workload ${workloadIdText(id)}`,
      endpoint === undefined
        ? { kind: "workload-endpoint-remove", id }
        : { kind: "workload-endpoint-update", id, endpoint },
    ),
  host: (name, endpoint) =>
    sequencer.update(
      `host-endpoint ${name}`,
      endpoint === undefined
        ? { kind: "host-endpoint-remove", name }
        : { kind: "host-endpoint-update", name, endpoint },
    ),
});
