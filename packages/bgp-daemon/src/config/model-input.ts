/**
 * The door between whoever follows the datastore and `configFromModel`: everything that decides what this node's BGP does goes in as values, a configuration and
 * what is wrong with it come out. The function keeps nothing: what the last call found good is handed back as `previous`.
 *
 * Feed it with whole collections of the in-sync snapshot; order and duplicates do not matter. `secrets` in the result says which Secrets to watch.
 */
import type {
  BGPConfiguration,
  BGPFilter,
  BGPPeer,
  BlockAffinity,
  CalicoNode,
  EndpointSlice,
  IPPool,
  Service,
  WorkloadEndpoint,
} from "@calico-ts/model";
import type { DaemonConfig } from "../daemon.ts";

/** A key of a Secret in the daemon's own namespace. */
export interface SecretKey {
  readonly name: string;
  readonly key: string;
}

export interface ModelInput {
  readonly nodeName: string;
  /** Every node of the cluster, this one included (`calicoNodeFromKubernetes`). */
  readonly nodes: readonly CalicoNode[];
  /** `default` and `node.<name>` ones; others are ignored. */
  readonly configurations: readonly BGPConfiguration[];
  readonly peers: readonly BGPPeer[];
  readonly filters: readonly BGPFilter[];
  readonly pools: readonly IPPool[];
  /** All, or at least this node's; those of other owners and those not confirmed are ignored. */
  readonly affinities: readonly BlockAffinity[];
  /** All, or at least this node's (`workloadEndpointFromPod`): for peers by `localWorkloadSelector`. */
  readonly endpoints: readonly WorkloadEndpoint[];
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  /** The decoded value of a key, or undefined when there is no such Secret or key, or it may not be read. */
  readonly secret: (wanted: SecretKey) => string | undefined;
  /** CALICO_ROUTER_ID: an IPv4 address, or `hash`; absent: the node's IPv4 address. */
  readonly routerId?: string;
  /** CALICO_ADVERTISE_CLUSTER_IPS: prefixes with commas between; counts in place of `serviceClusterIPs`. */
  readonly advertiseClusterIps?: string;
  /** CALICO_K8S_NODE_REF: the node's name in EndpointSlices; absent: `nodeName`. */
  readonly kubernetesNodeName?: string;
  /** The result of the last call: what an object that is now invalid keeps standing for. */
  readonly previous?: ModelResult;
}

/** Something that cannot be honoured as it was written, and what is done instead. */
export interface Problem {
  /** Kind and name: `BGPPeer rack-1`, `Node worker-2`, `Service shop/front`. */
  readonly object: string;
  /** Path in the object, or "" for the whole of it. */
  readonly field: string;
  readonly why: string;
  /** What it means now, and what to do about it. */
  readonly whatToDo: string;
}

/** One line for logs and readiness. */
export const problemText = ({ object, field, why, whatToDo }: Problem): string =>
  `${object}${field === "" ? "" : `, ${field}`}: ${why}. ${whatToDo}.`;

export interface ModelResult {
  /** Undefined: this node cannot speak BGP now; `problems` says why. A daemon that runs goes on with what it has. */
  readonly config: DaemonConfig | undefined;
  readonly problems: readonly Problem[];
  /** Secrets that objects refer to, whether they are there or not. Watch them, and call again when one changes. */
  readonly secrets: readonly SecretKey[];
  /** The last good version of each object that counts, by `kind name`. Opaque: for the next call. */
  readonly lastGood: ReadonlyMap<string, BGPConfiguration | BGPFilter | BGPPeer>;
}
