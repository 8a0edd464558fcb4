/**
 * Turns a `UserConfig` into TLS material and headers, again and again: token and certificate files are re-read a while
 * after they were read last, and at once when the server says 401, so rotation needs no restart.
 */
import { readFile } from "node:fs/promises";
import type { Clock } from "@calico-ts/runtime";
import { CalicoError, sha256Hex } from "@calico-ts/std";
import type { ExecAuth } from "@kubernetes/client-node/dist/exec_auth.js";
import type { ConnectionConfig } from "./config.ts";

export interface TlsMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Changes when any of it changes: then a new connection pool is due. */
  readonly fingerprint: string;
}

/** A token lives for minutes at least; re-reading this often is early enough and cheap. */
const RECHECK_MS = 30_000;

export class Credentials {
  readonly #config: ConnectionConfig;
  readonly #clock: Clock;
  readonly #files = new Map<string, { readonly text: string; readonly at: number }>();
  #exec: ExecAuth | undefined;

  constructor(config: ConnectionConfig, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
  }

  /** The server did not accept what we sent: read everything again. */
  invalidate(): void {
    this.#files.clear();
    this.#exec = undefined;
  }

  async current(): Promise<{ readonly tls: TlsMaterial; readonly headers: Readonly<Record<string, string>> }> {
    const { tls, user } = this.#config;
    const plugin = await this.#runPlugin();
    const ca = tls.ca ?? (await this.#read(tls.caFile));
    const cert = plugin.cert ?? user.cert ?? (await this.#read(user.certFile));
    const key = plugin.key ?? user.key ?? (await this.#read(user.keyFile));
    const token = user.token ?? (await this.#read(user.tokenFile))?.trim();
    const headers: Record<string, string> = { ...plugin.headers };
    if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
    else if (user.basic !== undefined) {
      const pair = `${user.basic.username}:${user.basic.password}`;
      headers["Authorization"] = `Basic ${Buffer.from(pair).toString("base64")}`;
    }
    if (user.impersonate !== undefined) headers["Impersonate-User"] = user.impersonate;
    return {
      tls: {
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined ? {} : { cert }),
        ...(key === undefined ? {} : { key }),
        fingerprint: sha256Hex([ca, cert, key].join("\0")),
      },
      headers,
    };
  }

  async #read(path: string | undefined): Promise<string | undefined> {
    if (path === undefined) return undefined;
    const known = this.#files.get(path);
    if (known !== undefined && this.#clock.monotonic() - known.at < RECHECK_MS) return known.text;
    try {
      const text = await readFile(path, "utf8");
      this.#files.set(path, { text, at: this.#clock.monotonic() });
      return text;
    } catch (error) {
      // While a file is being replaced the last good text serves; it was good a moment ago.
      if (known !== undefined) return known.text;
      throw new CalicoError("UNAUTHORIZED", `cannot read the credential file ${path}`, { cause: error });
    }
  }

  async #runPlugin(): Promise<ExecResult> {
    const { execUser } = this.#config.user;
    const result: ExecResult = {};
    if (execUser === undefined) return result;
    if (this.#exec === undefined) {
      const plugin = await import("@kubernetes/client-node/dist/exec_auth.js");
      this.#exec = new plugin.ExecAuth();
    }
    try {
      await this.#exec.applyAuthentication(execUser, result);
      return result;
    } catch (error) {
      throw new CalicoError("UNAUTHORIZED", `the credential plugin of user "${execUser.name}" failed`, {
        cause: error,
      });
    }
  }
}

interface ExecResult {
  cert?: string;
  key?: string;
  headers?: Record<string, string>;
}
