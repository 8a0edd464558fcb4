/**
 * The embedded API server: one process-wide server, two listeners. Nodes reach it at the control plane's address through a
 * socket opened inside the fabric; `kubectl` on the host through 127.0.0.1.
 */
import { writeFileSync } from "node:fs";
import type { PodLogRequest } from "@calico-ts/kube-apiserver";
import { startApiServer } from "@calico-ts/kube-apiserver";
import { listenTcp } from "@calico-ts/linux";
import { formatAddress, formatPrefix } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { LogRequest } from "../cluster/cluster-port.ts";
import type { RunPaths } from "../run/run-folder.ts";
import type { TopologyPlan } from "../topology/plan.ts";
import type { ControlPlane } from "./control-plane.ts";

export interface EmbeddedApiOptions {
  readonly paths: RunPaths;
  /** The control plane's namespace, where nodes look for the server. */
  readonly netns: string;
  readonly plan: TopologyPlan;
  readonly logs: (request: LogRequest) => AsyncIterable<string>;
}

/** Where kubeadm's clusters have it. */
const SECURE_PORT = 6443;

export async function startEmbeddedApi({ paths, netns, plan, logs }: EmbeddedApiOptions): Promise<ControlPlane> {
  const { addresses } = plan.controlPlane;
  const [first] = addresses;
  if (first === undefined) throw new CalicoError("INTERNAL", "the control plane has no address");
  const inside = { address: formatAddress(first), port: SECURE_PORT };
  const server = await startApiServer({
    listenFds: addresses.map((address) => listenTcp({ netns, address, port: SECURE_PORT })),
    certificateAddresses: addresses.map(formatAddress),
    advertise: inside,
    serviceCidrs: plan.serviceCidrs.map(formatPrefix),
    podLogs: (request) => logs(logRequest(request)),
  });
  try {
    writeFileSync(paths.kubeconfig, await server.adminKubeconfig(), { mode: 0o600 });
  } catch (error) {
    await server.close();
    throw error;
  }
  return {
    publicUrl: server.url,
    inside: { host: inside.address, port: inside.port },
    managed: false,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

/** The server's words for the cluster's; what was not asked for is left out. */
function logRequest(request: PodLogRequest): LogRequest {
  const { namespace, pod, container, follow, previous, timestamps, tailLines, limitBytes, sinceSeconds, signal } =
    request;
  return {
    namespace,
    pod,
    container,
    follow,
    previous,
    timestamps,
    signal,
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(sinceSeconds === undefined ? {} : { sinceTime: new Date(Date.now() - sinceSeconds * 1000) }),
  };
}
