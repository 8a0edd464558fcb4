/**
 * Lays out what is ours of an image as two folders, `runtime` and `programs`, each a root file system to be put over the base: as a layer of an
 * archive (build.ts) or by the COPY of a Dockerfile. Modes are set here, so neither umask nor checkout decides them.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { CalicoError } from "@calico-ts/std";
import { PROGRAM_FOLDER, type Program, type Recipe } from "./recipes.ts";

export interface Layout {
  readonly runtime: string;
  readonly programs: string;
}

/** As the npm packages of Node and koffi name the machine's processor. */
export type NpmProcessor = "x64" | "arm64";

const NODE = "/usr/local/bin/node";
const MODULES = join(dirname(PROGRAM_FOLDER), "node_modules");

/**
 * @param checkout where programs are built and npm packages installed
 * @param folder emptied first
 * @throws CalicoError NOT_FOUND naming what has not been built or installed
 */
export function layOut(recipe: Recipe, checkout: string, folder: string, processor: NpmProcessor): Layout {
  rmSync(folder, { recursive: true, force: true });
  const layout: Layout = { runtime: join(folder, "runtime"), programs: join(folder, "programs") };
  const nodePackage = join(checkout, "node_modules", `node-linux-${processor}`);
  place(join(nodePackage, "bin/node"), join(layout.runtime, NODE), 0o755);
  place(join(nodePackage, "LICENSE"), join(layout.runtime, "usr/share/doc/nodejs/LICENSE"), 0o644);

  const programs = new Target(layout.programs);
  programs.place(join(checkout, "LICENSE"), "/usr/share/doc/calico-ts/LICENSE", 0o644);
  for (const program of recipe.programs) placeProgram(program, checkout, programs);
  placeExecutables(recipe.executables, checkout, programs);
  if (recipe.needsKoffi) placeKoffi(join(checkout, "node_modules"), programs, processor);
  return layout;
}

/** A root file system that grows. */
class Target {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  path(path: string): string {
    const absolute = join(this.#root, path);
    makeFolder(dirname(absolute));
    return absolute;
  }

  place(from: string, to: string, mode: number): void {
    place(from, this.path(to), mode);
  }
}

/** The kernel starts the bundle itself: its first line names Node, and a link on PATH has the command's name. */
function placeProgram({ name, bundle }: Program, checkout: string, programs: Target): void {
  const source = requireFile(join(checkout, bundle));
  const file = basename(bundle);
  const target = programs.path(`${PROGRAM_FOLDER}/${file}`);
  // A bundle that names its interpreter does so for other places than this image.
  const text = readFileSync(source, "utf8").replace(/^#!.*\n/, "");
  writeFileSync(target, `#!${NODE}\n${withoutSourceMap(text)}`);
  chmodSync(target, 0o755);
  symlinkSync(`${PROGRAM_FOLDER}/${file}`, programs.path(`/usr/local/bin/${name}`));
  for (const part of globSync(`${basename(bundle, ".mjs")}-*.mjs`, { cwd: dirname(source) }).toSorted()) {
    const partTarget = programs.path(`${PROGRAM_FOLDER}/${part}`);
    writeFileSync(partTarget, withoutSourceMap(readFileSync(join(dirname(source), part), "utf8")));
    chmodSync(partTarget, 0o644);
  }
}

/** Source maps are twice the size of the programs and stay outside; a reference to one would be a reference to nothing. */
function withoutSourceMap(text: string): string {
  return text.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, "\n");
}

/** `calico` and `calico-ipam` are one file of a hundred megabytes with two names, in the image as on disk. */
function placeExecutables(executables: Recipe["executables"], checkout: string, programs: Target): void {
  const placed = new Map<number, string>();
  for (const [to, from] of Object.entries(executables)) {
    const { ino } = statSync(requireFile(join(checkout, from)));
    const twin = placed.get(ino);
    const target = programs.path(to);
    if (twin === undefined) place(join(checkout, from), target, 0o755);
    else linkSync(twin, target);
    placed.set(ino, target);
  }
}

/** Of koffi its JavaScript, of the package for this platform the library for glibc. */
function placeKoffi(modules: string, programs: Target, processor: NpmProcessor): void {
  const native = `@koromix/koffi-linux-${processor}`;
  const wanted: Readonly<Record<string, readonly string[]>> = {
    koffi: ["package.json", "LICENSE.txt", "index.{js,cjs}", "indirect.{js,cjs}", "src/**/*.{js,cjs}"],
    [native]: ["package.json", "index.js", `linux_${processor}/koffi.node`],
  };
  for (const [name, patterns] of Object.entries(wanted)) {
    for (const pattern of patterns) {
      const files = globSync(pattern, { cwd: join(modules, name) });
      if (files.length === 0) requireFile(join(modules, name, pattern));
      for (const file of files) programs.place(join(modules, name, file), join(MODULES, name, file), 0o644);
    }
  }
}

function place(from: string, to: string, mode: number): void {
  makeFolder(dirname(to));
  copyFileSync(requireFile(from), to);
  chmodSync(to, mode);
}

function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(dirname(folder));
  mkdirSync(folder);
  chmodSync(folder, 0o755);
}

function requireFile(path: string): string {
  if (!existsSync(path)) {
    throw new CalicoError("NOT_FOUND", `an image needs ${path}, which is not there: run npm ci, then npm run build`);
  }
  return path;
}
