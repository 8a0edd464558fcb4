/**
 * Pod → workload endpoint: what policy applies to and routes lead to.
 *
 * A pod that finished keeps its endpoint and loses its addresses: another pod may have them already. Pods on the host's
 * network and pods without a node have none.
 */
import { formatPrefix, hostPrefix, tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { sha1Hex } from "@calico-ts/std";
import { NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL } from "@calico-ts/selector";
import type { Pod } from "../kubernetes/core.ts";
import { ORCHESTRATOR_LABEL } from "./label-selector.ts";
import { namespaceProfileName, serviceAccountProfileName } from "./profile.ts";
import { workloadEndpointName } from "./workload-endpoint-name.ts";
import { type QosControls, qosControls } from "./qos.ts";

export const POD_IPS_ANNOTATION = "cni.projectcalico.org/podIPs";
export const POD_IP_ANNOTATION = "cni.projectcalico.org/podIP";
export const CONTAINER_ID_ANNOTATION = "cni.projectcalico.org/containerID";
export const FLOATING_IPS_ANNOTATION = "cni.projectcalico.org/floatingIPs";
export const ALLOWED_SOURCE_PREFIXES_ANNOTATION = "cni.projectcalico.org/allowedSourcePrefixes";
const AWS_POD_IPS_ANNOTATION = "vpc.amazonaws.com/pod-ips";

export interface EndpointPort {
  /** "" for a host port without a name. */
  readonly name: string;
  readonly protocol: "TCP" | "UDP" | "SCTP";
  readonly port: number;
  readonly hostPort?: number;
  readonly hostIp?: string;
}

export interface FloatingAddress {
  readonly internal: string;
  readonly external: string;
}

export interface WorkloadEndpoint {
  /** The name of the record: node, orchestrator, pod and interface, escaped. */
  readonly name: string;
  readonly namespace: string;
  readonly orchestrator: "k8s";
  /** `<namespace>/<pod>`. */
  readonly workload: string;
  /** The interface inside the pod. */
  readonly endpoint: string;
  readonly node: string;
  readonly pod: string;
  readonly containerId?: string;
  readonly serviceAccount?: string;
  /** The host's end of the pair. */
  readonly interfaceName: string;
  /** /32 and /128 prefixes. */
  readonly addresses: readonly string[];
  readonly profiles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly EndpointPort[];
  readonly floatingAddresses: readonly FloatingAddress[];
  /** Prefixes the pod may use as source besides its own addresses. */
  readonly allowedSourcePrefixes: readonly string[];
  /** What the pod's annotations limit; absent: nothing. */
  readonly qos?: QosControls;
  /** Set while the pod is one of a series (`<generateName>xyz`). */
  readonly generateName?: string;
}

export const POD_INTERFACE = "eth0";

/** undefined: the pod has no endpoint. */
export function workloadEndpointFromPod(pod: Pod, interfacePrefix = "cali"): WorkloadEndpoint | undefined {
  const { metadata, spec } = pod;
  if (!hasWorkloadEndpoint(pod) || spec.nodeName === undefined) return undefined;
  const namespace = metadata.namespace ?? "";
  const annotations = metadata.annotations ?? {};
  const serviceAccount = spec.serviceAccountName ?? "";
  const containerId = annotations[CONTAINER_ID_ANNOTATION];
  const addresses = podAddresses(pod);
  const { controls: qos } = qosControls(annotations);
  return {
    name: workloadEndpointName({
      node: spec.nodeName,
      orchestrator: "k8s",
      pod: metadata.name,
      endpoint: POD_INTERFACE,
    }),
    namespace,
    orchestrator: "k8s",
    workload: `${namespace}/${metadata.name}`,
    endpoint: POD_INTERFACE,
    node: spec.nodeName,
    pod: metadata.name,
    ...(containerId === undefined || containerId === "" ? {} : { containerId }),
    ...(serviceAccount === "" ? {} : { serviceAccount }),
    interfaceName: hostInterfaceName(namespace, metadata.name, interfacePrefix),
    addresses,
    profiles: [
      namespaceProfileName(namespace),
      ...(serviceAccount === "" ? [] : [serviceAccountProfileName(namespace, serviceAccount)]),
    ],
    labels: endpointLabels(pod),
    ports: endpointPorts(pod),
    floatingAddresses: floatingAddresses(annotations[FLOATING_IPS_ANNOTATION], addresses),
    allowedSourcePrefixes: prefixList(jsonTexts(annotations[ALLOWED_SOURCE_PREFIXES_ANNOTATION])),
    ...(qos === undefined ? {} : { qos }),
    ...(metadata.generateName === undefined || metadata.generateName === ""
      ? {}
      : { generateName: metadata.generateName }),
  };
}

/** True for pods that have a network of their own and a node. */
export const hasWorkloadEndpoint = (pod: Pod): boolean =>
  pod.spec.hostNetwork !== true && pod.spec.nodeName !== undefined && pod.spec.nodeName !== "";

/**
 * The pod no longer uses its addresses. A pod that is being deleted still does, until the network plugin says otherwise by
 * emptying its annotation: that comes before the status changes.
 */
export function isFinished(pod: Pod): boolean {
  const deleting = pod.metadata.deletionTimestamp !== undefined && pod.metadata.deletionTimestamp !== null;
  const emptied = [POD_IP_ANNOTATION, AWS_POD_IPS_ANNOTATION].some((key) => pod.metadata.annotations?.[key] === "");
  if (deleting && emptied) return true;
  const phase = pod.status?.phase;
  return phase === "Failed" || phase === "Succeeded" || phase === "Completed";
}

/** `cali` and the first 11 hex digits of SHA-1("<namespace>.<pod>"): 15 characters, the most a name may have. */
export const hostInterfaceName = (namespace: string, pod: string, prefix = "cali"): string =>
  `${prefix}${sha1Hex(`${namespace}.${pod}`).slice(0, 11)}`;

/** The first source that says anything decides, even when what it says is unreadable. */
export function podAddresses(pod: Pod): string[] {
  if (isFinished(pod)) return [];
  const annotations = pod.metadata.annotations ?? {};
  const sources: readonly (readonly string[])[] = [
    (pod.status?.podIPs ?? []).flatMap(({ ip }) => ip ?? []),
    commaList(pod.status?.podIP),
    commaList(annotations[POD_IPS_ANNOTATION]),
    commaList(annotations[POD_IP_ANNOTATION]),
    commaList(annotations[AWS_POD_IPS_ANNOTATION]),
  ];
  const texts = sources.find((source) => source.some((text) => text !== "")) ?? [];
  return [...new Set(texts.flatMap(hostPrefixText))];
}

const commaList = (text: string | undefined): string[] =>
  text === undefined ? [] : text.split(",").map((part) => part.trim());

/** An address, with or without a prefix length; the length does not matter. */
function hostPrefixText(text: string): string[] {
  const address = tryParseAddress(text.split("/", 1)[0] ?? "");
  return address === undefined ? [] : [formatPrefix(hostPrefix(address))];
}

function endpointLabels(pod: Pod): Readonly<Record<string, string>> {
  const serviceAccount = pod.spec.serviceAccountName ?? "";
  return {
    ...pod.metadata.labels,
    [NAMESPACE_LABEL]: pod.metadata.namespace ?? "",
    [ORCHESTRATOR_LABEL]: "k8s",
    // A longer one is no label value; such pods match by profile only.
    ...(serviceAccount !== "" && serviceAccount.length < 63 ? { [SERVICE_ACCOUNT_LABEL]: serviceAccount } : {}),
  };
}

/** Container ports with a name or a host port, of init containers too (sidecars are init containers that stay). */
function endpointPorts(pod: Pod): EndpointPort[] {
  const containers = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
  return containers
    .flatMap((container) => container.ports ?? [])
    .flatMap((port): EndpointPort[] => {
      const { name = "", containerPort, hostPort = 0, hostIP, protocol = "TCP" } = port;
      if (containerPort === 0 || (name === "" && hostPort === 0)) return [];
      if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") return [];
      return [
        {
          name,
          protocol,
          port: containerPort,
          ...(hostPort === 0 ? {} : { hostPort }),
          ...(hostIP === undefined || hostIP === "" ? {} : { hostIp: hostIP }),
        },
      ];
    });
}

/** Each floating address leads to the pod's address of its family. */
function floatingAddresses(annotation: string | undefined, own: readonly string[]): FloatingAddress[] {
  return jsonTexts(annotation).flatMap((external) => {
    const address = tryParseAddress(external);
    if (address === undefined) return [];
    const internal = own.find((prefix) => prefix.includes(":") === (address.family === 6));
    return internal === undefined ? [] : [{ internal: internal.slice(0, internal.indexOf("/")), external }];
  });
}

/** What is wrong with limits and floating addresses that the pod's annotations ask for. The endpoint is without what is named here. */
export function annotationProblems(pod: Pod): readonly string[] {
  const annotations = pod.metadata.annotations ?? {};
  return [
    ...qosControls(annotations).problems,
    ...floatingProblems(annotations[FLOATING_IPS_ANNOTATION], podAddresses(pod)),
  ];
}

function floatingProblems(text: string | undefined, own: readonly string[]): string[] {
  if (text === undefined || text === "") return [];
  const problem = (what: string): string => `${FLOATING_IPS_ANNOTATION}: ${what}`;
  const listed = jsonTexts(text);
  if (listed.length === 0 && !/^\s*\[\s*\]\s*$/.test(text))
    return [problem(`${text} is not a JSON list of addresses, such as ["192.0.2.1"]`)];
  return listed.flatMap((external) => {
    const address = tryParseAddress(external);
    if (address === undefined) return [problem(`"${external}" is not an address`)];
    // Without any address the pod is starting, or has ended.
    const leads = own.length === 0 || own.some((prefix) => prefix.includes(":") === (address.family === 6));
    return leads ? [] : [problem(`${external} needs an IPv${address.family} address of the pod`)];
  });
}

const prefixList = (texts: readonly string[]): string[] =>
  texts.flatMap((text) => {
    const prefix = tryParsePrefix(text, "mask");
    return prefix === undefined ? [] : [formatPrefix(prefix)];
  });

/** A JSON list of texts; anything else in the annotation is ignored. */
function jsonTexts(annotation: string | undefined): string[] {
  if (annotation === undefined) return [];
  try {
    const value: unknown = JSON.parse(annotation);
    return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
  } catch {
    return [];
  }
}
