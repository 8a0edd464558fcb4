/** The kernel and the policy side of the CNI service, as small as they can be. */
import { CniFailure, KERNEL_REFUSED } from "../src/cni/cni-failure.ts";
import type { PodLinkSpec } from "../src/cni/pod-link.ts";
import type { EndpointGate, PodEnd, PodLinks } from "../src/cni/ports.ts";

/** Of a pod that asks for none. */
const MAC = "02:00:00:00:00:01";

/** A node's kernel: its interfaces outlive the agent. */
export class FakeLinks implements PodLinks {
  readonly #links = new Map<string, PodLinkSpec>();

  /** The kernel says no to the next one. */
  refuseNext = false;

  create(spec: PodLinkSpec): string {
    if (this.refuseNext) {
      this.refuseNext = false;
      throw new CniFailure(KERNEL_REFUSED, "the kernel says no");
    }
    this.#links.set(spec.hostInterface, spec);
    return spec.mac ?? MAC;
  }

  delete(hostInterface: string, containerId: string): boolean {
    return this.#links.get(hostInterface)?.containerId === containerId && this.#links.delete(hostInterface);
  }

  async remove(hostInterface: string, containerId: string): Promise<boolean> {
    return this.delete(hostInterface, containerId);
  }

  check(spec: PodLinkSpec): string[] {
    const link = this.#links.get(spec.hostInterface);
    if (link?.containerId !== spec.containerId) return ["not there"];
    return spec.mac === undefined || spec.mac === (link.mac ?? MAC) ? [] : [`not ${spec.mac}`];
  }

  list(): { readonly hostInterface: string; readonly containerId: string }[] {
    return [...this.#links.values()];
  }

  podEnd(hostInterface: string, containerId: string): PodEnd | undefined {
    const link = this.#links.get(hostInterface);
    return link?.containerId === containerId ? { name: link.podInterface, mac: link.mac ?? MAC } : undefined;
  }

  specOf(hostInterface: string): PodLinkSpec | undefined {
    return this.#links.get(hostInterface);
  }

  reboot(): void {
    this.#links.clear();
  }
}

/** Policy is always in the kernel. */
export const openGate: EndpointGate = {
  notReady: () => undefined,
  ready: async () => undefined,
  announce: () => undefined,
  programmed: async () => undefined,
  withdraw: () => undefined,
  withholdRoutes: () => ({ [Symbol.dispose]: () => undefined }),
  reserve: () => ({ [Symbol.dispose]: () => undefined }),
};
