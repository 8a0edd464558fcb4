/**
 * Nobody may grant, through a role or a binding, what they do not have themselves (Kubernetes documentation, "Privilege
 * escalation prevention"): unless they hold `escalate` on the role or `bind` on the referenced role.
 */
import { forbiddenError } from "../meta/api-error.ts";
import { asObject, asText, type KubeObject } from "../meta/object.ts";
import { sameJson } from "@calico-ts/schema";
import { isMaster } from "../auth/authenticate.ts";
import { policyRules } from "../auth/authorize.ts";
import type { WriteRequest } from "../objects/write-request.ts";

const GROUP = "rbac.authorization.k8s.io";

export function checkEscalation(request: WriteRequest, object: KubeObject, old: KubeObject | undefined): void {
  const { core, resource, user } = request;
  if (resource.group !== GROUP || isMaster(user)) return;
  const namespace = request.namespace ?? "";
  const name = object.metadata.name ?? "";
  const mayDo = (verb: string, target: string, targetName: string): boolean =>
    core.authorizer.authorize(user, {
      kind: "resource",
      verb,
      group: GROUP,
      resource: target,
      subresource: "",
      namespace,
      name: targetName,
    }).allowed;
  if (object["roleRef"] === undefined) {
    if (old !== undefined && sameJson(old["rules"], object["rules"])) return;
    const rules = policyRules(object);
    if (core.authorizer.covers(user, namespace, rules) || mayDo("escalate", resource.plural, name)) return;
  } else {
    if (old !== undefined && sameJson(old["subjects"], object["subjects"])) return;
    const reference = asObject(object["roleRef"]);
    const target = reference["kind"] === "ClusterRole" ? "clusterroles" : "roles";
    if (
      core.authorizer.covers(user, namespace, core.authorizer.referencedRules(object)) ||
      mayDo("bind", target, asText(reference["name"]))
    )
      return;
  }
  throw forbiddenError(
    resource,
    name,
    `user ${JSON.stringify(user.name)} (groups=${JSON.stringify(user.groups)}) is attempting to grant RBAC permissions not currently held`,
  );
}
