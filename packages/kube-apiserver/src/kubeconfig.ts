/** Kubeconfig files: one cluster, one user with a client certificate or a token. */
import { stringify } from "yaml";
import type { KeyPair } from "./auth/certificates.ts";

export interface KubeconfigParts {
  readonly server: string;
  readonly ca: string;
  readonly user: string;
  readonly pair?: KeyPair;
  readonly token?: string;
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");

export function formatKubeconfig({ server, ca, user, pair, token }: KubeconfigParts): string {
  const cluster = "calico-sim";
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: cluster, cluster: { server, "certificate-authority-data": base64(ca) } }],
    users: [
      {
        name: user,
        user: {
          ...(pair === undefined
            ? {}
            : { "client-certificate-data": base64(pair.certificate), "client-key-data": base64(pair.key) }),
          ...(token === undefined ? {} : { token }),
        },
      },
    ],
    contexts: [{ name: cluster, context: { cluster, user } }],
    "current-context": cluster,
  });
}
