/** Makes an API server know Calico's kinds, and waits until it serves them. */
import { crdKinds, crdManifest, type KindName, kinds } from "@calico-ts/model";
import { systemClock, withRetry } from "@calico-ts/runtime";
import { hasCode } from "@calico-ts/std";
import { openKubernetes } from "../kubernetes/client.ts";
import type { ConnectionConfig } from "../kubernetes/config.ts";
import { ApiHttp } from "../kubernetes/http.ts";

export async function installDefinitions(
  connection: ConnectionConfig,
  wanted: readonly KindName[] = crdKinds,
): Promise<void> {
  await createDefinitions(connection, wanted, crdManifest);
}

/** Kinds that others define, as custom resources without a schema: KubeVirt's. */
export async function installForeignDefinitions(
  connection: ConnectionConfig,
  wanted: readonly KindName[],
): Promise<void> {
  await createDefinitions(connection, wanted, (name) => {
    const { group, hasStatus, kind, listKind, namespaced, plural, shortNames, singular, version } = kinds[name];
    const openAPIV3Schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
    const served = { name: version, served: true, storage: true, schema: { openAPIV3Schema } };
    return {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: `${plural}.${group}` },
      spec: {
        group,
        names: { kind, listKind, plural, singular, shortNames },
        scope: namespaced ? "Namespaced" : "Cluster",
        versions: [{ ...served, ...(hasStatus && { subresources: { status: {} } }) }],
      },
    };
  });
}

async function createDefinitions(
  connection: ConnectionConfig,
  wanted: readonly KindName[],
  manifest: (kind: KindName) => object,
): Promise<void> {
  await using http = new ApiHttp(connection, { clock: systemClock, userAgent: "test", callTimeoutMs: 10_000 });
  const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  for (const kind of wanted) {
    try {
      await http.call({ what: `create the CRD of ${kind}`, method: "POST", path, body: manifest(kind) });
    } catch (error) {
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
    }
  }
  await using client = openKubernetes({ connection });
  for (const kind of wanted) await withRetry(() => client.list(kind), { clock: systemClock, attempts: 20 });
}
