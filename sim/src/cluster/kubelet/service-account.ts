/**
 * The files a container finds in /var/run/secrets/kubernetes.io/serviceaccount, for real programs: a bound token from the TokenRequest API,
 * renewed at four fifths of its life as kubelets do, the authority's certificate, the namespace, and a kubeconfig that names
 * these files, because the standard path is one per machine while nodes are many.
 */
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "@calico-ts/runtime";
import type { KubeClient } from "../kube/client.ts";
import { type Pod, uidOf } from "../kube/objects.ts";

export interface ServiceAccountDeps {
  readonly client: KubeClient;
  readonly log: Logger;
  /** `<stateDir>/pods`. */
  readonly podsDir: string;
  readonly apiServer: { readonly host: string; readonly port: number };
}

interface TokenResponse {
  readonly status?: { readonly token?: string; readonly expirationTimestamp?: string };
}

const LIFETIME_SECONDS = 3607;
const RETRY_MS = 10_000;

export class ServiceAccountFiles {
  readonly #deps: ServiceAccountDeps;
  readonly #held = new Map<
    string,
    { readonly dir: Promise<string>; timer: NodeJS.Timeout | undefined; released: boolean }
  >();

  constructor(deps: ServiceAccountDeps) {
    this.#deps = deps;
  }

  /** The directory with the pod's files, made on first use. @throws CalicoError NOT_FOUND without the service account. */
  async directory(pod: Pod): Promise<string> {
    const uid = uidOf(pod);
    const held = this.#held.get(uid);
    if (held !== undefined) return held.dir;
    const dir = this.#write(pod);
    this.#held.set(uid, { dir, timer: undefined, released: false });
    try {
      return await dir;
    } catch (error) {
      this.#held.delete(uid);
      throw error;
    }
  }

  async release(uid: string): Promise<void> {
    const held = this.#held.get(uid);
    if (held === undefined) return;
    held.released = true;
    clearTimeout(held.timer);
    this.#held.delete(uid);
    await held.dir.catch(() => undefined);
    await rm(join(this.#deps.podsDir, uid), { recursive: true, force: true });
  }

  async #write(pod: Pod): Promise<string> {
    const { client, podsDir, apiServer } = this.#deps;
    const dir = join(podsDir, uidOf(pod), "serviceaccount");
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await this.#renew(pod, dir);
    const ca = client.caData;
    if (ca !== undefined) await writeFile(join(dir, "ca.crt"), ca);
    await writeFile(join(dir, "namespace"), pod.metadata.namespace ?? "");
    const host = apiServer.host.includes(":") ? `[${apiServer.host}]` : apiServer.host;
    const server = `https://${host}:${apiServer.port}`;
    // JSON is YAML.
    await writeFile(join(dir, "kubeconfig"), JSON.stringify(kubeconfig(server, dir, ca !== undefined), undefined, 2), {
      mode: 0o600,
    });
    return dir;
  }

  async #renew(pod: Pod, dir: string): Promise<void> {
    const { client } = this.#deps;
    const { name, namespace, uid } = pod.metadata;
    const account = pod.spec.serviceAccountName ?? "default";
    const response = await client.createSubresource<TokenResponse>(
      "ServiceAccount",
      { namespace, name: account },
      "token",
      {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        metadata: {},
        spec: { expirationSeconds: LIFETIME_SECONDS, boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid } },
      },
    );
    // Readers must never see half a token.
    await writeFile(join(dir, "token.new"), response.status?.token ?? "", { mode: 0o600 });
    await rename(join(dir, "token.new"), join(dir, "token"));
    const expires = Date.parse(response.status?.expirationTimestamp ?? "");
    const lifeMs = Number.isNaN(expires) ? LIFETIME_SECONDS * 1000 : expires - Date.now();
    this.#renewLater(pod, dir, Math.max(lifeMs * 0.8, 1000));
  }

  #renewLater(pod: Pod, dir: string, delayMs: number): void {
    const timer = setTimeout(() => {
      this.#renew(pod, dir).catch((error: unknown) => {
        this.#deps.log.warning("token.not_renewed", { pod: pod.metadata.name, error });
        this.#renewLater(pod, dir, RETRY_MS);
      });
    }, delayMs);
    timer.unref();
    const held = this.#held.get(uidOf(pod));
    if (held === undefined || held.released) clearTimeout(timer);
    else held.timer = timer;
  }
}

function kubeconfig(server: string, dir: string, hasAuthority: boolean): unknown {
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "in-cluster",
        cluster: {
          server,
          ...(hasAuthority ? { "certificate-authority": join(dir, "ca.crt") } : { "insecure-skip-tls-verify": true }),
        },
      },
    ],
    users: [{ name: "service-account", user: { tokenFile: join(dir, "token") } }],
    contexts: [{ name: "in-cluster", context: { cluster: "in-cluster", user: "service-account" } }],
    "current-context": "in-cluster",
  };
}
