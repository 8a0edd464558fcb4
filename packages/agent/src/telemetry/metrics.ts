/** Every metric of the agent, under upstream's names (dashboards rely on them). */
import { createMetricsRegistry, registerMetrics } from "@calico-ts/runtime/metrics";

export const AGENT_METRICS = {
  felix_active_local_endpoints: { kind: "gauge", help: "Number of active endpoints on this host." },
  felix_active_local_policies: { kind: "gauge", help: "Number of active policies on this host." },
  felix_cluster_num_hosts: { kind: "gauge", help: "Number of nodes known." },
  felix_calc_graph_update_time_seconds: {
    kind: "summary",
    help: "Seconds to update the calculation graph for each batch of datastore updates.",
  },
  felix_calc_graph_updates_processed: {
    kind: "counter",
    help: "Number of datastore updates processed by the calculation graph.",
    labels: ["type"],
  },
  felix_calc_graph_output_events: { kind: "counter", help: "Number of messages emitted by the calculation graph." },
  felix_int_dataplane_messages: {
    kind: "counter",
    help: "Number of dataplane messages by type.",
    labels: ["type"],
  },
  felix_int_dataplane_msg_batch_size: { kind: "summary", help: "Number of messages processed in each pass." },
  felix_int_dataplane_apply_time_seconds: { kind: "summary", help: "Seconds a pass took to apply to the kernel." },
  felix_int_dataplane_initial_resync_time_seconds: {
    kind: "gauge",
    help: "Seconds from start to the first complete application of the dataplane's state.",
  },
  felix_int_dataplane_failures: {
    kind: "counter",
    help: "Number of times that a pass failed in part and will be retried.",
  },
  felix_resync_state: { kind: "gauge", help: "Datastore state: 1 waiting for ready, 2 resync, 3 in sync." },
  felix_resyncs_started: { kind: "counter", help: "Number of times the datastore's state was read from the start." },
  felix_nft_calls: { kind: "counter", help: "Number of nftables transactions committed." },
  felix_nft_errors: { kind: "counter", help: "Number of nftables transactions the kernel refused." },
  felix_nft_list_calls: { kind: "counter", help: "Number of times the nftables table was read back." },
  felix_route_table_num_routes: { kind: "gauge", help: "Number of routes of ours in the table.", labels: ["table"] },
  felix_host: { kind: "gauge", help: "Configured node name.", labels: ["host"] },
} as const;

export type AgentMetrics = ReturnType<typeof createAgentMetrics>;

/** A registry with the agent's metrics. */
export function createAgentMetrics(node: string) {
  const registry = createMetricsRegistry();
  const metrics = registerMetrics(registry, AGENT_METRICS);
  metrics.felix_host.labels(node).set(1);
  metrics.felix_resync_state.set(1);
  return { registry, ...metrics };
}
