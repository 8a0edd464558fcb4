/**
 * Writes what follows from the package manifests: each package's tsconfig references and turbo tag, and the
 * root tsconfig. The kind (pure, io, app) stands in `calico.kind` of package.json; nothing here is edited by hand.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

interface Manifest {
  readonly name: string;
  readonly calico: { readonly kind: "pure" | "io" | "app" | "e2e" };
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

export function writeWorkspaceFiles(root: string): void {
  const folders = [...readdirSync(join(root, "packages")).map((name) => `packages/${name}`), "sim", "e2e", "images"]
    .filter((folder) => existsSync(join(root, folder, "package.json")))
    .toSorted();
  const manifests = new Map(folders.map((folder) => [folder, readManifest(join(root, folder))]));
  const folderOf = new Map([...manifests].map(([folder, manifest]) => [manifest.name, folder]));

  for (const [folder, manifest] of manifests) {
    const references = (names: Readonly<Record<string, string>> | undefined): { path: string }[] =>
      Object.keys(names ?? {})
        .flatMap((name) => folderOf.get(name) ?? [])
        .toSorted()
        .map((target) => ({ path: `${relative(folder, target)}/tsconfig.src.json` }));
    const base = relative(folder, "tsconfig.base.json");
    const sourceOptions: Record<string, unknown> = {
      rootDir: "src",
      outDir: "dist",
      tsBuildInfoFile: "dist/src.tsbuildinfo",
    };
    if (manifest.calico.kind === "pure") sourceOptions["types"] = [];
    write(join(root, folder, "tsconfig.src.json"), {
      extends: base,
      include: ["src"],
      exclude: ["src/**/*.test.ts", "src/**/*.bench.ts"],
      compilerOptions: sourceOptions,
      references: references(manifest.dependencies),
    });
    write(join(root, folder, "tsconfig.test.json"), {
      extends: base,
      include: ["src/**/*.test.ts", "src/**/*.bench.ts", "test", "testing", "bench"],
      compilerOptions: {
        rootDir: ".",
        outDir: "dist/test",
        tsBuildInfoFile: "dist/test.tsbuildinfo",
        emitDeclarationOnly: true,
        // Tests import sources of another project (src) by relative path; nothing is emitted that would need rewriting.
        rewriteRelativeImportExtensions: false,
        allowImportingTsExtensions: true,
        noUncheckedIndexedAccess: false,
      },
      references: [
        { path: "./tsconfig.src.json" },
        ...references({ ...manifest.dependencies, ...manifest.devDependencies }),
      ],
    });
    write(join(root, folder, "tsconfig.json"), {
      files: [],
      references: [{ path: "./tsconfig.src.json" }, { path: "./tsconfig.test.json" }],
    });
    write(join(root, folder, "turbo.json"), { extends: ["//"], tags: [manifest.calico.kind], tasks: {} });
  }
  write(join(root, "tsconfig.json"), { files: [], references: [...folders, "scripts"].map((path) => ({ path })) });
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
}

function write(path: string, value: unknown): void {
  const text = `${JSON.stringify(value, null, 2)}\n`;
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
}

if (import.meta.main) writeWorkspaceFiles(join(import.meta.dirname, ".."));
