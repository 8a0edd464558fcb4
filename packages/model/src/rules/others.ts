/** Rules about the remaining kinds. */
import { PROTOCOL_NUMBERS, protocolNumber } from "@calico-ts/net";
import type { FieldError } from "@calico-ts/schema";
import { forbidden, invalid, keyPath } from "@calico-ts/schema";
import type { CalicoNodeStatus, KubeControllersConfiguration } from "../resources/cluster.ts";
import type { GlobalNetworkSet, HostEndpoint, NetworkSet } from "../resources/endpoints.ts";
import type { IPPool } from "../resources/ip-pool.ts";
import type { IPReservation } from "../resources/ipam.ts";
import {
  addressErrors,
  durationErrors,
  each,
  filled,
  given,
  interfaceErrors,
  looseNetErrors,
  netErrors,
  portNameErrors,
  regexpErrors,
  selectorErrors,
  when,
} from "./fields.ts";
import { annotationErrors, isSubdomain, labelErrors } from "./metadata.ts";

export const ipPoolErrors = ({ spec }: IPPool): FieldError[] => [
  ...selectorErrors(spec.nodeSelector, "spec.nodeSelector"),
  ...selectorErrors(spec.namespaceSelector, "spec.namespaceSelector"),
];

export const ipReservationErrors = ({ spec }: IPReservation): FieldError[] =>
  each(spec.reservedCIDRs, "spec.reservedCIDRs", (net, at) => netErrors(net, at));

const NAMESPACE_LABEL = "projectcalico.org/namespace";

/** The namespace label is added by the system; written by hand it could claim another namespace's place. */
export const networkSetErrors = ({ metadata, spec }: NetworkSet | GlobalNetworkSet): FieldError[] => [
  ...each(spec.nets, "spec.nets", looseNetErrors),
  ...when(metadata.labels?.[NAMESPACE_LABEL] !== undefined, () =>
    forbidden(keyPath("metadata.labels", NAMESPACE_LABEL), "this label is reserved for the system"),
  ),
];

export const hostEndpointErrors = ({ spec }: HostEndpoint): FieldError[] => [
  ...filled(spec.node, (name) => when(!isSubdomain(name), () => invalid("spec.node", name, "not a node's name"))),
  ...interfaceErrors(spec.interfaceName, "spec.interfaceName"),
  ...each(spec.expectedIPs, "spec.expectedIPs", (address, at) => addressErrors(address, at)),
  ...each(spec.profiles, "spec.profiles", (name, at) =>
    when(!isSubdomain(name), () => invalid(at, name, "not the name of a profile")),
  ),
  ...each(spec.ports, "spec.ports", ({ name, protocol }, at) => {
    const number = protocolNumber(protocol);
    const known =
      number === PROTOCOL_NUMBERS.TCP || number === PROTOCOL_NUMBERS.UDP || number === PROTOCOL_NUMBERS.SCTP;
    return [
      ...(name === "" ? [invalid(`${at}.name`, name, "a port has a name")] : portNameErrors(name, `${at}.name`)),
      ...when(!known, () => invalid(`${at}.protocol`, protocol, "ports go with TCP, UDP or SCTP")),
    ];
  }),
];

const MAX_REPORT_PERIOD = 86_400;

export const nodeStatusErrors = ({ spec }: CalicoNodeStatus): FieldError[] =>
  given(spec.updatePeriodSeconds, (seconds) =>
    when(seconds < 0 || seconds > MAX_REPORT_PERIOD, () =>
      invalid("spec.updatePeriodSeconds", seconds, `0 (off) to ${MAX_REPORT_PERIOD}`),
    ),
  );

export function kubeControllersErrors({ spec }: KubeControllersConfiguration): FieldError[] {
  const { controllers } = spec;
  const path = "spec.controllers";
  const periods = (["policy", "workloadEndpoint", "serviceAccount", "namespace", "node"] as const).flatMap((name) =>
    durationErrors(controllers[name]?.reconcilerPeriod, `${path}.${name}.reconcilerPeriod`),
  );
  const hostEndpoint = controllers.node?.hostEndpoint;
  const create = hostEndpoint?.createDefaultHostEndpoint ?? "Enabled";
  return [
    ...periods,
    ...durationErrors(spec.etcdV3CompactionPeriod, "spec.etcdV3CompactionPeriod"),
    ...durationErrors(controllers.node?.leakGracePeriod, `${path}.node.leakGracePeriod`),
    ...when(create !== "Enabled" && create !== "Disabled", () =>
      invalid(`${path}.node.hostEndpoint.createDefaultHostEndpoint`, create, "Enabled or Disabled"),
    ),
    ...each(hostEndpoint?.templates, `${path}.node.hostEndpoint.templates`, (template, at) => [
      ...each(template.interfaceCIDRs, `${at}.interfaceCIDRs`, (net, netPath) => netErrors(net, netPath)),
      ...regexpErrors(template.interfacePattern, `${at}.interfacePattern`),
      ...selectorErrors(template.nodeSelector, `${at}.nodeSelector`),
      ...given(template.labels, (labels) => labelErrors(labels, `${at}.labels`)),
      ...given(template.annotations, (annotations) => annotationErrors(annotations, `${at}.annotations`)),
    ]),
  ];
}
