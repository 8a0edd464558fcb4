/**
 * From the names people type to a namespace and an address.
 *
 * The prober knows the cluster only through this small view; `cluster.ts` of the simulator fits it as it is.
 */
import type { IpAddress } from "@calico-ts/net";
import { tryParseAddress } from "@calico-ts/net";
import { CalicoError } from "@calico-ts/std";
import type { ProbeRequest, ResolvedProbe } from "./probe-request.ts";

export interface ProbePod {
  readonly namespace: string;
  readonly name: string;
  readonly netns: string | undefined;
  readonly hostNetwork: boolean;
  readonly ips: readonly string[];
  readonly phase: string;
  readonly ready: boolean;
  readonly terminating: boolean;
  readonly ports: readonly { readonly port: number; readonly protocol: "TCP" | "UDP" | "SCTP" }[];
}

export interface ProbeService {
  readonly namespace: string;
  readonly name: string;
  readonly clusterIPs: readonly string[];
  readonly ports: readonly { readonly port: number; readonly protocol: string }[];
}

export interface PodSource<P extends ProbePod = ProbePod> {
  pods(): readonly P[];
  /** A pod by its name or by its workload's. */
  findPod(namespace: string, name: string): P | undefined;
}

export interface ProbeView extends PodSource {
  services(): readonly ProbeService[];
}

const bad = (message: string): CalicoError => new CalicoError("BAD_INPUT", message);

/** `namespace/name`, or a bare name in `default`. */
export function splitPodName(text: string): { readonly namespace: string; readonly name: string } {
  const parts = text.split("/");
  const [namespace = "", name = ""] = parts.length === 1 ? ["default", text] : parts;
  if (parts.length > 2 || namespace === "" || name === "") throw bad(`${JSON.stringify(text)}: write NAMESPACE/POD`);
  return { namespace, name };
}

/** @throws CalicoError BAD_INPUT for what cannot be meant, NOT_FOUND for what is not there (now). */
export function resolveProbe(view: ProbeView, request: ProbeRequest): ResolvedProbe {
  const { protocol, port } = request;
  if (protocol !== "icmp" && !(Number.isInteger(port) && port >= 1 && port <= 65_535)) {
    throw bad(`port ${port}: a ${protocol} probe needs --port between 1 and 65535`);
  }
  const source = runningPod(view, request.from);
  if (source.netns === undefined) {
    throw new CalicoError("NOT_FOUND", `${request.from} has no network namespace yet (phase ${source.phase})`);
  }
  const base = { request, netns: source.netns, port };
  if (request.to.startsWith("svc:")) return { ...base, address: serviceAddress(view, request) };
  const literal = tryParseAddress(request.to);
  if (literal !== undefined) return { ...base, address: literal };
  const target = runningPod(view, request.to);
  const address = firstOf(target.ips, request.family);
  if (address === undefined)
    throw new CalicoError(
      "NOT_FOUND",
      `${request.to} has no ${familyWord(request)}address yet (phase ${target.phase})`,
    );
  // Pods in the host's network share their address with others there.
  return target.hostNetwork
    ? { ...base, address }
    : { ...base, address, expectPod: `${target.namespace}/${target.name}` };
}

const firstOf = (texts: readonly string[], family: 4 | 6 | undefined): IpAddress | undefined =>
  texts.map(tryParseAddress).find((address) => address !== undefined && (family ?? address.family) === address.family);

const familyWord = ({ family }: ProbeRequest): string => (family === undefined ? "" : `IPv${family} `);

export function runningPod<P extends ProbePod>(view: PodSource<P>, text: string): P {
  const { namespace, name } = splitPodName(text);
  const pod = view.findPod(namespace, name);
  if (pod !== undefined) return pod;
  const near = view.pods().filter((pod) => pod.namespace === namespace);
  const hint =
    near.length === 0 ? `namespace ${namespace} has no pods` : `pods there: ${near.map(({ name }) => name).join(", ")}`;
  throw new CalicoError("NOT_FOUND", `no pod or workload ${namespace}/${name}; ${hint}`);
}

function serviceAddress(view: ProbeView, request: ProbeRequest): IpAddress {
  const { namespace, name } = splitPodName(request.to.slice("svc:".length));
  const service = view.services().find((service) => service.namespace === namespace && service.name === name);
  if (service === undefined) throw new CalicoError("NOT_FOUND", `no service ${namespace}/${name}`);
  const address = firstOf(service.clusterIPs, request.family);
  if (address === undefined && service.clusterIPs.length > 0)
    throw bad(
      `service ${namespace}/${name} has no ${familyWord(request)}ClusterIP; it has ${service.clusterIPs.join(", ")}`,
    );
  if (address === undefined) {
    throw bad(`service ${namespace}/${name} is headless: it has no ClusterIP to send to; probe its pods`);
  }
  const declared = service.ports.some(
    ({ port, protocol }) => port === request.port && protocol.toLowerCase() === request.protocol,
  );
  if (!declared && request.protocol !== "icmp") {
    const has = service.ports.map(({ port, protocol }) => `${port}/${protocol.toLowerCase()}`).join(", ");
    throw bad(`service ${namespace}/${name} has no port ${request.port}/${request.protocol}; it has: ${has}`);
  }
  return address;
}
