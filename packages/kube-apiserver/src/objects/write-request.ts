/** One write, as every step of the pipeline sees it. */
import type { ApiCore } from "../core.ts";
import { LOOPBACK } from "../core.ts";
import type { ResourceInfo, User, WriteContext } from "../registry/resource.ts";

export type FieldValidation = "Strict" | "Warn" | "Ignore";

export interface WriteRequest {
  readonly core: ApiCore;
  readonly resource: ResourceInfo;
  readonly subresource: string | undefined;
  /** Undefined for what has no namespace. */
  readonly namespace: string | undefined;
  readonly user: User;
  readonly dryRun: boolean;
  readonly fieldManager: string;
  readonly fieldValidation: FieldValidation;
  readonly warn: (text: string) => void;
}

/** A write the server makes on its own behalf. */
export function internalRequest(core: ApiCore, resource: ResourceInfo, namespace: string | undefined): WriteRequest {
  return {
    core,
    resource,
    subresource: undefined,
    namespace,
    user: LOOPBACK,
    dryRun: false,
    fieldManager: "kube-apiserver",
    fieldValidation: "Ignore",
    warn: () => undefined,
  };
}

export function writeContext(request: WriteRequest): WriteContext {
  const { core, user, dryRun, subresource, warn } = request;
  return { store: core.store, user, dryRun, subresource, warn, now: core.now(), suffix: core.suffix };
}
