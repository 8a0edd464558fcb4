/**
 * The file `verify` reads: what the network should allow and deny.
 *
 *   flows:                                   # single statements
 *     - {from: shop/frontend, to: shop/cart, port: 7070, expect: allowed}
 *     - {from: [shop/ads, shop/mail], to: svc:shop/cart, port: 7070, expect: denied}
 *   matrix:                                  # a statement about every pair
 *     namespaces: [shop]
 *     otherwise: denied
 *     allowed:
 *       shop/frontend: [shop/cart:7070, shop/catalog:3550, "shop/dns:53/udp"]
 *       "*": [shop/frontend:8080]
 */
import { Type } from "typebox";

const names = (description: string) =>
  // A name or a list of names; the structural subset of JSON Schema has no way to say so that editors would also show well.
  Type.Unsafe<string | string[]>({
    anyOf: [
      { type: "string", minLength: 1 },
      { type: "array", minItems: 1, items: { type: "string", minLength: 1 } },
    ],
    description,
  });

const flow = Type.Object(
  {
    from: names("NAMESPACE/POD, or the name of a Deployment; several in a list."),
    to: names("NAMESPACE/POD, svc:NAMESPACE/NAME or an address; several in a list."),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535 })),
    protocol: Type.Optional(Type.Enum(["tcp", "udp", "icmp"], { default: "tcp" })),
    family: Type.Optional(
      Type.Enum([4, 6], { description: "Which address of a target that has both. Default: its first." }),
    ),
    expect: Type.Enum(["allowed", "denied"]),
    because: Type.Optional(Type.String({ description: "Shown when the network disagrees." })),
  },
  { additionalProperties: false },
);

const table = Type.Unsafe<Record<string, string[]>>({
  type: "object",
  additionalProperties: { type: "array", items: { type: "string", minLength: 1 } },
  description:
    "Source → destinations as NAMESPACE/POD:PORT or NAMESPACE/POD:PORT/udp. `*` is every pod, `NAMESPACE/*` every pod of one.",
});

const matrix = Type.Object(
  {
    namespaces: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), { description: "As `matrix --namespace`. Default: all." }),
    ),
    otherwise: Type.Enum(["allowed", "denied"], { description: "What is expected of every pair not named below." }),
    allowed: Type.Optional(table),
    denied: Type.Optional(table),
  },
  { additionalProperties: false },
);

export const expectationsSchema = Type.Object(
  {
    flows: Type.Optional(Type.Array(flow)),
    matrix: Type.Optional(matrix),
  },
  { additionalProperties: false, title: "calico-sim expectations" },
);

export type ExpectationsFile = Type.Static<typeof expectationsSchema>;
