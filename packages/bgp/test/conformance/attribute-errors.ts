/**
 * RFC 7606 as data: what each malformed attribute costs, section by section, and RFC 4271 section 6.3: what a NOTIFICATION says when it costs the session.
 * Written from the texts, not from the codec's own table.
 */
export type Cost = "accepted" | "attribute-discard" | "treat-as-withdraw" | `session-reset ${number}/${number}`;

export interface Malformed {
  readonly section: string;
  readonly what: string;
  /** In place of a good one of its code, beside everything else that a route needs. */
  readonly bytes: readonly number[];
  readonly cost: Cost;
  /** What the session is, where it matters. Default: internal, four-octet AS numbers. */
  readonly from?: { readonly internal?: false; readonly fourOctetAs?: false };
}

const external = { internal: false } as const;
const twoOctet = { fourOctetAs: false } as const;
const WITHDRAW = "treat-as-withdraw";
const DISCARD = "attribute-discard";
/** MP_REACH_NLRI of 2001:db8::/32 by fe80::1, with flags of the caller's. */
const reach6 = (flags: number): number[] => [
  ...[flags, 14, 26, 0, 2, 1, 16, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
  ...[32, 0x20, 0x01, 0x0d, 0xb8],
];

/** Each attribute with the opposite of its Optional bit, and of its Transitive bit. */
const FLAG_CONFLICTS: readonly (readonly [name: string, flags: number, rest: readonly number[]])[] = [
  ["ORIGIN", 0x40, [1, 1, 0]],
  ["AS_PATH", 0x40, [2, 0]],
  ["NEXT_HOP", 0x40, [3, 4, 192, 0, 2, 1]],
  ["MULTI_EXIT_DISC", 0x80, [4, 4, 0, 0, 0, 1]],
  ["LOCAL_PREF", 0x40, [5, 4, 0, 0, 0, 1]],
  ["ATOMIC_AGGREGATE", 0x40, [6, 0]],
  ["AGGREGATOR", 0xc0, [7, 8, 0, 0, 0, 1, 10, 0, 0, 1]],
  ["COMMUNITIES", 0xc0, [8, 4, 0, 1, 0, 1]],
  ["ORIGINATOR_ID", 0x80, [9, 4, 1, 2, 3, 4]],
  ["CLUSTER_LIST", 0x80, [10, 4, 1, 2, 3, 4]],
  ["EXTENDED COMMUNITIES", 0xc0, [16, 8, 0, 2, 0, 1, 0, 0, 0, 1]],
  ["AS4_PATH", 0xc0, [17, 6, 2, 1, 0, 0, 0, 1]],
  ["AS4_AGGREGATOR", 0xc0, [18, 8, 0, 0, 0, 1, 10, 0, 0, 1]],
  ["LARGE_COMMUNITY", 0xc0, [32, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]],
  ["ONLY_TO_CUSTOMER", 0xc0, [35, 4, 0, 0, 0, 1]],
];

export const ATTRIBUTE_ERRORS: readonly Malformed[] = [
  ...FLAG_CONFLICTS.flatMap(([name, flags, rest]) =>
    [0x80, 0x40].map(
      (bit): Malformed => ({
        section: "3 (c)",
        what: `${name} with flags 0x${(flags ^ bit).toString(16)}`,
        bytes: [flags ^ bit, ...rest],
        cost: WITHDRAW,
      }),
    ),
  ),
  { section: "3 (c)", what: "MP_REACH_NLRI with flags 0xc0", bytes: reach6(0xc0), cost: WITHDRAW },
  { section: "3 (g)", what: "a second ORIGIN", bytes: [0x40, 1, 1, 0, 0x40, 1, 1, 2], cost: DISCARD },
  {
    section: "3 (g)",
    what: "a second MP_REACH_NLRI",
    bytes: [...reach6(0x80), ...reach6(0x80)],
    cost: "session-reset 3/1",
  },
  {
    section: "3 (g)",
    what: "a second MP_UNREACH_NLRI",
    bytes: [0x80, 15, 3, 0, 2, 1, 0x80, 15, 3, 0, 2, 1],
    cost: "session-reset 3/1",
  },
  {
    section: "3 (h)",
    what: "two errors: the stronger counts",
    bytes: [0x40, 6, 1, 0, 0x80, 4, 3, 0, 0, 1],
    cost: WITHDRAW,
  },
  { section: "4", what: "a length beyond the list", bytes: [0x80, 4, 200, 1], cost: WITHDRAW },
  { section: "4", what: "a list that ends after the flags", bytes: [0x80], cost: WITHDRAW },
  { section: "4", what: "a list that ends inside an extended length", bytes: [0x90, 4, 0], cost: WITHDRAW },

  { section: "7.1", what: "ORIGIN of no byte", bytes: [0x40, 1, 0], cost: WITHDRAW },
  { section: "7.1", what: "ORIGIN of 2 bytes", bytes: [0x40, 1, 2, 0, 0], cost: WITHDRAW },
  { section: "7.1", what: "ORIGIN 3", bytes: [0x40, 1, 1, 3], cost: WITHDRAW },
  {
    section: "7.2",
    what: "AS_PATH with an unknown segment type",
    bytes: [0x40, 2, 6, 9, 1, 0, 0, 0, 1],
    cost: WITHDRAW,
  },
  {
    section: "7.2",
    what: "AS_PATH with a segment that is cut short",
    bytes: [0x40, 2, 6, 2, 2, 0, 0, 0, 1],
    cost: WITHDRAW,
  },
  {
    section: "7.2",
    what: "AS_PATH with one byte behind a segment",
    bytes: [0x40, 2, 7, 2, 1, 0, 0, 0, 1, 2],
    cost: WITHDRAW,
  },
  { section: "7.2", what: "AS_PATH with a segment of no AS", bytes: [0x40, 2, 2, 2, 0], cost: WITHDRAW },
  { section: "7.2 and RFC 7607", what: "AS_PATH with AS 0", bytes: [0x40, 2, 6, 2, 1, 0, 0, 0, 0], cost: WITHDRAW },
  {
    section: "7.2",
    what: "AS_PATH of two-octet numbers",
    bytes: [0x40, 2, 4, 2, 1, 0, 1],
    cost: "accepted",
    from: twoOctet,
  },
  {
    section: "7.2",
    what: "AS_PATH of four-octet numbers",
    bytes: [0x40, 2, 6, 2, 1, 0, 0, 0, 1],
    cost: WITHDRAW,
    from: twoOctet,
  },
  { section: "7.3", what: "NEXT_HOP of 3 bytes", bytes: [0x40, 3, 3, 1, 2, 3], cost: WITHDRAW },
  { section: "7.3", what: "NEXT_HOP of 5 bytes", bytes: [0x40, 3, 5, 1, 2, 3, 4, 5], cost: WITHDRAW },
  { section: "7.4", what: "MULTI_EXIT_DISC of 3 bytes", bytes: [0x80, 4, 3, 0, 0, 1], cost: WITHDRAW },
  { section: "7.4", what: "MULTI_EXIT_DISC of 5 bytes", bytes: [0x80, 4, 5, 0, 0, 1, 0, 0], cost: WITHDRAW },
  { section: "7.5", what: "LOCAL_PREF of 3 bytes", bytes: [0x40, 5, 3, 0, 0, 1], cost: WITHDRAW },
  { section: "7.5", what: "LOCAL_PREF of 3 bytes", bytes: [0x40, 5, 3, 0, 0, 1], cost: "accepted", from: external },
  { section: "7.6", what: "ATOMIC_AGGREGATE with a value", bytes: [0x40, 6, 1, 0], cost: DISCARD },
  { section: "7.7", what: "AGGREGATOR of 6 bytes", bytes: [0xc0, 7, 6, 0, 1, 10, 0, 0, 1], cost: DISCARD },
  {
    section: "7.7",
    what: "AGGREGATOR of 6 bytes",
    bytes: [0xc0, 7, 6, 0, 1, 10, 0, 0, 1],
    cost: "accepted",
    from: twoOctet,
  },
  {
    section: "7.7",
    what: "AGGREGATOR of 8 bytes",
    bytes: [0xc0, 7, 8, 0, 0, 0, 1, 10, 0, 0, 1],
    cost: DISCARD,
    from: twoOctet,
  },
  {
    section: "7.7 and RFC 7607",
    what: "AGGREGATOR with AS 0",
    bytes: [0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 1],
    cost: DISCARD,
  },
  { section: "7.8", what: "COMMUNITIES of no byte", bytes: [0xc0, 8, 0], cost: WITHDRAW },
  { section: "7.8", what: "COMMUNITIES of 5 bytes", bytes: [0xc0, 8, 5, 0, 1, 0, 1, 9], cost: WITHDRAW },
  { section: "7.9", what: "ORIGINATOR_ID of 5 bytes", bytes: [0x80, 9, 5, 1, 2, 3, 4, 5], cost: WITHDRAW },
  {
    section: "7.9",
    what: "ORIGINATOR_ID of 5 bytes",
    bytes: [0x80, 9, 5, 1, 2, 3, 4, 5],
    cost: "accepted",
    from: external,
  },
  { section: "7.10", what: "CLUSTER_LIST of no byte", bytes: [0x80, 10, 0], cost: WITHDRAW },
  { section: "7.10", what: "CLUSTER_LIST of 6 bytes", bytes: [0x80, 10, 6, 1, 2, 3, 4, 5, 6], cost: WITHDRAW },
  {
    section: "7.10",
    what: "CLUSTER_LIST of 6 bytes",
    bytes: [0x80, 10, 6, 1, 2, 3, 4, 5, 6],
    cost: "accepted",
    from: external,
  },
  { section: "7.11", what: "MP_REACH_NLRI of 4 bytes", bytes: [0x80, 14, 4, 0, 2, 1, 0], cost: "session-reset 3/9" },
  {
    section: "7.11",
    what: "MP_REACH_NLRI with a next hop of 5 bytes",
    bytes: [0x80, 14, 10, 0, 2, 1, 5, 1, 2, 3, 4, 5, 0],
    cost: "session-reset 3/9",
  },
  {
    section: "7.11",
    what: "MP_REACH_NLRI with a next hop longer than itself",
    bytes: [0x80, 14, 10, 0, 2, 1, 32, 1, 2, 3, 4, 5, 0],
    cost: "session-reset 3/9",
  },
  {
    section: "5.3 and 7.12",
    what: "MP_UNREACH_NLRI of 2 bytes",
    bytes: [0x80, 15, 2, 0, 2],
    cost: "session-reset 3/9",
  },
  {
    section: "5.3 and 7.12",
    what: "MP_UNREACH_NLRI with a /129",
    bytes: [0x80, 15, 5, 0, 2, 1, 129, 1],
    cost: "session-reset 3/9",
  },
  { section: "7.13", what: "Traffic Engineering, which we do not know", bytes: [0x80, 24, 1, 0], cost: "accepted" },
  { section: "7.14", what: "EXTENDED COMMUNITIES of no byte", bytes: [0xc0, 16, 0], cost: WITHDRAW },
  {
    section: "7.14",
    what: "EXTENDED COMMUNITIES of 7 bytes",
    bytes: [0xc0, 16, 7, 1, 2, 3, 4, 5, 6, 7],
    cost: WITHDRAW,
  },
  {
    section: "7.15",
    what: "IPv6 extended communities, which we do not know",
    bytes: [0xc0, 25, 1, 0],
    cost: "accepted",
  },
  { section: "7.16", what: "ATTR_SET, which we do not know", bytes: [0xc0, 128, 1, 0], cost: "accepted" },
  {
    section: "RFC 6793 section 6",
    what: "AS4_PATH with an unknown segment type",
    bytes: [0xc0, 17, 6, 9, 1, 0, 0, 0, 1],
    cost: DISCARD,
  },
  {
    section: "RFC 6793 section 6",
    what: "AS4_AGGREGATOR of 6 bytes",
    bytes: [0xc0, 18, 6, 0, 1, 10, 0, 0, 1],
    cost: DISCARD,
  },
  {
    section: "RFC 8092 section 5",
    what: "LARGE_COMMUNITY of 11 bytes",
    bytes: [0xc0, 32, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    cost: WITHDRAW,
  },
  { section: "RFC 8092 section 5", what: "LARGE_COMMUNITY of no byte", bytes: [0xc0, 32, 0], cost: WITHDRAW },
  { section: "RFC 9234 section 5", what: "ONLY_TO_CUSTOMER of 3 bytes", bytes: [0xc0, 35, 3, 0, 0, 1], cost: WITHDRAW },
  {
    section: "RFC 4271 section 6.3",
    what: "an unknown well-known attribute",
    bytes: [0x40, 99, 1, 0],
    cost: "session-reset 3/2",
  },
];
