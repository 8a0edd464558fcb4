/** URLs of the Kubernetes API for the kinds of the model. */
import { type KindName, kinds } from "@calico-ts/model";
import { CalicoError } from "@calico-ts/std";
import { describeKey, type ResourceKey } from "../client.ts";

/** `/api/v1/namespaces/x/pods`, `/apis/projectcalico.org/v3/ippools`. */
export function collectionPath(kind: KindName, namespace: string | undefined): string {
  const info = kinds[kind];
  const root = info.group === "" ? `/api/${info.version}` : `/apis/${info.group}/${info.version}`;
  if (namespace === undefined || namespace === "") return `${root}/${info.plural}`;
  if (!info.namespaced) throw new CalicoError("BAD_INPUT", `${kind}: this kind has no namespaces`);
  return `${root}/namespaces/${encodeURIComponent(namespace)}/${info.plural}`;
}

export function resourcePath(kind: KindName, key: ResourceKey, subresource = ""): string {
  if (key.name === "") throw new CalicoError("BAD_INPUT", `${kind}: a name is required`);
  if (kinds[kind].namespaced && (key.namespace ?? "") === "") {
    throw new CalicoError("BAD_INPUT", `${describeKey(kind, key)}: a namespace is required`);
  }
  const path = `${collectionPath(kind, key.namespace)}/${encodeURIComponent(key.name)}`;
  return subresource === "" ? path : `${path}/${subresource}`;
}

export function withQuery(path: string, query: Readonly<Record<string, string | undefined>>): string {
  const set = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return set.length === 0 ? path : `${path}?${new URLSearchParams(set).toString()}`;
}
