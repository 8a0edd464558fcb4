/**
 * Service account tokens: JWTs signed with ES256, bound to the account and optionally to a pod, secret or node.
 *
 * Claims are those of Kubernetes' bound tokens. Verifying checks signature, issuer, expiry, and that the account (and
 * the bound object) still exist under the same uid. Signatures that were verified are remembered for a while.
 */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { jwtVerify, type JWTPayload, SignJWT } from "jose";
import { ApiError } from "../meta/api-error.ts";
import { asObject, asText, objectKey } from "../meta/object.ts";
import type { User } from "../registry/resource.ts";
import type { Store } from "../storage/store.ts";

const ISSUER = "https://kubernetes.default.svc.cluster.local";
export const DEFAULT_AUDIENCE = ISSUER;

export interface TokenRequest {
  readonly namespace: string;
  readonly account: string;
  readonly audiences: readonly string[];
  readonly expirationSeconds: number;
  readonly bound?: { readonly kind: string; readonly name: string; readonly uid: string };
}

export interface IssuedToken {
  readonly token: string;
  readonly expires: number;
}

export interface Verified {
  readonly user: User;
  readonly audiences: readonly string[];
}

const BOUND_KINDS: { readonly [claim: string]: string } = { pod: "/pods", secret: "/secrets" };
const MAX_REMEMBERED = 10_000;

export class TokenService {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #remembered = new Map<string, JWTPayload>();

  constructor(store: Store, now: () => number) {
    this.#store = store;
    this.#now = now;
    const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#privateKey = keys.privateKey;
    this.#publicKey = keys.publicKey;
  }

  async issue(request: TokenRequest): Promise<IssuedToken> {
    const account = this.#store.collection("/serviceaccounts").get(objectKey(request.namespace, request.account));
    if (account === undefined) {
      throw new ApiError(404, "NotFound", `serviceaccounts ${JSON.stringify(request.account)} not found`, {
        name: request.account,
        kind: "serviceaccounts",
      });
    }
    const issuedAt = Math.floor(this.#now() / 1000);
    const expires = issuedAt + request.expirationSeconds;
    const bound = request.bound;
    const claims = {
      "kubernetes.io": {
        namespace: request.namespace,
        serviceaccount: { name: request.account, uid: account.object.metadata.uid },
        ...(bound === undefined ? {} : { [bound.kind.toLowerCase()]: { name: bound.name, uid: bound.uid } }),
      },
    };
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", kid: "calico-ts" })
      .setIssuer(ISSUER)
      .setSubject(`system:serviceaccount:${request.namespace}:${request.account}`)
      .setAudience([...(request.audiences.length === 0 ? [DEFAULT_AUDIENCE] : request.audiences)])
      .setIssuedAt(issuedAt)
      .setNotBefore(issuedAt)
      .setExpirationTime(expires)
      .setJti(`${issuedAt.toString(36)}-${Math.random().toString(36).slice(2)}`)
      .sign(this.#privateKey);
    return { token, expires: expires * 1000 };
  }

  /** The account behind a token, or undefined when the token is not (or no longer) good. */
  async verify(token: string): Promise<Verified | undefined> {
    const payload = await this.#payload(token);
    if (payload === undefined || (payload.exp ?? 0) * 1000 < this.#now()) return undefined;
    const claims = asObject(payload["kubernetes.io"]);
    const namespace = asText(claims["namespace"]);
    const account = asObject(claims["serviceaccount"]);
    const name = asText(account["name"]);
    if (!this.#exists("/serviceaccounts", namespace, account)) return undefined;
    for (const claim of Object.keys(BOUND_KINDS)) {
      if (claims[claim] !== undefined && !this.#exists(BOUND_KINDS[claim] ?? "", namespace, asObject(claims[claim])))
        return undefined;
    }
    const extra: { [key: string]: string[] } = {};
    if (claims["pod"] !== undefined) {
      extra["authentication.kubernetes.io/pod-name"] = [asText(asObject(claims["pod"])["name"])];
      extra["authentication.kubernetes.io/pod-uid"] = [asText(asObject(claims["pod"])["uid"])];
    }
    if (payload.jti !== undefined) extra["authentication.kubernetes.io/credential-id"] = [`JTI=${payload.jti}`];
    return {
      user: { ...serviceAccountUser(namespace, name), uid: asText(account["uid"]), extra },
      audiences: [payload.aud ?? []].flat(),
    };
  }

  async #payload(token: string): Promise<JWTPayload | undefined> {
    const known = this.#remembered.get(token);
    if (known !== undefined) return known;
    try {
      const { payload } = await jwtVerify(token, this.#publicKey, {
        issuer: ISSUER,
        algorithms: ["ES256"],
        currentDate: new Date(this.#now()),
      });
      if (this.#remembered.size > MAX_REMEMBERED) this.#remembered.clear();
      this.#remembered.set(token, payload);
      return payload;
    } catch {
      return undefined;
    }
  }

  #exists(collection: string, namespace: string, reference: { readonly [name: string]: unknown }): boolean {
    const stored = this.#store.collection(collection).get(objectKey(namespace, asText(reference["name"])));
    return stored !== undefined && stored.object.metadata.uid === reference["uid"];
  }
}

export const serviceAccountUser = (namespace: string, name: string): User => ({
  name: `system:serviceaccount:${namespace}:${name}`,
  groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
});
