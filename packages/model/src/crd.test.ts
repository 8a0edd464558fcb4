import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { applyDefaults, cloneJson, compileCel, isObject, validate } from "@calico-ts/schema";
import type { JsonSchema } from "@calico-ts/schema";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { objectOf } from "../testing/schema-arbitrary.ts";
import { crdKinds, crdManifest } from "./crd.ts";
import { kinds } from "./kinds.ts";

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe("every CRD", () => {
  test.each(crdKinds)("%s is structural", (name) => {
    const problems: string[] = [];
    visit(kinds[name].schema, "", (schema, path) => {
      const typed = schema.type !== undefined || schema["x-kubernetes-int-or-string"] === true;
      if (!typed && schema["x-kubernetes-preserve-unknown-fields"] !== true) problems.push(`${path}: no type`);
      if (schema.properties !== undefined && schema.additionalProperties !== undefined) problems.push(`${path}: both`);
      if (schema.description === "") problems.push(`${path}: empty description`);
      const unknown = (schema.required ?? []).filter(
        (field) => schema.properties !== undefined && !Object.hasOwn(schema.properties, field),
      );
      if (unknown.length > 0 && path !== "") problems.push(`${path}: requires ${unknown.join(", ")}`);
      for (const junction of [...(schema.allOf ?? []), ...(schema.anyOf ?? [])]) {
        if (junction.default !== undefined || junction.description !== undefined)
          problems.push(`${path}: in a junction`);
      }
    });
    expect(problems).toEqual([]);
  });

  test.each(crdKinds)("%s has CEL rules that compile and say what is wrong", (name) => {
    const broken: unknown[] = [];
    visit(kinds[name].schema, "", (schema) => {
      for (const rule of schema["x-kubernetes-validations"] ?? []) {
        const outcome = compileCel(rule.rule).evaluate({ self: {}, oldSelf: {} });
        if (!outcome.ok && /parse|syntax|unknown function/i.test(outcome.message))
          broken.push([rule.rule, outcome.message]);
        if ((rule.message ?? "") === "") broken.push(rule.rule);
      }
    });
    expect(broken).toEqual([]);
  });

  test.each(crdKinds)("%s survives JSON", (name) => {
    const manifest = crdManifest(name);
    expect(plain(manifest)).toEqual(manifest);
    expect(manifest.metadata.name).toBe(`${kinds[name].plural}.${kinds[name].group}`);
  });

  test("kinds of Kubernetes have none", () => {
    expect(() => crdManifest("Pod")).toThrow("not stored as a custom resource");
    expect(() => crdManifest("Profile")).toThrow("not stored as a custom resource");
  });

  test("a CRD in a protected group names its review", () => {
    expect(crdManifest("ClusterNetworkPolicy").metadata.annotations).toHaveProperty(["api-approved.kubernetes.io"]);
  });
});

function visit(schema: JsonSchema, path: string, see: (schema: JsonSchema, path: string) => void): void {
  see(schema, path);
  for (const [name, field] of Object.entries(schema.properties ?? {})) visit(field, `${path}.${name}`, see);
  if (schema.items !== undefined) visit(schema.items, `${path}[]`, see);
  if (isObject(schema.additionalProperties)) visit(schema.additionalProperties, `${path}{}`, see);
}

/** Where ours differs on purpose: docs/decisions/0001-model-schemas.md. */
const DEVIATIONS = [
  /\.(localA|a)sNumber\./i,
  /\.asPathPrefix\.items\./,
  /\.prependASPath\.properties\.prefix\.items\./,
];

describe("compared with upstream's CRDs", () => {
  // The data set is not part of the repository; without it there is nothing to compare.
  const folder = join(import.meta.dirname, "../../../../shared/data/upstream-crds");
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".yaml")) : [];
  const ours = new Map(crdKinds.map((name) => [crdManifest(name).metadata.name, crdManifest(name)]));

  test(`all ${files.length} kinds are here`, () => {
    const names = files.map((file) => file.replace("projectcalico.org_", "").replace(".yaml", ".projectcalico.org"));
    expect(names.filter((name) => !ours.has(name))).toEqual([]);
  });

  test(`every field, default, range, enum, pattern and count of rules (${files.length} files)`, () => {
    const differences = files.flatMap((file) => {
      const theirs: unknown = parse(readFileSync(join(folder, file), "utf8"));
      if (!isObject(theirs) || !isObject(theirs["metadata"])) return [`${file}: not a CRD`];
      const own = ours.get(String(theirs["metadata"]["name"]));
      return difference(plain(own?.spec), theirs["spec"], file);
    });
    expect(differences.filter((text) => !DEVIATIONS.some((pattern) => pattern.test(text)))).toEqual([]);
  });
});

describe("compared with upstream's CRDs, object by object", () => {
  const folder = join(import.meta.dirname, "../../../../shared/data/upstream-crds");

  test.each(crdKinds)("%s: random objects are accepted or refused alike", (name) => {
    const file = join(folder, `${kinds[name].group}_${kinds[name].plural}.yaml`);
    // Without the data set the kind is compared with itself: the generator still runs over every schema and rule.
    const theirs = existsSync(file)
      ? exceptDeviations(upstreamSchema(parse(readFileSync(file, "utf8"))), kinds[name].schema)
      : kinds[name].schema;
    fc.assert(
      fc.property(objectOf(kinds[name].schema), (object) => {
        const [ours, other] = [kinds[name].schema, theirs].map((schema) => {
          const defaulted = applyDefaults(schema, cloneJson(object));
          return validate(schema, defaulted).length === 0;
        });
        expect(ours).toBe(other);
      }),
      { numRuns: 300 },
    );
    const accepted = fc.sample(objectOf(kinds[name].schema), { seed: 1, numRuns: 200 }).some((object) => {
      const defaulted = applyDefaults(kinds[name].schema, cloneJson(object));
      return validate(kinds[name].schema, defaulted).length === 0;
    });
    expect(accepted).toBe(true);
  });
});

/** Their schema, with ours in the places where we differ on purpose. */
function exceptDeviations(theirs: JsonSchema, ours: JsonSchema): JsonSchema {
  const properties = Object.entries(theirs.properties ?? {}).map(([field, schema]): [string, JsonSchema] => {
    const own = ours.properties?.[field] ?? {};
    const deviates = /^(asNumber|localASNumber|asPathPrefix|prefix)$/.test(field) && schema.type !== "string";
    return [field, deviates ? own : exceptDeviations(schema, own)];
  });
  return {
    ...theirs,
    ...(theirs.properties === undefined ? {} : { properties: Object.fromEntries(properties) }),
    ...(theirs.items === undefined ? {} : { items: exceptDeviations(theirs.items, ours.items ?? {}) }),
  };
}

function upstreamSchema(crd: unknown): JsonSchema {
  const { spec } = crd as { spec: { versions: { schema: { openAPIV3Schema: JsonSchema } }[] } };
  return spec.versions[0]?.schema.openAPIV3Schema ?? {};
}

/** Differences in meaning: descriptions, the wording of rules and the order of words do not count. */
function difference(ours: unknown, theirs: unknown, path: string): string[] {
  const key = path.slice(path.lastIndexOf(".") + 1);
  if (Array.isArray(ours) && Array.isArray(theirs)) {
    if (key === "x-kubernetes-validations") return ours.length === theirs.length ? [] : [`${path}: count of rules`];
    const sort = (list: unknown[]): unknown[] =>
      key === "enum" || key === "required" ? list.toSorted((x, y) => (String(x) < String(y) ? -1 : 1)) : list;
    const [a, b] = [sort(ours), sort(theirs)];
    if (a.length !== b.length) return [`${path}: ${JSON.stringify(a)} instead of ${JSON.stringify(b)}`];
    return a.flatMap((item, index) => difference(item, b[index], `${path}[${index}]`));
  }
  if (isObject(ours) && isObject(theirs)) {
    return [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].flatMap((name) => {
      if (name === "description" && typeof (ours[name] ?? theirs[name]) === "string") return [];
      // An empty list of subresources is the same as none.
      if (name === "subresources" && JSON.stringify(ours[name] ?? {}) === JSON.stringify(theirs[name] ?? {})) return [];
      return difference(ours[name], theirs[name], `${path}.${name}`);
    });
  }
  return ours === theirs ? [] : [`${path}: ${JSON.stringify(ours)} instead of ${JSON.stringify(theirs)}`];
}
