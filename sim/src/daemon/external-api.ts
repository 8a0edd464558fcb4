/**
 * `up --kubeconfig`: somebody else's API server behind the fabric's control-plane address.
 *
 * Nodes find an API server by the addresses its `kubernetes` Service has for endpoints. Those are out of reach of a fabric
 * that leads nowhere, so the control plane's namespace takes these very addresses and relays what arrives to the server
 * of the kubeconfig. Nothing changes for programs or for kube-proxy, and TLS certificates stay valid.
 */
import { chmodSync, writeFileSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import { checkServerIdentity } from "node:tls";
import { openKernel } from "@calico-ts/linux";
import type { IpAddress, Prefix } from "@calico-ts/net";
import { containsAddress, formatPrefix, parseAddress, tryParseAddress } from "@calico-ts/net";
import { isObject } from "@calico-ts/schema";
import { CalicoError } from "@calico-ts/std";
import { KubeConfig } from "@kubernetes/client-node";
import type { ApiConnection } from "../manifests/api-connection.ts";
import { answerText, connectApi } from "../manifests/api-connection.ts";
import { startRelay } from "./relay.ts";

export interface ExternalApiOptions {
  /** The user's. */
  readonly kubeconfig: string;
  /** Where the run's copy goes. */
  readonly copy: string;
  readonly netns: string;
  readonly serviceCidrs: readonly Prefix[];
}

export interface ExternalApi extends AsyncDisposable {
  readonly publicUrl: string;
  readonly inside: { readonly host: string; readonly port: number };
  /** It has a scheduler and controllers of its own. */
  readonly managed: boolean;
}

export async function connectExternalApi(options: ExternalApiOptions): Promise<ExternalApi> {
  await using stack = new AsyncDisposableStack();
  using api = connectApi(options.kubeconfig);
  const endpoint = await serverEndpoint(api);
  const clusterIp = await clusterIpOf(api, options);
  copyKubeconfig(options);

  using kernel = openKernel({ netns: options.netns });
  const loopback = kernel.links.get("lo");
  if (loopback === undefined) throw new CalicoError("INTERNAL", `${options.netns} has no loopback`);
  const to = { host: api.server.hostname.replaceAll(/^\[|\]$/g, ""), port: Number(api.server.port || 443) };
  for (const address of endpoint.addresses) {
    const prefixLength = address.family === 4 ? 32 : 128;
    kernel.addresses.replace({
      link: loopback.index,
      address,
      prefixLength,
      ...(address.family === 6 ? { noDad: true } : {}),
    });
    stack.use(startRelay({ netns: options.netns, address, port: endpoint.port, to }));
  }
  const inside = await certifiedName(to, [...endpoint.texts, clusterIp]);
  const managed = await hasControllers(api);
  const owned = stack.move();
  return {
    publicUrl: api.server.origin,
    inside: { host: inside, port: inside === clusterIp ? 443 : endpoint.port },
    managed,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function getObject(api: ApiConnection, path: string): Promise<Record<string, unknown>> {
  const answer = await api.send({ method: "GET", path });
  if (answer.status < 300 && isObject(answer.body)) return answer.body;
  const code = answer.status === 401 ? "UNAUTHORIZED" : answer.status === 403 ? "FORBIDDEN" : "UNAVAILABLE";
  throw new CalicoError(code, `${api.server.origin}${path}: ${answerText(answer)}`);
}

interface Endpoint {
  readonly addresses: readonly IpAddress[];
  readonly texts: readonly string[];
  readonly port: number;
}

async function serverEndpoint(api: ApiConnection): Promise<Endpoint> {
  const endpoints = await getObject(api, "/api/v1/namespaces/default/endpoints/kubernetes");
  const subsets = Array.isArray(endpoints["subsets"]) ? (endpoints["subsets"] as unknown[]) : [];
  const subset = subsets.find(isObject);
  const texts = listOf(subset?.["addresses"]).flatMap((entry) =>
    typeof entry["ip"] === "string" ? [entry["ip"]] : [],
  );
  const port = listOf(subset?.["ports"]).find((entry) => typeof entry["port"] === "number")?.["port"];
  if (texts.length === 0 || typeof port !== "number") {
    throw new CalicoError(
      "UNAVAILABLE",
      `${api.server.origin}: its Service default/kubernetes has no endpoints, so nodes could not find it`,
    );
  }
  return { addresses: texts.map(parseAddress), texts, port };
}

const listOf = (value: unknown) => (Array.isArray(value) ? (value as unknown[]).filter(isObject) : []);

/** The cluster's service range must be the topology's: kube-proxy and the API server have to mean the same addresses. */
async function clusterIpOf(api: ApiConnection, { serviceCidrs }: ExternalApiOptions): Promise<string> {
  const service = await getObject(api, "/api/v1/namespaces/default/services/kubernetes");
  const spec = isObject(service["spec"]) ? service["spec"] : {};
  const text = typeof spec["clusterIP"] === "string" ? spec["clusterIP"] : "";
  const address = tryParseAddress(text);
  if (address === undefined || !serviceCidrs.some((prefix) => containsAddress(prefix, address))) {
    throw new CalicoError(
      "BAD_INPUT",
      `the API server's Service default/kubernetes has ${text === "" ? "no ClusterIP" : text}, outside the topology's cluster.serviceCidr ` +
        `(${serviceCidrs.map(formatPrefix).join(", ")}); set cluster.serviceCidr to the range of that cluster`,
    );
  }
  return text;
}

function copyKubeconfig({ kubeconfig, copy }: ExternalApiOptions): void {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig); // makes relative paths in it absolute
  writeFileSync(copy, config.exportConfig(), { mode: 0o600 });
  chmodSync(copy, 0o600);
}

/** The first of the names the server's certificate is good for; programs check it. The first when none or no TLS. */
async function certifiedName(
  to: { readonly host: string; readonly port: number },
  names: readonly string[],
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = connectTls({ ...to, rejectUnauthorized: false }, () => {
    const certificate = socket.getPeerCertificate();
    resolve(names.find((name) => checkServerIdentity(name, certificate) === undefined));
  });
  socket.on("error", () => resolve(undefined));
  const found = await promise;
  socket.destroy();
  return found ?? names[0] ?? to.host;
}

const LEASE_FRESH_MS = 60_000;

/** A live kube-controller-manager keeps renewing its lease. */
async function hasControllers(api: ApiConnection): Promise<boolean> {
  const path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";
  const { status, body } = await api.send({ method: "GET", path });
  const spec = status < 300 && isObject(body) && isObject(body["spec"]) ? body["spec"] : {};
  const renewed = typeof spec["renewTime"] === "string" ? Date.parse(spec["renewTime"]) : Number.NaN;
  return Date.now() - renewed < LEASE_FRESH_MS;
}
