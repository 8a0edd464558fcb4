import { isObject, type JsonObject } from "@calico-ts/schema";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { typeSchema } from "../registry/type-table.ts";
import { compareFields, fieldsOf, fieldSetPaths, formatFieldSet, parseFieldSet, union } from "./field-set.ts";
import { mergePatch } from "./patch.ts";
import { strategicMerge } from "./strategic.ts";

const spec = typeSchema("V1PodSpec");
const merge = (original: object, patch: object): JsonObject =>
  strategicMerge(spec, original as JsonObject, patch as JsonObject);
const names = (list: unknown): unknown[] =>
  Array.isArray(list) ? list.map((item: unknown) => (isObject(item) ? item["name"] : item)) : [];

describe("strategic merge patch", () => {
  const containers = [
    { name: "a", image: "1", args: ["x"] },
    { name: "b", image: "1" },
  ];

  test("merges by key, replaces atomic lists, deletes with null", () => {
    const out = merge(
      { containers, nodeName: "n" },
      { nodeName: null, containers: [{ name: "a", args: ["y"] }, { name: "c" }] },
    );
    expect(out).toEqual({
      containers: [{ name: "a", image: "1", args: ["y"] }, { name: "b", image: "1" }, { name: "c" }],
    });
  });

  test("directives: delete, replace, retainKeys, primitive lists, order", () => {
    expect(names(merge({ containers }, { containers: [{ name: "a", $patch: "delete" }] })["containers"])).toEqual([
      "b",
    ]);
    expect(names(merge({ containers }, { containers: [{ $patch: "replace" }, { name: "z" }] })["containers"])).toEqual([
      "z",
    ]);
    const volumes = [{ name: "v", emptyDir: {} }];
    expect(
      merge({ volumes }, { volumes: [{ name: "v", $retainKeys: ["name", "hostPath"], hostPath: { path: "/" } }] })[
        "volumes"
      ],
    ).toEqual([{ name: "v", hostPath: { path: "/" } }]);
    const meta = typeSchema("V1ObjectMeta");
    expect(
      strategicMerge(
        meta,
        { finalizers: ["a", "b"] },
        { "$deleteFromPrimitiveList/finalizers": ["a"], finalizers: ["c"] },
      )["finalizers"],
    ).toEqual(["b", "c"]);
    const ordered = merge(
      { containers },
      { "$setElementOrder/containers": [{ name: "b" }, { name: "a" }], containers: [{ name: "a", image: "2" }] },
    );
    expect(names(ordered["containers"])).toEqual(["b", "a"]);
  });

  test("a list item without its key is refused", () => {
    expect(() => merge({ containers }, { containers: [{ image: "x" }] })).toThrow(
      /does not contain declared merge key: name/,
    );
  });

  test("never changes the original", () => {
    const original = { containers: structuredClone(containers) };
    merge(original, { containers: [{ name: "a", image: "9" }] });
    expect(original).toEqual({ containers });
  });
});

test("merge patch follows RFC 7386: patching with the result's difference is stable", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.dictionary(fc.string(), fc.jsonValue()),
      (original, patch) => {
        const once = mergePatch(structuredClone(original), patch);
        expect(mergePatch(structuredClone(once), patch)).toEqual(once);
      },
    ),
  );
});

describe("field sets", () => {
  const name = fc.constantFrom("a", "b", "c");
  const container = fc.record(
    { name, image: fc.constantFrom("x", "y"), args: fc.array(fc.string({ maxLength: 2 }), { maxLength: 2 }) },
    { requiredKeys: ["name"] },
  );
  const podSpec = fc.record(
    {
      nodeName: fc.string({ maxLength: 3 }),
      containers: fc.uniqueArray(container, { selector: (item) => item.name, maxLength: 3 }),
      nodeSelector: fc.dictionary(name, name),
    },
    { requiredKeys: [] },
  );

  test("the JSON form keeps everything", () => {
    fc.assert(
      fc.property(podSpec, (value) => {
        const set = fieldsOf(spec, value);
        expect(formatFieldSet(parseFieldSet(formatFieldSet(set)))).toEqual(formatFieldSet(set));
      }),
    );
  });

  test("equal values differ in nothing; what differs is in one of the two", () => {
    fc.assert(
      fc.property(podSpec, podSpec, (before, after) => {
        const same = compareFields(spec, before, structuredClone(before));
        expect(same.changed.isEmpty && same.removed.isEmpty).toBe(true);
        const { changed, removed } = compareFields(spec, before, after);
        const known = new Set(fieldSetPaths(union(fieldsOf(spec, before), fieldsOf(spec, after))));
        for (const path of [...fieldSetPaths(changed), ...fieldSetPaths(removed)]) expect(known.has(path)).toBe(true);
      }),
    );
  });

  test("paths for people", () => {
    const set = fieldsOf(spec, { containers: [{ name: "web", image: "x", ports: [{ containerPort: 80 }] }] });
    expect(fieldSetPaths(set)).toContain('.containers[name="web"].image');
    expect(fieldSetPaths(set)).toContain('.containers[name="web"].ports[containerPort=80,protocol="TCP"]');
  });
});
