/**
 * What the rooms of the server share: the store, the registry, who may do what, the clock. One per server.
 */
import type { Authenticator } from "./auth/authenticate.ts";
import type { Authorizer } from "./auth/authorize.ts";
import type { CertificateAuthority } from "./auth/certificates.ts";
import type { TokenService } from "./auth/tokens.ts";
import type { KubeObject } from "./meta/object.ts";
import type { Registry } from "./registry/registry.ts";
import type { ResourceInfo, User } from "./registry/resource.ts";
import type { Store } from "./storage/store.ts";

/** Finds where a pod's logs are. `follow` streams until the signal aborts. */
export interface PodLogRequest {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly tailLines: number | undefined;
  readonly limitBytes: number | undefined;
  readonly sinceSeconds: number | undefined;
  readonly signal: AbortSignal;
}

/** Yields chunks of text. Throwing an Error answers 500 with its message. */
export type PodLogs = (request: PodLogRequest) => AsyncIterable<string | Uint8Array>;

export interface ApiCore {
  readonly store: Store;
  readonly registry: Registry;
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  readonly tokens: TokenService;
  readonly authority: CertificateAuthority;
  readonly admission: Admission;
  readonly version: string;
  readonly podLogs: PodLogs | undefined;
  readonly now: () => number;
  /** Lower-case letters and digits Kubernetes uses in generated names. */
  readonly suffix: (length: number) => string;
  readonly bookmarkIntervalMs: number;
  readonly closing: AbortSignal;
}

export type Operation = "CREATE" | "UPDATE" | "DELETE" | "CONNECT";

export interface AdmissionRequest {
  readonly operation: Operation;
  readonly resource: ResourceInfo;
  readonly subresource: string | undefined;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly object: KubeObject | undefined;
  readonly oldObject: KubeObject | undefined;
  readonly user: User;
  readonly dryRun: boolean;
  readonly warn: (text: string) => void;
}

export interface Admission {
  /** Built-in mutation and mutating webhooks; the result replaces the object. */
  mutate(core: ApiCore, request: AdmissionRequest): Promise<KubeObject | undefined>;
  /** Validating webhooks. Returns true when it had to wait for somebody. @throws ApiError */
  validate(core: ApiCore, request: AdmissionRequest): Promise<boolean>;
}

/** The server acting for itself: garbage collection, namespace emptying, defaults. */
export const LOOPBACK: User = { name: "system:apiserver", groups: ["system:masters", "system:authenticated"] };
