/** `Impersonate-User` and `Impersonate-Group`: act as somebody else, when the `impersonate` verb allows it (`kubectl --as`). */
import type { IncomingMessage } from "node:http";
import type { ApiCore } from "../core.ts";
import { badRequest, forbiddenError } from "../meta/api-error.ts";
import type { User } from "../registry/resource.ts";
import { serviceAccountUser } from "../auth/tokens.ts";

export function impersonate(core: ApiCore, request: IncomingMessage, user: User): User {
  const [name] = [request.headers["impersonate-user"] ?? []].flat();
  const groups = headerValues(request, "impersonate-group");
  if (name === undefined || name === "") {
    if (groups.length > 0) throw badRequest("requested impersonation of groups without impersonating a user");
    return user;
  }
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name);
  const targets: readonly (readonly [resource: string, namespace: string, name: string])[] =
    account === null ? [["users", "", name]] : [["serviceaccounts", account[1] ?? "", account[2] ?? ""]];
  for (const [resource, namespace, target] of [...targets, ...groups.map((group) => ["groups", "", group] as const)]) {
    const allowed = core.authorizer.authorize(user, {
      kind: "resource",
      verb: "impersonate",
      group: "",
      resource,
      subresource: "",
      namespace,
      name: target,
    }).allowed;
    if (!allowed) {
      throw forbiddenError(
        { group: "", plural: resource },
        target,
        `User ${JSON.stringify(user.name)} cannot impersonate resource ${JSON.stringify(resource)} in API group "" ${namespace === "" ? "at the cluster scope" : `in the namespace ${JSON.stringify(namespace)}`}`,
      );
    }
  }
  if (account !== null && groups.length === 0) return serviceAccountUser(account[1] ?? "", account[2] ?? "");
  const everyone = name === "system:anonymous" ? "system:unauthenticated" : "system:authenticated";
  return { name, groups: groups.includes(everyone) ? groups : [...groups, everyone] };
}

/** Node joins repeated unknown headers with commas; group names may contain none. */
function headerValues(request: IncomingMessage, name: string): string[] {
  const value = request.headers[name];
  return [value ?? []]
    .flat()
    .flatMap((text) => text.split(/,\s*/))
    .filter((text) => text !== "");
}
