/**
 * CustomResourceDefinitions (apiextensions.k8s.io/v1) from the kinds' declarations. The schema goes in as it is; keys are in
 * a fixed order so that the files change only where a kind does.
 */
import { CalicoError } from "@calico-ts/std";
import type { JsonSchema } from "@calico-ts/schema";
import type { KindName } from "./kinds.ts";
import { kindNames, kinds } from "./kinds.ts";

export interface CustomResourceDefinition {
  readonly apiVersion: "apiextensions.k8s.io/v1";
  readonly kind: "CustomResourceDefinition";
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Kinds whose CRD we ship. */
export const crdKinds: readonly KindName[] = kindNames.filter((name) => kinds[name].storage === "crd");

/** Groups under k8s.io are protected: a CRD must name the review that approved its API. */
const API_REVIEW: Readonly<Record<string, string>> = {
  "policy.networking.k8s.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/300",
};

/** @throws CalicoError BAD_INPUT for a kind that is not stored as a custom resource */
export function crdManifest(name: KindName): CustomResourceDefinition {
  const info = kinds[name];
  if (info.storage !== "crd") throw new CalicoError("BAD_INPUT", `${name} is not stored as a custom resource`);
  const { kind, listKind, plural, singular, shortNames } = info;
  const review = API_REVIEW[info.group];
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${plural}.${info.group}`,
      ...(review === undefined ? {} : { annotations: { "api-approved.kubernetes.io": review } }),
    },
    spec: {
      group: info.group,
      names: { kind, listKind, plural, ...(shortNames.length === 0 ? {} : { shortNames }), singular },
      scope: info.namespaced ? "Namespaced" : "Cluster",
      versions: [
        {
          name: info.version,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: ordered(info.schema) },
          ...(info.hasStatus ? { subresources: { status: {} } } : {}),
          ...(info.selectableFields.length === 0
            ? {}
            : { selectableFields: info.selectableFields.map((jsonPath) => ({ jsonPath })) }),
          ...(info.printerColumns.length === 0 ? {} : { additionalPrinterColumns: info.printerColumns }),
        },
      ],
    },
  };
}

/** A plain copy with keywords in alphabetical order, as every generator of CRDs writes them. */
function ordered(schema: JsonSchema): unknown {
  return sorted(JSON.parse(JSON.stringify(schema)));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
