import { hasCode } from "@calico-ts/std";
import { describe, expect, test, vi } from "vitest";
import { canonicalQuantity, formatPosition, parseDuration, parseYamlDocuments } from "./index.ts";

const text = `apiVersion: v1
kind: Pod
spec:
  ingress:
    - from: a
      ports: [1, 2]
---
# nothing here
---
{"kind": "List", "items": [{"a": 1}]}
`;

describe("parseYamlDocuments", () => {
  test("documents and positions", () => {
    const [pod, list] = parseYamlDocuments(text, "x.yaml");
    expect(pod?.value).toEqual({ apiVersion: "v1", kind: "Pod", spec: { ingress: [{ from: "a", ports: [1, 2] }] } });
    expect(list?.value).toEqual({ kind: "List", items: [{ a: 1 }] });
    const at = (path: string | (string | number)[]) => formatPosition(pod.position(path));
    expect(at(["spec", "ingress", 0])).toBe("x.yaml:5:7");
    expect(at("spec.ingress[0].ports[1]")).toBe("x.yaml:6:18");
    expect(at("spec.missing.deep")).toBe("x.yaml:3:1");
    expect(formatPosition(list.position(["items", 0, "a"]))).toBe("x.yaml:10:29");
  });

  test("reads what kubectl reads: old booleans, merged mappings", () => {
    const [document] = parseYamlDocuments(
      "base: &base { a: yes, b: 1 }\nown: { <<: *base, b: 2 }\nlist: [y, No, OFF, on, 'no', yes!, nO, YES]\nports: [80:90, 0x10]\n",
      "x.yaml",
    );
    expect(document?.value).toEqual({
      base: { a: true, b: 1 },
      own: { a: true, b: 2 },
      list: ["y", false, false, true, "no", "yes!", "nO", true],
      ports: ["80:90", 16],
    });
  });

  test("mistakes name file, line and column", () => {
    for (const bad of ["a: 1\nb: [1\n", "a: 1\na: 2\n", "a: *nope\n", "\tx: 1"]) {
      let caught: unknown;
      try {
        parseYamlDocuments(bad, "bad.yaml");
      } catch (error) {
        caught = error;
      }
      expect(hasCode(caught, "BAD_INPUT")).toBe(true);
      expect(String(caught)).toMatch(/bad\.yaml:\d+:\d+: /);
    }
  });

  test("alias bombs are refused", () => {
    const lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"];
    for (let n = 1; n < 9; n++)
      lines.push(
        `a${n}: &a${n} [${Array(10)
          .fill(`*a${n - 1}`)
          .join(",")}]`,
      );
    expect(() => parseYamlDocuments(lines.join("\n"), "bomb.yaml")).toThrow(/bomb\.yaml/);
  });

  test("empty text has no documents", () => {
    expect(parseYamlDocuments("", "x")).toEqual([]);
    expect(parseYamlDocuments("---\n---\n", "x")).toEqual([]);
  });
});

test.each([
  ["1000m", "1"],
  ["0.1", "100m"],
  ["1024Mi", "1Gi"],
  ["1.5Gi", "1536Mi"],
  ["1e3", "1e3"],
  ["1000", "1k"],
  [2, "2"],
  ["x", undefined],
  ["", undefined],
  ["0.5Ki", "512"],
])("quantity %s", (input, output) => {
  expect(canonicalQuantity(input)).toBe(output);
});

test("durations", () => {
  expect(parseDuration("1h30m")).toBe(5_400_000_000_000n);
  expect(parseDuration("-1.5s")).toBe(-1_500_000_000n);
  expect(parseDuration("1x")).toBeUndefined();
});

test("a template that was not filled in is read in silence", () => {
  const warned = vi.spyOn(process, "emitWarning");
  expect(parseYamlDocuments("name: {{ .Release.Name }}\n", "a.yaml")).toHaveLength(1);
  expect(warned).not.toHaveBeenCalled();
  warned.mockRestore();
});
