import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasCode } from "@calico-ts/std";
import { afterAll, describe, expect, test } from "vitest";
import { readWarnings } from "./api-connection.ts";
import { readManifests } from "./manifest-files.ts";

const folder = mkdtempSync(join(tmpdir(), "ct-manifests-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;

function inFolder(files: Readonly<Record<string, string>>): string {
  const path = join(folder, String(count++));
  mkdirSync(path);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

function problems(files: Readonly<Record<string, string>>): string {
  const path = inFolder(files);
  try {
    readManifests([path]);
  } catch (error) {
    if (!hasCode(error, "BAD_INPUT")) throw error;
    return (error as Error).message.replaceAll(`${path}/`, "");
  }
  return "";
}

const POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n";

describe("manifests", () => {
  test("come from files in name order, documents in file order, Lists unfolded; other files are not touched", () => {
    const path = inFolder({
      "b.yml": `${POD}---\n${POD.replace("x", "y")}`,
      "a.json":
        '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"z","namespace":"n"}}]}',
      "README.md": "no: [",
      ".hidden.yaml": "no: [",
      "expectations.yaml": "flows: []",
    });
    expect(readManifests([path]).map(({ namespace, name }) => `${namespace ?? ""}/${name}`)).toEqual([
      "n/z",
      "/x",
      "/y",
    ]);
  });

  test("a field is found by line, in Lists too", () => {
    const path = inFolder({
      "l.yaml": `apiVersion: v1\nkind: List\nitems:\n- ${POD.trimEnd().replaceAll("\n", "\n  ")}\n  spec:\n    containers:\n    - name: c\n`,
    });
    const [manifest] = readManifests([path]);
    expect(manifest?.locate("spec.containers[0].name", "bad")).toMatchObject({
      line: 9,
      field: "items[0].spec.containers[0].name",
    });
  });

  test("problems of all files are told at once", () => {
    const text = problems({
      "a.yaml": "kind: Pod\nmetadata: {name: x}\n",
      "b.yaml": "x: [\n",
      "c.yaml": "- 1\n---\napiVersion: v1\nkind: Pod\nmetadata: {}\n",
    });
    expect(text).toMatch(/a\.yaml:1:1: apiVersion: is missing/);
    expect(text).toMatch(/b\.yaml:\d+:\d+: /);
    expect(text).toMatch(/c\.yaml:1:1: is no Kubernetes object/);
    expect(text).toMatch(/c\.yaml:5:1: metadata\.name: this Pod has no name/);
  });

  test("the same object twice", () => {
    expect(problems({ "a.yaml": `${POD}---\n${POD}` })).toMatch(
      /a\.yaml:7:12: metadata\.name: a second Pod x; the first is at .*a\.yaml:1/,
    );
  });

  test("no file, and a folder without manifests", () => {
    expect(() => readManifests([join(folder, "nope.yaml")])).toThrow(/nope\.yaml: no such file or folder/);
    expect(problems({ "README.md": "" })).toMatch(/holds no \.yaml/);
  });
});

test("warnings of an API server", () => {
  expect(readWarnings('299 - "unknown field \\"spec.a\\"", 299 - "old"')).toEqual(['unknown field "spec.a"', "old"]);
  expect(readWarnings(undefined)).toEqual([]);
});
