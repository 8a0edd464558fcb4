/**
 * Looks at each package as somebody gets it who installs it alone: packs all, unpacks them beside the third-party packages they declare, in a
 * folder that knows nothing of this workspace, and there
 *   - reads the archives: licence and README, every target of `exports`, no test, no build state;
 *   - compiles the first example of each README, strictly, with the libraries' declarations checked too;
 *   - imports every entry;
 *   - runs the examples of the pure packages.
 * Needs `tsc -b` before it, as `npm run check` does.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { packPackages } from "./pack.ts";

interface Manifest {
  readonly name: string;
  readonly calico: { readonly kind: "pure" | "io" | "app" };
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string }>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

const root = join(import.meta.dirname, "..");
const problems: string[] = [];
const place = mkdtempSync(join(tmpdir(), "calico-packages-"));
try {
  const manifests = unpackAll();
  for (const manifest of manifests) checkContents(manifest);
  compileExamples(manifests);
  runAll(manifests);
} finally {
  rmSync(place, { recursive: true, force: true });
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;

function unpackAll(): Manifest[] {
  const archives = packPackages(join(place, "archives"));
  const manifests = archives.map(({ name, archive }): Manifest => {
    const folder = installed(name);
    mkdirSync(folder, { recursive: true });
    execFileSync("tar", ["-xzf", archive, "-C", folder, "--strip-components=1"]);
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  });
  const declared = new Set(
    manifests.flatMap(({ dependencies, peerDependencies }) => Object.keys({ ...dependencies, ...peerDependencies })),
  );
  for (const name of [...declared, "@types/node", "vitest"]) {
    if (existsSync(installed(name))) continue;
    mkdirSync(dirname(installed(name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), installed(name));
  }
  return manifests;
}

function installed(name: string): string {
  return join(place, "node_modules", name);
}

function checkContents({ name, exports, calico }: Manifest): void {
  const folder = installed(name);
  const files = new Set(globSync("**/*", { cwd: folder }));
  const targets = Object.values(exports).flatMap((entry) => [entry.types, entry.default]);
  for (const needed of ["README.md", "LICENSE", ...targets.map((path) => path.replace("./", ""))]) {
    if (!files.has(needed)) problems.push(`${name}: ${needed} is not in the archive; see "files" and "exports"`);
  }
  for (const file of files) {
    if (/\.test\.|tsbuildinfo|^dist\/test\//.test(file))
      problems.push(`${name}: ${file} does not belong in the archive`);
  }
  const readme = readFileSync(join(folder, "README.md"), "utf8");
  if (calico.kind !== "app" && firstExample(readme) === undefined) problems.push(`${name}: its README has no example`);
}

function firstExample(readme: string): string | undefined {
  return /^```ts\n(.*?)^```$/ms.exec(readme)?.[1];
}

function exampleFile({ name }: Manifest): string {
  return join(place, `${name.replace("@calico-ts/", "")}.example.ts`);
}

function compileExamples(manifests: readonly Manifest[]): void {
  for (const manifest of manifests) {
    const example = firstExample(readFileSync(join(installed(manifest.name), "README.md"), "utf8"));
    if (example !== undefined) writeFileSync(exampleFile(manifest), example);
  }
  const compilerOptions = {
    module: "nodenext",
    target: "es2024",
    lib: ["es2024", "esnext.disposable", "esnext.iterator"],
  };
  const options = { ...compilerOptions, strict: true, noEmit: true, types: ["node"] };
  writeFileSync(join(place, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["*.example.ts"] }));
  writeFileSync(join(place, "package.json"), JSON.stringify({ type: "module" }));
  const { status, stdout } = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", place], { encoding: "utf8" });
  if (status !== 0) problems.push(`examples of READMEs do not compile against the packed packages:\n${stdout}`);
}

function runAll(manifests: readonly Manifest[]): void {
  const entries = manifests.flatMap(({ name, exports }) =>
    Object.keys(exports)
      .filter((entry) => entry !== "./vitest") // works inside vitest alone
      .map((entry) => `await import(${JSON.stringify(name + entry.slice(1))});`),
  );
  writeFileSync(join(place, "every-entry.ts"), entries.join("\n"));
  run("every-entry.ts", "the entries of the packed packages cannot be imported");
  for (const manifest of manifests) {
    if (manifest.calico.kind === "pure" && existsSync(exampleFile(manifest)))
      run(exampleFile(manifest), `the example in the README of ${manifest.name} fails`);
  }
}

function run(file: string, what: string): void {
  const { status, stderr } = spawnSync(process.execPath, [file], { cwd: place, encoding: "utf8" });
  if (status !== 0) problems.push(`${what}:\n${stderr}`);
}
