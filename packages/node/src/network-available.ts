/** The node condition NetworkUnavailable: False when calico is up, True when it was told to shut down. */
import type { DatastoreClient } from "@calico-ts/datastore";
import type { Clock } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";

export interface ConditionOptions {
  readonly client: DatastoreClient;
  readonly nodeName: string;
  readonly clock: Clock;
}

const ATTEMPTS = 10;

/** The kubelet writes the same list: a compare-and-swap on the node's revision keeps its entries. */
export async function setNetworkAvailable(options: ConditionOptions, available: boolean): Promise<void> {
  const { client, nodeName, clock } = options;
  for (let attempt = 1; ; attempt++) {
    const node = await client.get("Node", { name: nodeName });
    const conditions = node.status?.conditions ?? [];
    const status = available ? "False" : "True";
    const current = conditions.find((condition) => condition.type === "NetworkUnavailable");
    if (current?.status === status && current.reason === reasonOf(available)) return;
    const now = new Date(clock.now()).toISOString().replace(/\.\d{3}Z$/, "Z");
    const condition = {
      type: "NetworkUnavailable",
      status,
      reason: reasonOf(available),
      message: available ? "Calico is running on this node" : "Calico is shutting down on this node",
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    };
    const others = conditions.filter((one) => one.type !== "NetworkUnavailable");
    try {
      const patch = {
        metadata: { resourceVersion: node.metadata.resourceVersion },
        status: { conditions: [...others, condition] },
      };
      await client.patch("Node", { name: nodeName }, patch, { status: true });
      return;
    } catch (error) {
      if (!hasCode(error, "CONFLICT") || attempt === ATTEMPTS) throw error;
    }
  }
}

const reasonOf = (available: boolean): string => (available ? "CalicoIsUp" : "CalicoIsDown");
