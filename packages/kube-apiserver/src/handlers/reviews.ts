/** Kinds that are questions: TokenReview, the access reviews, SelfSubjectReview. They are answered and not stored. */
import type { JsonObject } from "@calico-ts/schema";
import type { Attributes } from "../auth/authorize.ts";
import { badRequest } from "../meta/api-error.ts";
import { asObject, asText, asTexts } from "../meta/object.ts";
import type { ResourceInfo, User } from "../registry/resource.ts";
import type { Exchange } from "./exchange.ts";

export async function handleReview(
  exchange: Exchange,
  resource: ResourceInfo,
  namespace: string | undefined,
): Promise<void> {
  const body = asObject(await exchange.readValue());
  const spec = asObject(body["spec"]);
  const status = await answer(exchange, resource, spec, namespace);
  exchange.sendJson(
    201,
    JSON.stringify({
      kind: resource.kind,
      apiVersion: resource.apiVersion,
      metadata: { ...asObject(body["metadata"]), creationTimestamp: null },
      ...(resource.kind === "SelfSubjectReview" ? {} : { spec }),
      status,
    }),
  );
}

async function answer(
  exchange: Exchange,
  resource: ResourceInfo,
  spec: JsonObject,
  namespace: string | undefined,
): Promise<JsonObject> {
  const { core, user } = exchange;
  switch (resource.kind) {
    case "SelfSubjectReview":
      return { userInfo: userInfo(user) };
    case "TokenReview":
      return await reviewToken(exchange, spec);
    case "SelfSubjectAccessReview":
      return accessStatus(exchange, user, spec);
    case "SelfSubjectRulesReview":
      return rulesStatus(core.authorizer.rules(user, asText(spec["namespace"])));
    default: {
      const asked: User = { name: asText(spec["user"]), groups: asTexts(spec["groups"]), uid: asText(spec["uid"]) };
      if (asked.name === "" && asked.groups.length === 0) {
        throw badRequest("spec: at least one of user or group must be specified");
      }
      const resourceAttributes = asObject(spec["resourceAttributes"]);
      if (namespace !== undefined && asText(resourceAttributes["namespace"]) !== namespace) {
        throw badRequest("spec.resourceAttributes.namespace must match metadata.namespace");
      }
      return accessStatus(exchange, asked, spec);
    }
  }
}

function accessStatus(exchange: Exchange, user: User, spec: JsonObject): JsonObject {
  const attributes = attributesFrom(spec);
  const { allowed, reason } = exchange.core.authorizer.authorize(user, attributes);
  return { allowed, ...(reason === "" ? {} : { reason }) };
}

function attributesFrom(spec: JsonObject): Attributes {
  if (spec["nonResourceAttributes"] !== undefined) {
    const path = asObject(spec["nonResourceAttributes"]);
    return { kind: "path", verb: asText(path["verb"]), path: asText(path["path"]) };
  }
  if (spec["resourceAttributes"] === undefined) {
    throw badRequest("exactly one of nonResourceAttributes or resourceAttributes must be specified");
  }
  const asked = asObject(spec["resourceAttributes"]);
  return {
    kind: "resource",
    verb: asText(asked["verb"]),
    group: asText(asked["group"]),
    version: asText(asked["version"]),
    resource: asText(asked["resource"]),
    subresource: asText(asked["subresource"]),
    namespace: asText(asked["namespace"]),
    name: asText(asked["name"]),
  };
}

function rulesStatus(rules: ReturnType<Exchange["core"]["authorizer"]["rules"]>): JsonObject {
  return {
    resourceRules: rules
      .filter((rule) => rule.nonResourceURLs.length === 0)
      .map(({ verbs, apiGroups, resources, resourceNames }) => ({
        verbs,
        apiGroups,
        resources,
        ...(resourceNames.length === 0 ? {} : { resourceNames }),
      })),
    nonResourceRules: rules
      .filter((rule) => rule.nonResourceURLs.length > 0)
      .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    incomplete: false,
  };
}

async function reviewToken({ core }: Exchange, spec: JsonObject): Promise<JsonObject> {
  const token = asText(spec["token"]);
  const audiences = asTexts(spec["audiences"]);
  const verified = await core.tokens.verify(token);
  if (verified === undefined) {
    try {
      return { authenticated: true, user: userInfo(await core.authenticator.tokenUser(token)), audiences };
    } catch {
      return { user: {}, error: "[invalid bearer token]" };
    }
  }
  const common =
    audiences.length === 0 ? verified.audiences : audiences.filter((audience) => verified.audiences.includes(audience));
  if (common.length === 0) return { user: {}, error: "token audiences do not match" };
  return { authenticated: true, user: userInfo(verified.user), audiences: common };
}

const userInfo = (user: User): JsonObject => ({
  username: user.name,
  ...(user.uid === undefined || user.uid === "" ? {} : { uid: user.uid }),
  groups: user.groups,
  ...(user.extra === undefined ? {} : { extra: user.extra }),
});
