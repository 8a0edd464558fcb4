/** The CNI service on its socket, with the agent's datastore and address management behind it. */
import { join } from "node:path";
import type { DatastoreClient } from "@calico-ts/datastore";
import type { HandleRecords } from "@calico-ts/ipam";
import type { Kernel } from "@calico-ts/linux";
import type { Clock, Logger } from "@calico-ts/runtime";
import type { Pod } from "@calico-ts/model";
import { TaskGroup } from "@calico-ts/runtime";
import { DatastorePods } from "./datastore-pods.ts";
import { IpamAddresses } from "./ipam-addresses.ts";
import type { PodName } from "./request.ts";
import { KernelPodLinks } from "./pod-link.ts";
import type { EndpointGate } from "./ports.ts";
import { PluginPrograms } from "./plugin-programs.ts";
import { openCniServer } from "./server.ts";
import { CniService } from "./service.ts";

export interface CniServiceOptions {
  readonly client: DatastoreClient;
  readonly node: string;
  readonly hostRoot: string;
  readonly endpoints: EndpointGate;
  readonly kernel: Kernel;
  readonly mtu: () => number;
  readonly knownPod: (pod: PodName) => Pod | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** Absent: `borrowed`. */
  readonly handleRecords?: HandleRecords | undefined;
}

/** Serves until disposed. @throws CalicoError ALREADY_EXISTS when another agent serves this node */
export async function openCniService(options: CniServiceOptions): Promise<AsyncDisposable> {
  const { client, node, clock, log, kernel, endpoints, mtu, handleRecords } = options;
  await using scope = new AsyncDisposableStack();
  const service = new CniService({
    addresses: new IpamAddresses({ client, node, clock, log: log.child("ipam"), handleRecords }),
    pods: new DatastorePods({ client, node, known: options.knownPod }),
    links: new KernelPodLinks(kernel),
    plugins: new PluginPrograms(),
    endpoints,
    clock,
    log,
    mtu,
  });
  const tasks = scope.use(new TaskGroup({ onError: (error) => log.error("cni.releases_failed", { error }) }));
  tasks.start((signal) => service.run(signal));
  scope.use(await openCniServer({ path: join(options.hostRoot, "var/run/calico/cni.sock"), service, log }));
  return scope.move();
}
