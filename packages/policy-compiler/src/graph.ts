/** What the intake may say to the nodes of the graph, in facts. */
import type { BgpSettings, PolicyId, Pool } from "@calico-ts/dataplane-api";
import type { FelixConfiguration } from "@calico-ts/model";
import type {
  BlockFacts,
  EndpointFacts,
  MemberFacts,
  NodeFacts,
  PolicyFacts,
  ProfileFacts,
  TierFacts,
} from "./intake/facts.ts";
import type { PodPeerFacts } from "./intake/bgp-facts.ts";
import type { SliceFacts } from "./ipsets/service-index.ts";

/** In every call undefined means: it is gone. */
export interface Graph {
  setEndpoint(id: string, facts: EndpointFacts | undefined): void;
  setNetworkSet(id: string, facts: MemberFacts | undefined): void;
  setProfile(name: string, facts: ProfileFacts | undefined): void;
  setPolicy(id: PolicyId, facts: PolicyFacts | undefined): void;
  setTier(name: string, facts: TierFacts | undefined): void;
  setSlice(id: string, facts: SliceFacts | undefined): void;
  setNode(name: string, facts: NodeFacts | undefined): void;
  setPool(name: string, pool: Pool | undefined): void;
  setBlock(id: string, facts: BlockFacts | undefined): void;
  /** Of the cluster: BGPConfiguration `default`. */
  setBgpSettings(settings: BgpSettings | undefined): void;
  setPodPeer(name: string, facts: PodPeerFacts | undefined): void;
  setConfiguration(name: string, resource: FelixConfiguration | undefined): void;
  /** What host-side interface names begin with. */
  interfacePrefix(): string;
}
