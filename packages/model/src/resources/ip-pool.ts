import type { CalicoResourceWithStatus } from "../schema/declare.ts";
import { bool, cel, checks, integer, object, opt, set, text, word } from "../schema/builders.ts";
import { empty, isTrue, noGlobal } from "../schema/cel-terms.ts";
import { calicoKind, column } from "../schema/declare.ts";
import { conditionsSchema } from "../schema/meta.ts";

const MODES = ["Never", "Always", "CrossSubnet"] as const;
const unencapsulated = (field: string): string => `(${empty(field)} || self.${field} == 'Never')`;
const forLoadBalancers = "(has(self.allowedUses) && 'LoadBalancer' in self.allowedUses)";
const isV6 = "cidr(self.cidr).ip().family() == 6";
const effectiveBlockSize = `(has(self.blockSize) && self.blockSize > 0 ? self.blockSize : (${isV6} ? 122 : 26))`;

const spec = object(
  {
    cidr: text({
      format: "cidr",
      maxLength: 48,
      description: "The addresses of the pool. Cannot be changed.",
      ...checks(cel("self == oldSelf", "the CIDR of a pool cannot be changed: make a second pool and migrate to it")),
    }),
    allowedUses: opt(
      set(word(["Workload", "Tunnel", "LoadBalancer"]), {
        maxItems: 10,
        description: "What addresses are used for; when empty, Workload and Tunnel. LoadBalancer stands alone.",
      }),
    ),
    assignmentMode: opt(
      word(["Automatic", "Manual"], {
        default: "Automatic",
        description: "Manual: used only where a pod or a configuration asks for this pool by name.",
      }),
    ),
    blockSize: opt(
      integer({
        minimum: 0,
        maximum: 128,
        description: "Prefix length of the blocks nodes claim: 20-32 for IPv4 (26), 116-128 for IPv6 (122).",
        ...checks(
          cel("self == oldSelf", "the block size of a pool cannot be changed: make a second pool and migrate to it"),
        ),
      }),
    ),
    disableBGPExport: opt(bool({ description: "Do not announce this pool's routes over BGP. Default: false." })),
    disabled: opt(bool({ description: "No new addresses are taken from the pool. Default: false." })),
    ipipMode: opt(word(MODES, { description: "When to encapsulate in IPIP. IPv4 only. Default: Never." })),
    vxlanMode: opt(word(MODES, { description: "When to encapsulate in VXLAN. Default: Never." })),
    namespaceSelector: opt(
      text({
        maxLength: 1024,
        description: "Pods of which namespaces may use the pool. Holds together with nodeSelector.",
      }),
    ),
    natOutgoing: opt(
      bool({ description: "Packets from the pool to addresses outside all pools leave with the node's address." }),
    ),
    nodeSelector: opt(text({ maxLength: 1024, default: "all()", description: "Which nodes may use the pool." })),
  },
  {
    description: "A range of addresses and how packets to and from it travel.",
    ...checks(
      cel(
        `${unencapsulated("ipipMode")} || ${unencapsulated("vxlanMode")}`,
        "a pool uses IPIP or VXLAN, not both: set ipipMode or vxlanMode to Never",
        "FieldValueForbidden",
      ),
      cel(
        `!${forLoadBalancers} || (${unencapsulated("ipipMode")} && ${unencapsulated("vxlanMode")})`,
        "a pool for LoadBalancer addresses cannot have an encapsulation",
        "FieldValueForbidden",
      ),
      cel(
        `!${forLoadBalancers} || self.allowedUses.all(use, use == 'LoadBalancer')`,
        "allowedUses LoadBalancer cannot be combined with Workload or Tunnel",
        "FieldValueForbidden",
      ),
      cel(`!(${isV6}) || ${unencapsulated("ipipMode")}`, "IPIP carries IPv4 only", "FieldValueForbidden"),
      cel(
        `!${forLoadBalancers} || !${isTrue("disableBGPExport")}`,
        "a pool for LoadBalancer addresses must be exported over BGP",
        "FieldValueForbidden",
      ),
      cel(
        `!${forLoadBalancers} || self.nodeSelector == 'all()'`,
        "a pool for LoadBalancer addresses needs nodeSelector all()",
      ),
      cel(
        `${empty("namespaceSelector")} || !has(self.allowedUses) || !('Tunnel' in self.allowedUses)`,
        "a pool with a namespaceSelector cannot be used for Tunnel addresses",
        "FieldValueForbidden",
      ),
      cel(noGlobal("nodeSelector"), "global() has no meaning in nodeSelector"),
      cel(noGlobal("namespaceSelector"), "global() has no meaning in namespaceSelector"),
      cel("cidr(self.cidr).masked() == cidr(self.cidr)", "the CIDR has host bits set"),
      cel(
        "!cidr(self.cidr).containsIP('169.254.0.0') && !cidr('169.254.0.0/16').containsIP(cidr(self.cidr).ip())",
        "the CIDR overlaps the IPv4 link-local range 169.254.0.0/16",
      ),
      cel(
        "!cidr(self.cidr).containsIP('fe80::') && !cidr('fe80::/10').containsIP(cidr(self.cidr).ip())",
        "the CIDR overlaps the IPv6 link-local range fe80::/10",
      ),
      cel(
        `!has(self.blockSize) || self.blockSize == 0 || (${isV6} ? 116 <= self.blockSize && self.blockSize <= 128 : 20 <= self.blockSize && self.blockSize <= 32)`,
        "blockSize is 20 to 32 for IPv4 and 116 to 128 for IPv6",
      ),
      cel(
        `${isTrue("disabled")} || cidr(self.cidr).prefixLength() <= ${effectiveBlockSize}`,
        "the pool is smaller than one block: use a shorter prefix or a longer blockSize",
      ),
    ),
  },
);

const status = object({ conditions: opt(conditionsSchema) });

export type IPPool = CalicoResourceWithStatus<"IPPool", typeof spec, typeof status>;
export type IPPoolSpec = IPPool["spec"];

export const ipPool = calicoKind({
  kind: "IPPool",
  plural: "ippools",
  description: "A range of IP addresses for pods, tunnels or load balancers.",
  spec,
  status,
  printerColumns: [
    column("CIDR", "string", ".spec.cidr", "The addresses of the pool"),
    column("VXLAN", "string", ".spec.vxlanMode", "When VXLAN is used"),
    column("IPIP", "string", ".spec.ipipMode", "When IPIP is used"),
    column("NAT", "boolean", ".spec.natOutgoing", "Whether outgoing packets are masqueraded"),
    column(
      "Allocatable",
      "string",
      ".status.conditions[?(@.type=='Allocatable')].status",
      "Whether addresses are given out",
    ),
    column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
  ],
});
