/** Where the cluster is: what the environment names, else the kubeconfig in the home directory. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { type DatastoreClient, openFromEnvironment, openKubernetes } from "@calico-ts/datastore";
import { CalicoError } from "@calico-ts/std";
import type { Terminal } from "./terminal.ts";

/** DATASTORE_TYPE etcdv3: ETCD_…; otherwise KUBECONFIG, else ~/.kube/config, else the cluster this pod runs in. @throws CalicoError BAD_INPUT when there is none. */
export async function openDatastore({ env }: Terminal): Promise<DatastoreClient> {
  if ((env["DATASTORE_TYPE"] ?? "kubernetes") !== "kubernetes") return openFromEnvironment(env);
  const [first] = (env["KUBECONFIG"] ?? "").split(":").filter((path) => path !== "");
  const kubeconfig = first ?? join(homedir(), ".kube", "config");
  // In a pod, such as `kubectl exec … -- calicoctl explain --live`, the cluster is the one it runs in.
  if (first === undefined && !existsSync(kubeconfig) && (env["KUBERNETES_SERVICE_HOST"] ?? "") !== "") {
    return openKubernetes({ inCluster: true });
  }
  if (!existsSync(kubeconfig)) {
    const why = first === undefined ? "KUBECONFIG is not set" : "KUBECONFIG names it";
    throw new CalicoError(
      "BAD_INPUT",
      `${kubeconfig}: no such file (${why}); set KUBECONFIG, or give manifests with -f`,
    );
  }
  return openKubernetes({ kubeconfig });
}
