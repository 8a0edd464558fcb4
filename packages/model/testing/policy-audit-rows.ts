/**
 * The fields of the policy kinds (inventory §1.3): what is there when they are left out, values they take, and values they refuse with the place and the
 * words of the error. `src/policy-audit.test.ts` goes through them.
 */
import type { KindName } from "../src/index.ts";

export type Spec = Readonly<Record<string, unknown>>;
/** Where the field is refused, and with which value. */
type Refused = readonly [spec: Spec, path: string, words: RegExp];

export interface Row {
  readonly field: string;
  /** What is there when it is left out. */
  readonly default?: unknown;
  readonly takes: readonly Spec[];
  readonly refuses: readonly Refused[];
}

export const GNP = ["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"] as const;
export const NP = ["NetworkPolicy", "StagedNetworkPolicy"] as const;
const long = (length: number): string => `a == '${"x".repeat(length - 7)}'`;
export const rules = (count: number) => Array.from({ length: count }, () => ({ action: "Allow" }));

const POLICY: readonly Row[] = [
  {
    field: "tier",
    default: "default",
    takes: [{ tier: "security" }],
    refuses: [
      [{ tier: "a.b" }, "spec.tier", /"a\.b".*not the name of a tier/],
      [{ tier: "A" }, "spec.tier", /"A"/],
    ],
  },
  {
    field: "order",
    takes: [{ order: -1.5 }, { order: 0 }, { order: 1e12 }],
    refuses: [[{ order: "first" }, "spec.order", /must be.*number/i]],
  },
  {
    field: "selector",
    takes: [{ selector: "" }, { selector: "all()" }, { selector: long(1024) }],
    refuses: [
      [{ selector: "a == " }, "spec.selector", /a == /],
      [{ selector: long(1025) }, "spec.selector", /1024/],
      [{ selector: "global()" }, "spec", /global\(\)/],
    ],
  },
  {
    field: "serviceAccountSelector",
    takes: [{ serviceAccountSelector: "has(a)" }],
    refuses: [
      [{ serviceAccountSelector: "has(a" }, "spec.serviceAccountSelector", /has\(a/],
      [{ serviceAccountSelector: long(1025) }, "spec.serviceAccountSelector", /1024/],
      [{ serviceAccountSelector: "global()" }, "spec", /global\(\)/],
    ],
  },
  {
    field: "types",
    takes: [{ types: ["Egress", "Ingress"] }],
    refuses: [
      [{ types: [] }, "spec.types", /1/],
      [{ types: ["Both"] }, "spec.types[0]", /"Both".*"Ingress", "Egress"|"Both".*"Egress", "Ingress"/],
      [{ types: ["Ingress", "Ingress"] }, "spec.types[1]", /Duplicate/i],
    ],
  },
  {
    field: "ingress",
    takes: [{ ingress: [] }, { ingress: rules(1024) }],
    refuses: [
      [{ ingress: rules(1025) }, "spec.ingress", /1024/],
      [{ ingress: [{}] }, "spec.ingress[0].action", /Required/],
    ],
  },
  {
    field: "egress",
    takes: [{ egress: rules(1) }],
    refuses: [
      [{ egress: rules(1025) }, "spec.egress", /1024/],
      [{ egress: "none" }, "spec.egress", /array/],
    ],
  },
  {
    field: "performanceHints",
    takes: [{ performanceHints: ["AssumeNeededOnEveryNode"] }],
    refuses: [
      [{ performanceHints: ["Faster"] }, "spec.performanceHints[0]", /"Faster".*AssumeNeededOnEveryNode/],
      [
        { performanceHints: ["AssumeNeededOnEveryNode", "AssumeNeededOnEveryNode"] },
        "spec.performanceHints[1]",
        /Duplicate/i,
      ],
    ],
  },
];

const CLUSTER_WIDE: readonly Row[] = [
  {
    field: "namespaceSelector",
    takes: [{ namespaceSelector: "has(a)" }],
    refuses: [
      [{ namespaceSelector: ")" }, "spec.namespaceSelector", /\)/],
      [{ namespaceSelector: long(1025) }, "spec.namespaceSelector", /1024/],
      [{ namespaceSelector: "global()" }, "spec", /global\(\)/],
    ],
  },
  {
    field: "doNotTrack",
    takes: [{ doNotTrack: true, applyOnForward: true, egress: rules(1) }, { doNotTrack: false }],
    refuses: [
      [{ doNotTrack: true }, "spec", /applyOnForward/],
      [{ doNotTrack: true, preDNAT: true, applyOnForward: true }, "spec", /preDNAT and doNotTrack/],
      [{ doNotTrack: "yes" }, "spec.doNotTrack", /boolean/],
    ],
  },
  {
    field: "preDNAT",
    takes: [{ preDNAT: true, applyOnForward: true, ingress: rules(1) }],
    refuses: [
      [{ preDNAT: true }, "spec", /applyOnForward/],
      [{ preDNAT: true, applyOnForward: true, egress: rules(1) }, "spec", /egress/],
      [{ preDNAT: true, applyOnForward: true, types: ["Egress"] }, "spec", /Egress/],
    ],
  },
  {
    field: "applyOnForward",
    takes: [{ applyOnForward: true }],
    refuses: [[{ applyOnForward: 1 }, "spec.applyOnForward", /boolean/]],
  },
];

const STAGED: readonly Row[] = [
  {
    field: "stagedAction",
    default: "Set",
    takes: ["Set", "Delete", "Learn", "Ignore"].map((stagedAction) => ({ stagedAction })),
    refuses: [
      [{ stagedAction: "Remove" }, "spec.stagedAction", /"Remove".*Delete/],
      [{ stagedAction: "Delete", order: 0 }, "spec.order", /staged deletion/],
      [{ stagedAction: "Delete", tier: "A" }, "spec.tier", /"A"/],
    ],
  },
];

/** Of a rule, in ingress of a NetworkPolicy unless it says otherwise. */
export const RULE: readonly Row[] = [
  {
    field: "action",
    takes: ["Allow", "Deny", "Log", "Pass"].map((action) => ({ action })),
    refuses: [
      [{ action: "allow" }, "action", /"allow".*"Allow"/],
      [{ action: "Reject" }, "action", /"Reject"/],
    ],
  },
  {
    field: "ipVersion",
    takes: [{ ipVersion: 4 }, { ipVersion: 6 }],
    refuses: [
      [{ ipVersion: 5 }, "ipVersion", /5.*4.*6/],
      [{ ipVersion: 4, source: { nets: ["fd00::/8"] } }, "ipVersion", /IPv6/],
    ],
  },
  ...(["protocol", "notProtocol"] as const).map(
    (field): Row => ({
      field,
      takes: ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite", "tcp", 1, 255, "47"].map((value) => ({
        [field]: value,
      })),
      refuses: [
        [{ [field]: "QUIC" }, field, /"QUIC".*not a protocol/],
        [{ [field]: 0 }, field, /0.*1 to 255/],
        [{ [field]: 256 }, field, /256/],
        [{ [field]: "ICMP", ipVersion: 6 }, "", /ipVersion 4/],
        [{ [field]: "ICMPv6", ipVersion: 4 }, "", /ipVersion 6/],
        [{ [field]: 58, ipVersion: 4 }, "", /ipVersion 6/],
      ],
    }),
  ),
  {
    field: "icmp",
    takes: [
      { protocol: "ICMP", icmp: { type: 254, code: 255 } },
      { protocol: 58, icmp: { type: 0 } },
      { protocol: "ICMP", icmp: {} },
    ],
    refuses: [
      [{ icmp: { type: 8 } }, "", /protocol ICMP or ICMPv6/],
      [{ protocol: "ICMP", icmp: { type: 255 } }, "icmp.type", /254/],
      [{ protocol: "ICMP", icmp: { type: 8, code: 256 } }, "icmp.code", /255/],
      [{ protocol: "ICMP", icmp: { code: 1 } }, "icmp", /needs an ICMP type/],
    ],
  },
  {
    field: "notICMP",
    takes: [{ protocol: "ICMPv6", notICMP: { type: 128, code: 0 } }],
    refuses: [
      [{ protocol: "TCP", notICMP: { type: 8 } }, "notICMP", /ICMP or ICMPv6/],
      [{ protocol: "ICMP", notICMP: { code: 1 } }, "notICMP", /needs an ICMP type/],
    ],
  },
  { field: "source", takes: [{ source: {} }], refuses: [[{ source: "10.0.0.1" }, "source", /object/]] },
  { field: "destination", takes: [{ destination: {} }], refuses: [[{ destination: [] }, "destination", /object/]] },
  {
    field: "http",
    takes: [
      {
        http: { methods: Array.from({ length: 20 }, (_, at) => `M${at}`), paths: [{ exact: "/a" }, { prefix: "/b" }] },
      },
      { protocol: "TCP", http: {} },
      { protocol: 6, http: {} },
    ],
    refuses: [
      [{ action: "Deny", http: {} }, "", /action Allow/],
      [{ protocol: "UDP", http: {} }, "", /protocol TCP/],
      [{ http: { methods: Array.from({ length: 21 }, (_, at) => `M${at}`) } }, "http.methods", /20/],
      [{ http: { methods: ["GET", "GET"] } }, "http.methods[1]", /Duplicate/i],
      [{ http: { paths: [{}] } }, "http.paths[0]", /exact or prefix/],
      [{ http: { paths: [{ exact: "/a", prefix: "/a" }] } }, "http.paths[0]", /exact or prefix/],
      [{ http: { paths: [{ prefix: "a" }] } }, "http.paths[0]", /"a".*starts with \//],
      ...["/a?b", "/a#b", "/a b"].map(
        (exact): Refused => [{ http: { paths: [{ exact }] } }, "http.paths[0]", /no \?, # or blank/],
      ),
      [{ http: { paths: [{ exact: `/${"x".repeat(1024)}` }] } }, "http.paths[0].exact", /1024/],
    ],
  },
  {
    field: "metadata",
    takes: [{ metadata: { annotations: { "example.com/why": "because" } } }],
    refuses: [
      [{ metadata: { annotations: { "a b": "" } } }, "metadata.annotations", /"a b"/],
      [{ metadata: { annotations: { a: "x".repeat(256 * 1024) } } }, "metadata.annotations", /256 KiB/],
    ],
  },
];

const nets = (count: number): string[] => Array.from({ length: count }, (_, at) => `10.${at >> 8}.${at & 255}.0/24`);
export const ENTITY: readonly Row[] = [
  ...(["nets", "notNets"] as const).map(
    (field): Row => ({
      field,
      takes: [{ [field]: ["10.0.0.0/8", "192.0.2.1"] }, { [field]: ["fd00::/8"] }, { [field]: nets(256) }],
      refuses: [
        [{ [field]: ["10.0.0.1/8"] }, `${field}[0]`, /"10\.0\.0\.1\/8".*host bits/],
        [{ [field]: ["x"] }, `${field}[0]`, /"x"/],
        [{ [field]: nets(257) }, field, /256/],
        [{ [field]: ["10.0.0.0/8", "10.0.0.0/8"] }, `${field}[1]`, /Duplicate/i],
      ],
    }),
  ),
  {
    field: "selector",
    takes: [{ selector: "a == 'b'" }],
    refuses: [
      [{ selector: "a =" }, "selector", /a =/],
      [{ selector: long(1025) }, "selector", /1024/],
      [{ selector: "global()" }, "", /global/],
    ],
  },
  {
    field: "notSelector",
    takes: [{ notSelector: "has(a)" }],
    refuses: [
      [{ notSelector: "a =" }, "notSelector", /a =/],
      [{ notSelector: "global()" }, "notSelector", /global/],
    ],
  },
  {
    field: "namespaceSelector",
    takes: [{ namespaceSelector: "global()" }, { namespaceSelector: "all()" }],
    refuses: [
      [{ namespaceSelector: "global() || has(a)" }, "namespaceSelector", /global\(\) cannot be combined/],
      [{ namespaceSelector: long(1025) }, "namespaceSelector", /1024/],
    ],
  },
  {
    field: "services",
    takes: [{ services: { name: "s", namespace: "n" } }, { services: { name: "s".repeat(253) } }],
    refuses: [
      [{ services: {} }, "", /name of a Service/],
      [{ services: { name: "A B" } }, "services.name", /"A B".*not a Service's name/],
      [{ services: { name: "s", namespace: "N" } }, "services.namespace", /"N".*not a namespace's name/],
      [{ services: { name: "s".repeat(254) } }, "services.name", /253/],
      [{ services: { name: "s", namespace: "n".repeat(254) } }, "services.namespace", /253/],
      ...(["selector", "notSelector", "namespaceSelector"] as const).map(
        (other): Refused => [{ services: { name: "s" }, [other]: "has(a)" }, "", /exclude each other/],
      ),
      ...(["nets", "notNets"] as const).map(
        (other): Refused => [{ services: { name: "s" }, [other]: ["10.0.0.0/8"] }, "", /exclude each other/],
      ),
      [{ services: { name: "s" }, serviceAccounts: { names: ["x"] } }, "", /exclude each other/],
    ],
  },
  ...(["ports", "notPorts"] as const).map(
    (field): Row => ({
      field,
      takes: [
        { [field]: [1, 65_535, "80:90", "web", "a.b_c-D"] },
        { [field]: Array.from({ length: 50 }, (_, at) => at + 1) },
      ],
      refuses: [
        [{ [field]: Array.from({ length: 51 }, (_, at) => at + 1) }, field, /50/],
        [{ [field]: [0] }, `${field}[0]`, /0.*1 to 65535/],
        [{ [field]: [65_536] }, `${field}[0]`, /65536/],
        [{ [field]: ["90:80"] }, `${field}[0]`, /90:80.*upwards/],
        [{ [field]: ["0:80"] }, `${field}[0]`, /0:80.*1 to 65535/],
        [{ [field]: ["80:65536"] }, `${field}[0]`, /80:65536.*1 to 65535/],
        [{ [field]: ["a b"] }, `${field}[0]`, /"a b".*not a port name/],
        [{ [field]: ["8000-9000"] }, `${field}[0]`, /"8000-9000".*a range is first:last/],
        // Digits are a number, however many: never a name.
        [{ [field]: ["123456"] }, `${field}[0]`, /"123456".*1 to 65535/],
        [{ [field]: ["000000"] }, `${field}[0]`, /"000000".*1 to 65535/],
        [{ [field]: [""] }, `${field}[0]`, /not a port/],
      ],
    }),
  ),
  {
    field: "serviceAccounts",
    takes: [{ serviceAccounts: { names: ["a", "b"], selector: "has(x)" } }, { serviceAccounts: {} }],
    refuses: [
      [{ serviceAccounts: { selector: "has(" } }, "serviceAccounts.selector", /has\(/],
      [{ serviceAccounts: { selector: "global()" } }, "serviceAccounts.selector", /global/],
      [{ serviceAccounts: { names: ["a", "a"] } }, "serviceAccounts.names[1]", /Duplicate/i],
    ],
  },
];

const kubernetes = (peer: object, ports: readonly object[] = []): Spec => ({ ingress: [{ from: [peer], ports }] });
const KUBERNETES: readonly Row[] = [
  {
    field: "podSelector",
    takes: [{ podSelector: {} }, { podSelector: { matchExpressions: [{ key: "a", operator: "Exists" }] } }],
    refuses: [
      [{ podSelector: { matchLabels: { "a b": "c" } } }, "spec.podSelector.matchLabels", /"a b"/],
      [{ podSelector: { matchLabels: { a: "b c" } } }, "spec.podSelector.matchLabels[a]", /"b c"/],
      [
        { podSelector: { matchExpressions: [{ key: "a", operator: "Is" }] } },
        "spec.podSelector.matchExpressions[0].operator",
        /"Is".*"In"/,
      ],
      [
        { podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } },
        "spec.podSelector.matchExpressions[0].values",
        /needs values/,
      ],
      [
        { podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["x"] }] } },
        "spec.podSelector.matchExpressions[0].values",
        /no values/,
      ],
    ],
  },
  {
    field: "ingress",
    takes: [
      { ingress: [{}] },
      kubernetes({ podSelector: {} }, [{ port: 80, endPort: 90 }, { protocol: "SCTP" }, { port: "http-alt" }]),
      kubernetes({ ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } }),
    ],
    refuses: [
      [kubernetes({}), "spec.ingress[0].from[0]", /who is meant/],
      [
        kubernetes({ podSelector: {}, ipBlock: { cidr: "10.0.0.0/8" } }),
        "spec.ingress[0].from[0]",
        /exclude each other/,
      ],
      [
        kubernetes({ ipBlock: { cidr: "10.0.0.0" } }),
        "spec.ingress[0].from[0].ipBlock.cidr",
        /"10\.0\.0\.0".*not a prefix/,
      ],
      [
        kubernetes({ ipBlock: { cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] } }),
        "spec.ingress[0].from[0].ipBlock.except[0]",
        /not a part of/,
      ],
      [
        kubernetes({ ipBlock: { cidr: "10.0.0.0/8", except: ["10.0.0.0/8"] } }),
        "spec.ingress[0].from[0].ipBlock.except[0]",
        /not a part of/,
      ],
      [kubernetes({ podSelector: {} }, [{ protocol: "ICMP" }]), "spec.ingress[0].ports[0].protocol", /"ICMP".*"TCP"/],
      [kubernetes({ podSelector: {} }, [{ port: 0 }]), "spec.ingress[0].ports[0].port", /0.*65535/],
      [kubernetes({ podSelector: {} }, [{ port: "80" }]), "spec.ingress[0].ports[0].port", /"80".*with a letter/],
      [kubernetes({ podSelector: {} }, [{ endPort: 80 }]), "spec.ingress[0].ports[0].port", /needs a port/],
      [kubernetes({ podSelector: {} }, [{ port: 90, endPort: 80 }]), "spec.ingress[0].ports[0].endPort", /80.*upwards/],
      [
        kubernetes({ podSelector: {} }, [{ port: "web", endPort: 80 }]),
        "spec.ingress[0].ports[0].endPort",
        /with a number/,
      ],
      [kubernetes({ podSelector: {} }, [{ port: 1, endPort: 70_000 }]), "spec.ingress[0].ports[0].endPort", /70000/],
    ],
  },
  {
    field: "egress",
    takes: [{ egress: [{ to: [{ namespaceSelector: {} }] }] }],
    refuses: [[{ egress: [{ to: [{}] }] }, "spec.egress[0].to[0]", /who is meant/]],
  },
  {
    field: "policyTypes",
    takes: [{ policyTypes: ["Egress"] }],
    refuses: [[{ policyTypes: ["Both"] }, "spec.policyTypes[0]", /"Both".*"Ingress"/]],
  },
];

/** Upstream's kind takes what its schema takes: Kubernetes' own rules are for the API server, and only of the enforced kind. */
const STAGED_KUBERNETES: readonly Row[] = [
  ...STAGED.map((row) => ({ ...row, refuses: row.refuses.slice(0, 1) })),
  {
    field: "podSelector",
    takes: [{ podSelector: {} }],
    refuses: [[{ podSelector: "a" }, "spec.podSelector", /object/]],
  },
  {
    field: "ingress",
    takes: [{ ingress: [{}] }, kubernetes({}, [{ protocol: "tcp", port: "a-very-long-name-of-a-port" }])],
    refuses: [
      [{ stagedAction: "Delete", ingress: [{}] }, "spec.ingress", /staged deletion/],
      [kubernetes({}, [{ port: 90, endPort: 80 }]), "spec", /ingress rule 0.*90 to 80/],
      [kubernetes({}, [{ port: 65_536 }]), "spec", /ingress rule 0.*65536/],
      [kubernetes({}, [{ port: "web", endPort: 80 }]), "spec", /ingress rule 0.*"web"/],
      [kubernetes({ ipBlock: { cidr: "x" } }), "spec", /ingress rule 0.*x/],
    ],
  },
  {
    field: "egress",
    takes: [{ egress: [{}] }],
    refuses: [[{ stagedAction: "Delete", egress: [{}] }, "spec.egress", /staged deletion/]],
  },
  {
    field: "policyTypes",
    takes: [{ policyTypes: ["Ingress", "Egress"] }],
    refuses: [
      [{ policyTypes: [] }, "spec.policyTypes", /1/],
      [{ policyTypes: ["Ingress", "Ingress"] }, "spec.policyTypes[1]", /Duplicate/i],
    ],
  },
];

const TIER: readonly Row[] = [
  { field: "order", takes: [{ order: 1.5 }, {}], refuses: [[{ order: "x" }, "spec.order", /number/]] },
  {
    field: "defaultAction",
    default: "Deny",
    takes: [{ defaultAction: "Pass" }, { defaultAction: "Deny" }],
    refuses: [
      [{ defaultAction: "Allow" }, "spec.defaultAction", /"Allow"/],
      [{ defaultAction: "Log" }, "spec.defaultAction", /"Log"/],
    ],
  },
];

const PROFILE: readonly Row[] = [
  {
    field: "ingress",
    takes: [{ ingress: rules(1024) }],
    refuses: [[{ ingress: rules(1025) }, "spec.ingress", /1024/]],
  },
  {
    field: "egress",
    takes: [{ egress: rules(1) }],
    refuses: [[{ egress: [{ action: "Allow", protocol: 0 }] }, "spec.egress[0].protocol", /1 to 255/]],
  },
  {
    field: "labelsToApply",
    takes: [{ labelsToApply: { "example.com/a": "b" } }],
    refuses: [
      [{ labelsToApply: { "a b": "c" } }, "spec.labelsToApply", /"a b"/],
      [{ labelsToApply: { a: "b c" } }, "spec.labelsToApply[a]", /"b c"/],
    ],
  },
];

const SET: readonly Row[] = [
  {
    field: "nets",
    // Host bits too, which rules' own prefixes may not have.
    takes: [{ nets: ["10.0.0.0/8", "fd00::1", "10.0.0.1/8", "192.0.2.1"] }, {}],
    refuses: [
      [{ nets: ["10.0.0.0/33"] }, "spec.nets[0]", /"10\.0\.0\.0\/33"/],
      [{ nets: ["x"] }, "spec.nets[0]", /"x"/],
      [{ nets: ["10.0.0.0/8", "10.0.0.0/8"] }, "spec.nets[1]", /Duplicate/i],
    ],
  },
];

const HOST_BASE = { node: "n1", interfaceName: "eth0" };
const HOST: readonly Row[] = [
  {
    field: "node",
    takes: [HOST_BASE],
    refuses: [
      [{ interfaceName: "eth0" }, "spec", /node/],
      [{ ...HOST_BASE, node: "N 1" }, "spec.node", /"N 1"/],
    ],
  },
  {
    field: "interfaceName",
    takes: [
      { node: "n1", interfaceName: "*" },
      { node: "n1", interfaceName: "a".repeat(15) },
    ],
    refuses: [
      [{ node: "n1" }, "spec", /interfaceName or expectedIPs/],
      [{ node: "n1", interfaceName: "e*" }, "spec.interfaceName", /"e\*"/],
      [{ node: "n1", interfaceName: "a".repeat(16) }, "spec.interfaceName", /15/],
    ],
  },
  {
    field: "expectedIPs",
    takes: [{ node: "n1", expectedIPs: ["10.0.0.1", "fd00::1"] }],
    refuses: [
      [{ node: "n1", expectedIPs: ["10.0.0.0/8"] }, "spec.expectedIPs[0]", /not an IP address/],
      [{ node: "n1", expectedIPs: ["10.0.0.1", "10.0.0.1"] }, "spec.expectedIPs[1]", /Duplicate/i],
    ],
  },
  {
    field: "profiles",
    takes: [{ ...HOST_BASE, profiles: ["a", "kns.b"] }],
    refuses: [
      [{ ...HOST_BASE, profiles: ["a", "a"] }, "spec.profiles[1]", /Duplicate/i],
      [{ ...HOST_BASE, profiles: ["a b"] }, "spec.profiles[0]", /"a b".*profile/],
      [{ ...HOST_BASE, profiles: [""] }, "spec.profiles[0]", /profile/],
    ],
  },
  {
    field: "ports",
    takes: [{ ...HOST_BASE, ports: [{ name: "web", protocol: "TCP", port: 65_535 }] }],
    refuses: [
      [{ ...HOST_BASE, ports: [{ name: "web", protocol: "ICMP", port: 1 }] }, "spec.ports[0].protocol", /ICMP/],
      [{ ...HOST_BASE, ports: [{ name: "web", protocol: "TCP", port: 0 }] }, "spec.ports[0].port", /1/],
      [{ ...HOST_BASE, ports: [{ protocol: "TCP", port: 1 }] }, "spec.ports[0].name", /Required/],
      [{ ...HOST_BASE, ports: [{ name: "a b", protocol: "TCP", port: 1 }] }, "spec.ports[0].name", /"a b"/],
      [{ ...HOST_BASE, ports: [{ name: "80", protocol: "TCP", port: 80 }] }, "spec.ports[0].name", /"80".*one letter/],
    ],
  },
];

const ADMIN = { tier: "Admin", priority: 0, subject: { namespaces: {} } };
const fromAll = { action: "Accept", from: [{ namespaces: {} }] };
const admin = (rule: object): Spec => ({ ...ADMIN, ingress: [{ ...fromAll, ...rule }] });
const CLUSTER_POLICY: readonly Row[] = [
  {
    field: "tier",
    takes: [ADMIN, { ...ADMIN, tier: "Baseline" }],
    refuses: [[{ ...ADMIN, tier: "default" }, "spec.tier", /"default".*"Admin"/]],
  },
  {
    field: "priority",
    takes: [{ ...ADMIN, priority: 1000 }],
    refuses: [
      [{ ...ADMIN, priority: 1001 }, "spec.priority", /1000/],
      [{ ...ADMIN, priority: -1 }, "spec.priority", /0/],
    ],
  },
  {
    field: "subject",
    takes: [{ ...ADMIN, subject: { pods: { podSelector: {} } } }],
    refuses: [
      [{ ...ADMIN, subject: {} }, "spec.subject", /1/],
      [{ ...ADMIN, subject: { namespaces: {}, pods: { podSelector: {} } } }, "spec.subject", /1/],
    ],
  },
  {
    field: "ingress",
    takes: [
      admin({ action: "Pass" }),
      admin({
        protocols: [{ tcp: { destinationPort: { range: { start: 1, end: 2 } } } }, { destinationNamedPort: "web" }],
      }),
    ],
    refuses: [
      [admin({ action: "Allow" }), "spec.ingress[0].action", /"Allow".*"Accept"/],
      [admin({ from: [] }), "spec.ingress[0].from", /1/],
      [
        admin({ protocols: [{ tcp: { destinationPort: { range: { start: 2, end: 2 } } } }] }),
        "spec.ingress[0].protocols[0].tcp.destinationPort.range",
        /below/,
      ],
      [
        admin({ protocols: [{ tcp: { destinationPort: { number: 0 } } }] }),
        "spec.ingress[0].protocols[0].tcp.destinationPort.number",
        /1/,
      ],
      [{ ...ADMIN, ingress: Array.from({ length: 26 }, () => fromAll) }, "spec.ingress", /25/],
    ],
  },
  {
    field: "egress",
    takes: [{ ...ADMIN, egress: [{ action: "Deny", to: [{ networks: ["10.0.0.0/8"] }] }] }],
    refuses: [
      [
        { ...ADMIN, egress: [{ action: "Deny", to: [{ networks: ["10.0.0.0"] }] }] },
        "spec.egress[0].to[0].networks[0]",
        /prefix/,
      ],
    ],
  },
];

export interface Audited {
  readonly kind: KindName;
  readonly rows: readonly Row[];
  /** The least that the kind takes. */
  readonly base: Spec;
}

const audited = (kind: KindName, rows: readonly Row[], base: Spec = {}): Audited => ({ kind, rows, base });

export const AUDIT: readonly Audited[] = [
  audited("GlobalNetworkPolicy", [...POLICY, ...CLUSTER_WIDE]),
  audited("StagedGlobalNetworkPolicy", [...POLICY, ...CLUSTER_WIDE, ...STAGED]),
  audited("NetworkPolicy", POLICY),
  audited("StagedNetworkPolicy", [...POLICY, ...STAGED]),
  audited("StagedKubernetesNetworkPolicy", STAGED_KUBERNETES),
  audited("KubernetesNetworkPolicy", KUBERNETES),
  audited("ClusterNetworkPolicy", CLUSTER_POLICY, ADMIN),
  audited("Tier", TIER),
  audited("Profile", PROFILE),
  audited("NetworkSet", SET),
  audited("GlobalNetworkSet", SET),
  audited("HostEndpoint", HOST, HOST_BASE),
];
