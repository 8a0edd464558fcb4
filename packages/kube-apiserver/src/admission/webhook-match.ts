/** Which webhooks of the stored configurations a request concerns: rules, selectors, match conditions. */
import { compileCel, type JsonObject, type Labels, labelSelectorOf, matchesLabels, toCel } from "@calico-ts/schema";
import type { AdmissionRequest, ApiCore } from "../core.ts";
import { internalError } from "../meta/api-error.ts";
import { asObjects, asText, asTexts } from "../meta/object.ts";

export interface MatchedWebhook {
  readonly name: string;
  readonly configuration: string;
  readonly webhook: JsonObject;
}

const GROUP = "admissionregistration.k8s.io";

export function matchingWebhooks(core: ApiCore, request: AdmissionRequest, plural: string): MatchedWebhook[] {
  // A broken webhook must never stop its own repair.
  if (request.resource.group === GROUP) return [];
  const found: MatchedWebhook[] = [];
  for (const { object } of core.store.collection(`${GROUP}/${plural}`).list(undefined)) {
    for (const webhook of asObjects(object["webhooks"])) {
      const name = asText(webhook["name"]);
      if (
        matchesRules(webhook, request) &&
        matchesSelectors(core, webhook, request) &&
        meetsConditions(webhook, request)
      ) {
        found.push({ name, configuration: object.metadata.name ?? "", webhook });
      }
    }
  }
  return found;
}

const has = (list: readonly string[], item: string): boolean => list.includes("*") || list.includes(item);

function matchesRules(webhook: JsonObject, request: AdmissionRequest): boolean {
  const { resource, subresource } = request;
  return asObjects(webhook["rules"]).some((rule) => {
    const scope = asText(rule["scope"]) || "*";
    if (scope === "Namespaced" && !resource.namespaced) return false;
    if (scope === "Cluster" && resource.namespaced) return false;
    return (
      has(asTexts(rule["operations"]), request.operation) &&
      has(asTexts(rule["apiGroups"]), resource.group) &&
      has(asTexts(rule["apiVersions"]), resource.version) &&
      asTexts(rule["resources"]).some((pattern) => matchesResource(pattern, resource.plural, subresource))
    );
  });
}

function matchesResource(pattern: string, plural: string, subresource: string | undefined): boolean {
  const [wantedResource = "", wantedSub] = pattern.split("/");
  if (wantedResource !== "*" && wantedResource !== plural) return false;
  if (wantedSub === undefined) return subresource === undefined;
  return wantedSub === "*" || wantedSub === subresource;
}

function matchesSelectors(core: ApiCore, webhook: JsonObject, request: AdmissionRequest): boolean {
  const { resource, object, oldObject } = request;
  const namespaceRequirements = labelSelectorOf(webhook["namespaceSelector"]) ?? [];
  if (namespaceRequirements.length > 0) {
    let labels: Labels | undefined;
    if (resource.collection === "/namespaces") labels = (object ?? oldObject)?.metadata.labels ?? {};
    else if (request.namespace !== undefined)
      labels = core.store.collection("/namespaces").get(request.namespace)?.object.metadata.labels ?? {};
    if (labels !== undefined && !matchesLabels(namespaceRequirements, labels)) return false;
  }
  const objectRequirements = labelSelectorOf(webhook["objectSelector"]) ?? [];
  if (objectRequirements.length === 0) return true;
  return [object, oldObject].some(
    (candidate) => candidate !== undefined && matchesLabels(objectRequirements, candidate.metadata.labels),
  );
}

/** @throws ApiError 500 when a condition breaks and the webhook fails closed. */
function meetsConditions(webhook: JsonObject, request: AdmissionRequest): boolean {
  const conditions = asObjects(webhook["matchConditions"]);
  if (conditions.length === 0) return true;
  const schema = request.resource.schema;
  const variables = {
    object: request.object === undefined ? null : toCel(schema, request.object),
    oldObject: request.oldObject === undefined ? null : toCel(schema, request.oldObject),
    request: {
      operation: request.operation,
      name: request.name,
      namespace: request.namespace ?? "",
      subResource: request.subresource ?? "",
      dryRun: request.dryRun,
      kind: { group: request.resource.group, version: request.resource.version, kind: request.resource.kind },
      resource: { group: request.resource.group, version: request.resource.version, resource: request.resource.plural },
      userInfo: { username: request.user.name, groups: request.user.groups, uid: request.user.uid ?? "" },
    },
  };
  let broken: string | undefined;
  for (const condition of conditions) {
    const outcome = compileCel(asText(condition["expression"])).evaluate(variables);
    if (outcome.ok && outcome.value === false) return false;
    if (!outcome.ok) broken ??= outcome.message;
  }
  if (broken === undefined) return true;
  if (webhook["failurePolicy"] === "Ignore") return false;
  throw internalError(
    `failed evaluating match conditions of webhook ${JSON.stringify(asText(webhook["name"]))}: ${broken}`,
  );
}
