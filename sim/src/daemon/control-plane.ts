/** The control plane of a run: the embedded API server inside the fabric, or somebody else's behind a relay. */
import type { LogRequest } from "../cluster/cluster-port.ts";
import { controlPlaneNamespace } from "../fabric/layout.ts";
import { namespacePath } from "../names.ts";
import { runPaths } from "../run/run-folder.ts";
import type { TopologyPlan } from "../topology/plan.ts";
import { startEmbeddedApi } from "./embedded-api.ts";
import { connectExternalApi } from "./external-api.ts";

export interface ControlPlaneOptions {
  readonly run: string;
  readonly plan: TopologyPlan;
  /** The user's API server, instead of the embedded one. */
  readonly kubeconfig?: string;
  /** Behind `kubectl logs`; only the embedded server asks. */
  readonly logs: (request: LogRequest) => AsyncIterable<string>;
}

export interface ControlPlane extends AsyncDisposable {
  /** For people on the host. */
  readonly publicUrl: string;
  /** For programs on nodes. */
  readonly inside: { readonly host: string; readonly port: number };
  /** The server comes with scheduler and controllers of its own. */
  readonly managed: boolean;
}

/** When it resolves, the run's kubeconfig is written and works. */
export function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const paths = runPaths(options.run);
  const netns = namespacePath(controlPlaneNamespace(options.run));
  if (options.kubeconfig === undefined) {
    return startEmbeddedApi({ paths, netns, plan: options.plan, logs: options.logs });
  }
  const { serviceCidrs } = options.plan;
  return connectExternalApi({ kubeconfig: options.kubeconfig, copy: paths.kubeconfig, netns, serviceCidrs });
}
