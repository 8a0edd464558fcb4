/** The datastore that the environment names, as every program of the product opens it. */
import { CalicoError } from "@calico-ts/std";
import type { DatastoreClient } from "./client.ts";
import { openKubernetes } from "./kubernetes/client.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * DATASTORE_TYPE (or FELIX_DATASTORETYPE) `kubernetes`, the default: the kubeconfig of KUBECONFIG, else what Kubernetes mounts into a pod.
 * `etcdv3`: etcd/config.ts; Kubernetes' own kinds are asked from Kubernetes where the environment names one.
 * @throws CalicoError BAD_INPUT: another type, or an environment that does not suffice
 */
export async function openFromEnvironment(env: Environment): Promise<DatastoreClient> {
  const type = env["DATASTORE_TYPE"] || env["FELIX_DATASTORETYPE"] || "kubernetes";
  if (type === "kubernetes")
    return openKubernetes(env["KUBECONFIG"] ? { kubeconfig: env["KUBECONFIG"] } : { inCluster: true });
  if (type !== "etcdv3") {
    throw new CalicoError("BAD_INPUT", `DATASTORE_TYPE is "${type}"; it must be kubernetes or etcdv3`);
  }
  // gRPC is loaded by those who need it only.
  const { etcdConfigFromEnvironment, openEtcd } = await import("./etcd/index.ts");
  const config = etcdConfigFromEnvironment(env);
  const kubernetes = env["KUBECONFIG"]
    ? openKubernetes({ kubeconfig: env["KUBECONFIG"] })
    : env["KUBERNETES_SERVICE_HOST"]
      ? openKubernetes({ inCluster: true })
      : undefined;
  return openEtcd({ config, kubernetes });
}
