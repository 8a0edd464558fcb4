/**
 * `npm run pack [-- FOLDER]`: every package as the archive npm would publish, in artifacts/npm or FOLDER.
 * An archive holds what is compiled and its sources (for declaration and source maps), README, DESIGN and the licence; no test.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, globSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");

export interface Packed {
  readonly name: string;
  readonly folder: string;
  /** Path of its archive. */
  readonly archive: string;
}

/** Packs what `tsc -b` has compiled. The folder is made when it is missing; archives of the same version are replaced. */
export function packPackages(into: string): Packed[] {
  mkdirSync(into, { recursive: true });
  const folders = globSync("packages/*/package.json", { cwd: root })
    .map((path) => join(path, ".."))
    .toSorted();
  for (const folder of folders) copyFileSync(join(root, "LICENSE"), join(root, folder, "LICENSE"));
  try {
    const options = ["--json", "--silent", "--ignore-scripts", "--pack-destination", resolve(into)];
    execFileSync("npm", ["pack", ...options, ...folders.map((folder) => `./${folder}`)], {
      cwd: root,
      stdio: ["ignore", "ignore", "inherit"],
    });
  } finally {
    for (const folder of folders) rmSync(join(root, folder, "LICENSE"));
  }
  return folders.map((folder) => {
    const { name, version }: { name: string; version: string } = JSON.parse(
      readFileSync(join(root, folder, "package.json"), "utf8"),
    );
    const archive = join(resolve(into), `${name.replace("@", "").replace("/", "-")}-${version}.tgz`);
    return { name, folder, archive };
  });
}

if (import.meta.main) {
  execFileSync("tsc", ["-b"], { cwd: root, stdio: "inherit" });
  for (const { archive } of packPackages(process.argv[2] ?? join(root, "artifacts/npm"))) console.log(archive);
}
