/**
 * nf_tables objects as values. Expressions correspond one to one to kernel expressions (linux/netfilter/nf_tables.h),
 * registers included, so what a renderer asked for can be compared with what a kernel dump decodes to.
 * Multi-byte values inside `Uint8Array` are in the byte order the kernel compares them in: network order for packet
 * fields, host order for meta and ct values that are integers in the kernel (mark, state, iif).
 */
export type NftFamily = "inet" | "ip" | "ip6" | "arp" | "bridge" | "netdev";

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
}

export type NftHook = "prerouting" | "input" | "forward" | "output" | "postrouting" | "ingress";

export interface NftBaseChain {
  readonly type: "filter" | "nat" | "route";
  readonly hook: NftHook;
  /** For example −100 is dstnat, 0 filter, 100 srcnat. */
  readonly priority: number;
  readonly policy: "accept" | "drop";
  /** `netdev` chains and `ingress`: the interface they hang on. */
  readonly device?: string;
}

export interface NftChain {
  readonly name: string;
  readonly base?: NftBaseChain;
}

export interface NftSet {
  readonly name: string;
  /** The nft type names of the key; several make a concatenation (each padded to 4 bytes): `["ipv4_addr", "inet_proto", "inet_service"]`. */
  readonly keyTypes: readonly NftDataType[];
  /** Ranges are allowed: elements come with `keyEnd`. */
  readonly interval?: boolean;
  /** Present for a map: what lookups yield. */
  readonly mapTo?: NftDataType | "verdict";
  /** At most this many elements; the kernel refuses more. */
  readonly size?: number;
}

export type NftDataType =
  | "ipv4_addr"
  | "ipv6_addr"
  | "ether_addr"
  | "inet_proto"
  | "inet_service"
  | "mark"
  | "devgroup"
  | "ifname"
  | "integer";

export interface NftElement {
  /** Concatenations are padded per field to 4 bytes; interface names are padded with NUL to 16. */
  readonly key: Uint8Array;
  /** Interval sets: the last key of the range, inclusive. Absent means `key` alone. */
  readonly keyEnd?: Uint8Array;
  readonly value?: Uint8Array | NftVerdict;
  readonly comment?: string;
}

export type NftVerdict =
  | { readonly kind: "accept" | "drop" | "return" | "continue" }
  | { readonly kind: "jump" | "goto"; readonly chain: string };

export interface NftRule {
  readonly exprs: readonly NftExpr[];
  /** Provenance (design §4); at most 128 bytes with its NUL. */
  readonly comment?: string;
}

/** 32-bit registers are 8–23; 1–4 are their 128-bit overlays. 0 is the verdict register. */
export type NftRegister = number;

export type NftMetaKey =
  | "len"
  | "protocol"
  | "nfproto"
  | "l4proto"
  | "priority"
  | "mark"
  | "iif"
  | "oif"
  | "iifname"
  | "oifname"
  | "iifgroup"
  | "oifgroup"
  | "iiftype"
  | "oiftype"
  | "skuid"
  | "pkttype"
  | "nftrace"
  | "random";

export type NftCtKey =
  | "state"
  | "direction"
  | "status"
  | "mark"
  | "expiration"
  | "l3proto"
  | "src"
  | "dst"
  | "protocol"
  | "proto-src"
  | "proto-dst"
  | "zone"
  /** Addresses of one family, wherever the rule stands; `src` and `dst` take the table's family. Need a direction. */
  | "src-ip"
  | "dst-ip"
  | "src-ip6"
  | "dst-ip6";

export type NftExpr =
  | { readonly kind: "meta"; readonly key: NftMetaKey; readonly dreg: NftRegister }
  | { readonly kind: "meta-set"; readonly key: NftMetaKey; readonly sreg: NftRegister }
  | {
      readonly kind: "payload";
      readonly base: "link" | "network" | "transport";
      readonly offset: number;
      readonly length: number;
      readonly dreg: NftRegister;
    }
  | {
      readonly kind: "payload-set";
      readonly base: "link" | "network" | "transport";
      readonly offset: number;
      readonly length: number;
      readonly sreg: NftRegister;
      readonly checksumOffset?: number;
    }
  | {
      readonly kind: "cmp";
      readonly op: "eq" | "neq" | "lt" | "lte" | "gt" | "gte";
      readonly sreg: NftRegister;
      readonly data: Uint8Array;
    }
  | {
      readonly kind: "range";
      readonly op: "eq" | "neq";
      readonly sreg: NftRegister;
      readonly from: Uint8Array;
      readonly to: Uint8Array;
    }
  | {
      readonly kind: "bitwise";
      readonly sreg: NftRegister;
      readonly dreg: NftRegister;
      readonly mask: Uint8Array;
      readonly xor: Uint8Array;
    }
  | {
      readonly kind: "lookup";
      readonly set: string;
      readonly sreg: NftRegister;
      /** Maps: where the value goes; 0 for a verdict map. */
      readonly dreg?: NftRegister;
      readonly invert?: boolean;
    }
  | { readonly kind: "immediate"; readonly dreg: NftRegister; readonly data: Uint8Array }
  | { readonly kind: "verdict"; readonly verdict: NftVerdict }
  | {
      readonly kind: "ct";
      readonly key: NftCtKey;
      readonly direction?: "original" | "reply";
      readonly dreg: NftRegister;
    }
  | { readonly kind: "ct-set"; readonly key: NftCtKey; readonly sreg: NftRegister }
  | { readonly kind: "counter"; readonly packets?: bigint; readonly bytes?: bigint }
  | {
      readonly kind: "log";
      readonly prefix?: string;
      /** NFLOG group; absent means the kernel log. */
      readonly group?: number;
      readonly snaplen?: number;
      readonly level?: number;
    }
  | {
      readonly kind: "limit";
      readonly rate: bigint;
      readonly perSeconds: number;
      readonly burst: number;
      readonly type: "packets" | "bytes";
      readonly over?: boolean;
    }
  | { readonly kind: "connlimit"; readonly count: number; readonly over?: boolean }
  | {
      readonly kind: "nat";
      readonly type: "snat" | "dnat";
      readonly family: "ip" | "ip6";
      readonly addressMin?: NftRegister;
      readonly addressMax?: NftRegister;
      readonly portMin?: NftRegister;
      readonly portMax?: NftRegister;
      readonly flags?: number;
    }
  | {
      readonly kind: "masquerade";
      readonly portMin?: NftRegister;
      readonly portMax?: NftRegister;
      readonly flags?: number;
    }
  | {
      readonly kind: "redirect";
      readonly portMin?: NftRegister;
      readonly portMax?: NftRegister;
      readonly flags?: number;
    }
  | {
      readonly kind: "fib";
      readonly result: "oif" | "oifname" | "type";
      /** saddr or daddr, with mark and interface as wanted. */
      readonly flags: readonly ("saddr" | "daddr" | "mark" | "iif" | "oif" | "present")[];
      readonly dreg: NftRegister;
    }
  | { readonly kind: "reject"; readonly type: "icmp" | "tcp-reset" | "icmpx"; readonly code?: number }
  | { readonly kind: "notrack" }
  | {
      readonly kind: "numgen";
      readonly mode: "incremental" | "random";
      readonly modulus: number;
      readonly offset?: number;
      readonly dreg: NftRegister;
    }
  | {
      readonly kind: "hash";
      readonly sreg: NftRegister;
      readonly length: number;
      readonly modulus: number;
      readonly seed?: number;
      readonly offset?: number;
      readonly dreg: NftRegister;
    }
  /** Something this codec does not know. Kept so that a dump of a foreign table never fails. */
  | { readonly kind: "unknown"; readonly name: string; readonly data: Uint8Array };

/**
 * One command of a batch. A batch is one transaction: all or nothing.
 * `add-*` is idempotent (like `nft add`), `create-*` would fail on existing; `destroy`-like deletes ignore absence when
 * `ifExists` is set.
 */
export type NftCommand =
  /**
   * `owned`: the table belongs to the socket that makes it. Nobody else may change it, and the kernel removes it when the socket
   * is closed, however that happens (NFT_TABLE_F_OWNER, Linux 5.12).
   */
  | { readonly do: "add-table"; readonly table: NftTable; readonly owned?: boolean }
  | { readonly do: "delete-table"; readonly table: NftTable; readonly ifExists?: boolean }
  | { readonly do: "add-chain"; readonly table: NftTable; readonly chain: NftChain }
  | { readonly do: "flush-chain"; readonly table: NftTable; readonly chain: string }
  | { readonly do: "delete-chain"; readonly table: NftTable; readonly chain: string }
  | { readonly do: "add-rule"; readonly table: NftTable; readonly chain: string; readonly rule: NftRule }
  | {
      readonly do: "insert-rule";
      readonly table: NftTable;
      readonly chain: string;
      readonly rule: NftRule;
      readonly beforeHandle?: bigint;
    }
  | {
      readonly do: "replace-rule";
      readonly table: NftTable;
      readonly chain: string;
      readonly rule: NftRule;
      readonly handle: bigint;
    }
  | { readonly do: "delete-rule"; readonly table: NftTable; readonly chain: string; readonly handle: bigint }
  | { readonly do: "add-set"; readonly table: NftTable; readonly set: NftSet }
  | { readonly do: "delete-set"; readonly table: NftTable; readonly set: string }
  | { readonly do: "flush-set"; readonly table: NftTable; readonly set: string }
  /** `set` is the whole declaration, since the encoding of an element depends on it. */
  | {
      readonly do: "add-elements";
      readonly table: NftTable;
      readonly set: NftSet;
      readonly elements: readonly NftElement[];
    }
  | {
      readonly do: "delete-elements";
      readonly table: NftTable;
      readonly set: NftSet;
      readonly elements: readonly NftElement[];
    };
