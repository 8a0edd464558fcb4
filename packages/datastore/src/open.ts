/** The datastore that the environment names, as every program of the product opens it. */
import { CalicoError } from "@calico-ts/std";
import type { DatastoreClient } from "./client.ts";
import type { EtcdDatastore } from "./etcd/index.ts";
import { openKubernetes } from "./kubernetes/client.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * DATASTORE_TYPE (or FELIX_DATASTORETYPE) `kubernetes`, the default: the kubeconfig of KUBECONFIG, else what Kubernetes mounts into a pod.
 * `etcdv3`: etcd/config.ts; Kubernetes' own kinds are asked from Kubernetes where the environment names one.
 * `kubernetes` replaces what the environment says about Kubernetes in that case.
 * @throws CalicoError BAD_INPUT: another type, or an environment that does not suffice
 */
export async function openFromEnvironment(
  env: Environment,
  options: { readonly kubernetes?: DatastoreClient } = {},
): Promise<DatastoreClient> {
  const type = env["DATASTORE_TYPE"] || env["FELIX_DATASTORETYPE"] || "kubernetes";
  const kubeconfig = env["KUBECONFIG"] || undefined;
  if (type === "kubernetes") return openKubernetes(kubeconfig === undefined ? { inCluster: true } : { kubeconfig });
  if (type !== "etcdv3") {
    throw new CalicoError("BAD_INPUT", `DATASTORE_TYPE is "${type}"; it must be kubernetes or etcdv3`);
  }
  // gRPC is loaded by those who need it only.
  const { etcdConfigFromEnvironment, openEtcd } = await import("./etcd/index.ts");
  return openEtcd({
    config: etcdConfigFromEnvironment(env),
    kubernetes: options.kubernetes ?? kubernetesIfNamed(kubeconfig, env),
  });
}

function kubernetesIfNamed(kubeconfig: string | undefined, env: Environment): DatastoreClient | undefined {
  if (kubeconfig !== undefined) return openKubernetes({ kubeconfig });
  return env["KUBERNETES_SERVICE_HOST"] ? openKubernetes({ inCluster: true }) : undefined;
}

/** Whether the datastore is etcd, which somebody has to keep from growing. */
export const isEtcd = (client: DatastoreClient): client is EtcdDatastore =>
  "compact" in client && "revision" in client && typeof client.revision === "function";
