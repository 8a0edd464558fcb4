/**
 * Who is asking: client certificate, bearer token (service account or static), front-door impersonation headers, or
 * nobody (system:anonymous). A credential that is present and wrong is refused, never downgraded to anonymous.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { ApiError } from "../meta/api-error.ts";
import type { User } from "../registry/resource.ts";
import type { TokenService } from "./tokens.ts";

export const ANONYMOUS: User = { name: "system:anonymous", groups: ["system:unauthenticated"] };

export const isMaster = (user: User): boolean => user.groups.includes("system:masters");

export interface StaticToken {
  readonly token: string;
  readonly user: User;
}

export class Authenticator {
  readonly #tokens: TokenService;
  readonly #static: { readonly digest: Buffer; readonly user: User }[] = [];

  constructor(tokens: TokenService) {
    this.#tokens = tokens;
  }

  addStaticToken({ token, user }: StaticToken): void {
    this.#static.push({ digest: digest(token), user: withAuthenticated(user) });
  }

  /** @throws ApiError 401 */
  async authenticate(request: IncomingMessage): Promise<User> {
    const certificate = clientCertificate(request.socket as TLSSocket);
    if (certificate !== undefined) return certificate;
    const header = request.headers.authorization ?? "";
    const token = /^bearer\s+(\S+)\s*$/i.exec(header)?.[1];
    if (token !== undefined) return await this.tokenUser(token);
    if (header !== "") throw unauthorized();
    return ANONYMOUS;
  }

  async tokenUser(token: string): Promise<User> {
    const given = digest(token);
    const known = this.#static.find((entry) => timingSafeEqual(entry.digest, given));
    if (known !== undefined) return known.user;
    const verified = await this.#tokens.verify(token);
    if (verified === undefined) throw unauthorized();
    return verified.user;
  }
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

const withAuthenticated = (user: User): User =>
  user.groups.includes("system:authenticated") ? user : { ...user, groups: [...user.groups, "system:authenticated"] };

export const unauthorized = (): ApiError => new ApiError(401, "Unauthorized", "Unauthorized");

/** Cached on the socket: a connection's certificate does not change. */
const known = new WeakMap<TLSSocket, User | "none" | "bad">();

function clientCertificate(socket: TLSSocket): User | undefined {
  let user = known.get(socket);
  if (user === undefined) {
    user = readCertificate(socket);
    known.set(socket, user);
  }
  if (user === "bad") throw unauthorized();
  return user === "none" ? undefined : user;
}

function readCertificate(socket: TLSSocket): User | "none" | "bad" {
  const certificate = socket.getPeerCertificate(true) as DetailedPeerCertificate | undefined;
  if (certificate === undefined || Object.keys(certificate).length === 0) return "none";
  if (!socket.authorized) return "bad";
  // Node gives repeated attributes as a list.
  const { CN, O } = certificate.subject as unknown as { CN?: string | string[]; O?: string | string[] };
  const [name] = [CN ?? []].flat();
  if (name === undefined || name === "") return "bad";
  return withAuthenticated({ name, groups: [O ?? []].flat() });
}
