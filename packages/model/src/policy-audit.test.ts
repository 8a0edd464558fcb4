/**
 * Every field of the policy kinds (inventory §1.3), with its default, values it takes and values it refuses; the path in an error is
 * that of the field, and the words name value and reason. A field of the schema without a row here fails the last test, so the list is complete;
 * that our schemas are upstream's is `crd.test.ts`.
 */
import type { JsonSchema } from "@calico-ts/schema";
import { fieldErrorBody, isObject } from "@calico-ts/schema";
import { describe, expect, test } from "vitest";
import type { Row, Spec } from "../testing/policy-audit-rows.ts";
import { AUDIT, ENTITY, GNP, NP, RULE, rules } from "../testing/policy-audit-rows.ts";
import type { KindName } from "./index.ts";
import { kinds, policyFromCalico, policyFromStagedKubernetes, prepare } from "./index.ts";

const metadata = (kind: KindName) => ({ name: "x", ...(kinds[kind].namespaced ? { namespace: "n" } : {}) });
const check = (kind: KindName, spec: Spec) => prepare(kind, { metadata: metadata(kind), spec });

function refusal(kind: KindName, spec: Spec): { readonly paths: readonly string[]; readonly words: string } {
  const prepared = check(kind, spec);
  return prepared.ok
    ? { paths: [], words: "" }
    : { paths: prepared.errors.map(({ path }) => path), words: prepared.errors.map(fieldErrorBody).join("\n") };
}

function audit(kind: KindName, { field, takes, refuses, ...row }: Row, base: Spec): void {
  for (const spec of takes)
    expect({ field, spec, ...refusal(kind, spec) }).toEqual({ field, spec, paths: [], words: "" });
  for (const [spec, path, words] of refuses) {
    const seen = refusal(kind, spec);
    expect({ spec, paths: seen.paths }).toEqual({ spec, paths: [path] });
    expect(seen.words).toMatch(words);
  }
  if (!("default" in row)) return;
  const prepared = check(kind, base);
  expect(
    prepared.ok && isObject(prepared.resource) ? (prepared.resource as { spec: Spec }).spec[field] : undefined,
  ).toEqual(row.default);
}

describe.each(AUDIT)("$kind", ({ kind, rows, base }) => {
  test.each(rows.map((row) => ({ row, field: row.field })))("$field", ({ row }) => audit(kind, row, base));
});

describe("a rule", () => {
  const place = (direction: string, rule: Spec): Spec => ({ [direction]: [{ action: "Allow", ...rule }] });
  const inRule = (direction: string, { field, takes, refuses }: Row): Row => ({
    field,
    takes: takes.map((rule) => place(direction, rule)),
    refuses: refuses.map(([rule, path, words]) => [
      place(direction, rule),
      `spec.${direction}[0]${path === "" ? "" : `.${path}`}`,
      words,
    ]),
  });
  /** Ports need a protocol; a Service is the source of ingress and the destination of egress. */
  const inSide = (direction: string, side: string, row: Row): Row => {
    const withProtocol = row.field === "ports" || row.field === "notPorts" ? { protocol: "TCP" } : {};
    return inRule(direction, {
      field: row.field,
      takes: row.takes.map((entity) => ({ ...withProtocol, [side]: entity })),
      refuses: row.refuses.map(([entity, path, words]) => [
        { ...withProtocol, [side]: entity },
        path === "" ? side : `${side}.${path}`,
        words,
      ]),
    });
  };

  test.each(RULE.map((row) => ({ row, field: row.field })))("$field", ({ row }) => {
    for (const kind of [...GNP, ...NP]) audit(kind, inRule("ingress", row), {});
    if (row.field !== "http") audit("NetworkPolicy", inRule("egress", row), {});
  });

  test.each(ENTITY.map((row) => ({ row, field: row.field })))("source and destination: $field", ({ row }) => {
    for (const [direction, side] of [
      ["ingress", "source"],
      ["egress", "destination"],
    ] as const) {
      for (const kind of NP) audit(kind, inSide(direction, side, row), {});
    }
  });

  const refusals: readonly (readonly [KindName, Spec, string, RegExp])[] = [
    ["NetworkPolicy", place("egress", { http: {} }), "spec.egress[0].http", /ingress rules only/],
    [
      "NetworkPolicy",
      place("ingress", { destination: { services: { name: "s" } } }),
      "spec.ingress[0].destination.services",
      /source of ingress/,
    ],
    [
      "NetworkPolicy",
      place("egress", { source: { services: { name: "s" } } }),
      "spec.egress[0].source.services",
      /destination of egress/,
    ],
    [
      "NetworkPolicy",
      place("egress", { protocol: "TCP", destination: { services: { name: "s" }, ports: [1] } }),
      "spec.egress[0]",
      /own ports/,
    ],
    [
      "NetworkPolicy",
      place("egress", { protocol: "TCP", destination: { services: { name: "s" }, notPorts: [1] } }),
      "spec.egress[0]",
      /own ports/,
    ],
    [
      "GlobalNetworkPolicy",
      place("ingress", { source: { services: { name: "s" } } }),
      "spec.ingress[0].source.services.namespace",
      /which namespace/,
    ],
    [
      "Profile",
      place("egress", { destination: { services: { name: "s" } } }),
      "spec.egress[0].destination.services.namespace",
      /which namespace/,
    ],
    [
      "NetworkPolicy",
      place("ingress", { destination: { ports: [80] } }),
      "spec.ingress[0].destination.ports",
      /80.*TCP, UDP or SCTP/,
    ],
    [
      "NetworkPolicy",
      place("ingress", { protocol: "UDPLite", destination: { ports: [80] } }),
      "spec.ingress[0].destination.ports",
      /TCP, UDP or SCTP/,
    ],
    [
      "NetworkPolicy",
      place("ingress", { protocol: "ICMP", source: { notPorts: ["web"] } }),
      "spec.ingress[0].source.ports",
      /TCP, UDP or SCTP/,
    ],
    [
      "NetworkPolicy",
      place("ingress", { source: { nets: ["10.0.0.0/8"] }, destination: { notNets: ["fd00::/8"] } }),
      "spec.ingress[0]",
      /mix IPv4 and IPv6/,
    ],
    [
      "NetworkPolicy",
      place("ingress", { source: { notNets: ["0.0.0.0/0"] } }),
      "spec.ingress[0].source.notNets[0]",
      /0\.0\.0\.0\/0.*every address/,
    ],
    [
      "NetworkPolicy",
      place("ingress", { source: { notNets: ["::/0"] } }),
      "spec.ingress[0].source.notNets[0]",
      /every address/,
    ],
  ];
  test.each(refusals)("%s %j", (kind, spec, path, words) => {
    const seen = refusal(kind, spec);
    expect(seen.paths).toEqual([path]);
    expect(seen.words).toMatch(words);
  });
  test.each<[string, Spec]>([
    ["everything may be meant", { source: { nets: ["0.0.0.0/0"] } }],
    ["names of ports without a protocol", { destination: { ports: ["web"] } }],
    ["a Service and its own ports' absence", { source: { services: { name: "s" } } }],
  ])("%s", (_name, rule) => {
    expect(refusal("NetworkPolicy", place("ingress", rule)).words).toBe("");
  });
});

describe("types, when they are left out (inventory §10.5)", () => {
  const [one] = [rules(1)];
  test.each<[string, Spec, readonly string[]]>([
    ["no rules", {}, ["Ingress"]],
    ["incoming", { ingress: one }, ["Ingress"]],
    ["outgoing", { egress: one }, ["Egress"]],
    ["both", { ingress: one, egress: one }, ["Ingress", "Egress"]],
    ["empty lists count as none", { ingress: [], egress: one }, ["Egress"]],
    ["written ones stay", { types: ["Ingress"], egress: one }, ["Ingress"]],
  ])("%s", (_name, spec, types) => {
    for (const kind of [...GNP, ...NP] as const) {
      const prepared = check(kind, spec);
      expect(
        prepared.ok && policyFromCalico(prepared.resource as Parameters<typeof policyFromCalico>[0])?.spec.types,
      ).toEqual(types);
    }
  });

  test.each<[Spec, readonly string[]]>([
    [{}, ["Ingress"]],
    [{ egress: [{}] }, ["Ingress", "Egress"]],
    [{ policyTypes: ["Egress"] }, ["Egress"]],
  ])("a staged Kubernetes policy %j", (spec, types) => {
    const prepared = prepare("StagedKubernetesNetworkPolicy", { metadata: { name: "x", namespace: "n" }, spec });
    expect(prepared.ok && policyFromStagedKubernetes(prepared.resource)?.spec.types).toEqual(types);
  });
});

test("every field that the schemas have is in the list", () => {
  const properties = (schema: JsonSchema | undefined): string[] => Object.keys(schema?.properties ?? {}).toSorted();
  for (const { kind, rows } of AUDIT) {
    const seen = [...new Set(rows.map(({ field }) => field))].toSorted();
    expect({ kind, fields: seen }).toEqual({ kind, fields: properties(kinds[kind].schema.properties?.["spec"]) });
  }
  const rule = kinds.NetworkPolicy.schema.properties?.["spec"]?.properties?.["ingress"]?.items;
  expect([...new Set(RULE.map(({ field }) => field))].toSorted()).toEqual(properties(rule));
  expect(ENTITY.map(({ field }) => field).toSorted()).toEqual(properties(rule?.properties?.["source"]));
});
