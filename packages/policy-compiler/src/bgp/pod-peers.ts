/**
 * Which pods of this node speak BGP with it: those that the `localWorkloadSelector` of a BGPPeer selects, if the peer is for this node
 * (by name, by nodeSelector, or for all). Labels inherited from profiles count. Of several such peers a pod has the first by name.
 */
import type { PodPeerFacts } from "../intake/bgp-facts.ts";
import type { LabelledItem } from "../labels/label-index.ts";
import { LabelIndex } from "../labels/label-index.ts";

export class PodPeers {
  readonly #node: string;
  readonly #peers = new Map<string, PodPeerFacts>();
  readonly #index: LabelIndex;
  #nodeLabels: ReadonlyMap<string, string> = new Map();

  /** `onChange`: what `peerOf` says of the endpoint may have changed. */
  constructor(node: string, onChange: (endpoint: string) => void) {
    this.#node = node;
    this.#index = new LabelIndex({
      matchStarted: (_peer, endpoint) => onChange(endpoint),
      matchStopped: (_peer, endpoint) => onChange(endpoint),
    });
  }

  /** The name of the BGPPeer. */
  peerOf(endpoint: string): string | undefined {
    return [...this.#index.selectorsMatching(endpoint)].toSorted()[0];
  }

  setPeer(name: string, facts: PodPeerFacts | undefined): void {
    if (facts === undefined) this.#peers.delete(name);
    else this.#peers.set(name, facts);
    this.#consider(name);
  }

  /** Of this node. */
  setNodeLabels(labels: ReadonlyMap<string, string>): void {
    this.#nodeLabels = labels;
    for (const name of this.#peers.keys()) this.#consider(name);
  }

  /** Of this node's pods. */
  setEndpoint(id: string, endpoint: LabelledItem | undefined): void {
    if (endpoint === undefined) this.#index.deleteItem(id);
    else this.#index.setItem(id, endpoint);
  }

  setProfileLabels(name: string, labels: ReadonlyMap<string, string> | undefined): void {
    this.#index.setParentLabels(name, labels);
  }

  #consider(name: string): void {
    const facts = this.#peers.get(name);
    const here =
      facts !== undefined &&
      (facts.node === undefined ? facts.nodes.matches(this.#nodeLabels) : facts.node === this.#node);
    if (here) this.#index.setSelector(name, facts.workloads);
    else this.#index.deleteSelector(name);
  }
}
