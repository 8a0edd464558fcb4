import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { manifestFiles, readInput } from "./manifest-files.ts";

const folder = mkdtempSync(join(tmpdir(), "ct-manifests-"));
afterAll(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, "deeper"));
mkdirSync(join(folder, "empty"));
for (const name of [
  "20-b.yml",
  "10-a.yaml",
  "30-c.json",
  ".hidden.yaml",
  "notes.md",
  "expectations.yaml",
  "topology.yml",
  "deeper/d.yaml",
])
  writeFileSync(join(folder, name), name);

test("a folder is its manifests in name order, not deeper ones; a file is itself, whatever its name", () => {
  expect(manifestFiles(folder)).toEqual(["10-a.yaml", "20-b.yml", "30-c.json"].map((name) => join(folder, name)));
  expect(manifestFiles(join(folder, "notes.md"))).toEqual([join(folder, "notes.md")]);
});

test.each([
  ["nothing", /nothing: no such file or folder/],
  ["empty", /empty: the folder holds no \.yaml, \.yml, \.json file/],
])("%s is refused", (name, message) => {
  expect(() => manifestFiles(join(folder, name))).toThrow(message);
});

test("text is read, or the reason told", () => {
  expect(readInput(join(folder, "10-a.yaml"), "manifest")).toBe("10-a.yaml");
  expect(() => readInput(join(folder, "deeper"), "topology")).toThrow(
    expect.objectContaining({
      code: "BAD_INPUT",
      message: expect.stringMatching(/deeper: cannot read the topology: /),
    }),
  );
});
