/**
 * Completes package-lock.json with the packages of other platforms.
 *
 * Tools with native binaries name one optional package per platform. npm leaves those out of the lock file that the registry at hand does not
 * serve (mirrors often carry one platform), and `npm ci` then calls the file out of date, on every machine. Each missing one is written down by
 * name, version and platform: enough for npm to skip it where it does not fit, and to fetch it where it does.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

interface LockedPackage {
  readonly version?: string;
  readonly dev?: boolean;
  readonly link?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

const OPERATING_SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/android/, "android"],
  [/darwin/, "darwin"],
  [/win32|windows/, "win32"],
  [/freebsd/, "freebsd"],
  [/netbsd/, "netbsd"],
  [/openbsd/, "openbsd"],
  [/sunos/, "sunos"],
  [/aix/, "aix"],
  [/openharmony/, "openharmony"],
  [/linux/, "linux"],
];
const PROCESSORS: readonly (readonly [RegExp, string])[] = [
  [/arm64|aarch64/, "arm64"],
  [/arm-|armv|-arm$/, "arm"],
  [/ia32/, "ia32"],
  [/ppc64/, "ppc64"],
  [/riscv64/, "riscv64"],
  [/s390x/, "s390x"],
  [/loong64/, "loong64"],
  [/mips64el/, "mips64el"],
  [/x64|-64$/, "x64"],
];

const first = (table: readonly (readonly [RegExp, string])[], name: string): string | undefined =>
  table.find(([pattern]) => pattern.test(name))?.[1];

/** Adds what is missing; returns the names. */
export function completeLockfile(packages: Record<string, LockedPackage>): string[] {
  const added: string[] = [];
  for (const [path, entry] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      if (path === "" || !/^\d+\.\d+\.\d+/.test(version)) continue;
      const os = first(OPERATING_SYSTEMS, name);
      if (os === undefined) continue;
      const hoisted = packages[`node_modules/${name}`];
      if (hoisted?.version === version || packages[`${path}/node_modules/${name}`]?.version === version) continue;
      const at = hoisted === undefined ? `node_modules/${name}` : `${path}/node_modules/${name}`;
      const cpu = first(PROCESSORS, name);
      packages[at] = {
        version,
        ...(cpu !== undefined && { cpu: [cpu] }),
        ...(entry.dev === true && { dev: true }),
        ...(name.includes("musl") && { libc: ["musl"] }),
        optional: true,
        os: [os],
      };
      added.push(`${name}@${version}`);
    }
  }
  return added;
}

if (import.meta.main) {
  const file = join(import.meta.dirname, "../package-lock.json");
  const lock = JSON.parse(readFileSync(file, "utf8")) as { packages: Record<string, LockedPackage> };
  const added = completeLockfile(lock.packages);
  lock.packages = Object.fromEntries(
    Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
  );
  const check = process.argv.includes("--check");
  if (added.length > 0 && !check) writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
  if (added.length > 0 && check) process.exitCode = 1;
  process.stdout.write(
    added.length === 0
      ? "package-lock.json is complete\n"
      : `${check ? "missing from package-lock.json (run: node scripts/lockfile.ts)" : "added to package-lock.json"}:\n  ${added.join("\n  ")}\n`,
  );
}
