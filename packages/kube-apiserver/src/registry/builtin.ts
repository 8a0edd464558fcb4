/** Joins the table of built-in kinds with their schemas, behaviour and columns. */
import { COLUMNS, DEFAULT_COLUMNS } from "../tables/columns.ts";
import {
  cronJobStrategy,
  daemonSetStrategy,
  deploymentStrategy,
  disruptionBudgetStrategy,
  jobStrategy,
  podTemplateStrategy,
  replicaSetStrategy,
  replicationControllerStrategy,
  statefulSetStrategy,
} from "./kinds/apps.ts";
import {
  autoscalerStrategy,
  claimStrategy,
  configMapStrategy,
  eventStrategy,
  namespaceStrategy,
  nodeStrategy,
  priorityClassStrategy,
  secretStrategy,
  storageClassStrategy,
  volumeStrategy,
} from "./kinds/core.ts";
import { customDefinitionStrategy } from "./kinds/custom-definition.ts";
import { KIND_TABLE, type KindRow, REVIEW_TABLE } from "./kinds/kind-table.ts";
import { ingressClassStrategy, ingressStrategy, networkPolicyStrategy } from "./kinds/networking.ts";
import { podStrategy } from "./kinds/pod.ts";
import { bindingStrategy, roleStrategy, webhookConfigurationStrategy } from "./kinds/rbac.ts";
import {
  createServiceStrategy,
  endpointSliceStrategy,
  endpointsStrategy,
  type ServiceNetwork,
} from "./kinds/service.ts";
import { apiVersionOf, collectionId, type ResourceInfo, type ScalePaths, type Strategy } from "./resource.ts";
import { typeSchema } from "./type-table.ts";

const GENERATION: Strategy = { generation: true };

const STRATEGIES: { readonly [collection: string]: Strategy } = {
  "/configmaps": configMapStrategy,
  "/endpoints": endpointsStrategy,
  "/events": eventStrategy,
  "/namespaces": namespaceStrategy,
  "/nodes": nodeStrategy,
  "/persistentvolumes": volumeStrategy,
  "/persistentvolumeclaims": claimStrategy,
  "/pods": podStrategy,
  "/podtemplates": podTemplateStrategy,
  "/replicationcontrollers": replicationControllerStrategy,
  "/secrets": secretStrategy,
  "apps/daemonsets": daemonSetStrategy,
  "apps/deployments": deploymentStrategy,
  "apps/replicasets": replicaSetStrategy,
  "apps/statefulsets": statefulSetStrategy,
  "batch/cronjobs": cronJobStrategy,
  "batch/jobs": jobStrategy,
  "autoscaling/horizontalpodautoscalers": autoscalerStrategy,
  "networking.k8s.io/ingresses": ingressStrategy,
  "networking.k8s.io/ingressclasses": ingressClassStrategy,
  "networking.k8s.io/networkpolicies": networkPolicyStrategy,
  "discovery.k8s.io/endpointslices": endpointSliceStrategy,
  "policy/poddisruptionbudgets": disruptionBudgetStrategy,
  "rbac.authorization.k8s.io/clusterroles": roleStrategy,
  "rbac.authorization.k8s.io/roles": roleStrategy,
  "rbac.authorization.k8s.io/clusterrolebindings": bindingStrategy,
  "rbac.authorization.k8s.io/rolebindings": bindingStrategy,
  "scheduling.k8s.io/priorityclasses": priorityClassStrategy,
  "storage.k8s.io/storageclasses": storageClassStrategy,
  "apiextensions.k8s.io/customresourcedefinitions": customDefinitionStrategy,
  "admissionregistration.k8s.io/mutatingwebhookconfigurations": webhookConfigurationStrategy,
  "admissionregistration.k8s.io/validatingwebhookconfigurations": webhookConfigurationStrategy,
  "admissionregistration.k8s.io/validatingadmissionpolicies": GENERATION,
  "admissionregistration.k8s.io/validatingadmissionpolicybindings": GENERATION,
};

const SCALE: ScalePaths = {
  specReplicas: ["spec", "replicas"],
  statusReplicas: ["status", "replicas"],
  labelSelector: ["spec", "selector"],
};

function describe(row: KindRow, strategy: Strategy): ResourceInfo {
  const collection = collectionId(row.group, row.plural);
  return {
    group: row.group,
    version: row.version,
    kind: row.kind,
    listKind: row.kind === "Endpoints" ? "EndpointsList" : `${row.kind}List`,
    plural: row.plural,
    singular: row.singular,
    namespaced: row.namespaced,
    shortNames: row.shortNames ?? [],
    categories: row.categories ?? [],
    subresources: row.subresources ?? [],
    collection,
    apiVersion: apiVersionOf(row.group, row.version),
    schema: typeSchema(row.type),
    structural: undefined,
    strategy,
    columns: COLUMNS[collection] ?? DEFAULT_COLUMNS,
    scale: row.subresources?.includes("scale") === true ? SCALE : undefined,
    selectableFields: [],
    storageVersion: true,
  };
}

export function builtinResources(network: ServiceNetwork): ResourceInfo[] {
  const services = createServiceStrategy(network);
  return KIND_TABLE.map((row) => {
    const collection = collectionId(row.group, row.plural);
    return describe(row, collection === "/services" ? services : (STRATEGIES[collection] ?? {}));
  });
}

/** Reviews and bindings: they answer POST only. */
export const reviewResources = (): ResourceInfo[] => REVIEW_TABLE.map((row) => describe(row, {}));
