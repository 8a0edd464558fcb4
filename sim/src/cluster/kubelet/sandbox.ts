/**
 * A pod's network namespace and its connection to the pod network.
 *
 * Made in this order: namespace with its loopback up, CNI ADD; unmade backwards. When ADD fails it is undone with DEL, as the specification
 * asks, and the namespace goes too: the next attempt starts from nothing.
 */
import { createNamespace, deleteNamespace } from "@calico-ts/linux";
import type { Logger } from "@calico-ts/runtime";
import { sha256Hex } from "@calico-ts/std";
import type { ClusterNode } from "../cluster-port.ts";
import type { Semaphore } from "../kube/semaphore.ts";
import { type Pod, uidOf } from "../kube/objects.ts";
import { namespaceName, namespacePath } from "../../names.ts";
import {
  addressesIn,
  addToNetwork,
  type CniAttachment,
  type CniNetwork,
  type CniResult,
  type NetworkSource,
  removeFromNetwork,
} from "./cni.ts";

export interface SandboxDeps {
  readonly run: string;
  readonly node: ClusterNode;
  readonly log: Logger;
  /** Limits plugin processes over all nodes. */
  readonly gate: Semaphore;
  readonly network: NetworkSource;
}

export class Sandbox {
  readonly name: string;
  readonly netns: string;
  readonly containerId: string;
  readonly ips: readonly string[];
  readonly #deps: SandboxDeps;
  readonly #network: CniNetwork;
  readonly #attachment: CniAttachment;
  readonly #result: CniResult;
  #gone = false;

  private constructor(deps: SandboxDeps, made: Made) {
    this.#deps = deps;
    this.name = made.name;
    this.netns = made.attachment.netns;
    this.containerId = made.attachment.containerId;
    this.ips = addressesIn(made.result);
    this.#network = made.network;
    this.#attachment = made.attachment;
    this.#result = made.result;
  }

  /** @throws CalicoError when the plugin or the kernel refuses; nothing is left behind then. */
  static create(deps: SandboxDeps, pod: Pod, attempt: number): Promise<Sandbox> {
    return deps.gate.run(async () => {
      const network = await deps.network.load();
      const identity = sha256Hex(`${deps.run}/${deps.node.name}/${uidOf(pod)}/${attempt}/${Date.now()}`);
      const name = namespaceName(deps.run, `pod-${identity.slice(0, 12)}`);
      createNamespace(name);
      const attachment = attachmentOf(deps, pod, { netns: namespacePath(name), containerId: identity });
      try {
        const result = await addToNetwork(network, attachment);
        return new Sandbox(deps, { name, network, attachment, result });
      } catch (error) {
        await removeFromNetwork(network, attachment, undefined).catch((cause: unknown) => {
          deps.log.debug("sandbox.undo_failed", { pod: pod.metadata.name, error: cause });
        });
        deleteNamespace(name);
        throw error;
      }
    });
  }

  /** CNI DEL, then the namespace. @throws CalicoError when the plugin fails: call again. */
  remove(): Promise<void> {
    return this.#deps.gate.run(async () => {
      if (this.#gone) return;
      await removeFromNetwork(this.#network, this.#attachment, this.#result);
      this.destroy();
    });
  }

  /** The namespace alone: what is left of a sandbox when its node loses power. */
  destroy(): void {
    if (this.#gone) return;
    this.#gone = true;
    deleteNamespace(this.name);
  }
}

interface Made {
  readonly name: string;
  readonly network: CniNetwork;
  readonly attachment: CniAttachment;
  readonly result: CniResult;
}

function attachmentOf(
  deps: SandboxDeps,
  pod: Pod,
  where: { readonly netns: string; readonly containerId: string },
): CniAttachment {
  return {
    nodeNetns: deps.node.netns,
    hostRoot: deps.node.hostRoot,
    run: deps.run,
    ...where,
    ifName: "eth0",
    args: {
      IgnoreUnknown: "1",
      K8S_POD_NAMESPACE: pod.metadata.namespace ?? "",
      K8S_POD_NAME: pod.metadata.name,
      K8S_POD_INFRA_CONTAINER_ID: where.containerId,
      K8S_POD_UID: uidOf(pod),
    },
    portMappings: pod.spec.containers.flatMap((container) =>
      (container.ports ?? [])
        .filter((port) => (port.hostPort ?? 0) > 0)
        .map(({ hostPort = 0, containerPort, protocol = "TCP" }) => ({
          hostPort,
          containerPort,
          protocol: protocol.toLowerCase(),
        })),
    ),
  };
}
