/** What the agent is given: everything that differs between a node, a simulated node and a test. */
import type { Kernel } from "@calico-ts/linux";
import type { Pod } from "@calico-ts/model";
import type { Clock, RootLogger } from "@calico-ts/runtime";
import type { SyncBatch } from "@calico-ts/sync";
import type { EndpointGate } from "./cni/ports.ts";
import type { ConfigText } from "./config/resolve.ts";

export interface AgentDeps {
  readonly node: string;
  /** Prefix of host paths: "/" on a real host. */
  readonly hostRoot: string;
  /** Parameters from the environment; they beat the datastore's. */
  readonly localConfig: ConfigText;
  /** Defaults that are not the parameters' own. */
  readonly defaultConfig?: ConfigText;
  readonly kernel: Kernel;
  readonly openSyncer: (signal: AbortSignal) => AsyncIterable<SyncBatch> & AsyncDisposable;
  readonly clock: Clock;
  readonly log: RootLogger;
  /** Starts the CNI service on this node; closed with the agent. */
  readonly openCni?: (door: CniNeeds) => Promise<AsyncDisposable>;
  readonly routeGraceMs?: number;
}

export interface CniNeeds {
  readonly endpoints: EndpointGate;
  readonly kernel: Kernel;
  /** The MTU worked out for pods of this node. */
  readonly mtu: () => number;
  /** The pod as the API server has shown it last, CNI's annotations included, if it is one of this node. */
  readonly knownPod: (pod: { readonly namespace: string; readonly name: string }) => Pod | undefined;
}

export type Outcome = "stopped" | "restart";
