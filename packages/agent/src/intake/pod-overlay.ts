/**
 * What CNI knows before the API server tells: laid over the pods of the sync stream on their way to the compiler.
 *
 * ADD announces a pod's addresses; until the pod's own annotations name that container, the compiler sees the pod with the
 * annotations ADD is about to write. DEL withdraws a container; while the pod's annotations still name it, the compiler sees
 * them empty. Either way the compiler reads one thing, the pod, and knows nothing of this.
 *
 * An announcement counts only for the pod (uid) it was made for, and waits for it if the watch has not brought it yet. Everything is
 * forgotten when the pod is gone.
 */
import { formatAddress, type IpAddress } from "@calico-ts/net";
import type { Pod } from "@calico-ts/model";

export interface PodRef {
  readonly namespace: string;
  readonly name: string;
}

export interface Announcement {
  readonly pod: PodRef;
  readonly uid: string;
  readonly containerId: string;
  readonly addresses: readonly IpAddress[];
}

const POD_IP = "cni.projectcalico.org/podIP";
const POD_IPS = "cni.projectcalico.org/podIPs";
const CONTAINER_ID = "cni.projectcalico.org/containerID";

/** Sandboxes of one pod that are remembered as gone: a late watch event speaks of the last one or two. */
const KEPT_WITHDRAWN = 4;

interface Known {
  readonly ref: PodRef;
  api: Pod | undefined;
  announced: Announcement | undefined;
  readonly withdrawn: Set<string>;
}

export class PodOverlay {
  readonly #node: string;
  readonly #forward: (ref: PodRef, pod: Pod | undefined) => void;
  readonly #pods = new Map<string, Known>();

  constructor(options: { readonly node: string; readonly forward: (ref: PodRef, pod: Pod | undefined) => void }) {
    this.#node = options.node;
    this.#forward = options.forward;
  }

  /** A pod as the API server has it; undefined: deleted. */
  update(ref: PodRef, pod: Pod | undefined): void {
    const key = keyOf(ref);
    const known = this.#pods.get(key);
    if (known === undefined && pod?.spec?.nodeName !== this.#node) {
      this.#forward(ref, pod); // other nodes' pods are none of CNI's business here
      return;
    }
    if (pod === undefined) {
      // An announcement for a pod the watch has not shown yet stays: this is the end of an earlier one of that name.
      const waiting = known?.announced !== undefined && known.api?.metadata.uid !== known.announced.uid;
      if (known === undefined || !waiting) this.#pods.delete(key);
      else known.api = undefined;
      this.#forward(ref, undefined);
      return;
    }
    const entry = known ?? { ref, api: undefined, announced: undefined, withdrawn: new Set() };
    entry.api = pod;
    this.#pods.set(key, entry);
    settle(entry, pod);
    this.#forward(ref, effective(entry));
  }

  announce(announcement: Announcement): void {
    const key = keyOf(announcement.pod);
    const known = this.#pods.get(key) ?? {
      ref: announcement.pod,
      api: undefined,
      announced: undefined,
      withdrawn: new Set<string>(),
    };
    known.announced = announcement;
    known.withdrawn.delete(announcement.containerId);
    this.#pods.set(key, known);
    if (known.api !== undefined) this.#forward(known.ref, effective(known));
  }

  withdraw(ref: PodRef, containerId: string): void {
    const known = this.#pods.get(keyOf(ref));
    if (known === undefined) return;
    if (known.announced?.containerId === containerId) known.announced = undefined;
    known.withdrawn.add(containerId);
    for (const oldest of known.withdrawn) if (known.withdrawn.size > KEPT_WITHDRAWN) known.withdrawn.delete(oldest);
    if (known.api === undefined) {
      if (known.announced === undefined) this.#pods.delete(keyOf(ref));
      return;
    }
    settle(known, known.api);
    this.#forward(known.ref, effective(known));
  }

  /** A pod of this node as the API server has it, without what is laid over it. */
  shown(ref: PodRef): Pod | undefined {
    return this.#pods.get(keyOf(ref))?.api;
  }

  /** Announced addresses the datastore does not have yet. */
  announced(ref: PodRef): Announcement | undefined {
    return this.#pods.get(keyOf(ref))?.announced;
  }
}

/** Forgets an announcement that the datastore has caught up with: annotations and, once the kubelet has set it, status. */
function settle(known: Known, pod: Pod): void {
  const { announced } = known;
  if (announced === undefined) return;
  const annotations = pod.metadata.annotations ?? {};
  const text = addressText(announced);
  if (annotations[CONTAINER_ID] !== announced.containerId || annotations[POD_IPS] !== text) return;
  const told = (pod.status?.podIPs ?? []).flatMap(({ ip }) => ip ?? []);
  const expected = new Set(announced.addresses.map(formatAddress));
  if (told.every((ip) => expected.has(ip))) known.announced = undefined;
}

function effective({ announced, api, withdrawn }: Known): Pod | undefined {
  if (api === undefined) return undefined;
  if (announced !== undefined && announced.uid === api.metadata.uid) {
    const podIps = addressText(announced);
    const annotations = {
      [POD_IP]: podIps.split(",")[0] ?? "",
      [POD_IPS]: podIps,
      [CONTAINER_ID]: announced.containerId,
    };
    return withAddresses(api, annotations, announced.addresses.map(formatAddress));
  }
  const container = api.metadata.annotations?.[CONTAINER_ID];
  if (container === undefined || !withdrawn.has(container)) return api;
  return withAddresses(api, { [POD_IP]: "", [POD_IPS]: "" }, []);
}

/** Annotations and status both: the kubelet's status may still speak of an earlier sandbox. */
function withAddresses(pod: Pod, changes: Readonly<Record<string, string>>, addresses: readonly string[]): Pod {
  const { podIP: _podIP, podIPs: _podIPs, ...status } = pod.status ?? {};
  return {
    ...pod,
    metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, ...changes } },
    status: { ...status, podIPs: addresses.map((ip) => ({ ip })) },
  };
}

/** As CNI writes the annotation: host prefixes, joined by commas. */
const addressText = (announcement: Announcement): string =>
  announcement.addresses.map((address) => `${formatAddress(address)}/${address.family === 4 ? 32 : 128}`).join(",");

const keyOf = (ref: PodRef): string => `${ref.namespace}/${ref.name}`;
