/** What an API server demands of a Kubernetes NetworkPolicy (Kubernetes API reference; ValidateNetworkPolicySpec). */
import { containsPrefix, tryParsePrefix } from "@calico-ts/net";
import type { FieldError } from "@calico-ts/schema";
import { forbidden, invalid, keyPath, notSupported, required } from "@calico-ts/schema";
import type {
  KubernetesNetworkPolicy,
  KubernetesPolicyPeer,
  KubernetesPolicyPort,
} from "../kubernetes/network-policy.ts";
import type { LabelSelector } from "../schema/meta.ts";
import { each, given, when } from "./fields.ts";
import { isLabelValue, isQualifiedName } from "./metadata.ts";

const TYPES = ["Ingress", "Egress"];
const PROTOCOLS = ["TCP", "UDP", "SCTP"];
/** IANA service names: RFC 6335 §5.1. */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

export function kubernetesPolicyErrors({ spec = {} }: KubernetesNetworkPolicy): FieldError[] {
  return [
    ...labelSelectorErrors(spec.podSelector, "spec.podSelector"),
    ...each(spec.policyTypes, "spec.policyTypes", (type, at) =>
      when(!TYPES.includes(type), () => notSupported(at, type, TYPES)),
    ),
    ...when((spec.policyTypes ?? []).length > TYPES.length, () =>
      invalid("spec.policyTypes", spec.policyTypes, "at most Ingress and Egress"),
    ),
    ...each(spec.ingress, "spec.ingress", ({ ports, from }, at) => [
      ...each(ports, `${at}.ports`, portErrors),
      ...each(from, `${at}.from`, peerErrors),
    ]),
    ...each(spec.egress, "spec.egress", ({ ports, to }, at) => [
      ...each(ports, `${at}.ports`, portErrors),
      ...each(to, `${at}.to`, peerErrors),
    ]),
  ];
}

function portErrors({ protocol, port, endPort }: KubernetesPolicyPort, path: string): FieldError[] {
  const number = typeof port === "number" ? port : undefined;
  const isPort = (value: number): boolean => Number.isInteger(value) && value >= 1 && value <= 65_535;
  return [
    ...given(protocol, (name) =>
      when(!PROTOCOLS.includes(name), () => notSupported(`${path}.protocol`, name, PROTOCOLS)),
    ),
    ...given(number, (value) => when(!isPort(value), () => invalid(`${path}.port`, value, "ports are 1 to 65535"))),
    ...when(typeof port === "string" && !PORT_NAME.test(port), () =>
      invalid(
        `${path}.port`,
        port,
        "not a port's name: at most 15 of a-z, 0-9 and -, with a letter, - not at the ends or twice",
      ),
    ),
    ...given(endPort, (last) => {
      if (port === undefined) return [required(`${path}.port`, "endPort needs a port to begin with")];
      if (number === undefined)
        return [invalid(`${path}.endPort`, last, "a range begins with a number, not with a name")];
      if (!isPort(last)) return [invalid(`${path}.endPort`, last, "ports are 1 to 65535")];
      return when(last < number, () => invalid(`${path}.endPort`, last, `below port ${number}: a range goes upwards`));
    }),
  ];
}

function peerErrors(peer: KubernetesPolicyPeer, path: string): FieldError[] {
  const { ipBlock, podSelector, namespaceSelector } = peer;
  if (ipBlock === undefined && podSelector === undefined && namespaceSelector === undefined) {
    return [
      required(
        path,
        "a peer says who is meant: podSelector, namespaceSelector or ipBlock; for anybody leave out the list",
      ),
    ];
  }
  return [
    ...when(ipBlock !== undefined && (podSelector !== undefined || namespaceSelector !== undefined), () =>
      forbidden(path, "ipBlock and selectors exclude each other: make two peers of it"),
    ),
    ...labelSelectorErrors(podSelector, `${path}.podSelector`),
    ...labelSelectorErrors(namespaceSelector, `${path}.namespaceSelector`),
    ...given(ipBlock, (block) => blockErrors(block, `${path}.ipBlock`)),
  ];
}

/** As Kubernetes reads them, host bits are masked away. */
function blockErrors({ cidr, except }: NonNullable<KubernetesPolicyPeer["ipBlock"]>, path: string): FieldError[] {
  const prefixOf = (text: string) => (text.includes("/") ? tryParsePrefix(text, "mask") : undefined);
  const outer = prefixOf(cidr);
  if (outer === undefined) return [invalid(`${path}.cidr`, cidr, "not a prefix such as 10.0.0.0/8")];
  return each(except, `${path}.except`, (text, at) => {
    const inner = prefixOf(text);
    if (inner === undefined) return [invalid(at, text, "not a prefix such as 10.0.0.0/8")];
    const inside = inner.family === outer.family && inner.length > outer.length && containsPrefix(outer, inner);
    return when(!inside, () => invalid(at, text, `not a part of ${cidr}`));
  });
}

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

function labelSelectorErrors(selector: LabelSelector | undefined, path: string): FieldError[] {
  if (selector === undefined) return [];
  const keyErrors = (key: string, at: string): FieldError[] =>
    when(!isQualifiedName(key), () => invalid(at, key, "not a label name: use [prefix/]name"));
  const valueErrors = (value: string, at: string): FieldError[] =>
    when(!isLabelValue(value), () =>
      invalid(at, value, "a label value has letters, digits, '-', '_' and '.', at most 63"),
    );
  return [
    ...Object.entries(selector.matchLabels ?? {}).flatMap(([key, value]) => [
      ...keyErrors(key, `${path}.matchLabels`),
      ...valueErrors(value, keyPath(`${path}.matchLabels`, key)),
    ]),
    ...each(selector.matchExpressions, `${path}.matchExpressions`, ({ key, operator, values = [] }, at) => {
      const listed = operator === "In" || operator === "NotIn";
      return [
        ...keyErrors(key, `${at}.key`),
        ...when(!OPERATORS.includes(operator), () => notSupported(`${at}.operator`, operator, OPERATORS)),
        ...when(listed && values.length === 0, () =>
          required(`${at}.values`, `${operator} needs values to compare with`),
        ),
        ...when(!listed && values.length > 0, () => forbidden(`${at}.values`, `${operator} takes no values`)),
        ...each(values, `${at}.values`, valueErrors),
      ];
    }),
  ];
}
